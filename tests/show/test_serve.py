"""The app's server: this machine alone is listened to, and only who has the token is let in."""

import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.browser.conftest import free_port, serving, until

ROOT = Path(__file__).parents[2]


def test_only_this_machine_is_listened_to_and_the_token_is_wanted(tmp_path):
    command = [sys.executable, "-m", "interp_lib", "app", "--no-browser", "--port", str(free_port()), "--device", "cpu"]
    with serving(command, tmp_path, ROOT) as (process, log):
        address = until(lambda: re.search(r"http://\S+/\?token=\w+", log.read_text()), 60, "the app", log)[0]
        listening = {c.laddr.ip for c in psutil.Process(process.pid).net_connections("tcp") if c.status == "LISTEN"}
        assert listening == {"127.0.0.1"} and address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address.split("?")[0]) as reply:  # without the token
            assert "/login" in reply.url and b"Make the film" not in reply.read()
        kernels = address.split("?")[0] + "api/kernels/00000000-0000-0000-0000-000000000000"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(kernels)
        assert refused.value.code == 403
