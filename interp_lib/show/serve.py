"""Serve the app on this machine alone: `python -m interp_lib.show.serve` (what `make app` runs)."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HERE = Path(__file__).parent
LARGEST_MESSAGE = 2**30  # bytes: an upload is one message, and the page should live to say that it is too large


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted. The models are named in the environment, where the page's kernel finds them."""
    parser = argparse.ArgumentParser(prog="python -m interp_lib.show.serve", description="Two images in, a video out.")
    parser.add_argument("--model", default="embedded", help='"embedded", a diffusers folder, or a hub name')
    parser.add_argument("--video-model", default="embedded", help="the same for Generative Inbetweening")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--port", type=int, default=8866, help="of 127.0.0.1; another one where it is taken")
    parser.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    asked = parser.parse_args(arguments)
    from voila.app import Voila

    os.environ |= {"INTERP_MODEL": asked.model, "INTERP_VIDEO_MODEL": asked.video_model, "INTERP_DEVICE": asked.device}
    templates = str(HERE / "jupyter")  # Jupyter's search path: the page's template lies there
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [templates, os.environ.get("JUPYTER_PATH")]))
    server = Voila(tornado_settings={"websocket_max_message_size": LARGEST_MESSAGE})
    options = ["--Voila.ip=127.0.0.1", f"--port={asked.port}", "--token", "--template=interp"]
    server.initialize([str(HERE / "app.ipynb"), *options, *(["--no-browser"] if asked.no_browser else [])])
    server.start()


if __name__ == "__main__":
    main()
