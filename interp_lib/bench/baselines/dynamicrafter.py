"""DynamiCrafter's frame interpolation, by the inference script of the user's clone of its repository."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lib.bench.baselines._frames import between_ends, nearest, read_video, resize, say_nearest, write_png
from interp_lib.bench.baselines._weights import Need, find, find_python, run_clone
from interp_lib.types import Interpolation, Pair

MODEL = None
REPOSITORY = "https://github.com/Doubiiu/DynamiCrafter"
NEEDS = (
    Need("DynamiCrafter", "its repository", f"git clone {REPOSITORY}", "clone", folder=True),
    Need(
        "DynamiCrafter",
        "the weights of its interpolation model",
        "download https://huggingface.co/Doubiiu/DynamiCrafter_512_Interp/resolve/main/model.ckpt",
    ),
)
SCRIPT, CONFIG = "scripts/evaluation/inference.py", "configs/inference_512_v1.0.yaml"
SIZE, LENGTH = (320, 512), 16  # (h, w) in px and frames, as the model was trained
SETTINGS = (  # as in scripts/run_application.sh, "interp"
    f"--config {CONFIG} --height {SIZE[0]} --width {SIZE[1]} --video_length {LENGTH} --n_samples 1 --bs 1 "
    "--unconditional_guidance_scale 7.5 --ddim_eta 1.0 --frame_stride 5 --timestep_spacing uniform_trailing "
    "--guidance_rescale 0.7 --perframe_ae --interp"
).split()


def make(
    model: None,
    pair: Pair,
    *,
    frames: int,
    seed: int,
    clone: str | os.PathLike | None = None,
    weights: str | os.PathLike | None = None,
    python: str | os.PathLike | None = None,
    ddim_steps: int = 50,
) -> Interpolation:
    """Its 16 frames with both ends, of which the nearest in time are taken; the caption, if any, is the prompt.

    Source: Xing et al., DynamiCrafter: Animating Open-domain Images with Video Diffusion Priors, ECCV 2024.
    clone, weights: the repository and model.ckpt, else INTERP_DYNAMICRAFTER_CLONE and INTERP_DYNAMICRAFTER. python: the
    interpreter of its environment, else INTERP_DYNAMICRAFTER_PYTHON, else this one; the script needs CUDA and unpickles
    the checkpoint, and fetches OpenCLIP once. The images are fitted into 512x320 px, their edge pixels filling
    the rest, and the frames brought back; on the way they are coded as H.264, as the script has no other output.
    Raises FileNotFoundError for what is missing and RuntimeError, with the script's last word, when it fails.
    """
    places, ckpt = find(NEEDS[0], clone), find(NEEDS[1], weights)
    interpreter = find_python("DynamiCrafter", python)
    if not (places / SCRIPT).is_file() or not (places / CONFIG).is_file():
        raise NEEDS[0].missing(f"{places} has no {SCRIPT} or {CONFIG}; ")
    own = pair.image0.shape[-2:]
    images, box = _letterbox(torch.cat([pair.image0, pair.image1]).cpu())
    options = ["--ckpt_path", str(ckpt), "--seed", str(seed % 2**32), "--ddim_steps", str(ddim_steps), *SETTINGS]
    video = _run(images, pair.caption, options, places, interpreter)
    top, left, height, width = box
    video = resize(video[:, :, top : top + height, left : left + width], own)
    notes = [f"made at {SIZE[1]}x{SIZE[0]} pixels, of which the images fill {width}x{height}, coded as H.264"]
    notes += say_nearest(len(video), frames)
    calls = 2 * ddim_steps  # with the prompt and without
    return between_ends(pair, video[nearest(len(video), frames)], calls=calls, notes=notes)


def _letterbox(images: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Images fitted into SIZE with their aspect, edges repeated to fill it, and where they lie (top, left, h, w)."""
    scale = min(SIZE[0] / images.shape[-2], SIZE[1] / images.shape[-1])
    height, width = (min(most, round(side * scale)) for most, side in zip(SIZE, images.shape[-2:], strict=True))
    top, left = (SIZE[0] - height) // 2, (SIZE[1] - width) // 2
    sides = (left, SIZE[1] - width - left, top, SIZE[0] - height - top)
    return F.pad(resize(images, (height, width)), sides, mode="replicate"), (top, left, height, width)


def _run(images: Tensor, caption: str, options: list[str], clone: Path, python: Path) -> Tensor:
    """[16,3,320,512] by one run of the script on a folder with the two images and a file with the prompt."""
    with tempfile.TemporaryDirectory(prefix="dynamicrafter-") as folder:
        given, out = Path(folder, "given"), Path(folder, "out")
        given.mkdir()
        for k in (0, 1):
            write_png(images[k : k + 1], given / f"{k}.png")
        caption = " ".join(caption.split())
        # the script wants a line for every pair, and reads it with --text_input only
        (given / "prompt.txt").write_text(f"{caption or 'no prompt'}\n", encoding="utf-8")
        text = ["--text_input"] if caption else []
        where = ["--prompt_dir", str(given), "--savedir", str(out)]
        run_clone(python, [SCRIPT, *options, *text, *where], clone, "DynamiCrafter")
        videos = sorted(out.rglob("*.mp4"))
        if len(videos) != 1:
            raise RuntimeError(f"DynamiCrafter's own script in {clone} ended with {len(videos)} videos, not one.")
        return read_video(videos[0])
