"""Worker processes that never outlive the one that started them, and that Ctrl-C ends without a word."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

INTERRUPT = {signal.SIGINT}


@contextmanager
def workers(count: int, prepare: Callable[..., None], *arguments: Any) -> Iterator[Callable[..., list[Future]]]:
    """`count` processes of one torch thread each, which call prepare(*arguments) first.

    Yields submit(function, items), which has them call function(*item) for every item and returns the futures.
    Raises BrokenProcessPool, a RuntimeError, when one of them dies.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, initializer=_begin, initargs=(prepare, arguments)) as pool:

        def submit(function: Callable[..., Any], items: Iterable[tuple]) -> list[Future]:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT)  # which the processes started here inherit
            try:
                return [pool.submit(function, *item) for item in items]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

        try:
            yield submit
        except BrokenProcessPool:
            raise BrokenProcessPool(
                f"one of {count} worker processes died, of too little memory perhaps: what is done is kept, start "
                "again with fewer workers. (A script needs `if __name__ == '__main__':` around what starts them.)"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(prepare: Callable[..., None], arguments: tuple) -> None:
    import torch
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # the one between processes would be reported as leaked after Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()  # the pool alone would wait for it for ever
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback: what Ctrl-C means is the parent's business
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPT)
    torch.set_num_threads(1)
    prepare(*arguments)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
