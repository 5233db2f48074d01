"""The studies of fusion: their starts and paths are the pipeline's, and their measures see what they should."""

import pytest
import torch

from experiments.studies.fusion import PAIRS, fine_agreement, fuse_all, rings, with_rescaled_noise
from interp_lib.bench.datasets.world import world_pairs
from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.sampler import Network, denoise_between, denoise_frames


@pytest.fixture(scope="module")
def inversion(tiny, images):
    return invert(tiny, images, steps=10, inversion_steps=3, progress=False)


def test_all_strategies_in_one_batch_are_those_of_the_pipeline(tiny, flow, inversion):
    fused = fuse_all(inversion, *flow)
    path = list(denoise_between(tiny, inversion, torch.cat([z for z, _, _ in fused.values()])))
    assert len(path) == 4
    for name, two_level in (("direct", False), ("average/wta", True)):
        half = torch.tensor([0.5], dtype=torch.float64)
        states = denoise_frames(Network(tiny, tiny.embed_text(""), 1), inversion, *flow, half, two_level=two_level)
        for state, latents in zip(states, path, strict=True):
            assert torch.allclose(state.latents[1], latents[list(fused).index(name)], atol=1e-4)


def test_every_start_is_its_clean_and_its_noise_part(flow, inversion):
    fused, a = fuse_all(inversion, *flow), inversion.alpha_bar
    ways = with_rescaled_noise(inversion, fused)
    for name, (z, clean, eps) in (fused | ways).items():
        assert torch.allclose(z, a**0.5 * clean + (1 - a) ** 0.5 * eps, atol=1e-4), name
    noise = {name: eps for name, (_, _, eps) in (fused | ways).items()}
    assert torch.equal(noise["average/wta"], noise["wta/wta"])
    assert noise["averaged"].std() < min(0.9 * inversion.noise.std(), noise["average/wta"].std())
    assert torch.allclose(noise["rescaled"].std(), inversion.noise.std())


def test_the_world_pairs_are_the_first_held_out_ones():
    assert [pair.name for pair in world_pairs(8)] == PAIRS[:8]


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


def test_fine_agreement_is_of_detail_alone():
    g = torch.Generator().manual_seed(0)
    truth, other = torch.rand(2, 1, 3, 64, 48, generator=g).unbind(0)
    slow = torch.cos(2 * torch.pi * 3 * torch.arange(48) / 48)  # 3 periods: inside the centre, which holds -12 to 11
    assert fine_agreement(truth, truth) == pytest.approx(1, abs=1e-5)
    assert fine_agreement(0.3 * truth + slow, truth) == pytest.approx(1, abs=1e-4)
    assert fine_agreement(1 - truth, truth) == pytest.approx(-1, abs=1e-5)
    assert abs(fine_agreement(other, truth)) < 0.05
    assert fine_agreement(truth + other, truth) == pytest.approx(0.5**0.5, abs=0.05)
