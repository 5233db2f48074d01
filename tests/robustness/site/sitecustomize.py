"""In every Python started with this folder on its path: die at the N-th rename, where $KILL_AT says "N FILE"."""

import itertools
import os
import signal


def die_at_rename(count, mark):
    """SIGKILL for this process group at the count-th os.replace of this process, half of the file being written.

    mark: a file that is made before, to tell this end from others.
    """
    rename, calls = os.replace, itertools.count(1)

    def replace(source, target, **options):
        if next(calls) == count:
            if os.path.isfile(source):
                os.truncate(source, os.path.getsize(source) // 2)
            os.close(os.open(mark, os.O_CREAT))
            os.killpg(0, signal.SIGKILL)
        return rename(source, target, **options)

    os.replace = replace


if os.environ.get("KILL_AT"):
    number, _, file = os.environ["KILL_AT"].partition(" ")
    die_at_rename(int(number), file)
