"""The parts of the command line: options that several commands share, and how a command makes a film."""

from __future__ import annotations

import os
import re
import sys
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
OWN = "[default: the model's recommendation, else the paper's]"
PAIR = "two image files, or one folder, or one bundled pair (`pairs` lists them)"
Inputs = Annotated[list[str], typer.Argument(metavar="IMAGE", help=f"{PAIR}, or more image files for one long film")]
Two = Annotated[list[str], typer.Argument(metavar="IMAGE", help=PAIR)]
Output = Annotated[Path, typer.Option("-o", "--output", help="film: .mp4, .mov, .gif, .webp, or a folder for PNGs")]
Model = Annotated[str, typer.Option(help='"embedded", a diffusers folder, or a hub name')]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")]
DTYPE = typer.Option(help="numbers of the model [default: float16 on CUDA, else float32]")
Dtype = Annotated[Literal["float32", "float16", "bfloat16"] | None, DTYPE]
COVER = "of the frames, a square or width x height; images are resized to cover it and cropped at the centre"
SIZE = f"pixels {COVER} [default: about the model's own area, in the images' aspect]"
Size = Annotated[tuple | None, typer.Option(parser=parse_size, metavar="N|WxH", help=SIZE)]
Fps = Annotated[float, typer.Option(min=0.01, max=100, help="frames per second of the film")]
Loop = Annotated[bool, typer.Option("--loop", help="go on from the last image to the first, for an endless film")]
Quick = Annotated[bool, typer.Option("--quick", help="fewer U-Net calls, nearly the same frames")]
Preset = Annotated[Literal["paper", "released"], typer.Option(help="settings of the paper or of the released code")]
Prompt = Annotated[str, typer.Option(help="what the images show, in words")]
Seed = Annotated[int, typer.Option(min=0, help="same seed, same frames")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="no progress bars and notes, print only errors")]


def load_model(kind: str, source: str, device: str, dtype: str | None, **options: Any) -> Any:
    """Load the "image" or the "video" model that the command line names."""
    import torch

    from interp_lib import models

    load = models.load_image_model if kind == "image" else models.load_video_model
    return load(source, device=device, dtype=None if dtype is None else getattr(torch, dtype), **options)


def read_images(paths: list[str], size: Any) -> tuple[list[Tensor], list[str]]:
    """Read the images [1,3,H,W] that the command line names, and say what was adapted."""
    if len(paths) == 1:
        from interp_lib.pairs import load_pair

        pair = load_pair(paths[0], size=size)
        return [pair.image0, pair.image1], pair.notes
    from interp_lib.images import open_image

    images, notes = zip(*map(open_image, paths), strict=True)
    return list(images), sum(notes, [])


def film(
    paths: list[str],
    output: Path,
    kind: str,
    loading: dict[str, Any],
    settings: dict[str, Any],
    *,
    quick: bool,
    size: Any,
    fps: float,
    loop: bool,
    quiet: bool,
) -> None:
    """Make the film of a command and say what was done: cheap checks first, then the model, then the run.

    kind, loading: of `load_model`. settings: of `interpolate` or `inbetween`; those that the user has given (not None)
    win over the ones that --quick stands for.
    """
    from interp_lib.show.video import check_video_path

    check_video_path(output)
    images, notes = read_images(paths, size)
    from interp_lib.show.film import embedded_note, make_film, quick_settings

    printed: set[str] = set()

    def note(sentence: str) -> None:
        if not quiet and sentence not in printed:
            say(f"note: {sentence}")
        printed.add(sentence)

    settings = {name: value for name, value in settings.items() if value is not None}
    for sentence in notes:
        note(sentence)
    model = load_model(kind, **loading)
    if quick:
        faster = quick_settings(model)
        for name in [name for name in faster if name in settings]:
            note(f"--quick means {name}={faster[name]}, but {name}={settings[name]} was given and is used.")
        settings = faster | settings
    progress = not quiet
    result = make_film(model, images, output, size=size, fps=fps, loop=loop, progress=progress, note=note, **settings)
    for sentence in result.notes:
        note(sentence)
    if not quiet:
        say(f"{result.media}: {result.summary}")
        if loading["source"] == "embedded":
            note(embedded_note(model))


