"""The app's page: two uploads, the settings that matter, a progress bar, the video. What it does is in app_video.py."""

from __future__ import annotations

import base64
import html
import io
import os
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets as w
from torch import Tensor

from interp_lib.images import to_pil
from interp_lib.show.app_video import (
    METHODS,
    Made,
    Models,
    Settings,
    Stopped,
    check_pair,
    make_video,
    read_upload,
    time_left,
)

ABOUT = """<h1>Frames between two images</h1>
<p>Choose two images of one size, the first and the last of a short video, and press <b>Make the video</b>.
Everything stays on this machine.</p>"""
EMBEDDED = """<p>The embedded models are tiny, so that they run anywhere: they show how the methods work, on cartoon
animals. Start the page with MODEL= and VIDEO_MODEL= for the real ones.</p>"""
ROW = {"style": {"description_width": "16rem"}, "layout": {"width": "30rem", "max_width": "100%"}}
ENDS = ("first", "last")


def app(models: Models | None = None) -> w.VBox:
    """The page as one widget. models: by default those that the environment names, see interp_lib.show.serve."""
    names = {"image": "INTERP_MODEL", "video": "INTERP_VIDEO_MODEL", "device": "INTERP_DEVICE"}
    given = {name: os.environ[variable] for name, variable in names.items() if os.environ.get(variable)}
    return Page(models or Models(**given)).box


class Page:
    """The widgets, the images that were taken so far, and the one run that may be under way."""

    def __init__(self, models: Models):
        self.models, self.images = models, dict.fromkeys(ENDS)
        self.run: threading.Thread | None = None
        self.stopping = threading.Event()
        self.uploads = {end: _upload(end) for end in ENDS}
        self.previews = {end: w.HTML() for end in ENDS}
        self.knobs = _knobs()
        self.make = w.Button(description="Make the video", button_style="primary")
        self.stop = w.Button(description="Stop", disabled=True)
        self.bar = w.IntProgress(min=0, max=1, description="Progress", **ROW)
        self.status, self.result = w.HTML(), w.HTML()
        self._connect()
        self.box = self._layout()

    def _connect(self) -> None:
        for end in ENDS:
            self.uploads[end].observe(lambda change, end=end: self.take(end, change.new), names="value")
        self.knobs["method"].observe(lambda change: self._fit_settings(), names="value")
        self.make.on_click(lambda button: self.start())
        self.stop.on_click(lambda button: self.stopping.set())
        self._fit_settings()

    def _layout(self) -> w.VBox:
        tiny = "embedded" in (self.models.image, self.models.video)
        columns = [w.VBox([self.uploads[end], self.previews[end]]) for end in ENDS]
        pictures = w.HBox(columns, layout={"flex_flow": "row wrap", "grid_gap": "2rem"})
        buttons, head = w.HBox([self.make, self.stop]), w.HTML(ABOUT + (EMBEDDED if tiny else ""))
        parts = [head, pictures, *self.knobs.values(), buttons, self.bar, self.status, self.result]
        box = w.VBox(parts, layout={"grid_gap": "0.4rem"})
        box.add_class("interp-app")
        return box

    def _fit_settings(self) -> None:
        """Show the settings that the chosen method has."""
        dreammover = self.knobs["method"].value == METHODS[0]
        for name in ("inversion_steps", "lora", "prompt"):
            self.knobs[name].layout.display = None if dreammover else "none"
        self.knobs["recurrence"].layout.display = "none" if dreammover else None

    def take(self, end: str, files: tuple[dict[str, Any], ...]) -> None:
        """Read an upload at once, so that a wrong file is told before any waiting; the image before it is kept then."""
        if not files:
            return
        try:
            image, notes = read_upload(bytes(files[-1]["content"]), files[-1]["name"])
        except (ValueError, OSError) as error:
            self._say(f"{error}", wrong=True)
            return
        self.images[end] = image
        self.previews[end].value = _preview(image, f"the {end} image, {files[-1]['name']}") + _listed(notes)
        self._say("")

    def settings(self) -> Settings:
        return replace(Settings(), **{name: knob.value for name, knob in self.knobs.items()})

    def start(self) -> None:
        """Make the video in a thread of its own: the page stays alive and can be told to stop."""
        if self.run is not None and self.run.is_alive():
            return
        try:
            if missing := [end for end in ENDS if self.images[end] is None]:
                raise ValueError(f"there is no {missing[0]} image yet: choose one with the button above.")
            settings, images = self.settings(), (self.images["first"], self.images["last"])
            settings.check()
            check_pair(images)
        except ValueError as error:
            self._say(f"{error}", wrong=True)
            return
        self.stopping.clear()
        self.make.disabled, self.stop.disabled, self.bar.value = True, False, 0
        self._say("loading the model")
        self.run = threading.Thread(target=self._work, args=(images, settings), daemon=True)
        self.run.start()

    def _work(self, images: tuple[Tensor, Tensor], settings: Settings) -> None:
        begun: list[float] = []

        def on_call(done: int, total: int) -> None:
            if self.stopping.is_set():
                raise Stopped
            begun.append(time.perf_counter())
            self.bar.max, self.bar.value = total, done
            self._say(time_left(done, total, begun[-1] - begun[0]))

        try:
            with tempfile.TemporaryDirectory() as folder:
                made = make_video(images, settings, self.models, Path(folder) / "video.mp4", on_call)
                self.result.value = _shown(made)
            self.bar.value = self.bar.max
            self._say("The video is ready.")
        except Stopped:
            self._say("Stopped. Images and settings are kept.")
        except Exception as error:  # whatever it is, the page lives on with everything that was entered
            self._say(_sentence(error), wrong=True)
        finally:
            self.make.disabled, self.stop.disabled = False, True

    def _say(self, sentence: str, *, wrong: bool = False) -> None:
        kind = 'class="interp-error" role="alert"' if wrong else 'class="interp-said" role="status"'
        self.status.value = f"<p {kind}>{html.escape(sentence)}</p>" if sentence else ""


