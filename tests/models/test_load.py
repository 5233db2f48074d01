"""Loading: what the networks compute, and one clear sentence for every folder that will not do."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from interp_lib.models import folder as folder_module
from interp_lib.models.load import load_image_model

TINY = Path(__file__).parents[1] / "conformance" / "dreammover" / "tiny_sd"
UNET_FILE = "unet/diffusion_pytorch_model.safetensors"


def edit(path, **changes):
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps(config))


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
    for path in list(copy.rglob("*.safetensors")):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
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


def test_settings_of_the_folder(copy, model):
    (copy / "settings.json").write_text('{"steps": 20}')
    assert load_image_model(copy, device="cpu").settings == {"steps": 20} and model.settings == {}


def test_a_checkpoint_in_one_file_names_the_conversion(copy):
    with pytest.raises(ValueError, match="is a file, .*from_single_file.*save_pretrained"):
        load_image_model(copy / UNET_FILE)


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


def pickled(folder):
    for path in list(folder.rglob("*.safetensors")):
        path.rename(path.with_suffix(".bin"))


def cut_short(folder):
    data = (folder / UNET_FILE).read_bytes()
    (folder / UNET_FILE).write_bytes(data[: len(data) // 2])


def change_weights(folder, change):
    state = load_file(folder / UNET_FILE)
    save_file(change(state), folder / UNET_FILE)


def not_finite(folder):
    change_weights(folder, lambda s: {**s, "conv_in.bias": s["conv_in.bias"] * float("inf")})


def incomplete(folder):
    change_weights(folder, lambda s: {k: v for k, v in s.items() if k != "conv_in.bias"})


def other_shape(folder):
    change_weights(folder, lambda s: {**s, "conv_in.bias": s["conv_in.bias"][:3].clone()})


NAMES = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}


def config(part, **changes):
    return lambda folder: edit(folder / part / NAMES.get(part, "config.json"), **changes)


def text(path, content):
    return lambda folder: (folder / path).write_text(content)


def remove(*paths):
    return lambda folder: [(folder / path).unlink() for path in paths]


def sharded(folder):
    """The U-Net's weights in two files with an index, as large models have them; the paths of the two."""
    state = load_file(folder / UNET_FILE)
    (folder / UNET_FILE).unlink()
    names = [f"diffusion_pytorch_model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    where = {key: names[k % 2] for k, key in enumerate(sorted(state))}
    for name in names:
        save_file({k: v for k, v in state.items() if where[k] == name}, folder / "unet" / name)
    index = {"metadata": {}, "weight_map": where}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return [folder / "unet" / name for name in names]


def index(**changes):
    return lambda folder: edit(folder / "model_index.json", **changes)


@pytest.mark.parametrize(
    "spoil, word",
    [
        (lambda f: (f / "model_index.json").unlink(), "model_index.json is missing"),
        (lambda f: (f / "model_index.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: (f / "unet" / "config.json").unlink(), "config.json is missing"),
        (lambda f: shutil.rmtree(f / "vae"), "no folder vae"),
        (lambda f: shutil.rmtree(f / "tokenizer"), "no folder tokenizer"),
        (lambda f: (f / UNET_FILE).unlink(), "no weights"),
        (pickled, "only pickled weights"),
        (cut_short, "damaged"),
        (not_finite, "NaN or infinite weights in conv_in.bias"),
        (incomplete, "conv_in.bias"),
        (other_shape, "cannot be loaded"),
        (index(unet=["diffusers", "UNetSpatioTemporalConditionModel"]), "load_video_model"),
        (index(_class_name="StableVideoDiffusionPipeline"), "load_video_model"),
        (index(unet=["diffusers", "UNet1DModel"]), "Stable Diffusion 1.5"),
        (index(text_encoder=["transformers", "T5EncoderModel"]), "Stable Diffusion 1.5"),
        (config("unet", up_block_types=["UpBlock2D"]), "at least two"),
        (config("unet", up_block_types=["UpBlock2D"] * 4), "one with attention"),
        (config("unet", in_channels=9), "inpainting"),
        (config("unet", addition_embed_type="text_time"), "SDXL"),
        (config("scheduler", prediction_type="sample"), "epsilon or v"),
        (lambda f: sharded(f)[1].unlink(), "00002-of-00002.safetensors is missing or damaged"),
        (lambda f: (sharded(f), text("unet/diffusion_pytorch_model.safetensors.index.json", "{}")(f)), "weight_map"),
    ],
)
def test_one_sentence_for_a_wrong_folder(copy, spoil, word):
    spoil(copy)
    with pytest.raises(ValueError, match=word) as caught:
        load_image_model(copy, device="cpu")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # no second traceback above it


DAMAGED = [
    (text("model_index.json", "[]"), "model_index.json holds a JSON list"),
    (text("model_index.json", '"unet"'), "model_index.json holds a JSON str"),
    (text("unet/config.json", "[]"), "config.json holds a JSON list"),
    (text("vae/config.json", "null"), "config.json holds a JSON NoneType"),
    (text("text_encoder/config.json", "3"), "config.json holds a JSON int"),
    (text("scheduler/scheduler_config.json", "[]"), "scheduler_config.json holds a JSON list"),
    (config("unet", up_block_types=None), "up_block_types=None"),
    (config("unet", up_block_types="UpBlock2D"), "up_block_types='UpBlock2D'"),
    (config("unet", sample_size=None), "sample_size=None"),
    (config("unet", sample_size=[16, 16]), r"sample_size=\[16, 16\]"),
    (config("unet", block_out_channels=None), "unet cannot be loaded"),
    (config("vae", block_out_channels=[]), "vae cannot be loaded"),
    (config("scheduler", beta_schedule="cubic"), "scheduler_config.json gives no noise schedule"),
    (config("scheduler", beta_start="0"), "gives no noise schedule"),
    (config("scheduler", num_train_timesteps=None), "gives no noise schedule"),
    (config("scheduler", trained_betas=[0.1, 2.0]), "gives no noise schedule"),
    (config("scheduler", beta_start=float("nan")), "gives no noise schedule"),
    (remove("tokenizer/vocab.json"), "neither tokenizer.json nor vocab.json with merges.txt"),
    (remove(*(f"tokenizer/{p.name}" for p in (TINY / "tokenizer").iterdir())), "neither tokenizer.json"),
    (text("tokenizer/vocab.json", "{"), "tokenizer cannot be loaded"),
    (text("tokenizer/merges.txt", "x"), "tokenizer cannot be loaded"),
    (text("tokenizer/tokenizer_config.json", "[]"), "tokenizer cannot be loaded"),
    (text("tokenizer/tokenizer.json", "{}"), "tokenizer cannot be loaded"),
    (config("text_encoder", vocab_size=100), "has 514 tokens and the text encoder 100"),
]


@pytest.mark.parametrize("spoil, word", DAMAGED)
def test_damaged_configurations(copy, spoil, word):
    spoil(copy)
    with pytest.raises(ValueError, match=word) as caught:
        load_image_model(copy, device="cpu")
    assert "\n" not in str(caught.value) and str(copy) in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("change", [{"beta_schedule": "cubic"}, {"beta_end": None}])
def test_the_schedule_comes_before_the_weights(copy, change):
    edit(copy / "scheduler" / "scheduler_config.json", **change)
    not_finite(copy)  # found only when the weights are read
    with pytest.raises(ValueError, match="noise schedule"):
        load_image_model(copy, device="cpu")


def test_sharded_weights(copy, model):
    sharded(copy)
    other = load_image_model(copy, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(other.unet.parameters(), model.unet.parameters(), strict=True))


def test_a_whole_variant_goes_before_an_index_without_its_files(copy):
    shutil.copyfile(copy / UNET_FILE, copy / UNET_FILE.replace(".safetensors", ".fp16.safetensors"))
    for path in sharded(copy):
        path.unlink()
    assert load_image_model(copy, device="cpu").notes == ["unet: only fp16 weights there"]


@pytest.mark.parametrize("source", [None, 3, ["a"]])
def test_what_is_no_source(source):
    with pytest.raises(ValueError, match="give 'embedded'"):
        load_image_model(source)


def test_missing_folders(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_image_model(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_image_model("./nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        load_image_model(tmp_path / "file")
    monkeypatch.setattr(folder_module, "EMBEDDED", tmp_path)
    with pytest.raises(FileNotFoundError, match="make models"):
        load_image_model()


def test_embedded_is_a_folder_like_any_other(copy, monkeypatch):
    copy.rename(copy.with_name("image"))
    monkeypatch.setattr(folder_module, "EMBEDDED", copy.parent)
    assert load_image_model(device="cpu").name == "embedded"


@pytest.mark.parametrize(
    "options, word",
    [
        ({"device": "gpu"}, "device="),
        ({"device": "meta:x"}, "device="),
        ({"dtype": torch.int8}, "dtype="),
        ({"dtype": "half"}, "dtype="),
    ],
)
def test_wrong_device_or_dtype(options, word):
    with pytest.raises(ValueError, match=word):
        load_image_model(TINY, **options)


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
    second = sharded(snapshot)[1]
    load_image_model("acme/tiny", device="cpu")
    second.unlink()  # an interrupted download: the hub is asked again
    with pytest.raises(FileNotFoundError, match="could not be fetched"):
        load_image_model("acme/tiny", device="cpu")
