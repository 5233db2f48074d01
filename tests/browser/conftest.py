"""A headless Chromium, JupyterLab on a copy of the checkout, and the app: each started once, on 127.0.0.1 alone."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "browser"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
QUIET += ["--disable-sync"]


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install -e '.[browser]'")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("no chromium here: apt-get install chromium")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A page 1400 pixels wide; `page.errors` collects what its console says is wrong."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1500})
    page.errors = []
    page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    page.close()


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of the checkout: what a browser does to notebooks and figures stays there."""
    folder = tmp_path_factory.mktemp("checkout")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def lab(checkout):
    """The address of JupyterLab on the copy."""
    port = free_port()
    options = [f"--ServerApp.root_dir={checkout}", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    options += ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", "--ServerApp.port_retries=0"]
    with serving([sys.executable, "-m", "jupyter", "lab", *options], checkout, checkout) as (_, log):
        address = f"http://127.0.0.1:{port}"
        until(lambda: _answers(f"{address}/api"), 120, "JupyterLab", log)
        yield address


@pytest.fixture(scope="session")
def app(checkout):
    """The address of the app, its token in it."""
    command = [sys.executable, "-m", "interp_lib", "app", "--no-browser", "--port", str(free_port())]
    with serving(command, checkout, checkout) as (_, log):
        yield until(lambda: re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", log.read_text()), 120, "the app", log)[0]


@contextmanager
def serving(command, folder, root):
    """A server that is there while this lasts, and its log; a session of its own, so that its kernels end with it."""
    log = folder / "server.log"
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    with log.open("w") as file:
        how = {"stdout": file, "stderr": subprocess.STDOUT, "start_new_session": True}
        server = subprocess.Popen(command, cwd=folder, env=environment, **how)
        try:
            yield server, log
        finally:
            server.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                server.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def until(condition, seconds, what, log):
    """The condition's first true value; what the server has said where it does not come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.3)
    raise AssertionError(f"{what} was not there within {seconds} s:\n{log.read_text()[-3000:]}")


def _answers(address):
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False