def _upload(end: str) -> w.FileUpload:
    layout = {"width": "16rem"}
    return w.FileUpload(accept="image/*", multiple=False, description=f"Choose the {end} image", layout=layout)


def _knobs() -> dict[str, Any]:
    """The settings by name; number fields and menus, because these carry their label for a screen reader."""
    usual = Settings()

    def number(name: str, least: int, most: int, description: str) -> w.BoundedIntText:
        return w.BoundedIntText(getattr(usual, name), min=least, max=most, description=description, **ROW)

    return {
        "method": w.Dropdown(options=METHODS, description="Method", **ROW),
        "frames": number("frames", 3, 512, "Frames, both images included"),
        "steps": number("steps", 2, 999, "Steps of the noise schedule"),
        "inversion_steps": number("inversion_steps", 1, 999, "Noise step of the fusion"),
        "recurrence": number("recurrence", 0, 20, "Repeats of an early step"),
        "lora": w.Checkbox(usual.lora, description="Fit a LoRA to the pair first", **ROW),
        "prompt": w.Text(usual.prompt, placeholder="optional", description="What both images show", **ROW),
        "seed": number("seed", 0, 2**31 - 1, "Seed"),
        "fps": number("fps", 1, 60, "Frames per second"),
    }


def _preview(image: Tensor, alt: str) -> str:
    picture = to_pil(image)
    picture.thumbnail((320, 320))
    data = io.BytesIO()
    picture.save(data, "PNG")
    size = f"{image.shape[-1]}x{image.shape[-2]} pixels"
    source = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    return f'<img class="interp-upload" alt="{html.escape(alt)}" src="{source}"><br>{size}'


def _listed(notes: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul>" if notes else ""


def _shown(made: Made) -> str:
    data = f"data:video/mp4;base64,{base64.b64encode(made.video.path.read_bytes()).decode()}"
    alt = html.escape(made.video.alt)
    return (
        f'<video controls loop autoplay muted playsinline aria-label="{alt}" src="{data}"></video>'
        f'<br><a class="interp-download" download="video.mp4" href="{data}">Download the video (MP4)</a>'
        f"<p>{html.escape(made.summary)}</p>{_listed(made.notes)}"
    )


def _sentence(error: Exception) -> str:
    from interp_lib.cli import _is_out_of_memory

    if isinstance(error, ValueError | OSError):
        return " ".join(str(error).split())
    if _is_out_of_memory(error):
        return "The device ran out of memory: ask for fewer frames, or start the page with DEVICE=cpu."
    return f"Something unexpected went wrong ({type(error).__name__}: {error}). Images and settings are kept."
