"""What `inbetween` and `animate` share: arguments checked before anything slow, first noise, keyframes encoded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from interp_lib.checks import check_choice, check_int, check_number
from interp_lib.inbetweening.sampling import Keyframe, forward_weights, noise_like, ramps
from interp_lib.inbetweening.temporal import choose_layers
from interp_lib.models.video_model import VideoModel, check_video_model, micro_conditioning

DELTAS = {"dual": "reverse", "no-rotation": "no_rotation"}  # method -> attribute of the model that holds its deltas
PAPER = {"steps": 50, "recurrence": 5}


@dataclass
class Settings:
    """Arguments of `inbetween`, checked and resolved for a model; ValueError for those that do not fit.

    frames, steps, recurrence: None becomes the model's recommendation, which `notes` says. guidance_scale becomes
    [1,frames,1,1,1], as are weights, those of the forward direction. rotate becomes the blocks whose maps rotate, ()
    for none, None for all. conditioning: (fps, motion_bucket_id, noise_aug_strength).
    """

    model: VideoModel
    method: str
    preset: str
    frames: Any
    steps: Any
    recurrence: Any
    guidance_scale: Any
    conditioning: tuple[Any, Any, Any]
    fuse: Any
    rotate: Any
    seed: Any
    notes: list[str] = field(default_factory=list)
    weights: Tensor = field(init=False)
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        model, method = self.model, self.method
        check_video_model(model)
        check_choice("preset", self.preset, ("paper", "released"))
        frames = model.frames if self.frames is None else self.frames
        self.frames = check_int("frames", frames, 2, model.max_frames, "the most this model makes")
        self.steps = self._recommended("steps", 1, 1000)
        averages = method in ("dual", "no-rotation", "no-finetune")
        # the other methods repeat no step
        self.recurrence = self._recommended("recurrence", 0) if averages or method == "trf" else 0
        for name, value in zip(("fps", "motion_bucket_id", "noise_aug_strength"), self.conditioning, strict=True):
            check_number(name, value, 0)
        try:
            first, far = (check_number("guidance_scale", x) for x in self.guidance_scale)
        except (TypeError, ValueError):
            rule = "give two numbers, at the keyframe and far from it, such as (1, 3)"
            raise ValueError(f"guidance_scale={self.guidance_scale!r}: {rule}.") from None
        constant = averages and self.preset == "released" and not (isinstance(self.fuse, str) and self.fuse == "linear")
        self.guidance_scale = ramps((first, far), self.frames, constant=constant)
        if method in DELTAS and not getattr(model, DELTAS[method]):
            option = "" if method == "dual" else ", rotate=False"
            raise ValueError(
                f"method={method!r} needs backward-motion deltas, which the model has not: fit them with `model."
                f"{DELTAS[method]} = fit_backward_motion(model, clips, steps=...{option}).deltas`, or use 'trf'."
            )
        self.weights = forward_weights("linear" if method == "trf" else self.fuse, self.frames)
        self.rotate = self._rotating_blocks()
        self.generator = self.seed
        if not isinstance(self.seed, torch.Generator):  # on the CPU: a seed gives the same noise on every device
            self.generator = torch.Generator().manual_seed(check_int("seed", self.seed, 0, 2**63 - 1))
        if method == "vibid-plain":
            self.notes.append("vibid-plain: without CFG++ and without the projection onto the keyframes")

    def _recommended(self, name: str, low: int, high: int | None = None) -> int:
        """Check a setting, or choose it and say so: the model's own recommendation, else the paper's value."""
        value = getattr(self, name)
        if value is None:
            source = "the model's settings.json recommends" if name in self.model.settings else "in the paper"
            value = self.model.settings.get(name, PAPER[name])
            self.notes.append(f"{name}={value}, as {source}")
        return check_int(name, value, low, high)

    def _rotating_blocks(self) -> tuple[str, ...] | None:
        if self.method not in ("dual", "no-finetune"):
            if self.rotate is not None:
                raise ValueError(f"rotate={self.rotate!r}: method={self.method!r} rotates no maps, leave it out.")
            return ()
        if self.rotate is None:  # the ablation rotates in the up-blocks only: section 5.3
            return None if self.method == "dual" else ("up_blocks",)
        choose_layers(self.model.unet, self.rotate)
        return (self.rotate,) if isinstance(self.rotate, str) else tuple(self.rotate)


def starting_noise(settings: Settings, latents: Tensor | None, image: Tensor) -> Tensor:
    """Draw unit noise [1,frames,C,h,w] on the model's device, or check and take `latents`."""
    model = settings.model
    height, width = (side // model.vae_factor for side in image.shape[-2:])
    shape = (1, settings.frames, model.latent_channels, height, width)
    if latents is None:
        return noise_like(torch.empty(shape, device=model.device), settings.generator)
    if latents.shape != shape or not bool(torch.isfinite(latents).all()):
        raise ValueError(f"latents: {list(latents.shape)} given, finite unit noise of shape {list(shape)} is needed.")
    return latents.to(model.device).float()


def condition_keyframe(model: VideoModel, image: Tensor, noise: Tensor, conditioning: Sequence[float]) -> Keyframe:
    """Encode a keyframe [1,3,H,W] in [0,1]. conditioning: (fps, motion bucket, strength of the image's noise)."""
    micro = micro_conditioning(*conditioning).to(model.device)
    return Keyframe(*model.condition(image, noise, conditioning[2]), micro)
