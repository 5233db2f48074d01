"""The training recipe: exact resumption, whole files, and a vocabulary that round-trips."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import nn

from experiments.train import card, data, quality
from experiments.train.autoencoder import (
    build_autoencoder,
    build_video_autoencoder,
    encode_frames,
    equivariance_loss,
    train_autoencoder,
    warp,
)
from experiments.train.denoiser import build_networks, build_scheduler, train_denoiser
from experiments.train.export import IMAGE, write_model
from experiments.train.loop import Unfinished, fit, save
from experiments.train.text import LENGTH, build_tokenizer, token_ids
from interp_lib import load_image_model
from interp_lib.world.picture_book import sample_pair


def _problem():
    torch.manual_seed(0)
    networks = nn.ModuleDict({"net": nn.Linear(4, 3)})

    def loss(networks, step, generator):
        x = torch.randn(8, 4, generator=generator)
        return (networks["net"](x) - x[:, :3] * 2).square().mean()

    return networks, loss


def _logged(folder):
    lines = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


@pytest.mark.parametrize("save_every", [0.0, 1e9])  # the state is ahead of the log, or the log of the state
def test_a_killed_run_resumes_to_the_bits_of_an_unbroken_one(tmp_path, save_every):
    networks, loss = _problem()
    whole = fit("a", networks, loss, steps=120, lr=1e-2, folder=tmp_path / "whole")

    def fragile(networks, step, generator):
        if step == 73:
            raise ArithmeticError
        return loss(networks, step, generator)

    with pytest.raises(ArithmeticError):
        fit("a", _problem()[0], fragile, steps=120, lr=1e-2, folder=tmp_path / "broken", save_every=save_every)
    resumed = fit("a", _problem()[0], loss, steps=120, lr=1e-2, folder=tmp_path / "broken")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    assert [step for step, _ in _logged(tmp_path / "whole")] == [50, 100]
    assert _logged(tmp_path / "broken") == _logged(tmp_path / "whole")


def test_the_average_follows_and_the_loss_falls(tmp_path):
    networks, loss = _problem()
    before = loss(networks, 0, torch.Generator().manual_seed(9)).item()
    average = fit("a", networks, loss, steps=300, lr=3e-2, folder=tmp_path, warmup=10)
    assert loss(average, 0, torch.Generator().manual_seed(9)).item() < 0.05 * before


def test_a_state_is_written_whole_or_not_at_all(tmp_path):
    class Full:
        def __reduce__(self):
            raise OSError("disk full")

    save({"step": 1}, tmp_path / "x.pt")
    with pytest.raises(OSError):
        save({"step": 2, "bad": Full()}, tmp_path / "x.pt")
    assert torch.load(tmp_path / "x.pt") == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_time_that_runs_out_is_said_and_the_next_call_goes_on(tmp_path):
    networks, loss = _problem()
    with pytest.raises(Unfinished, match="stopped after step 1 of 30"):
        fit("a", networks, loss, steps=30, lr=1e-2, folder=tmp_path, minutes=0.0)
    resumed, whole = (
        fit("a", _problem()[0], loss, steps=30, lr=1e-2, folder=f) for f in (tmp_path, tmp_path / "whole")
    )
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.long
def test_the_recipe_makes_a_folder_that_the_loader_takes(tmp_path):
    """Two steps of each stage: nothing is learnt, everything is connected."""
    frames, captions = data.render_frames(tmp_path / "frames", 64)
    again, _ = data.render_frames(tmp_path / "frames", 64)
    assert frames.shape == (128, 3, 128, 128) and len(captions) == 128 and torch.equal(frames, again)
    vae = train_autoencoder("vae", build_autoencoder(), frames, tmp_path, steps=2, batch=5, device="cpu")
    latents = encode_frames(vae, frames[:8], device="cpu")
    tokenizer = build_tokenizer(captions)
    networks = train_denoiser(latents, captions[:8], tokenizer, tmp_path, steps=3, batch=2, device="cpu")
    write_model(tmp_path / "model", IMAGE, vae=vae, tokenizer=tokenizer, scheduler=build_scheduler(), **networks)
    model = load_image_model(tmp_path / "model")
    assert (model.native_size, model.vae_factor, model.latent_channels) == (128, 4, 8)
    images = frames[:2].float() / 255
    z = model.encode(images)
    with torch.no_grad():  # the same network before it was written: only the rounding to fp16 lies between
        before = vae.encode(images * 2 - 1).latent_dist.mean * vae.config.scaling_factor
    assert (z - before).abs().max() < 0.01 * z.std()
    assert model.decode(z).shape == images.shape
    assert model.predict_noise(z, 500, model.embed_text(captions[:2])).shape == z.shape
    begun = build_networks(tokenizer, tmp_path / "model")  # training goes on from a folder
    for name, value in networks.state_dict().items():
        assert torch.allclose(begun.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    largest = max(file.stat().st_size for file in (tmp_path / "model").rglob("*.safetensors"))
    assert largest <= 24 * 2**20


def test_the_card_says_which_rows_are_met():
    image = card.IMAGE_CARD
    measured = {row: [floor or 1.0, 0.25, 50] for row, (floor, _) in image.rows.items()}
    assert "not met" not in card.table(image, measured)
    measured["world: round trip, PSNR"] = [39.94, 1.5, 50]
    lines = [line for line in card.table(image, measured).splitlines() if "not met" in line]
    assert lines == ["| world: round trip, PSNR | 40 dB | 39.9 dB | 1.5 | 50 | not met |"]


@pytest.mark.slow
def test_the_card_asks_only_for_rows_that_are_measured():
    rows = quality.measure_image(load_image_model(), pairs=1, flow_pairs=1, lora_pairs=1)
    assert set(card.IMAGE_CARD.rows) <= set(rows)
    assert all(math.isfinite(mean) and spread >= 0 and count >= 1 for mean, spread, count in rows.values())


def test_the_true_flow_moves_what_a_cross_dissolve_only_fades():
    values = quality.measure_ceilings(load_image_model(), quality.held_out(2))
    gain = [pixels - dissolve for pixels, dissolve in zip(values["pixels"], values["dissolve"], strict=True)]
    assert min(gain) > 3 and min(values["autoencoder"]) > 20  # dB


def test_a_share_of_the_gain_is_one_for_the_ceiling_and_none_for_the_floor():
    floor, ceiling = [10.0, 12.0, 11.0], [18.0, 19.0, 21.0]
    assert quality.share(ceiling, floor, ceiling) == (100.0, 0.0, 3)
    assert quality.share(floor, floor, ceiling)[0] == 0.0


def test_every_word_of_the_world_is_one_token_and_any_text_survives():
    captions = [sample_pair(s).captions[0] for s in range(600)]
    tokenizer = build_tokenizer(captions)
    words = set(" ".join(captions).replace(",", " ").replace("'", " ").split())
    whole = [w for w in words if len(tokenizer(w).input_ids) == 3]  # start, the word, end
    assert len(whole) >= 0.9 * len(words)
    ids = token_ids(tokenizer, [*captions[:3], "", "Zürich, 3 Uhr früh: ein Hund"])
    assert ids.shape == (5, LENGTH)
    assert tokenizer.decode(ids[0], skip_special_tokens=True).replace(" ,", ",") == captions[0]


class Identity(nn.Module):
    """An autoencoder whose latents are the picture itself: it commutes with every warp."""

    def encode(self, x):
        return SimpleNamespace(latent_dist=DiagonalGaussianDistribution(torch.cat([x, torch.full_like(x, -20.0)], 1)))

    def decode(self, z):
        return SimpleNamespace(sample=z)


def test_latents_that_move_with_the_picture_have_no_equivariance_loss_and_others_have():
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(6, 3, 8, 8, generator=generator) * 2 - 1, 64, mode="bilinear")

    class Reversed(Identity):  # a code that does not move with the picture, decoded exactly
        def encode(self, x):
            return super().encode(x.flip(-1))

        def decode(self, z):
            return super().decode(z.flip(-1))

    def loss(vae):
        return float(equivariance_loss(vae, images, torch.Generator().manual_seed(1)))

    assert 20 * loss(Identity()) < loss(Reversed())


def test_a_warp_is_the_same_in_latents_and_pixels():
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])  # a quarter of the side to the left
    assert torch.allclose(warp(image, shift)[..., :48], image[..., 16:], atol=1e-5)
    cells = torch.nn.functional.avg_pool2d(image, 4)
    assert torch.allclose(warp(cells, shift)[..., :12], cells[..., 4:], atol=1e-5)


def test_the_video_decoder_starts_with_idle_temporal_layers():
    vae = build_video_autoencoder().eval()
    z = torch.randn(4, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = vae.decode(z, num_frames=4).sample
        alone = torch.cat([vae.decode(x[None], num_frames=1).sample for x in z])
    assert torch.allclose(together, alone, atol=1e-4)
