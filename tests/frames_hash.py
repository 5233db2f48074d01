"""Print a hash of the results of ten public calls on the embedded models: `python tests/frames_hash.py`.

A change of the code that is to change no digit leaves every line as it was. Compare runs on one machine only.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

import interp_lib

SIZE = 64


def digest(*tensors: Tensor) -> str:
    """The SHA-256 of tensors' shapes and bytes, shortened."""
    hasher = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous().numpy()
        hasher.update(repr((array.shape, str(array.dtype))).encode() + array.tobytes())
    return hasher.hexdigest()[:16]


def calls() -> Iterator[tuple[str, str]]:
    """Yield the name and the hash of each call; few steps and frames of 64 px."""
    pair = interp_lib.render_pair(0, size=SIZE)
    images = (pair.image0, pair.image1)
    both = torch.cat(images)
    image_model = interp_lib.load_image_model()
    image_model.settings.clear()  # the paper's defaults: at this size its second up-block
    cheap: dict[str, Any] = {"frames": 2, "steps": 6, "inversion_steps": 3, "lora": False, "progress": False}
    variants = {"paper": {}, "released": {"preset": "released"}, "classical flow": {"flow": "classical"}}
    variants["no two-level"] = {"two_level": False}
    for name, options in variants.items():
        result = interp_lib.interpolate(image_model, *images, **cheap, **options)
        yield f"interpolate {name}", digest(result.frames, result.latents, result.flow01, result.flow10)
    lora = interp_lib.fit_lora(image_model, both, steps=2)
    yield "interpolate LoRA", digest(interp_lib.interpolate(image_model, *images, **cheap | {"lora": lora}).frames)
    lora.remove()

    inversion = interp_lib.invert(image_model, both, steps=6, inversion_steps=3)
    yield "invert", digest(*inversion.latents, inversion.clean, inversion.noise)
    features = interp_lib.diffusion_features(image_model, both)
    yield "features and flow", digest(features, interp_lib.match_features(features[:1], features[1:], size=SIZE))

    video_model = interp_lib.load_video_model()
    for method in ("dual", "trf"):
        result = interp_lib.inbetween(video_model, *images, frames=4, steps=2, method=method)
        yield f"inbetween {method}", digest(result.frames)
    yield "animate", digest(interp_lib.animate(video_model, pair.image0, frames=4, steps=2).frames)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, value in calls():
        print(f"{name:24} {value}", flush=True)
