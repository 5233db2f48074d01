"""The app's server: this machine alone is listened to, and only who has the token is let in."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path):
    """(process, address with its token) of a server that was just started."""
    log = tmp_path / "log"
    command = [sys.executable, "-m", "interp_lib", "app", "--no-browser", "--port", "8890", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=file, stderr=file)
    try:
        end = time.monotonic() + 60
        while not (found := re.search(r"http://\S+/\?token=\w+", log.read_text())):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield process, found[0]
    finally:
        process.terminate()
        process.wait(30)


def test_only_this_machine_is_listened_to_and_the_token_is_wanted(server):
    process, address = server
    listening = {c.laddr.ip for c in psutil.Process(process.pid).net_connections("tcp") if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"} and address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address.split("?")[0]) as reply:  # without the token
        assert "/login" in reply.url and b"Make the film" not in reply.read()
    kernels = address.split("?")[0] + "api/kernels/00000000-0000-0000-0000-000000000000"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(kernels)
    assert refused.value.code == 403
