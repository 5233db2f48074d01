"""The study of frequencies: its paths are the pipeline's, its parts add up, its measure of detail sees detail."""

import pytest
import torch

from experiments.studies.frequency import PAIRS, fine_agreement, fused_noise, starts
from interp_lib.bench.datasets.world import world_pairs
from interp_lib.dreammover.ddim import invert
from interp_lib.dreammover.fusion import fuse_two_level, fusion_metrics, time_weighted_fusion
from interp_lib.dreammover.sampler import Network, denoise_between, denoise_frames


@pytest.fixture(scope="module")
def inversion(tiny, images):
    return invert(tiny, images, steps=10, inversion_steps=3, progress=False)


def test_the_paths_are_those_of_the_pipeline(tiny, images, flow, inversion):
    path = list(denoise_between(tiny, inversion, starts(inversion, *flow, fused_noise(inversion, *flow)["rescaled"])))
    assert len(path) == 4
    for k, two_level in enumerate((False, True)):
        half = torch.tensor([0.5], dtype=torch.float64)
        states = denoise_frames(Network(tiny, tiny.embed_text(""), 1), inversion, *flow, half, two_level=two_level)
        for state, latents in zip(states, path, strict=True):
            assert torch.allclose(state.latents[1], latents[k], atol=1e-4)


def test_every_start_is_its_clean_and_its_noise_part(flow, inversion):
    noise, a = fused_noise(inversion, *flow), inversion.alpha_bar
    made = dict(zip(noise, starts(inversion, *flow, noise["rescaled"]).split(1), strict=True))
    pair = (*inversion.clean.split(1), *inversion.noise.split(1), *flow, 0.5, a)
    clean = dict.fromkeys(noise, fuse_two_level(*pair)[1])
    metrics = fusion_metrics(*inversion.latents[-1].split(1), *flow)
    clean["direct"] = time_weighted_fusion(*inversion.clean.split(1), *flow, 0.5, *metrics)
    for way, z in made.items():
        assert torch.allclose(z, a**0.5 * clean[way] + (1 - a) ** 0.5 * noise[way], atol=1e-4), way
    assert noise["averaged"].std() < 0.9 * inversion.noise.std()
    assert torch.allclose(noise["rescaled"].std(), inversion.noise.std())


def test_the_world_pairs_are_the_first_held_out_ones():
    assert [pair.name for pair in world_pairs(8)] == PAIRS[:8]


def test_fine_agreement_is_of_detail_alone():
    g = torch.Generator().manual_seed(0)
    truth, other = torch.rand(2, 1, 3, 64, 48, generator=g).unbind(0)
    slow = torch.cos(2 * torch.pi * 3 * torch.arange(48) / 48)  # 3 periods: inside the centre, which holds -12 to 11
    assert fine_agreement(truth, truth) == pytest.approx(1, abs=1e-5)
    assert fine_agreement(0.3 * truth + slow, truth) == pytest.approx(1, abs=1e-4)
    assert fine_agreement(1 - truth, truth) == pytest.approx(-1, abs=1e-5)
    assert abs(fine_agreement(other, truth)) < 0.05
    assert fine_agreement(truth + other, truth) == pytest.approx(0.5**0.5, abs=0.05)
