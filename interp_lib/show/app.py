"""The app: one page on which two uploads become a film, by the function that makes the command line's films."""

import html
import io
import os
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as w
import torch

from interp_lib.images import open_image, to_pil
from interp_lib.memory import is_out_of_memory
from interp_lib.models.video_model import MAX_FRAMES
from interp_lib.show.film import embedded_note, make_film, quick_settings
from interp_lib.show.media import Media, data_url
from interp_lib.show.video import save_video

HERE = Path(__file__).parent
METHODS = {"DreamMover": "image", "Generative Inbetweening": "video"}  # and the kind of model that each needs
MOST_FRAMES = 512  # of an image model, whose number of frames the memory alone limits
LARGEST = 64  # MB, of one upload
LARGEST_MESSAGE = 2**30  # bytes: an upload is one message, and the page should live to say that it is too large
ABOUT = """<h1>Frames between two images</h1>
<p>Choose two images, the first and the last of a short film, and press <b>Make the film</b>. Everything stays on this
machine. A second image of another size is fitted to the first.</p>"""
ROW = {"style": {"description_width": "16rem"}, "layout": {"width": "30rem", "max_width": "100%"}}
ENDS = ("first", "last")
VARIABLES = {"image": "INTERP_MODEL", "video": "INTERP_VIDEO_MODEL"}  # of the environment: see `serve`


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
    """The widgets, the images uploaded so far, and the one run that may be under way; `.box` is the page."""

    def __init__(self):
        self.sources = {kind: os.environ.get(name, "embedded") for kind, name in VARIABLES.items()}
        self.loaded: dict[str, Any] = {}
        self.images: dict[str, torch.Tensor] = {}
        self.run: threading.Thread | None = None
        self.stopping = threading.Event()
        self.uploads, self.previews, self.knobs = {}, {end: w.HTML() for end in ENDS}, _knobs()
        for end in ENDS:
            label = f"Choose the {end} image"
            self.uploads[end] = w.FileUpload(accept="image/*", description=label, layout={"width": "16rem"})
            self.uploads[end].observe(lambda change, end=end: self._take(end, change.new), names="value")
        self.make = w.Button(description="Make the film", button_style="primary")
        self.stop = w.Button(description="Stop", disabled=True)
        self.status, self.result = w.HTML(), w.HTML()
        self.make.on_click(lambda button: self.start())
        self.stop.on_click(lambda button: self.stopping.set())
        self.knobs["method"].observe(lambda change: self._limit(), names="value")
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
            return self._say(str(error), wrong=True)
        self.images[end] = image
        self.previews[end].value = _preview(image, f"the {end} image, {name}") + _list(notes)
        self._say("")

    def _limit(self) -> None:
        """Limit the settings to what the chosen method's model makes, before it is loaded to what every one makes."""
        kind = METHODS[self.knobs["method"].value]
        own = getattr(self.loaded.get(kind), "max_frames", MAX_FRAMES)
        self.knobs["frames"].max = own if kind == "video" else MOST_FRAMES
        self.knobs["prompt"].disabled = kind == "video"

    def start(self) -> None:
        """Make the film in a thread of its own, so that the page stays alive and can be stopped."""
        if self.run is not None and self.run.is_alive():
            return
        if missing := [end for end in ENDS if end not in self.images]:
            return self._say(f"there is no {missing[0]} image yet: choose one with the button above.", wrong=True)
        self.stopping.clear()
        self.make.disabled, self.stop.disabled = True, False
        self._say("loading the model")
        settings = {name: knob.value for name, knob in self.knobs.items()}
        self.run = threading.Thread(target=self._work, args=(settings,), daemon=True)
        self.run.start()

    def _work(self, settings: dict[str, Any]) -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                self.result.value = self._film(settings, Path(folder))
            self._say("The film is ready.")
        except Stopped:
            self._say("Stopped. Images and settings are kept.")
        except Exception as error:  # whatever it is, the page lives on with everything that was entered
            self._say(_sentence(error), wrong=True)
        finally:
            self.make.disabled, self.stop.disabled = False, True

    def _film(self, settings: dict[str, Any], folder: Path) -> str:
        """Make the film and return it as HTML, next to a cross-dissolve of the same images."""
        method, quick = settings.pop("method"), settings.pop("quick")
        kind = METHODS[method]
        model, fps = self._model(kind), settings["fps"]
        settings = {name: value for name, value in settings.items() if value}  # 0 and no prompt are the defaults
        if kind == "image":
            settings["frames"] -= 2
        else:
            settings.pop("prompt", None)
            settings["method"] = "dual" if model.reverse else "no-finetune"
        settings = (quick_settings(model) if quick else {}) | settings
        start, calls, images = time.perf_counter(), 0, [self.images[end] for end in ENDS]

        def count(network: torch.nn.Module, inputs: Any) -> None:
            """Show that the run goes on, or end it: called before every call of the U-Net."""
            nonlocal calls
            if self.stopping.is_set():
                raise Stopped
            calls += 1
            self._say(f"call {calls} of the network, {time.perf_counter() - start:.0f} s")

        hook = model.unet.register_forward_pre_hook(count)
        try:
            film = make_film(model, images, folder / "film.mp4", progress=False, **settings)
        finally:
            hook.remove()
        times = torch.linspace(0, 1, film.count).view(-1, 1, 1, 1)
        blend = torch.lerp(*film.images, times)
        faded = save_video(blend, folder / "faded.mp4", fps=fps, alt="The first image fades into the last")
        notes = film.notes + ([embedded_note(model)] if self.sources[kind] == "embedded" else [])
        films = _video(film.media, method) + _video(faded, "Cross-dissolve of the same images, to compare with")
        link = (
            f'<a class="interp-download" download="film.mp4" href="{film.media.data_url}">Download the film (MP4)</a>'
        )
        return f'<div class="interp-films">{films}</div>{link}<p>{html.escape(film.summary)}</p>{_list(notes)}'

    def _model(self, kind: str) -> Any:
        from interp_lib.models import load_image_model, load_video_model

        if kind not in self.loaded:
            load = load_image_model if kind == "image" else load_video_model
            self.loaded[kind] = load(self.sources[kind], device=os.environ.get("INTERP_DEVICE", "auto"))
            self._limit()
        return self.loaded[kind]

    def _say(self, sentence: str, *, wrong: bool = False) -> None:
        kind = 'class="interp-error" role="alert"' if wrong else 'class="interp-said" role="status"'
        self.status.value = f"<p {kind}>{html.escape(sentence)}</p>" if sentence else ""