def fit_backward(
    clips: Path,
    output: Path,
    loading: dict[str, Any],
    cutting: dict[str, Any],
    settings: dict[str, Any],
    *,
    quiet: bool,
) -> None:
    """Fit backward-motion deltas on a folder of clips and save them; cheap checks first.

    loading: of `load_model`. cutting: of `load_clips`; size and frames that are None are the model's own. settings: of
    `fit_backward_motion`. Under `accelerate launch` every process runs this, one a device, and the first one writes.
    """
    from interp_lib.files import check_target

    output = output.expanduser()
    if output.suffix != ".safetensors":
        raise ValueError(f"{output} is no name for deltas: let it end in .safetensors.")
    check_target(output)
    import torch

    from interp_lib.inbetweening.backward import fit_backward_motion
    from interp_lib.inbetweening.clips import check_format
    from interp_lib.models.load_video import video_format
    from interp_lib.pairs.videos import load_clips

    made_for = video_format(loading["source"])
    cutting |= {"size": cutting["size"] or (made_for.size,) * 2, "frames": cutting["frames"] or made_for.frames}
    check_format(cutting["frames"], *cutting["size"], max_frames=made_for.max_frames, multiple=made_for.multiple)
    tensors, notes = load_clips(clips, progress=not quiet, **cutting)
    rank = os.environ.get("LOCAL_RANK")
    if rank and loading["device"] in ("auto", "cuda") and torch.cuda.is_available():
        loading |= {"device": f"cuda:{rank}"}
    checkpoint = output.with_suffix(".checkpoint")
    model = load_model("video", **loading, reverse=None)
    try:
        motion = fit_backward_motion(model, tensors, checkpoint=checkpoint, progress=not quiet, **settings)
    except KeyboardInterrupt:
        left = f"the same command goes on from {checkpoint}" if checkpoint.exists() else "no file was written"
        raise Interrupted(left) from None
    if os.environ.get("RANK", "0") != "0":
        return
    motion.save(output)
    early, late = (sum(part) / len(part) for part in (motion.losses[:50], motion.losses[-50:]))
    steps = settings["steps"]
    summary = f"{output}: {len(tensors)} clips, {steps} steps, loss {early:.4f} at first, {late:.4f} at last"
    for line in [] if quiet else [*(f"note: {note}" for note in notes), summary]:
        say(line)


MEASURES = {  # what is printed of a pair, and what it means
    "change": "difference of the images where they differ, of the range of colours",
    "residue": "what is left of it at t = 0.5, when both are warped along the flows",
    "consistent": "share of the positions that come back from the other image",
    "smooth": "share that moves like its neighbours",
    "covered": "share of the frame at t = 0.5 that something is splatted to",
    "displacement": "mean length of the flow, of the diagonal",
}


def judge(paths: list[str], loading: dict[str, Any], size: Any, steps: int, prompt: str, quiet: bool) -> None:
    """Print the suitability of a pair; it is a number without a verdict, which no measurement would bear out."""
    if len(paths) > 2:
        raise ValueError(f"{len(paths)} images were given: the score is of one pair, so name two.")
    pair, notes = read_images(paths, size)
    from interp_lib.dreammover.suitability import suitability
    from interp_lib.images import prepare_pair

    model = load_model("image", **loading)
    prepared, adapted = prepare_pair(pair, size=size, native_size=model.native_size, multiple=model.multiple)
    result = suitability(model, *prepared, steps=steps, prompt=prompt, progress=not quiet)
    if quiet:
        return say(f"{result.score:.2f}")
    for note in notes + adapted:
        say(f"note: {note}")
    for name, meaning in MEASURES.items():
        say(f"{getattr(result, name):5.2f}  {meaning}")
    say(f"suitability {result.score:.2f}, (1 - change) x (1 - residue): to compare pairs of one kind with each other")
