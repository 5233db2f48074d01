"""Loading: what the networks compute, and what else a folder may look like."""

import shutil

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from interp_lib.models import folder as folder_module
from interp_lib.models.load import load_image_model
from tests.models.conftest import TINY
from tests.models.spoil import UNET_FILE, edit, renamed, sharded


def test_everything_is_float32_frozen_and_in_eval_mode(model):
    assert model.device.type == "cpu" and model.dtype == torch.float32
    for part in (model.unet, model.vae, model.text_encoder):
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in part.parameters())
        assert not part.training
    assert (model.latent_channels, model.vae_factor, model.multiple, model.native_size) == (4, 8, 8, 128)
    assert model.unet_calls == 0 and model.notes == []


def test_weights_are_those_of_the_file(model):
    state = load_file(TINY / UNET_FILE)
    ours = model.unet.state_dict()
    assert set(ours) == set(state)
    assert all(torch.equal(ours[k], v.float()) for k, v in state.items())


def test_any_scheduler_becomes_ddim(model, copy):
    path = copy / "scheduler" / "scheduler_config.json"
    edit(
        path, _class_name="PNDMScheduler", set_alpha_to_one=True, clip_sample=True, steps_offset=0, skip_prk_steps=True
    )
    other = load_image_model(copy, device="cpu")
    assert type(other.scheduler).__name__ == "DDIMScheduler"
    assert any("PNDMScheduler" in note for note in other.notes)
    other.scheduler.set_timesteps(50)
    assert other.scheduler.timesteps[[0, -1]].tolist() == [981, 1]
    assert not other.scheduler.config.clip_sample
    assert other.alpha_bar(0) == model.alpha_bar(0) == float(other.scheduler.final_alpha_cumprod)


def test_fp16_variant_alone_is_taken(model, copy):
    renamed(".safetensors", ".fp16.safetensors")(copy)
    other = load_image_model(copy, device="cpu")
    assert other.dtype == torch.float32 and len(other.notes) == 3
    assert all(torch.equal(a, b) for a, b in zip(other.unet.parameters(), model.unet.parameters(), strict=True))


def test_dtype_goes_to_every_network(copy):
    other = load_image_model(copy, device="cpu", dtype=torch.bfloat16)
    assert {p.dtype for m in (other.unet, other.vae, other.text_encoder) for p in m.parameters()} == {torch.bfloat16}
    z = other.encode(torch.rand(1, 3, 64, 64))
    with torch.no_grad():
        eps = other.predict_noise(z, 261, other.embed_text(""))
    assert z.dtype == eps.dtype == other.decode(z).dtype == torch.float32


@pytest.mark.parametrize("overflows", [True, False])
def test_half_precision_keeps_the_vae_that_overflows(copy, overflows):
    edit(copy / "vae" / "config.json", force_upcast=overflows)
    half = load_image_model(copy, device="cpu", dtype=torch.float16)
    assert half.dtype == torch.float16 and {p.dtype for p in half.text_encoder.parameters()} == {torch.float16}
    assert half.vae.dtype == (torch.float32 if overflows else torch.float16)
    assert half.notes == ["vae: kept in float32, because it overflows in float16 (force_upcast)"] * overflows
    if overflows:
        assert half.decode(half.encode(torch.rand(1, 3, 64, 64))).dtype == torch.float32


def test_old_names_of_the_vaes_attention(model, copy):
    """SD 1.5's VAE file says query, key, value, proj_attn."""
    path = copy / "vae" / "diffusion_pytorch_model.safetensors"
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    state = load_file(path)
    for new, name in old.items():
        assert any(new in k for k in state)
        state = {k.replace(new, name): v for k, v in state.items()}
    save_file(state, path)
    other = load_image_model(copy, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(other.vae.parameters(), model.vae.parameters(), strict=True))


def test_sharded_weights(copy, model):
    sharded(copy)
    other = load_image_model(copy, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(other.unet.parameters(), model.unet.parameters(), strict=True))


def test_a_whole_variant_goes_before_an_index_without_its_files(copy):
    shutil.copyfile(copy / UNET_FILE, copy / UNET_FILE.replace(".safetensors", ".fp16.safetensors"))
    for path in sharded(copy):
        path.unlink()
    assert load_image_model(copy, device="cpu").notes == ["unet: only fp16 weights there"]


def test_embedded_is_a_folder_like_any_other(copy, monkeypatch):
    copy.rename(copy.with_name("image"))
    monkeypatch.setattr(folder_module, "EMBEDDED", copy.parent)
    assert load_image_model(device="cpu").name == "embedded"


def test_hub_name_without_network(tmp_path, monkeypatch, model):
    """Offline: what is in the hub's cache is used, what is not gives one sentence."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="'acme/tiny' is no folder here and could not be fetched") as caught:
        load_image_model("acme/tiny")
    assert "\n" not in str(caught.value)
    cache = tmp_path / "models--acme--tiny"
    snapshot = cache / "snapshots" / ("0" * 40)
    shutil.copytree(TINY, snapshot)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    cached = load_image_model("acme/tiny", device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(cached.unet.parameters(), model.unet.parameters(), strict=True))
    (snapshot / "unet").chmod(0o755)
    first, second = sharded(snapshot)
    load_image_model("acme/tiny", device="cpu")
    second.unlink()  # an interrupted download
    with pytest.raises(ValueError, match="unet cannot be loaded .*00002-of-00002.safetensors.*download it again"):
        load_image_model("acme/tiny", device="cpu")
    first.unlink()
    with pytest.raises(FileNotFoundError, match="could not be fetched"):
        load_image_model("acme/tiny", device="cpu")


@pytest.mark.parametrize("kind, way", [("GatedRepoError", "is gated: .*hf auth login"), ("OSError", "not be fetched")])
def test_a_gated_model_names_the_licence_and_the_login(monkeypatch, kind, way):
    def refuse(*args, **options):
        raise type(kind, (Exception,), {})("first line\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(FileNotFoundError, match=f"'owner/name' .*{way}") as caught:
        load_image_model("owner/name")
    assert "\n" not in str(caught.value)
