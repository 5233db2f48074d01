"""The video recipe: what its clips say, what the head is asked, and that its networks make a folder."""

import pytest
import torch
from torch import nn
from transformers import CLIPImageProcessor

from experiments.train.autoencoder import build_video_autoencoder
from experiments.train.clips import LONG, facings
from experiments.train.data import FIRST_SEED
from experiments.train.export import VIDEO, write_model
from experiments.train.video_denoiser import (
    TrainingClips,
    build_video_scheduler,
    build_video_unet,
    facing_loss,
    train_video_denoiser,
)
from interp_lib import load_video_model
from interp_lib.bench.motion import actor_track, net_displacement, world_ground
from interp_lib.world.picture_book import sample_clip
from interp_lib.world.truth import Clip


def few(count: int, length: int) -> TrainingClips:
    """Random clips in which channel 0 of the latents tells the way, and the mirror image tells the other."""
    generator = torch.Generator().manual_seed(length)
    pixels = torch.randint(256, (count, length, 3, 64, 64), generator=generator, dtype=torch.uint8)
    facing = torch.tensor([1.0, -1.0]).repeat(count // 2)
    latents, mirrored = torch.randn(2, count, length, 16, 8, 8, generator=generator).unbind(0)
    latents[:, :, 0, :4] += 3 * facing.view(-1, 1, 1, 1)
    mirrored[:, :, 0, :4] -= 3 * facing.view(-1, 1, 1, 1)
    return TrainingClips(pixels, latents.half(), mirrored.half(), torch.full((count,), 0.02), facing)


def test_actors_go_where_the_list_says_that_they_face():
    ways = facings(64, 14)
    assert set(ways.tolist()) == {-1.0, 0.0, 1.0} and float((ways == 0).float().mean()) < 0.3
    for k in ways.nonzero().flatten()[:4].tolist():
        clip = Clip(sample_clip(FIRST_SEED + 14_000_000 + k, travel=LONG[14]), frames=14, size=64)
        assert net_displacement(actor_track(clip.frames, world_ground(clip.scene, 64)), float(ways[k])) > 3


@pytest.mark.long
def test_the_head_learns_to_read_the_facing_from_the_given_latent():
    torch.manual_seed(0)
    networks, clips = nn.ModuleDict({"unet": build_video_unet(), "facing": nn.Linear(64, 2)}), few(8, 14)
    optimizer, losses = torch.optim.AdamW(networks.parameters(), lr=2e-3), []
    for step in range(12):
        value = facing_loss(networks, clips, 1.0, torch.Generator().manual_seed(step), "cpu")
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[0] > 0.6 and min(losses[-3:]) < 0.2
    same = [facing_loss(networks, clips, 1.0, torch.Generator().manual_seed(1), "cpu") for _ in range(2)]
    assert same[0] == same[1]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*scaling_factor.*")
def test_the_recipe_makes_a_folder_that_the_loader_takes(tmp_path):
    """Eight steps, so that both lengths come: nothing is learnt, everything is connected."""
    vae = build_video_autoencoder()
    vae.register_to_config(scaling_factor=0.7)
    clips = {length: few(4, length) for length in (14, 25)}
    networks = train_video_denoiser(clips, vae, tmp_path, steps=8, batch=1, device="cpu")
    assert set(networks) == {"unet", "image_encoder"}  # the head is gone
    parts = {"scheduler": build_video_scheduler(), "feature_extractor": CLIPImageProcessor()}
    write_model(tmp_path / "model", VIDEO, vae=vae, **parts, **networks)
    model = load_video_model(tmp_path / "model", device="cpu")
    assert (model.native_size, model.vae_factor, model.latent_channels, model.frames) == (64, 8, 16, 14)
    assert model.decode(torch.randn(1, 3, 16, 8, 8)).shape == (3, 3, 64, 64)
