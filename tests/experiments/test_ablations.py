"""The ablation study: its measure of identity is what it says."""

import pytest
import torch

from experiments.studies.ablations import lost_patches
from interp_lib.types import Pair


def test_lost_patches_by_hand():
    generator = torch.Generator().manual_seed(0)
    image0, image1, frame = (torch.rand(1, 3, 14, 16, generator=generator) for _ in range(3))
    actor0, actor1 = torch.zeros(1, 1, 14, 16, dtype=torch.bool), torch.zeros(1, 1, 14, 16, dtype=torch.bool)
    actor0[..., 0:9, 2:12], actor1[..., 5:14, 4:16] = True, True
    pair = Pair("two", image0, image1, actor0=actor0, actor1=actor1)
    distances = []
    for image, actor in ((image0, actor0), (image1, actor1)):
        for y in range(0, 14 - 7, 4):
            for x in range(0, 16 - 7, 4):
                if actor[0, 0, y : y + 8, x : x + 8].float().mean() > 0.5:
                    patch = image[0, :, y : y + 8, x : x + 8]
                    places = [(v, u) for v in range(14 - 7) for u in range(16 - 7)]
                    found = [(patch - frame[0, :, v : v + 8, u : u + 8]).square().mean().sqrt() for v, u in places]
                    distances.append(float(min(found)))
    assert len(distances) > 2
    assert lost_patches(frame, pair) == pytest.approx(sum(distances) / len(distances), abs=1e-5)
    assert lost_patches(image0, Pair("one", image0, image0, actor0=actor0, actor1=actor0)) < 1e-3