def _knobs() -> dict[str, Any]:
    """Make the settings by name; number fields and menus, because these carry their label for a screen reader."""
    number = partial(w.BoundedIntText, **ROW)
    return {
        "method": w.Dropdown(options=list(METHODS), description="Method", **ROW),
        "frames": number(9, min=3, max=MOST_FRAMES, description="Frames, both images included"),
        "size": number(0, min=0, max=2048, description="Size in pixels a side (0: the model's)"),
        "steps": number(0, min=0, max=999, description="Steps (0: the model's)"),
        "quick": w.Checkbox(False, description="Quick: fewer calls of the network", **ROW),
        "prompt": w.Text("", placeholder="optional, DreamMover", description="What both images show", **ROW),
        "seed": number(0, min=0, max=2**31 - 1, description="Seed"),
        "fps": number(8, min=1, max=60, description="Frames per second"),
    }


def _preview(image: torch.Tensor, alt: str) -> str:
    picture, data = to_pil(image), io.BytesIO()
    picture.thumbnail((320, 320))
    picture.save(data, "PNG")
    size = f"{image.shape[-1]}x{image.shape[-2]} pixels"
    return f'<img class="interp-upload" alt="{html.escape(alt)}" src="{data_url(data.getvalue())}"><br>{size}'


def _list(notes: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul>" if notes else ""


def _video(film: Media, caption: str) -> str:
    attributes = f'controls loop autoplay muted playsinline aria-label="{html.escape(film.alt)}"'
    return f'<figure><video {attributes} src="{film.data_url}"></video><figcaption>{caption}</figcaption></figure>'


def _sentence(error: Exception) -> str:
    if isinstance(error, ValueError | OSError | MemoryError) and str(error):
        return " ".join(str(error).split())
    if is_out_of_memory(error):
        return "The device ran out of memory: ask for fewer frames or a smaller size, or start the app on the CPU."
    return f"Something unexpected went wrong ({type(error).__name__}: {error}). Images and settings are kept."
