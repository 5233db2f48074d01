"""The study of fusion strategies: its denoising is the pipeline's, and its spectral measure sees what it should."""

import torch

from experiments.studies.fusion import LEVELS, fused_starts, rings
from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.fusion import fuse_two_level
from interp_lib.dreammover.pipeline import interpolate
from interp_lib.dreammover.sampler import denoise_between


def test_all_strategies_in_one_batch_are_those_of_the_pipeline(tiny, images, flow):
    inversion = invert(tiny, images, steps=10, inversion_steps=3, progress=False)
    starts, noise = fused_starts(inversion, *flow)
    *_, made = denoise_between(tiny, inversion, torch.cat(list(starts.values())))
    how = {"frames": 1, "steps": 10, "inversion_steps": 3, "lora": False, "progress": False, "flow": flow}
    for name, two_level in (("direct", False), ("average/wta", True)):
        result = interpolate(tiny, images[:1], images[1:], two_level=two_level, **how)
        assert torch.allclose(result.latents[1], made[list(starts).index(name)], atol=1e-4)
    pair = (*inversion.clean.split(1), *inversion.noise.split(1), *flow, 0.5, inversion.alpha_bar)
    for high, low in LEVELS:
        assert torch.allclose(starts[f"{high}/{low}"], fuse_two_level(*pair, high=high, low=low)[0], atol=1e-4)
    assert noise["average/wta"] == noise["wta/wta"] and noise["average/average"] < noise["average/wta"]


def test_rings_see_contrast_and_not_position():
    image = torch.rand(1, 3, 128, 160, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(rings(image.roll((5, 9), (2, 3))), rings(image), atol=1e-3)
    assert torch.allclose(rings(image / 2), rings(image) - 20 * torch.tensor(2.0).log10(), atol=1e-3)
    assert torch.allclose(rings(image + 1), rings(image), atol=1e-3)  # the mean colour is in no ring


def test_a_wave_is_in_the_ring_of_its_frequency():
    powers = []
    for periods in (2, 20):
        wave = torch.sin(2 * torch.pi * periods * torch.arange(128) / 128).expand(1, 3, 128, 128)
        powers.append(rings(wave + 1e-4 * torch.rand(128, 128, generator=torch.Generator().manual_seed(0))).argmax())
    assert powers == [1, 7]  # of ten rings from 1 to 64 periods: 10 log(2)/log(64) = 1.7, 10 log(20)/log(64) = 7.2
