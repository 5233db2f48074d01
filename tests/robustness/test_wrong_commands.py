"""Wrong commands and notebooks' parameters: one line on stderr, exit code 2, and no file."""

import pytest

from experiments.studies import __main__ as results
from experiments.studies import tables
from experiments.train import __main__ as train
from interp_lib.cli import main
from interp_lib.show import fresh, run
from tests.robustness.ground import SD, SVD
from tests.robustness.harness import Refused, Row, refuse, shell


def command(about, says, *arguments, entry=main, name=None):
    """{files} and {out} in the arguments are the ground's folders."""

    def call(ground):
        shell(entry, *(a.format(files=ground.files, out=ground.out) for a in arguments))

    return Row(f"{name or 'interp_lib ' + (arguments or ('',))[0]}: {about}", call, says, Refused)


def interpolating(about, says, *options, images=("{files}/a.png", "{files}/b.png"), out="{out}/a.mp4"):
    return command(about, says, "interpolate", *images, "-o", out, "--model", str(SD), *options)


def between(about, says, *options):
    images = ("{files}/a.png", "{files}/b.png")
    return command(about, says, "inbetween", *images, "-o", "{out}/a.gif", "--model", str(SVD), *options)


def fitting(about, says, *options, out="{out}/d.safetensors", clips="{files}/named"):
    return command(about, says, "fit-backward", clips, "-o", out, "--model", str(SVD), "--quiet", *options)


def notebook(about, says, *given, entry="run"):
    """A small notebook with one parameter of every kind."""

    def call(ground):
        arguments = [x for value in given for x in ("-p", value)]
        if entry == "run":
            shell(run.main, ground.files / "small.ipynb", ground.out / "small.ipynb", *arguments)
        else:
            shell(fresh.main, "stamp", "--into", ground.out, *arguments, ground.files / "small.ipynb")

    return Row(f"{'show.run' if entry == 'run' else 'make figures'}: {about}", call, says, Refused)


ROWS = [
    command("no command", r"error: .*COMMAND \(--help shows"),
    command("unknown", r"'morph' .*interpolate.*\(--help shows", "morph"),
    interpolating("frames", "--frames: 'many' is not a whole number of at least 1", "--frames", "many"),
    interpolating("no frames", "--frames: '0' is not a whole number of at least 1", "--frames", "0"),
    interpolating("a digit that is none", "--batch-size: .*'²'", "--batch-size", "²"),
    interpolating("fps", "--fps: 'nan' is not a frame rate between", "--fps", "nan"),
    interpolating("size", "--size: '64x' is not N or WIDTHxHEIGHT", "--size", "64x"),
    interpolating("seed", "--seed: '-1' is not a whole number of at least 0", "--seed", "-1"),
    interpolating("unknown option", r"unrecognized arguments: --blur \(--help", "--blur"),
    interpolating(
        "inversion_steps",
        "--inversion-steps 9 is more than --steps 5: invert at most",
        "--steps",
        "5",
        "--inversion-steps",
        "9",
    ),
    interpolating("device", "device='gpu' cannot be used here: give 'auto'", "--device", "gpu"),
    interpolating("a missing image", "none.png does not exist: give", images=("{files}/a.png", "none.png")),
    interpolating(
        "a damaged image", "cut.png cannot be read .*: .*save it", images=("{files}/a.png", "{files}/cut.png")
    ),
    interpolating("no model", "none does not exist: give 'embedded'", "--model", "./none"),
    interpolating("output without a video's name", "let it end in .mp4", out="{out}/a.txt"),
    interpolating("output in no folder", "none does not exist: create it, or give another", out="{out}/none/a.mp4"),
    interpolating("output is a folder", "cannot be written: give another --output", out="{files}/empty/../loop.mp4"),
    interpolating("a prompt too long", "has .* tokens: at most .*, so shorten it", "--prompt", "word " * 90),
    between("method", "--method: invalid choice: 'rife' .*dual", "--method", "rife"),
    between("deltas", "none.safetensors do not exist: give a file", "--reverse", "none.safetensors"),
    between("motion", "motion_bucket_id=nan is out of range: give", "--motion-bucket-id", "nan"),
    fitting("a text for a video", "text.mp4 cannot be decoded as a video: convert it"),
    fitting("no folder of clips", "none is no folder: give one", clips="none"),
    fitting(
        "lr", "lr=nan is out of range: give a finite number above 0", "--lr", "nan", "--frames", "2", clips="{files}/ok"
    ),
    fitting(
        "output is a folder", "folder.safetensors cannot be written: give another", out="{files}/folder.safetensors"
    ),
    fitting("output's ending", "let it end in .safetensors", out="{out}/d.pt"),
    command("study", "no study 'x': there are", "x", entry=results.main, name="make results"),
    command(
        "model", "none does not exist: give", "--model", "./none", "frequency", entry=results.main, name="make results"
    ),
    command("table", "no table '../x'", "../x", entry=tables.main, name="make bench-tables"),
    command("stage", "--stage: invalid choice: 'all'", "--stage", "all", entry=train.main, name="make models"),
    notebook("unknown", "unknown parameter 'frames': there are pair", "frames=3"),
    notebook("type", "count must be of type int like its default 2, not 'many'", "count=many"),
    notebook("a float for an int", "count must be of type int like its default 2, not '2.0'", "count=2.0"),
    notebook("a switch for an int", "count must be of type int .*, not 'True'", "count=True"),
    notebook("a set of lists", "count must be of type int .*, not", "count={[]}"),
    notebook("too deep", "count must be of type int", "count=" + "(" * 5000),
    notebook("infinite", "rate must be finite, not '1e999'", "rate=1e999"),
    notebook("no value", "'count' must read name=value", "count"),
    notebook("a missing pair", "photos is neither a folder nor a bundled pair: the bundled", "pair=photos"),
    notebook("a missing path", "./photos does not exist", "pair=./photos"),
    notebook("unknown to all", "unknown parameter 'frames=3': no notebook has it; there are", "frames=3", entry="make"),
    notebook(
        "a missing pair", "photos is neither a folder nor a bundled pair: the bundled", "pair=photos", entry="make"
    ),
    command("no notebook", "there is no such notebook", "none.ipynb", "{out}/n.ipynb", entry=run.main, name="show.run"),
    command(
        "a picture", "not a Jupyter notebook", "{files}/text.png", "{out}/n.ipynb", entry=run.main, name="show.run"
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.about)
def test_refused(ground, row):
    refuse(row, ground)
