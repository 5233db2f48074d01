"""Methods on the pixels, without any network: two controls, and the least that a method must beat."""

import torch

from interp_lib.bench.baselines._frames import times
from interp_lib.bench.warping import tvl1_flow
from interp_lib.dreammover.fusion import fuse_direct
from interp_lib.types import Interpolation, Pair


def truth(model: None, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """Return the true frames, which must come first in every column; ValueError for a pair that has not all of them."""
    if pair.frames is None or len(pair.frames) != frames + 2:
        known = "none" if pair.frames is None else len(pair.frames) - 2
        raise ValueError(f"{pair.name} has {known} true frames between, not {frames}: the controls need them all.")
    return Interpolation(frames=pair.frames.clone(), latents=pair.frames.new_empty(0))


def shuffled(model: None, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """Return the true frames between in an order that leaves none in its place."""
    result = truth(model, pair, frames=frames, seed=seed)
    if frames < 2:
        raise ValueError("one frame between cannot be shuffled: ask for two frames at least.")
    order = torch.randperm(frames, generator=torch.Generator().manual_seed(seed))
    place = torch.empty_like(order)
    place[order] = order.roll(1)  # one cycle through all of them, so that none stays
    result.frames[1:-1] = result.frames[1:-1][place]
    return result


def nearest_keyframe(model: None, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """Hold image 0 up to and at t = 0.5, image 1 after it: no motion at all, and no ghosts either."""
    late = torch.linspace(0, 1, frames + 2) > 0.5
    held = torch.where(late.view(-1, 1, 1, 1), pair.image1, pair.image0)
    return Interpolation(frames=held, latents=held.new_empty(0))


def cross_dissolve(model: None, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """Mix the two images pixel by pixel, by time."""
    weight = torch.linspace(0, 1, frames + 2).view(-1, 1, 1, 1)
    mixed = (1 - weight) * pair.image0 + weight * pair.image1
    return Interpolation(frames=mixed, latents=mixed.new_empty(0))


def classical_flow(model: None, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """Splat both images to every time along TV-L1 flow and mix them by time, holes filled by the other image.

    Source: Niklaus and Liu, Softmax Splatting for Video Frame Interpolation, 2020, without its networks.
    """
    first, last = pair.image0, pair.image1
    flow01, flow10 = tvl1_flow(first, last), tvl1_flow(last, first)
    middle = [fuse_direct(first, last, flow01, flow10, float(d)) for d in times(frames)]
    images = torch.cat([first, *middle, last]).clamp(0, 1)
    return Interpolation(frames=images, latents=images.new_empty(0), flow01=flow01, flow10=flow10)
