"""The command line, `interp_lib` or `python -m interp_lib`: two images in, a film out.

Nothing heavy is imported before the arguments are known to be good.
"""

import sys
from importlib.metadata import version
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
        return _fail(f"error: {error.format_message()} (--help shows all options)")
    except (ValueError, OSError) as error:
        return _fail(f"error: {error}")
    except (RuntimeError, MemoryError) as error:
        from interp_lib.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _fail("error: the device ran out of memory: try --batch-size 1, fewer --frames or a smaller --size.")


def _fail(sentence: str, code: int = 2) -> int:
    help_page = sentence.startswith("error: Usage")  # where no command was given
    print(sentence[7:] if help_page else f"interp_lib: {' '.join(sentence.split())}", file=sys.stderr)
    return code


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"interp_lib {version('interp_lib')}")
        raise typer.Exit


VERSION = typer.Option("--version", callback=_show_version, is_eager=True, help="print the version")


@app.callback()
def commands(_: Annotated[bool, VERSION] = False) -> None:
    """Make the frames between two images with a diffusion model. Each command has a --help of its own."""


@app.command("interpolate")
def interpolate_command(
    images: parts.Inputs,
    output: parts.Output,
    frames: Annotated[int, typer.Option(min=1, help="frames between two images")] = 7,
    fps: parts.Fps = 8.0,
    loop: parts.Loop = False,
    model: parts.Model = "embedded",
    device: parts.Device = "auto",
    dtype: parts.Dtype = None,
    size: parts.Size = None,
    prompt: parts.Prompt = "",
    seed: parts.Seed = 0,
    batch_size: Annotated[int | None, typer.Option(min=1, help="frames at once; fewer take less memory")] = None,
    preset: parts.Preset = "paper",
    quick: parts.Quick = False,
    solver: Annotated[Literal["ddim", "dpmsolver++"] | None, typer.Option(help="of the steps [default: ddim]")] = None,
    steps: Annotated[int | None, typer.Option(min=2, help="steps of the noise schedule [default: 50]")] = None,
    inversion_steps: Annotated[int | None, typer.Option(min=1, help=f"steps that are inverted {parts.OWN}")] = None,
    flow: Annotated[Literal["diffusion", "classical", "zero"], typer.Option(help="moves the latents")] = "diffusion",
    endpoints: Annotated[Literal["input", "reconstructed"], typer.Option(help="what is first and last")] = "input",
    lora: Annotated[bool | None, typer.Option("--lora/--no-lora", help=f"fit a LoRA on the images {parts.OWN}")] = None,
    attention: Annotated[bool, typer.Option("--attention/--no-attention", help="replace self-attention")] = True,
    two_level: Annotated[bool, typer.Option("--two-level/--no-two-level", help="fuse clean and noise apart")] = True,
    quiet: parts.Quiet = False,
) -> None:
    """Make the frames between images (DreamMover) and save them, with the images, as a film.

    \b
    examples:
      interp_lib interpolate cat0.jpg cat1.jpg -o cat.mp4 --frames 15
      interp_lib interpolate cat0.jpg cat1.jpg cat2.jpg -o cats.gif --loop --quick
      interp_lib interpolate motorcycle -o out.gif --size 96x64 --no-lora
      interp_lib interpolate cat -o cat.mp4 --model stable-diffusion-v1-5/stable-diffusion-v1-5 --batch-size 4
    """
    if inversion_steps is not None and steps is not None and inversion_steps > steps:
        raise ValueError(f"--inversion-steps {inversion_steps} is more than --steps {steps}: give at most {steps}.")
    parts.film("image", **locals())  # every option under its own name


@app.command("inbetween")
def inbetween_command(
    images: parts.Inputs,
    output: parts.Output,
    method: Annotated[
        Literal["dual", "no-rotation", "no-finetune", "trf", "vibid", "vibid-plain", "forward"],
        typer.Option(help="dual and no-rotation need backward-motion deltas"),
    ] = "dual",
    frames: Annotated[
        int | None, typer.Option(min=2, help="frames, both images included [default: the model's]")
    ] = None,
    fps: parts.Fps = 7.0,
    loop: parts.Loop = False,
    model: parts.Model = "embedded",
    reverse: Annotated[str, typer.Option(help="backward-motion deltas, a file of fit-backward")] = "auto",
    device: parts.Device = "auto",
    dtype: parts.Dtype = None,
    size: parts.Size = None,
    seed: parts.Seed = 0,
    preset: parts.Preset = "paper",
    quick: parts.Quick = False,
    steps: Annotated[int | None, typer.Option(min=1, help=f"steps of the noise schedule {parts.OWN}")] = None,
    recurrence: Annotated[int | None, typer.Option(min=0, help=f"repeats of an early step {parts.OWN}")] = None,
    motion_bucket_id: Annotated[float, typer.Option(help="how much motion (SVD: 0 to 255)")] = 127,
    quiet: parts.Quiet = False,
) -> None:
    """Make a video between keyframes (Generative Inbetweening) and save it.

    \b
    examples:
      interp_lib inbetween first.png last.png -o out.mp4 --method trf --steps 25
      interp_lib inbetween first.png last.png -o out.mp4 --size 1024x576 --reverse deltas.safetensors \\
          --model stabilityai/stable-video-diffusion-img2vid-xt
    """
    parts.film("video", **locals())


app.command("fit-backward")(parts.fit_backward)


MEASURES = {  # what is printed of a pair, and what it means
    "change": "difference of the images where they differ, of the range of colours",
    "residue": "what is left of it at t = 0.5, when both are warped along the flows",
    "consistent": "share of the positions that come back from the other image",
    "smooth": "share that moves like its neighbours",
    "covered": "share of the frame at t = 0.5 that something is splatted to",
    "displacement": "mean length of the flow, of the diagonal",
}


@app.command("suitability")
def suitability_command(
    images: parts.Two,
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
    if len(images) > 2:
        raise ValueError(f"{len(images)} images were given: the score is of one pair, so name two.")
    pair, notes = parts.read_images(images, size)
    from interp_lib.dreammover.suitability import suitability
    from interp_lib.images import prepare_pair

    network = parts.load_model("image", model, device, dtype)
    prepared, adapted = prepare_pair(pair, size=size, native_size=network.native_size, multiple=network.multiple)
    result = suitability(network, *prepared, steps=steps, prompt=prompt, progress=not quiet)
    if quiet:
        return parts.say(f"{result.score:.2f}")
    for note in notes + adapted:
        parts.say(f"note: {note}")
    for name, meaning in MEASURES.items():
        parts.say(f"{getattr(result, name):5.2f}  {meaning}")
    score = f"suitability {result.score:.2f}, (1 - change) x (1 - residue)"  # no verdict: no measurement bears one out
    parts.say(f"{score}: to compare pairs of one kind with each other")


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
