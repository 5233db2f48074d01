"""The parts of the command line: options that several commands share, and the work behind the commands."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from torch import Tensor


class Interrupted(Exception):
    """Ctrl-C, with a sentence that says what is left of the work."""


def say(line: str) -> None:
    """Print a line; a reader that has gone, such as `head`, does not turn a written film into an error."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse_size(text: str) -> tuple[int, int]:
    """Read (h, w) from "256" or "320x192" (width x height)."""
    match = re.fullmatch(r"([0-9]+)(?:x([0-9]+))?", text.strip().lower())
    if not match or min(size := (int(match[2] or match[1]), int(match[1]))) < 8:
        raise typer.BadParameter(f"{text!r} is not N or WIDTHxHEIGHT with sides of at least 8 pixels")
    return size


# Options that several commands share.
Inputs = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE", help="two image files, or one folder, or one bundled pair (`pairs` lists them)"),
]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="film to write: .mp4, .mov, .gif, .webp, or a folder for PNG files")
]
Clips = Annotated[Path, typer.Argument(help="a folder of videos, or of folders that hold frames")]
Model = Annotated[str, typer.Option(help='"embedded", a diffusers folder, or a hub name')]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")]
Dtype = Annotated[
    Literal["float32", "float16", "bfloat16"] | None,
    typer.Option(help="numbers of the model [default: float16 on CUDA, else float32]"),
]
Size = Annotated[
    tuple | None,
    typer.Option(
        parser=parse_size,
        metavar="N|WxH",
        help="frames in pixels, a square or width x height; images are resized to cover it and cropped at the centre "
        "[default: about the model's own area, in the images' aspect]",
    ),
]
Fps = Annotated[float, typer.Option(min=0.01, max=100, help="frames per second of the film")]
Preset = Annotated[Literal["paper", "released"], typer.Option(help="settings of the paper or of the released code")]
Prompt = Annotated[str, typer.Option(help="what both images show, in words")]
Seed = Annotated[int, typer.Option(min=0, help="same seed, same frames")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="no progress bars and notes, print only errors")]
OWN = "[default: the model's recommendation, else the paper's]"


def film(
    images: list[str],
    output: Path,
    load: Callable[[], Any],
    settings: dict[str, Any],
    *,
    size: Any,
    fps: float,
    embedded: bool,
    quiet: bool,
) -> None:
    """Make the film of a command and say what was done: cheap checks first, then the model, then the run.

    load: loads the model. settings: of `interpolate` or `inbetween`. embedded: the model is the one of this repository.
    """
    from interp_lib.show.video import check_video_path

    check_video_path(output)
    pair, notes = read_images(images, size)
    from interp_lib.show.film import embedded_note, make_film

    printed: set[str] = set()

    def note(sentence: str) -> None:
        if not quiet and sentence not in printed:
            say(f"note: {sentence}")
        printed.add(sentence)

    for sentence in notes:
        note(sentence)
    model = load()
    how = {"size": size, "fps": fps, "progress": not quiet, "note": note}
    made = make_film(model, pair, output, **how, **settings)
    for sentence in made.notes:
        note(sentence)
    if not quiet:
        say(f"{made.media}: {made.summary}")
        if embedded:
            note(embedded_note(model))


def read_images(images: list[str], size: Any) -> tuple[list[Tensor], list[str]]:
    """Read the two images [1,3,H,W] that the command line names, and say what was adapted."""
    if len(images) > 2:
        raise ValueError(f"{len(images)} inputs were given: name two images, or one folder or bundled pair.")
    if len(images) == 1:
        from interp_lib.pairs.load import load_pair

        pair = load_pair(images[0], size=size)
        return [pair.image0, pair.image1], pair.notes
    from interp_lib.images import open_image

    (first, notes), (last, more) = map(open_image, images)
    return [first, last], notes + more


def load_image(source: str, device: str, dtype: str | None) -> Any:
    """Load the image model that the command line names."""
    from interp_lib.models.load import load_image_model

    return load_image_model(source, device=device, dtype=_dtype(dtype))


