"""The parts of the command line: shared options, how a film is made, and the fit of backward motion."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


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


def read_images(paths: list[str], size: Any) -> tuple[list[Any], list[str]]:
    """Read the images [1,3,H,W] that the command line names; return them and what was adapted."""
    if len(paths) == 1:
        from interp_lib.pairs import load_pair

        pair = load_pair(paths[0], size=size)
        return [pair.image0, pair.image1], pair.notes
    from interp_lib.images import open_image

    images, notes = zip(*map(open_image, paths), strict=True)
    return list(images), sum(notes, [])


def film(
    kind: str,
    *,
    images: list[str],
    output: Path,
    model: str,
    device: str,
    dtype: str | None,
    size: Any,
    quick: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Make the film of a command and say what was done: cheap checks first, then the model, then the run.

    kind: of the model, "image" or "video". settings: of `make_film`, and `reverse` of the video model; those that the
    user has given (not None) win over the ones that --quick stands for.
    """
    from interp_lib.show.video import check_video_path

    check_video_path(output)
    keyframes, notes = read_images(images, size)
    from interp_lib.show.film import embedded_note, make_film, quick_settings

    printed: set[str] = set()

    def note(sentence: str) -> None:
        if not quiet and sentence not in printed:
            say(f"note: {sentence}")
        printed.add(sentence)

    for sentence in notes:
        note(sentence)
    settings = {name: value for name, value in settings.items() if value is not None}
    loading = {"reverse": settings.pop("reverse")} if kind == "video" else {}
    network = load_model(kind, model, device, dtype, **loading)
    faster = quick_settings(network) if quick else {}
    for name in [name for name in faster if name in settings]:
        note(f"--quick means {name}={faster[name]}, but {name}={settings[name]} was given and is used.")
    result = make_film(network, keyframes, output, size=size, progress=not quiet, note=note, **(faster | settings))
    for sentence in result.notes:
        note(sentence)
    if not quiet:
        say(f"{result.media}: {result.summary}")
    if model == "embedded":
        note(embedded_note(network))


def fit_backward(
    clips: Annotated[Path, typer.Argument(help="a folder of videos, or of folders that hold frames")],
    output: Annotated[Path, typer.Option("-o", "--output", help="safetensors file for the deltas")],
    frames: Annotated[int | None, typer.Option(min=2, help="frames a clip [default: the model's own]")] = None,
    stride: Annotated[int, typer.Option(min=1, help="2 takes every second frame")] = 2,
    windows: Annotated[int, typer.Option(min=1, help="clips a video at most")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="training steps")] = 1000,
    lr: Annotated[float, typer.Option(help="learning rate")] = 1e-4,
    batch: Annotated[int, typer.Option(min=1, help="clips a step and device")] = 1,
    rotate: Annotated[bool, typer.Option("--rotation/--no-rotation", help="without: the ablation, no maps")] = True,
    gradient_checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="less memory")] = False,
    model: Model = "embedded",
    device: Device = "auto",
    dtype: Dtype = None,
    size: Size = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Teach a video model to go backwards in time: fit the deltas (Alg. 1) on a folder of videos; resumes.

    Several devices: accelerate launch -m interp_lib fit-backward ...

    \b
    examples:
      interp_lib fit-backward videos/ -o deltas.safetensors --steps 20
      interp_lib fit-backward videos/ -o deltas.safetensors --size 1024x576 --gradient-checkpointing \\
          --model stabilityai/stable-video-diffusion-img2vid
    """
    from interp_lib.files import check_target

    output = output.expanduser()
    if output.suffix != ".safetensors":
        raise ValueError(f"{output} is no name for deltas: let it end in .safetensors.")
    check_target(output)
    import torch

    from interp_lib.inbetweening.backward import fit_backward_motion
    from interp_lib.inbetweening.clips import check_format
    from interp_lib.models.load import video_format
    from interp_lib.pairs.videos import load_clips

    made_for = video_format(model)
    size, frames = size or (made_for.size,) * 2, frames or made_for.frames
    check_format(frames, *size, max_frames=made_for.max_frames, multiple=made_for.multiple)
    cut = {"frames": frames, "stride": stride, "windows": windows, "size": size}
    tensors, notes = load_clips(clips, **cut, progress=not quiet)
    rank = os.environ.get("LOCAL_RANK")
    if rank and device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{rank}"
    checkpoint = output.with_suffix(".checkpoint")
    network = load_model("video", model, device, dtype, reverse=None)
    settings = {"steps": steps, "lr": lr, "batch": batch, "rotate": rotate, "seed": seed, "progress": not quiet}
    settings |= {"gradient_checkpointing": gradient_checkpointing or None}  # None: by the clips' size
    try:
        motion = fit_backward_motion(network, tensors, checkpoint=checkpoint, **settings)
    except KeyboardInterrupt:
        left = f"the same command goes on from {checkpoint}" if checkpoint.exists() else "no file was written"
        raise Interrupted(left) from None
    if os.environ.get("RANK", "0") != "0":  # the first of several processes writes
        return
    motion.save(output)
    early, late = (sum(part) / len(part) for part in (motion.losses[:50], motion.losses[-50:]))
    summary = f"{output}: {len(tensors)} clips, {steps} steps, loss {early:.4f} at first, {late:.4f} at last"
    for line in [] if quiet else [*(f"note: {note}" for note in notes), summary]:
        say(line)
