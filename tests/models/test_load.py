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


def same_weights(network, other):
    return all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_the_files_weights_in_float32_frozen_and_in_eval_mode(model):
    for part in (model.unet, model.vae, model.text_encoder):
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in part.parameters())
        assert not part.training
    assert (model.latent_channels, model.vae_factor, model.multiple, model.native_size) == (4, 8, 8, 128)
    assert model.device.type == "cpu" and model.unet_calls == 0 and model.notes == []
    state, ours = load_file(TINY / UNET_FILE), model.unet.state_dict()
    assert set(ours) == set(state) and all(torch.equal(ours[k], v.float()) for k, v in state.items())


def test_any_scheduler_becomes_ddim(model, copy):
    changes = {"set_alpha_to_one": True, "clip_sample": True, "steps_offset": 0, "skip_prk_steps": True}
    edit(copy / "scheduler" / "scheduler_config.json", _class_name="PNDMScheduler", **changes)
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
    assert other.dtype == torch.float32 and len(other.notes) == 3 and same_weights(other.unet, model.unet)


def test_a_whole_variant_goes_before_an_index_without_its_files(copy):
    shutil.copyfile(copy / UNET_FILE, copy / UNET_FILE.replace(".safetensors", ".fp16.safetensors"))
    for path in sharded(copy):
        path.unlink()
    assert load_image_model(copy, device="cpu").notes == ["unet: only fp16 weights there"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("overflows", [True, False])
def test_dtype_goes_to_every_network_but_a_vae_that_overflows(copy, dtype, overflows):
    edit(copy / "vae" / "config.json", force_upcast=overflows)
    other, upcast = load_image_model(copy, device="cpu", dtype=dtype), overflows and dtype == torch.float16
    assert {p.dtype for m in (other.unet, other.text_encoder) for p in m.parameters()} == {other.dtype} == {dtype}
    assert other.vae.dtype == (torch.float32 if upcast else dtype)
    assert other.notes == ["vae: kept in float32, because it overflows in float16 (force_upcast)"] * upcast
    if upcast or dtype == torch.bfloat16:
        z = other.encode(torch.rand(1, 3, 64, 64))
        eps = other.predict_noise(z, 261, other.embed_text("")).detach()
        assert z.dtype == eps.dtype == other.decode(z).dtype == torch.float32


def test_old_names_of_the_vaes_attention(model, copy):
    """SD 1.5's VAE file says query, key, value, proj_attn."""
    path = copy / "vae" / "diffusion_pytorch_model.safetensors"
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    state = load_file(path)
    for new, name in old.items():
        assert any(new in k for k in state)
        state = {k.replace(new, name): v for k, v in state.items()}
    save_file(state, path)
    assert same_weights(load_image_model(copy, device="cpu").vae, model.vae)


def test_embedded_is_a_folder_like_any_other_and_may_carry_settings(copy, monkeypatch):
    copy = copy.rename(copy.with_name("image"))
    monkeypatch.setattr(folder_module, "EMBEDDED", copy.parent)
    embedded = load_image_model(device="cpu")
    assert embedded.name == "embedded" and embedded.settings == {}
    (copy / "settings.json").write_text('{"steps": 20}')
    assert load_image_model(copy, device="cpu").settings == {"steps": 20}


def test_hub_name_without_network(tmp_path, monkeypatch, model):
    """Offline: what is in the hub's cache is used, shards too; what is not gives one sentence."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--acme--tiny"
    snapshot = cache / "snapshots" / ("0" * 40)
    shutil.copytree(TINY, snapshot)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    assert same_weights(load_image_model("acme/tiny", device="cpu").unet, model.unet)
    (snapshot / "unet").chmod(0o755)
    first, second = sharded(snapshot)
    assert same_weights(load_image_model("acme/tiny", device="cpu").unet, model.unet)
    second.unlink()  # an interrupted download
    with pytest.raises(ValueError, match="unet cannot be loaded .*00002-of-00002.safetensors.*download it again"):
        load_image_model("acme/tiny", device="cpu")
    first.unlink()
    with pytest.raises(ValueError, match="no safetensors weights"):
        load_image_model("acme/tiny", device="cpu")


@pytest.mark.parametrize("only_fp16", [False, True])
def test_what_is_downloaded(copy, tmp_path, monkeypatch, only_fp16):
    """Configurations first, then plain weights, and fp16 ones only where there are no others."""
    if only_fp16:
        renamed(".safetensors", ".fp16.safetensors")(copy)
    for name in ("model.onnx", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.non_ema.safetensors"):
        (copy / "unet" / name).touch()
    calls = []

    def snapshot_download(name, allow_patterns):
        calls.append({path for pattern in allow_patterns for path in copy.glob(pattern)})
        for path in calls[-1]:
            target = tmp_path / "hub" / path.relative_to(copy)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return str(tmp_path / "hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    load_image_model("owner/name", device="cpu")
    assert {path.suffix for path in calls[0]} == {".json", ".txt"}
    assert [len(found) for found in calls[1:]] == ([0, 3] if only_fp16 else [3])
    assert {path.suffix for found in calls[1:] for path in found} == {".safetensors"}


@pytest.mark.parametrize("kind, way", [("GatedRepoError", "is gated: .*hf auth login"), ("OSError", "not be fetched")])
def test_a_gated_model_names_the_licence_and_the_login(monkeypatch, kind, way):
    def refuse(*args, **options):
        raise type(kind, (Exception,), {})("first line\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(FileNotFoundError, match=f"'owner/name' .*{way}") as caught:
        load_image_model("owner/name")
    assert "\n" not in str(caught.value)
