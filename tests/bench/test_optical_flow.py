"""The classical flow finds a known shift, in the library's order of channels, and refuses what it cannot compare."""

import pytest
import torch
import torch.nn.functional as F

from interp_lib.bench.optical_flow import tvl1_flow


def smooth_picture(side=48):
    noise = torch.rand(1, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=False).clamp(0, 1)


def test_finds_a_shift_to_the_right_and_up():
    picture = smooth_picture()
    flow = tvl1_flow(picture, picture.roll((-1, 2), (2, 3)))  # content moves 2 px right and 1 px up
    assert flow.shape == (1, 2, 48, 48)
    inner = flow[0, :, 12:-12, 12:-12].flatten(1).median(1).values
    assert torch.allclose(inner, torch.tensor([2.0, -1.0]), atol=0.2)


@pytest.mark.parametrize("other", [(1, 3, 48, 40), (2, 3, 48, 48)])
def test_refuses_pictures_that_differ_in_size_or_number(other):
    with pytest.raises(ValueError, match="two images"):
        tvl1_flow(smooth_picture(), torch.rand(other))
