"""LDMVFI, by the evaluation script of the user's clone of its repository."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from interp_lib.bench.baselines._frames import between_ends, nearest, pad_to, read_files, say_nearest, write_png
from interp_lib.bench.baselines._weights import Need, find, find_python, run_clone
from interp_lib.types import Interpolation, Pair

MODEL = None
REPOSITORY = "https://github.com/danier97/LDMVFI"
NEEDS = (
    Need("LDMVFI", "its repository", f"git clone {REPOSITORY}", "clone", folder=True),
    Need("LDMVFI", "ldmvfi-vqflow-f32-c256-concat_max.ckpt", f"download it by the link in the README of {REPOSITORY}"),
)
SCRIPT = "evaluate.py"
CONFIG = "configs/ldm/ldmvfi-vqflow-f32-c256-concat_max.yaml"
LEAST = 256  # px; smaller sides are not padded by the network to what it needs
SEEDED = (  # the script draws its noise without a seed
    "import runpy, sys, torch; torch.manual_seed(int(sys.argv.pop(1))); sys.argv.pop(0); "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


def make(
    model: None,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    clone: str | os.PathLike | None = None,
    weights: str | os.PathLike | None = None,
    python: str | os.PathLike | None = None,
    ddim_steps: int = 200,
) -> Interpolation:
    """The frame in the middle of two, again and again: 2^k-1 of them, of which the nearest in time are taken.

    Source: Danier et al., LDMVFI: Video Frame Interpolation with Latent Diffusion Models, AAAI 2024.
    clone, weights: the repository and the checkpoint, else INTERP_LDMVFI_CLONE and INTERP_LDMVFI. python: the
    interpreter of its environment.yaml, else INTERP_LDMVFI_PYTHON, else this one; the script needs CUDA and cupy, and
    unpickles the checkpoint. Frames pass through 8-bit PNG files, and sides below 256 px are padded by their edge
    pixels and cut again.
    Raises FileNotFoundError for what is missing and RuntimeError, with the script's last word, when it fails.
    """
    places, ckpt = find(NEEDS[0], clone), find(NEEDS[1], weights)
    interpreter = find_python("LDMVFI", python)
    if not (places / SCRIPT).is_file() or not (places / CONFIG).is_file():
        raise NEEDS[0].missing(f"{places} has no {SCRIPT} or {CONFIG}; ")
    padded, cut, notes = pad_to(torch.cat([pair.image0, pair.image1]).cpu(), 1, least=LEAST, mode="replicate")
    known, depth = [padded[:1], padded[1:]], frames.bit_length()
    for level in range(depth):
        options = ["--config", CONFIG, "--ckpt", str(ckpt), "--use_ddim", "--ddim_steps", str(ddim_steps)]
        halves = _between_all(known, [str((64 * seed + level) % 2**63), SCRIPT, *options], places, interpreter)
        known = [x for a, b in zip(known, halves, strict=False) for x in (a, b)] + known[-1:]
    made = torch.cat([known[k] for k in nearest(len(known), frames)])
    calls = ddim_steps * (len(known) - 2)
    return between_ends(pair, cut(made), calls=calls, notes=[*notes, *say_nearest(len(known), frames)])


def _between_all(known: list[Tensor], arguments: list[str], clone: Path, python: Path) -> list[Tensor]:
    """The middle of every two neighbours of `known`, by one run of the script on a data set of triplets.

    The data set is laid out as SNU-FILM: a list of "first truth last" in test-easy.txt. There is no truth, so the first
    image stands in for it, and the scores that the script prints mean nothing.
    """
    with tempfile.TemporaryDirectory(prefix="ldmvfi-") as folder:
        data, out = Path(folder, "data", "snufilm"), Path(folder, "out")
        data.mkdir(parents=True)
        for k, image in enumerate(known):
            write_png(image, data / f"{k}.png")
        triplets = [f"{k}.png {k}.png {k + 1}.png" for k in range(len(known) - 1)]
        (data / "test-easy.txt").write_text("\n".join(triplets) + "\n")
        where = ["--dataset", "Snufilm_easy", "--data_dir", str(data.parent), "--out_dir", str(out)]
        run_clone(python, ["-c", SEEDED, *arguments, *where, "--metrics", "PSNR"], clone, "LDMVFI")
        files = [out / "Snufilm_easy" / f"easy-{k:03d}" / "output.png" for k in range(1, len(known))]
        if not all(file.is_file() for file in files):
            raise RuntimeError(f"LDMVFI's own script in {clone} ended without writing {files[0].name} for every pair.")
        return list(read_files(files)[0].split(1))
