"""The app: one page on which two uploads become a film, by the function that makes the command line's films."""

from __future__ import annotations

import base64
import html
import io
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ipywidgets as w
import torch

from interp_lib.checks import check_int
from interp_lib.images import open_image, to_pil
from interp_lib.memory import is_out_of_memory
from interp_lib.show.film import Film, embedded_note, make_film

HERE = Path(__file__).parent
METHODS = {"DreamMover": "image", "Generative Inbetweening": "video"}  # and the kind of model that each needs
LARGEST = 64  # MB, of one upload
LARGEST_MESSAGE = 2**30  # bytes: an upload is one message, and the page should live to say that it is too large
ABOUT = """<h1>Frames between two images</h1>
<p>Choose two images, the first and the last of a short film, and press <b>Make the film</b>. Everything stays on this
machine. A second image of another size is fitted to the first.</p>"""
ROW = {"style": {"description_width": "16rem"}, "layout": {"width": "30rem", "max_width": "100%"}}
ENDS = ("first", "last")


def serve(model: str, video_model: str, device: str, *, port: int = 8866, browser: bool = True) -> None:
    """Serve the page on 127.0.0.1 until interrupted. The page's kernel finds the models in its environment."""
    from voila.app import Voila

    os.environ |= {"INTERP_MODEL": model, "INTERP_VIDEO_MODEL": video_model, "INTERP_DEVICE": device}
    # Jupyter's search path: the page's template lies there
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(HERE / "jupyter"), os.environ.get("JUPYTER_PATH")]))
    server = Voila(tornado_settings={"websocket_max_message_size": LARGEST_MESSAGE})
    options = ["--Voila.ip=127.0.0.1", f"--port={port}", "--token", "--template=interp"]
    server.initialize([str(HERE / "app.ipynb"), *options, *([] if browser else ["--no-browser"])])
    server.start()


class Stopped(Exception):
    """The reader has pressed Stop."""


class Page:
    """The widgets, the images uploaded so far, and the one run that may be under way; `.box` is the page.

    models: where the "image" and the "video" model come from, and "device"; by default what the environment says. A
    model is loaded when it is first needed, and once.
    """

    def __init__(self, models: dict[str, str] | None = None):
        variables = {"image": "INTERP_MODEL", "video": "INTERP_VIDEO_MODEL"}
        found = {kind: os.environ.get(variable, "embedded") for kind, variable in variables.items()}
        self.sources = found | {"device": os.environ.get("INTERP_DEVICE", "auto")} | (models or {})
        self.loaded: dict[str, Any] = {}
        self.images: dict[str, Any] = {}
        self.run: threading.Thread | None = None
        self.stopping = threading.Event()
        self.uploads = {end: w.FileUpload(accept="image/*", description=f"Choose the {end} image") for end in ENDS}
        self.previews = {end: w.HTML() for end in ENDS}
        self.knobs = _knobs()
        self.make = w.Button(description="Make the film", button_style="primary")
        self.stop = w.Button(description="Stop", disabled=True)
        self.status, self.result = w.HTML(), w.HTML()
        for end in ENDS:
            self.uploads[end].layout.width = "16rem"
            self.uploads[end].observe(lambda change, end=end: self._take(end, change.new), names="value")
        self.make.on_click(lambda button: self.start())
        self.stop.on_click(lambda button: self.stopping.set())
        columns = [w.VBox([self.uploads[end], self.previews[end]]) for end in ENDS]
        pictures = w.HBox(columns, layout={"flex_flow": "row wrap", "grid_gap": "2rem"})
        buttons = w.HBox([self.make, self.stop])
        parts = [w.HTML(ABOUT), pictures, *self.knobs.values(), buttons, self.status, self.result]
        self.box = w.VBox(parts, layout={"grid_gap": "0.4rem"})
        self.box.add_class("interp-app")

    def _take(self, end: str, files: tuple[dict[str, Any], ...]) -> None:
        """Read an upload at once; a wrong file is refused in one sentence and the image before it stays."""
        if not files:
            return
        name, data = files[-1]["name"], bytes(files[-1]["content"])
        try:
            if len(data) > LARGEST * 10**6:
                raise ValueError(f"{name} has {len(data) / 1e6:.0f} MB: at most {LARGEST} MB are taken.")
            image, notes = open_image(io.BytesIO(data), name=name)
        except ValueError as error:
            self._say(str(error), wrong=True)
            return
        self.images[end] = image
        self.previews[end].value = _preview(image, f"the {end} image, {name}") + _listed(notes)
        self._say("")

    def start(self) -> None:
        """Make the film in a thread of its own, so that the page stays alive and can be stopped."""
        if self.run is not None and self.run.is_alive():
            return
        if missing := [end for end in ENDS if end not in self.images]:
            return self._say(f"there is no {missing[0]} image yet: choose one with the button above.", wrong=True)
        if torch.equal(self.images["first"], self.images["last"]):
            return self._say("the two images are identical: there is nothing between them.", wrong=True)
        self.stopping.clear()
        self.make.disabled, self.stop.disabled = True, False
        self._say("loading the model")
        settings = {name: knob.value for name, knob in self.knobs.items()}
        self.run = threading.Thread(target=self._work, args=(settings,), daemon=True)
        self.run.start()

    def _work(self, settings: dict[str, Any]) -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                film, notes = self._film(settings, Path(folder) / "film.mp4")
                self.result.value = _shown(film, notes)
            self._say("The film is ready.")
        except Stopped:
            self._say("Stopped. Images and settings are kept.")
        except Exception as error:  # whatever it is, the page lives on with everything that was entered
            self._say(_sentence(error), wrong=True)
        finally:
            self.make.disabled, self.stop.disabled = False, True

    def _film(self, settings: dict[str, Any], path: Path) -> tuple[Film, list[str]]:
        from interp_lib.models import load_image_model, load_video_model

        kind, frames = METHODS[settings.pop("method")], check_int("frames", settings.pop("frames"), 3)
        prompt, size = settings.pop("prompt"), settings.pop("size") or None
        if kind not in self.loaded:
            load = load_image_model if kind == "image" else load_video_model
            self.loaded[kind] = load(self.sources[kind], device=self.sources["device"])
        model = self.loaded[kind]
        settings["steps"] = settings["steps"] or None
        if kind == "image":
            settings |= {"frames": frames - 2, "prompt": prompt}
        else:
            settings |= {"frames": frames, "method": "dual" if model.reverse else "no-finetune"}
        with _watched(model.unet, self._count_calls()):
            film = make_film(model, *(self.images[end] for end in ENDS), path, size=size, progress=False, **settings)
        return film, [*film.notes, *([embedded_note(model)] if self.sources[kind] == "embedded" else [])]

    def _count_calls(self) -> Callable[[], None]:
        done, start = 0, time.perf_counter()

        def count() -> None:
            nonlocal done
            if self.stopping.is_set():
                raise Stopped
            done += 1
            self._say(f"call {done} of the network, {time.perf_counter() - start:.0f} s")

        return count

    def _say(self, sentence: str, *, wrong: bool = False) -> None:
        kind = 'class="interp-error" role="alert"' if wrong else 'class="interp-said" role="status"'
        self.status.value = f"<p {kind}>{html.escape(sentence)}</p>" if sentence else ""


