"""Loading a video model: what the networks are conditioned on, how a video is decoded, and which deltas fit."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor

from interp_lib.images import open_image, to_pil
from interp_lib.models import video_model
from interp_lib.models.load import load_deltas, load_video_model
from interp_lib.models.video_model import clip_input, micro_conditioning
from tests.models.conftest import SVD
from tests.models.spoil import UNET_FILE, edit

CONFORMANCE = Path(__file__).parents[1] / "conformance"
DELTAS = CONFORMANCE / "inbetween" / "deltas.safetensors"


@pytest.fixture(scope="module")
def video():
    return load_video_model(SVD, device="cpu", reverse=DELTAS)


@pytest.fixture(scope="module")
def keyframe():
    return open_image(CONFORMANCE / "inbetween" / "0.png")[0]


@pytest.fixture(scope="module")
def pipeline(video):
    return StableVideoDiffusionPipeline(
        vae=video.vae,
        image_encoder=video.image_encoder,
        unet=video.unet,
        scheduler=EulerDiscreteScheduler.from_config(video.scheduler.config),
        feature_extractor=CLIPImageProcessor.from_pretrained(SVD / "feature_extractor"),
    )


def test_the_files_weights_in_float32_frozen_and_in_eval_mode(video):
    for part in (video.unet, video.vae, video.image_encoder):
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in part.parameters())
        assert not part.training
    assert (video.latent_channels, video.vae_factor, video.multiple) == (4, 8, 64)
    assert (video.frames, video.max_frames, video.native_size) == (14, 25, 128)
    assert video.device.type == "cpu" and video.unet_calls == 0 and video.notes == []
    state = load_file(SVD / UNET_FILE)
    assert all(torch.equal(value, state[name].float()) for name, value in video.unet.state_dict().items())


def test_encode_and_decode(video, keyframe):
    frames = torch.cat([keyframe, 1 - keyframe, keyframe.flip(-1)] * 3)[..., :32, :]  # more than one chunk
    latents = video.encode(frames)
    assert latents.shape == (1, 9, 4, 4, 8) and latents.dtype == torch.float32
    with torch.no_grad():
        modes = torch.cat([video.vae.encode(x[None] * 2 - 1).latent_dist.mode() for x in frames])
    assert torch.allclose(latents[0], modes * video.vae.config.scaling_factor, atol=1e-5)
    back = video.decode(latents)
    assert back.shape == frames.shape and back.dtype == torch.float32
    assert float(back.min()) >= 0 and float(back.max()) <= 1


def latents_of(frames):
    return torch.randn(1, frames, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_video_is_decoded_whole(video, pipeline):
    z, notes = latents_of(14), []
    whole, parts = (pipeline.decode_latents(z, 14, decode_chunk_size=n)[0].transpose(0, 1) / 2 + 0.5 for n in (14, 8))
    assert torch.allclose(video.decode(z, notes=notes), whole.clamp(0, 1), atol=1e-5) and notes == []
    assert not torch.allclose(parts, whole, atol=1e-2)  # the decoder looks at neighbouring frames


@torch.no_grad()
def test_a_video_that_does_not_fit_is_decoded_in_blended_chunks(video, monkeypatch):
    z, notes = latents_of(9), []
    frame = video_model.DECODER_TENSORS * 64 * 64 * video.vae.config.block_out_channels[1] * 4
    monkeypatch.setattr(video_model, "free_memory", lambda device: 4.5 * frame)
    blended = video.decode(z, notes=notes)
    assert notes == ["decoded 4 frames at a time, overlapping and blended: all 9 do not fit in memory"]
    parts = {start: video.decode(z[:, start : start + 4], whole=True) for start in (0, 3, 6)}
    assert torch.allclose(blended[[0, 1, 2, 4, 5, 7, 8]], torch.cat([parts[0][:3], parts[3][1:3], parts[6][1:]]))
    for k in (3, 6):  # the shared frame is half of each
        assert torch.allclose(blended[k], (parts[k - 3][3] + parts[k][0]) / 2, atol=1e-6)
    assert torch.equal(video.decode(z, whole=True, notes=notes), video.decode(z[:, :], whole=True)) and len(notes) == 1


def test_a_second_try_after_running_out_of_memory(video, monkeypatch):
    plain, sizes, notes = video.vae.decode, [], []

    def decode(z, num_frames):
        sizes.append(num_frames)
        if num_frames > 5:
            raise torch.OutOfMemoryError
        return plain(z, num_frames=num_frames)

    monkeypatch.setattr(video.vae, "decode", decode)
    frames = video.decode(latents_of(9), notes=notes)
    assert frames.shape == (9, 3, 64, 64) and sizes == [9, 4, 4, 3] and "4 frames at a time" in notes[0]
    with pytest.raises(torch.OutOfMemoryError):
        video.decode(latents_of(9), whole=True)


@torch.no_grad()
def test_condition_is_what_diffusers_computes(video, pipeline, keyframe):
    """The image latent is the unscaled mode of the noised image, the embedding that of the clean one."""
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    latent, embedding = video.condition(keyframe, noise, 0.3)
    noised = pipeline._encode_vae_image(keyframe * 2 - 1 + 0.3 * noise, "cpu", 1, False)
    assert latent.shape == (1, 4, 8, 8) and torch.allclose(latent, noised, atol=1e-5)
    clean = pipeline._encode_vae_image(keyframe * 2 - 1, "cpu", 1, False)
    assert not torch.allclose(latent, clean, atol=1e-2)
    theirs = pipeline._encode_image(to_pil(keyframe), "cpu", 1, False)
    assert embedding.shape == (1, 1, 32) and torch.allclose(embedding, theirs, atol=1e-5)
    other = pipeline._encode_image(to_pil(1 - keyframe), "cpu", 1, False)
    assert not torch.allclose(embedding, other, atol=1e-3)
    silent = video.condition(keyframe, noise, 0.0)
    assert torch.allclose(silent[0], clean, atol=1e-5) and torch.equal(silent[1], embedding)


def test_the_folder_says_how_to_normalise(video_copy, keyframe):
    edit(video_copy / "feature_extractor" / "preprocessor_config.json", image_mean=[0, 0, 0], image_std=[1, 1, 1])
    other = load_video_model(video_copy, device="cpu")
    assert other.normalise == ([0, 0, 0], [1, 1, 1])
    pixels = clip_input(keyframe * 2 - 1, *other.normalise)
    assert pixels.shape == (1, 3, 224, 224) and float((pixels.mean() - keyframe.mean()).abs()) < 0.01
    with torch.no_grad():
        expected = other.image_encoder(pixels).image_embeds
    assert torch.equal(other.condition(keyframe, torch.zeros_like(keyframe), 0.0)[1][:, 0], expected)
    (video_copy / "feature_extractor" / "preprocessor_config.json").unlink()
    assert load_video_model(video_copy, device="cpu").normalise[0][0] == pytest.approx(0.48145466)


def test_micro_conditioning_is_diffusers_own(pipeline):
    theirs = pipeline._get_add_time_ids(7 - 1, 127, 0.02, torch.float32, 1, 1, False)
    assert torch.equal(micro_conditioning(7, 127, 0.02), theirs)
    batch = micro_conditioning(7, torch.tensor([10.0, 200.0]), torch.tensor([0.0, 0.1]))
    assert batch.tolist() == [[6, 10, 0], [6, 200, pytest.approx(0.1)]]


def test_a_call_is_counted_and_float32(video):
    g, before = torch.Generator().manual_seed(0), video.unet_calls
    z, context, micro = torch.randn(2, 3, 8, 8, 8, generator=g), torch.randn(2, 1, 32, generator=g), torch.zeros(2, 3)
    with torch.no_grad():
        v = video.predict_v(z, torch.tensor(0.5), context, micro)
    assert v.shape == (2, 3, 4, 8, 8) and v.dtype == torch.float32 and video.unet_calls == before + 1


def test_deltas_beside_the_model_and_elsewhere(video, video_copy):
    stored = load_file(DELTAS)
    assert video.no_rotation is None and set(video.reverse) == set(stored)
    assert all(torch.equal(value, stored[name].float()) for name, value in video.reverse.items())
    assert load_video_model(video_copy, device="cpu").reverse is None  # "auto", and none there
    shutil.copyfile(DELTAS, video_copy / "reverse.safetensors")
    save_file({k.replace("to_v", "to_q"): v for k, v in stored.items()}, video_copy / "no_rotation.safetensors")
    found = load_video_model(video_copy, device="cpu")
    assert set(found.reverse) == set(stored) and any(".to_q." in name for name in found.no_rotation)
    none = load_video_model(video_copy, device="cpu", reverse=None)
    assert none.reverse is None and none.no_rotation is None
    by_path = load_video_model(video_copy, device="cpu", reverse=video_copy / "no_rotation.safetensors")
    assert by_path.reverse is None and set(by_path.no_rotation) == set(found.no_rotation)
    save_file({f"up_blocks.9.{k}": v for k, v in stored.items()}, video_copy / "other.safetensors")
    with pytest.raises(ValueError, match="another architecture"):  # tests/robustness has other shapes, and more
        load_deltas(video_copy / "other.safetensors", video.unet)


def test_half_precision_keeps_the_vae_that_overflows(keyframe):
    half = load_video_model(SVD, device="cpu", dtype=torch.float16)
    assert half.dtype == torch.float16 and {p.dtype for p in half.image_encoder.parameters()} == {torch.float16}
    assert {p.dtype for p in half.vae.parameters()} == {torch.float32}
    latent, embedding = half.condition(keyframe, torch.zeros_like(keyframe), 0.0)
    z = half.encode(keyframe)
    assert {x.dtype for x in (latent, embedding, z, half.decode(z))} == {torch.float32}
