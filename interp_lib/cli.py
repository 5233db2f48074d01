"""The command line, `interp_lib` or `python -m interp_lib`: two images in, a film out.

Nothing heavy is imported before the arguments are known to be good.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer

from interp_lib import cli_parts as parts

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 2 for a wrong input (one sentence on stderr), 130 for Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a path that the terminal's encoding lacks must not end a run
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(sys.argv[1:] if arguments is None else arguments, prog_name="interp_lib", standalone_mode=False)
        return (code or 0) if code != 130 else _fail("interrupted, no film was written", 130)  # Typer met Ctrl-C
    except parts.Interrupted as stop:
        return _fail(f"interrupted, {stop}", 130)
    except typer.TyperException as error:  # wrong usage
        message = error.format_message()
        return _fail(message if message.startswith("Usage") else f"error: {message} (--help shows all options)")
    except (ValueError, OSError) as error:
        return _fail(f"error: {error}")
    except (RuntimeError, MemoryError) as error:
        from interp_lib.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _fail("error: the device ran out of memory: try --batch-size 1, fewer --frames or a smaller --size.")


def _fail(sentence: str, code: int = 2) -> int:
    if not sentence.startswith("Usage"):
        sentence = f"interp_lib: {' '.join(sentence.split())}"
    print(sentence, file=sys.stderr)
    return code


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"interp_lib {version('interp_lib')}")
        raise typer.Exit


@app.callback()
def commands(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Make the frames between two images with a diffusion model. Each command has a --help of its own.

    \b
    examples:
      interp_lib interpolate cat0.jpg cat1.jpg -o cat.mp4
      interp_lib inbetween first.png last.png -o out.gif
    """


@app.command("interpolate")
def interpolate_command(
    images: parts.Inputs,
    output: parts.Output,
    frames: Annotated[int, typer.Option(min=1, help="frames between the two images")] = 7,
    fps: parts.Fps = 8.0,
    model: parts.Model = "embedded",
    device: parts.Device = "auto",
    dtype: parts.Dtype = None,
    size: parts.Size = None,
    prompt: parts.Prompt = "",
    seed: parts.Seed = 0,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="frames computed at once; fewer take less memory")
    ] = None,
    preset: parts.Preset = "paper",
    steps: Annotated[int, typer.Option(min=2, help="steps of the full noise schedule")] = 50,
    inversion_steps: Annotated[
        int | None, typer.Option(min=1, help=f"steps of it that are inverted {parts.OWN}")
    ] = None,
    flow: Annotated[
        Literal["diffusion", "classical", "zero"], typer.Option(help="what moves the latents")
    ] = "diffusion",
    endpoints: Annotated[Literal["input", "reconstructed"], typer.Option(help="what is first and last")] = "input",
    lora: Annotated[bool | None, typer.Option("--lora/--no-lora", help=f"fit a LoRA on the pair {parts.OWN}")] = None,
    attention: Annotated[bool, typer.Option("--attention/--no-attention", help="replace self-attention")] = True,
    two_level: Annotated[
        bool, typer.Option("--two-level/--no-two-level", help="fuse clean part and noise apart")
    ] = True,
    quiet: parts.Quiet = False,
) -> None:
    """Make the frames between two images (DreamMover) and save them, with both images, as a film.

    \b
    examples:
      interp_lib interpolate cat0.jpg cat1.jpg -o cat.mp4 --frames 15
      interp_lib interpolate motorcycle -o out.gif --size 96x64 --no-lora
      interp_lib interpolate cat -o cat.mp4 --model stable-diffusion-v1-5/stable-diffusion-v1-5 --batch-size 4
    """
    if inversion_steps is not None and inversion_steps > steps:
        raise ValueError(f"--inversion-steps {inversion_steps} is more than --steps {steps}: give at most {steps}.")
    settings = {"frames": frames, "preset": preset, "steps": steps, "inversion_steps": inversion_steps, "lora": lora}
    settings |= {"attention": attention, "two_level": two_level, "flow": flow, "endpoints": endpoints}
    settings |= {"batch_size": batch_size, "prompt": prompt, "seed": seed}
    load = partial(parts.load_image, model, device, dtype)
    parts.film(images, output, load, settings, size=size, fps=fps, embedded=model == "embedded", quiet=quiet)


