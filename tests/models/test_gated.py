"""A model that is gated on the hub: the way out is named. The hub is a server of this machine here."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

CODE = """
from interp_lib import load_image_model
try:
    load_image_model("owner/name")
except FileNotFoundError as error:
    print(error)
"""


class Gate(BaseHTTPRequestHandler):
    code = "GatedRepo"

    def do_GET(self):
        self.send_response(403 if self.code == "GatedRepo" else 404)
        self.send_header("X-Error-Code", self.code)
        self.send_header("X-Error-Message", "Access to model owner/name is restricted.")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *given):
        pass


def said(code, cache):
    server = HTTPServer(("127.0.0.1", 0), type("Hub", (Gate,), {"code": code}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        env = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(cache)}
        env |= {"HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1"}
        return subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, timeout=120)
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.long
def test_a_gated_model_names_the_licence_and_the_login(tmp_path):
    done = said("GatedRepo", tmp_path)
    assert "'owner/name' is gated" in done.stdout and "hf auth login" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1


@pytest.mark.long
def test_a_model_that_is_not_there_is_not_called_gated(tmp_path):
    done = said("RepoNotFound", tmp_path)
    assert "could not be fetched" in done.stdout and "gated" not in done.stdout, done.stderr
