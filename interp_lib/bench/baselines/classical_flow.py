"""Classical optical flow and forward warping: no network at all."""

from __future__ import annotations

import torch

from interp_lib.bench.baselines._keyframes import times
from interp_lib.bench.optical_flow import tvl1_flow
from interp_lib.dreammover.fusion import fuse_direct
from interp_lib.types import Interpolation, Pair

MODEL = None


def make(model: None, pair: Pair, *, frames: int, seed: int) -> Interpolation:
    """Both images are splatted to every time along TV-L1 flow and mixed by time, holes filled by the other image.

    Source: Niklaus and Liu, Softmax Splatting for Video Frame Interpolation, 2020, without its networks.
    """
    first, last = pair.image0, pair.image1
    flow01, flow10 = tvl1_flow(first, last), tvl1_flow(last, first)
    middle = [fuse_direct(first, last, flow01, flow10, float(d)) for d in times(frames)]
    images = torch.cat([first, *middle, last]).clamp(0, 1)
    return Interpolation(frames=images, latents=images.new_empty(0), flow01=flow01, flow10=flow10)