def load_video(source: str, device: str, dtype: str | None, reverse: str | None) -> Any:
    """Load the video model that the command line names. reverse: its backward-motion deltas."""
    from interp_lib.models.load_video import load_video_model

    return load_video_model(source, device=device, dtype=_dtype(dtype), reverse=reverse)


def _dtype(name: str | None) -> Any:
    import torch

    return None if name is None else getattr(torch, name)


def fit_backward(
    clips: Path,
    output: Path,
    model: str,
    *,
    device: str,
    dtype: str | None,
    size: Any,
    frames: int | None,
    stride: int,
    windows: int,
    quiet: bool,
    **settings: Any,
) -> None:
    """Fit backward-motion deltas on a folder of clips and save them; settings: of `fit_backward_motion`.

    Under `accelerate launch` every process runs this, and the first one writes.
    """
    if output.suffix != ".safetensors":
        raise ValueError(f"{output} is no name for deltas: let it end in .safetensors.")
    from interp_lib.files import check_target

    output = output.expanduser()
    check_target(output)
    if not os.access(output.parent, os.W_OK):
        raise ValueError(f"{output} cannot be written: give another --output.")
    import torch

    from interp_lib.inbetweening.backward import fit_backward_motion
    from interp_lib.inbetweening.clips import check_format
    from interp_lib.models.load_video import video_format
    from interp_lib.pairs.videos import load_clips

    made_for = video_format(model)
    size, frames = size or made_for.size, frames or made_for.frames
    sides = (size, size) if isinstance(size, int) else size
    check_format(frames, *sides, max_frames=made_for.max_frames, multiple=made_for.multiple)
    tensors, notes = load_clips(clips, frames=frames, size=size, stride=stride, windows=windows, progress=not quiet)
    rank = os.environ.get("LOCAL_RANK")  # set by `accelerate launch`: one process a device
    if rank and device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{rank}"
    loaded = load_video(model, device, dtype, None)
    checkpoint = output.with_suffix(".checkpoint")
    try:
        motion = fit_backward_motion(loaded, tensors, checkpoint=checkpoint, progress=not quiet, **settings)
    except KeyboardInterrupt:
        left = f"the same command goes on from {checkpoint}" if checkpoint.exists() else "no file was written"
        raise Interrupted(left) from None
    if os.environ.get("RANK", "0") != "0":
        return
    motion.save(output)
    if not quiet:
        for note in notes:
            say(f"note: {note}")
        early, late = (sum(part) / len(part) for part in (motion.losses[:50], motion.losses[-50:]))
        steps = settings["steps"]
        say(f"{output}: {len(tensors)} clips, {steps} steps, loss {early:.4f} at first, {late:.4f} at last")


MEASURES = {  # what is printed of a pair, and what it means
    "change": "difference of the images where they differ, of the range of colours",
    "residue": "what is left of it at t = 0.5, when both are warped along the flows",
    "consistent": "share of the positions that come back from the other image",
    "smooth": "share that moves like its neighbours",
    "covered": "share of the frame at t = 0.5 that something is splatted to",
    "displacement": "mean length of the flow, of the diagonal",
}


def judge(images: list[str], load: Callable[[], Any], *, size: Any, steps: int, prompt: str, quiet: bool) -> None:
    """Print the suitability of a pair; it is a number without a verdict, which no measurement would bear out."""
    pair, notes = read_images(images, size)
    from interp_lib.dreammover.suitability import suitability
    from interp_lib.images import prepare_pair

    model = load()
    prepared, adapted = prepare_pair(pair, size=size, native_size=model.native_size, multiple=model.multiple)
    result = suitability(model, *prepared, steps=steps, prompt=prompt, progress=not quiet)
    if quiet:
        return say(f"{result.score:.2f}")
    for note in notes + adapted:
        say(f"note: {note}")
    for name, meaning in MEASURES.items():
        say(f"{getattr(result, name):5.2f}  {meaning}")
    say(f"suitability {result.score:.2f}, (1 - change) x (1 - residue): to compare pairs of one kind with each other")