@app.command("inbetween")
def inbetween_command(
    images: parts.Inputs,
    output: parts.Output,
    method: Annotated[
        Literal["dual", "no-rotation", "no-finetune", "trf", "vibid", "vibid-plain", "forward"],
        typer.Option(help="dual and no-rotation need backward-motion deltas"),
    ] = "dual",
    frames: Annotated[int | None, typer.Option(min=2, help="frames in all [default: the model's own]")] = None,
    fps: parts.Fps = 7.0,
    model: parts.Model = "embedded",
    reverse: Annotated[str, typer.Option(help="backward-motion deltas, a file of fit-backward")] = "auto",
    device: parts.Device = "auto",
    dtype: parts.Dtype = None,
    size: parts.Size = None,
    seed: parts.Seed = 0,
    preset: parts.Preset = "paper",
    steps: Annotated[int | None, typer.Option(min=1, help=f"steps of the noise schedule {parts.OWN}")] = None,
    recurrence: Annotated[int | None, typer.Option(min=0, help=f"repeats of an early step {parts.OWN}")] = None,
    motion_bucket_id: Annotated[float, typer.Option(help="how much motion (SVD: 0 to 255)")] = 127,
    quiet: parts.Quiet = False,
) -> None:
    """Make a video between two keyframes (Generative Inbetweening) and save it.

    \b
    examples:
      interp_lib inbetween first.png last.png -o out.mp4
      interp_lib inbetween first.png last.png -o out.mp4 --method trf --steps 25
      interp_lib inbetween first.png last.png -o out.mp4 --size 1024x576 --reverse deltas.safetensors \\
          --model stabilityai/stable-video-diffusion-img2vid-xt
    """
    settings = {"method": method, "frames": frames, "preset": preset, "steps": steps, "recurrence": recurrence}
    settings |= {"motion_bucket_id": motion_bucket_id, "seed": seed}
    load = partial(parts.load_video, model, device, dtype, reverse)
    parts.film(images, output, load, settings, size=size, fps=fps, embedded=model == "embedded", quiet=quiet)


@app.command("fit-backward")
def fit_backward_command(
    clips: parts.Clips,
    output: Annotated[Path, typer.Option("-o", "--output", help="safetensors file for the deltas")],
    frames: Annotated[int | None, typer.Option(min=2, help="frames a clip [default: the model's own]")] = None,
    stride: Annotated[int, typer.Option(min=1, help="2 takes every second frame")] = 2,
    windows: Annotated[int, typer.Option(min=1, help="clips a video at most")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="training steps")] = 1000,
    lr: Annotated[float, typer.Option(help="learning rate")] = 1e-4,
    batch: Annotated[int, typer.Option(min=1, help="clips a step and device")] = 1,
    rotate: Annotated[bool, typer.Option("--rotation/--no-rotation", help="without: the ablation, no maps")] = True,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="less memory, the same result")
    ] = False,
    model: parts.Model = "embedded",
    device: parts.Device = "auto",
    dtype: parts.Dtype = None,
    size: parts.Size = None,
    seed: parts.Seed = 0,
    quiet: parts.Quiet = False,
) -> None:
    """Teach a video model to go backwards in time: fit the deltas (Alg. 1) on a folder of videos; resumes.

    Several devices: accelerate launch -m interp_lib fit-backward ...

    \b
    examples:
      interp_lib fit-backward videos/ -o deltas.safetensors --steps 20
      interp_lib fit-backward videos/ -o deltas.safetensors --size 1024x576 --gradient-checkpointing \\
          --model stabilityai/stable-video-diffusion-img2vid
    """
    settings = {"steps": steps, "lr": lr, "batch": batch, "rotate": rotate, "seed": seed}
    settings |= {"gradient_checkpointing": gradient_checkpointing}
    loading = {"device": device, "dtype": dtype, "size": size, "frames": frames, "stride": stride, "windows": windows}
    parts.fit_backward(clips, output, model, quiet=quiet, **loading, **settings)


@app.command("suitability")
def suitability_command(
    images: parts.Inputs,
    model: parts.Model = "embedded",
    device: parts.Device = "auto",
    dtype: parts.Dtype = None,
    size: parts.Size = None,
    prompt: parts.Prompt = "",
    steps: Annotated[int, typer.Option(min=2, help="steps of the noise schedule")] = 50,
    quiet: parts.Quiet = False,
) -> None:
    """Score a pair from 0 to 1 before it is interpolated, for a fraction of the price of a run.

    \b
    examples:
      interp_lib suitability cat0.jpg cat1.jpg
    """
    parts.judge(
        images, partial(parts.load_image, model, device, dtype), size=size, steps=steps, prompt=prompt, quiet=quiet
    )


@app.command("pairs")
def pairs_command() -> None:
    """List the bundled image pairs."""
    from interp_lib.pairs import describe_pairs

    for name, about in describe_pairs().items():
        parts.say(f"{name:12} {about}")
    parts.say(f"{'FOLDER':12} two images, or the frames of a clip (its first and last are the pair)")


@app.command("app")
def app_command(
    model: parts.Model = "embedded",
    video_model: Annotated[str, typer.Option(help="the same for Generative Inbetweening")] = "embedded",
    device: parts.Device = "auto",
    port: Annotated[int, typer.Option(help="of 127.0.0.1; another one where it is taken")] = 8866,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open the page, or print its address")] = True,
) -> None:
    """Serve a page, on this machine alone, that makes a film from two images."""
    from interp_lib.show.app import serve

    serve(model, video_model, device, port=port, browser=browser)
