"""`inbetween`: Generative Inbetweening from two keyframes, or more, to a video (paper section 4, Fig. 3)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
from PIL.Image import Image
from torch import Tensor

from interp_lib.checks import check_choice, check_switch
from interp_lib.images import prepare_pair
from interp_lib.inbetweening.prepare import DELTAS, Settings, condition_keyframe, starting_noise
from interp_lib.inbetweening.sampling import (
    Keyframe,
    Schedule,
    Step,
    denoised,
    euler,
    guided,
    noise_like,
    renoise,
    schedule,
    unet_calls,
)
from interp_lib.inbetweening.temporal import two_directions
from interp_lib.memory import memory_advice
from interp_lib.models.video_model import VideoModel
from interp_lib.progress import one_bar, track
from interp_lib.types import Interpolation

METHODS = ("dual", "no-rotation", "no-finetune", "trf", "forward", "vibid", "vibid-plain")
ADVICE = "use fewer frames or a smaller size, or load the model with offload=True or in float16"
# 25 U-Net calls in the place of 175. On two clips, a third of the paper's steps changes the embedded model's frames
# little (42 and 43 dB), recurrence as another seed does (26 dB), without a gain. On SVD's weights it is not measured.
QUICK = {"steps": 17, "recurrence": 1}


@memory_advice(ADVICE)
def inbetween(
    model: VideoModel,
    frame0: Tensor | Image,
    frame1: Tensor | Image,
    *,
    frames: int | None = None,
    method: str = "dual",
    preset: str = "paper",
    steps: int | None = None,
    recurrence: int | None = None,
    guidance_scale: tuple[float, float] = (1.0, 3.0),
    seed: int | torch.Generator = 0,
    latents: Tensor | None = None,
    noise_aug_strength: float = 0.02,
    fps: float = 7,
    motion_bucket_id: float = 127,
    fuse: str | float | Tensor = "average",
    rotate: str | Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    on_step: Callable[[Step], None] | None = None,
    progress: bool = True,
) -> Interpolation:
    """Make a video of `frames` frames in all that starts at frame0 and ends at frame1.

    Source: section 4.3, Alg. 2; the other methods are its ablations (5.3) and two relatives (METHODS, section 3).

    frame0, frame1: one image each, as `prepare_pair` takes them. size: px, int = square, or (h, w).
    frames: None is the number that the model was made for.
    method: "dual" (needs backward-motion deltas, as does "no-rotation"), "no-finetune" (rotation in the up-blocks, the
        model's own weights), "trf", "vibid", "vibid-plain", or "forward" (the first keyframe alone).
    preset: "paper": each direction has its own guidance ramp away from its keyframe. "released": the ramp averaged with
        its flip, unless fuse is "linear"; and the video is always decoded whole.
    steps; recurrence: how often each step of the first half is repeated. None is as the model recommends, else the
        paper's 50 and 5; what was chosen is in `.notes`.
    guidance_scale: at the keyframe and at the far end. latents: unit noise [1,frames,C,h,w] in place of a draw.
    fuse: "average", "linear" (the forward direction's weight falls from 1 to 0; always so for "trf"), or that weight
        itself, a number or [frames].
    rotate: blocks whose maps rotate, such as "up_blocks" or ["mid_block", "up_blocks.1"]; None is by method.
    on_step: called with every `Step`.

    Returns frames and latents [1,frames,C,h,w] as the model makes them, keyframes included; `.notes` says which these
    are. U-Net calls: steps + recurrence * int(steps/2), two directions in one call; "forward" steps, "vibid" 2 * steps.
    Raises ValueError, before anything slow, for arguments and images that do not fit.
    """
    check_choice("method", method, METHODS)
    conditioning = (fps, motion_bucket_id, noise_aug_strength)
    settings = Settings(
        model, method, preset, frames, steps, recurrence, guidance_scale, conditioning, fuse, rotate, seed
    )
    images, names = [frame0, frame1], ["frame0", "frame1"]
    return sample(settings, images, names, size, latents, on_step, progress)


@memory_advice(ADVICE)
def inbetween_sequence(
    model: VideoModel,
    images: Sequence[Tensor | Image],
    *,
    frames: int | None = None,
    loop: bool = False,
    method: str = "dual",
    preset: str = "paper",
    steps: int | None = None,
    recurrence: int | None = None,
    guidance_scale: tuple[float, float] = (1.0, 3.0),
    seed: int | torch.Generator = 0,
    latents: Tensor | None = None,
    noise_aug_strength: float = 0.02,
    fps: float = 7,
    motion_bucket_id: float = 127,
    fuse: str | float | Tensor = "average",
    rotate: str | Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    on_step: Callable[[Step], None] | None = None,
    progress: bool = True,
) -> Interpolation:
    """Make one film through two or more keyframes, each stretch between neighbours as `inbetween` makes it.

    images: in the order of time; later ones are resized to the first one's size, and each is encoded once. frames: of
    a stretch, both keyframes included; a joint's keyframe appears once: (n - 1) * (frames - 1) + 1 frames of n images.
    loop: also go from the last image back to the first one, which is not repeated, n * (frames - 1) frames in all.
    The other arguments are those of `inbetween`; seed and latents give every stretch the same noise.

    Returns frames [T,3,H,W] and latents [1,T,C,h,w], for two images without `loop` those of `inbetween`, bit for bit.
    Raises ValueError, before anything slow, for fewer than two images, for identical neighbours, and as `inbetween`.
    """
    check_choice("method", method, METHODS)
    check_switch("loop", loop)
    images, names = list(images), [f"images[{k}]" for k in range(len(images))]
    if len(images) < 2:
        raise ValueError(f"images has length {len(images)}: give two keyframes or more.")
    conditioning = (fps, motion_bucket_id, noise_aug_strength)
    settings = Settings(
        model, method, preset, frames, steps, recurrence, guidance_scale, conditioning, fuse, rotate, seed
    )
    if loop:
        images, names = [*images, images[0]], [*names, names[0]]
    return sample(settings, images, names, size, latents, on_step, progress, loop=loop)


def sample(
    settings: Settings,
    images: Sequence[Tensor | Image],
    names: Sequence[str],
    size: int | tuple[int, int] | None,
    latents: Tensor | None,
    on_step: Callable[[Step], None] | None,
    progress: bool,
    *,
    loop: bool = False,
    denoise: Callable[..., Iterator[Step]] | None = None,
) -> Interpolation:
    """Make a video through the keyframes, each encoded once, by `denoise` (None: by method) between neighbours.

    loop: the last image is the first again, which closes the circle and is not repeated. A single image is animated.
    """
    model, generator, method = settings.model, settings.generator, settings.method
    images, notes = prepare_pair(images, size=size, native_size=model.native_size, multiple=model.multiple, names=names)
    start, notes, videos = starting_noise(settings, latents, images[0]), notes + settings.notes, []
    denoise = denoise or (denoise_alternating if method.startswith("vibid") else denoise_together)
    with model.lock:  # a second thread on the same model waits here: networks and processors are changed below
        before, plan = model.unet_calls, schedule(model, settings.steps)
        noise = noise_like(images[0], generator)  # the same on all keyframes (METHODS, section 3)
        own = images[:-1] if loop else images
        keys = [condition_keyframe(model, image, noise, settings.conditioning) for image in own]
        pairs = list(pairwise([*keys, keys[0]] if loop else keys)) or [keys]
        state, steps = generator.get_state(), unet_calls(method, settings.steps, settings.recurrence)
        stages = [("denoising", len(pairs), steps), ("decoding", len(pairs), 1)]
        device, whole = images[0].device, settings.preset == "released"
        with torch.no_grad(), one_bar(stages, shown=progress):
            for pair in pairs:
                generator.set_state(state)  # every stretch is what `inbetween` makes of its two keyframes alone
                for step in track(denoise(settings, start * plan.start, pair, plan), "denoising", steps, shown=True):
                    if on_step is not None:
                        on_step(step)
                videos.append(step.latents)
            films = [model.decode(z, device=device, whole=whole, notes=notes) for z in videos]
        calls = model.unet_calls - before
    # Two stretches share the keyframe at their joint: the later one's frame is retained
    last = settings.frames - 1
    counts = [last] * (len(pairs) - 1) + [last if loop else last + 1]
    frames = torch.cat([film[:n] for film, n in zip(films, counts, strict=True)])
    z = torch.cat([video[:, :n] for video, n in zip(videos, counts, strict=True)], 1)
    if len(images) > 1:
        at = [k * last for k in range(len(pairs) if method == "forward" else len(keys))]
        notes.append(f"keyframes, as the model draws them: frame {', '.join(map(str, at))}, counted from 0")
    return Interpolation(frames, z, unet_calls=calls, notes=list(dict.fromkeys(notes)))


def denoise_together(settings: Settings, z: Tensor, keys: Sequence[Keyframe], plan: Schedule) -> Iterator[Step]:
    """Run Alg. 2 and its relatives, one U-Net call a step; yield the state after each.

    z: [1,N,C,h,w] at the first sigma. keys: the first and the last keyframe. The first half of the steps is repeated
    `recurrence` times from re-injected noise, which lets the two directions agree.
    """
    keys = keys[:1] if settings.method == "forward" else keys
    guidance_scale, weights = settings.guidance_scale.to(z), settings.weights.to(z)
    both_directions = fused_network(settings)
    for i, timestep in enumerate(plan.timesteps):
        sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
        for repeat in range(1 + settings.recurrence * (i < int(settings.steps / 2))):
            if repeat:
                z = renoise(z, sigma, below, settings.generator)
            # the second direction sees the video backwards in time, from the last keyframe
            with both_directions():
                pairs = guided(settings.model, [z, z.flip(1)][: len(keys)], keys, sigma, timestep)
            v = [without + guidance_scale * (image - without) for without, image in pairs]
            forward, backward = denoised(z, v[0], sigma), None
            clean = forward
            if len(v) == 2:
                backward = denoised(z, v[1].flip(1), sigma)
                clean = weights * forward + (1 - weights) * backward
            z = euler(z, clean, sigma, below)
            yield Step(i, repeat, sigma, z, clean, forward, backward)


def denoise_alternating(settings: Settings, z: Tensor, keys: Sequence[Keyframe], plan: Schedule) -> Iterator[Step]:
    """Run ViBiDSampler: a step on the first keyframe, noise again, flip, a step on the last one, flip back.

    "vibid-plain" has ordinary guidance. "vibid" has CFG++ at its full scale (the clean prediction of the conditional
    branch, the noise of the unconditional one), and the far keyframe's latent replaces the clean prediction there.
    """
    model, guidance_scale = settings.model, settings.guidance_scale.to(z)
    for i, timestep in enumerate(plan.timesteps):
        sigma, below = float(plan.sigmas[i]), float(plan.sigmas[i + 1])
        for direction, key in enumerate(keys):
            if direction:
                z = renoise(z, sigma, below, settings.generator).flip(1)
            ((without, image),) = guided(model, [z], [key], sigma, timestep)
            if settings.method == "vibid-plain":
                clean = denoised(z, without + guidance_scale * (image - without), sigma)
                z = euler(z, clean, sigma, below)
            else:
                clean = denoised(z, image, sigma)
                clean[:, -1] = keys[1 - direction].latent * model.vae.config.scaling_factor
                z = clean + below * (z - denoised(z, without, sigma)) / sigma
            z, clean = (z.flip(1), clean.flip(1)) if direction else (z, clean)
            yield Step(i, direction, sigma, z, clean)


def fused_network(settings: Settings) -> Callable[[], AbstractContextManager]:
    """Return what opens the context of a U-Net call that is both directions; "trf" and "forward" change nothing."""
    model, method = settings.model, settings.method
    if method in ("trf", "forward"):
        return nullcontext
    deltas = getattr(model, DELTAS[method]) if method in DELTAS else {}
    deltas = {name: delta.to(model.device) for name, delta in deltas.items()}  # copied once, not in every layer's call
    return lambda: two_directions(model.unet, rotate=settings.rotate, deltas=deltas)