@contextmanager
def _watched(network: torch.nn.Module, on_call: Callable[[], None]) -> Iterator[None]:
    """Call on_call() before every call of the network; what it raises ends the run."""
    hook = network.register_forward_pre_hook(lambda module, args: on_call())
    try:
        yield
    finally:
        hook.remove()


def _knobs() -> dict[str, Any]:
    """The settings by name; number fields and menus, because these carry their label for a screen reader."""

    def number(value: int, least: int, most: int, description: str) -> w.BoundedIntText:
        return w.BoundedIntText(value, min=least, max=most, description=description, **ROW)

    return {
        "method": w.Dropdown(options=list(METHODS), description="Method", **ROW),
        "frames": number(9, 3, 512, "Frames, both images included"),
        "size": number(0, 0, 2048, "Size in pixels a side (0: the model's)"),
        "steps": number(0, 0, 999, "Steps (0: the model's)"),
        "prompt": w.Text("", placeholder="optional, DreamMover", description="What both images show", **ROW),
        "seed": number(0, 0, 2**31 - 1, "Seed"),
        "fps": number(8, 1, 60, "Frames per second"),
    }


def _preview(image: torch.Tensor, alt: str) -> str:
    picture = to_pil(image)
    picture.thumbnail((320, 320))
    data = io.BytesIO()
    picture.save(data, "PNG")
    source = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    size = f"{image.shape[-1]}x{image.shape[-2]} pixels"
    return f'<img class="interp-upload" alt="{html.escape(alt)}" src="{source}"><br>{size}'


def _listed(notes: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul>" if notes else ""


def _shown(film: Film, notes: list[str]) -> str:
    data = f"data:video/mp4;base64,{base64.b64encode(film.media.path.read_bytes()).decode()}"
    return (
        f'<video controls loop autoplay muted playsinline aria-label="{html.escape(film.media.alt)}" src="{data}">'
        f'</video><br><a class="interp-download" download="film.mp4" href="{data}">Download the film (MP4)</a>'
        f"<p>{html.escape(film.summary)}</p>{_listed(notes)}"
    )


def _sentence(error: Exception) -> str:
    if isinstance(error, ValueError | OSError):
        return " ".join(str(error).split())
    if is_out_of_memory(error):
        return "The device ran out of memory: ask for fewer frames or a smaller size, or start the app on the CPU."
    return f"Something unexpected went wrong ({type(error).__name__}: {error}). Images and settings are kept."
