"""LDMVFI and DynamiCrafter, each by one command of the user's clone of its repository.

Each needs three environment variables: INTERP_<METHOD>_CLONE, INTERP_<METHOD> (the checkpoint, which the script
unpickles) and INTERP_<METHOD>_PYTHON (the interpreter of its environment, with CUDA; without it this one).
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from interp_lib.bench.baselines._frames import between_keyframes, find, keyframes, nearest, pad_to, resize
from interp_lib.images import to_pil
from interp_lib.pairs.videos import read_pictures
from interp_lib.types import Interpolation, Pair

SOURCES = {  # repository, checkpoint
    "LDMVFI": ("https://github.com/danier97/LDMVFI", "ldmvfi-vqflow-f32-c256-concat_max.ckpt, by a link in its README"),
    "DynamiCrafter": (
        "https://github.com/Doubiiu/DynamiCrafter",
        "https://huggingface.co/Doubiiu/DynamiCrafter_512_Interp/resolve/main/model.ckpt",
    ),
}
LDMVFI = (  # the script draws its noise without a seed
    '-c "import runpy, sys, torch; torch.manual_seed({seed}); sys.argv.pop(0); '
    "runpy.run_path(sys.argv[0], run_name='__main__')\" "
    "evaluate.py --config configs/ldm/ldmvfi-vqflow-f32-c256-concat_max.yaml --ckpt {weights} --use_ddim "
    "--ddim_steps 200 --metrics PSNR --dataset Snufilm_easy --data_dir {folder} --out_dir {folder}/out"
)
DYNAMICRAFTER = (  # the settings of scripts/run_application.sh, "interp"
    "scripts/evaluation/inference.py --config configs/inference_512_v1.0.yaml --ckpt_path {weights} --seed {seed} "
    "--height 320 --width 512 --video_length 16 --n_samples 1 --bs 1 --unconditional_guidance_scale 7.5 "
    "--ddim_steps 50 --ddim_eta 1.0 --frame_stride 5 --timestep_spacing uniform_trailing --guidance_rescale 0.7 "
    "--perframe_ae --interp --prompt_dir {folder}/snufilm --savedir {folder}/out"
)


def ldmvfi(model: None, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """Make the frame in the middle of two, again and again: 2^k-1 of them, of which the nearest in time are taken.

    Source: Danier et al., LDMVFI: Video Frame Interpolation with Latent Diffusion Models, AAAI 2024. Frames pass
    through 8-bit PNG files; sides below 256 px, which its network does not pad, are padded by their edge pixels.
    """
    padded, cut, notes = pad_to(keyframes(pair).cpu(), 1, least=(256, 256), mode="replicate")
    known = list(padded.split(1))
    for level in range(frames.bit_length()):
        # A data set laid out as SNU-FILM: "first truth last". There is no truth, so the first image stands in for it.
        triplets = [f"{k}.png {k}.png {k + 1}.png\n" for k in range(len(known) - 1)]
        texts = {"test-easy.txt": "".join(triplets)}
        halves = _run("LDMVFI", LDMVFI, (64 * seed + level) % 2**63, known, texts, len(triplets))
        known = [x for a, b in zip(known, halves, strict=False) for x in (a, b)] + known[-1:]
    chosen, note = nearest(len(known), frames)
    middle = cut(torch.cat([known[k] for k in chosen]))
    return between_keyframes(pair, middle, calls=200 * (len(known) - 2), notes=[*notes, *note])


def dynamicrafter(model: None, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """Make 16 frames with both keyframes, of which the nearest in time are taken; the caption, if any, is the prompt.

    Source: Xing et al., DynamiCrafter: Animating Open-domain Images with Video Diffusion Priors, ECCV 2024. The images
    are fitted into 512x320 px, their edge pixels filling the rest, and the frames, coded as H.264, resized back.
    """
    own = tuple(pair.image0.shape[-2:])
    scale = min(320 / own[0], 512 / own[1])
    height, width = min(320, round(own[0] * scale)), min(512, round(own[1] * scale))
    fitted = resize(keyframes(pair).cpu(), (height, width))
    images, cut, _ = pad_to(fitted, 1, least=(320, 512), mode="replicate")
    caption = " ".join(pair.caption.split())
    # The script wants a line for every pair, and reads it with --text_input only
    command = DYNAMICRAFTER + (" --text_input" if caption else "")
    prompt = {"prompt.txt": f"{caption or 'no prompt'}\n"}
    video = cut(torch.cat(_run("DynamiCrafter", command, seed % 2**32, images.split(1), prompt, 16)))
    chosen, note = nearest(len(video), frames)
    notes = [f"made at 512x320 pixels, of which the images fill {width}x{height}, coded as H.264", *note]
    return between_keyframes(pair, resize(video[chosen], own), calls=100, notes=notes)  # 50 with and without the prompt


def _run(
    method: str, command: str, seed: int, images: Sequence[Tensor], texts: dict[str, str], count: int
) -> list[Tensor]:
    """Return the `count` frames [1,3,H,W] that a clone's script makes of a folder with numbered PNG and text files.

    Raises FileNotFoundError for what is missing and RuntimeError, with the script's last line, when it fails.
    """
    (repository, checkpoint), name = SOURCES[method], f"INTERP_{method}".upper()
    clone = find(f"{name}_CLONE", f"{method} needs its repository: git clone {repository}")
    weights = find(name, f"{method} needs its weights: download {checkpoint}")
    with TemporaryDirectory(prefix=method) as folder:
        data, out = Path(folder, "snufilm"), Path(folder, "out")
        data.mkdir()
        out.mkdir()
        for k, image in enumerate(images):
            to_pil(image).save(data / f"{k}.png")
        for file, text in texts.items():
            (data / file).write_text(text, encoding="utf-8")
        words = [word.format(seed=seed, weights=weights, folder=folder) for word in shlex.split(command)]
        words.insert(0, os.environ.get(f"{name}_PYTHON", sys.executable))
        run = subprocess.run(words, cwd=clone, capture_output=True, text=True, errors="replace")
        files = sorted([*out.rglob("output.png"), *out.rglob("*.mp4")])
        sources = [] if run.returncode else [path if path.suffix == ".mp4" else path.parent for path in files]
        frames = [frame for source in sources for frame in read_pictures(source)]
        if len(frames) != count:
            last = (run.stderr.strip() or run.stdout.strip() or "it said nothing").splitlines()[-1]
            made = f"exit status {run.returncode}, {len(frames)} frames of {count}"
            raise RuntimeError(f"{method}'s own script failed in {clone} ({made}): {last}")
        return frames
