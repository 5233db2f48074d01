"""Wan's first-and-last-frame pipeline: the call, and the real pipeline with random weights."""

import importlib.machinery
import inspect
import sys
import types

import pytest
import torch

from interp_lib.bench.baselines import wan
from interp_lib.types import Pair

HEIGHT, WIDTH = 40, 56


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, 3, HEIGHT, WIDTH, generator=generator)
    return Pair("two", *images, caption="a red ball")


def check(made, pair, frames):
    assert made.frames.shape == (frames + 2, 3, HEIGHT, WIDTH) and made.frames.dtype == torch.float32
    assert torch.equal(made.frames[:1], pair.image0) and torch.equal(made.frames[-1:], pair.image1)
    assert float(made.frames.min()) >= 0 and float(made.frames.max()) <= 1


def give_ftfy(monkeypatch):
    """The package seems to be installed."""
    monkeypatch.setitem(sys.modules, "ftfy", types.ModuleType("ftfy"))
    sys.modules["ftfy"].__spec__ = importlib.machinery.ModuleSpec("ftfy", None)


class Clip:
    """Takes what the real pipeline takes, and checks it with the real pipeline's own check."""

    def __call__(self, **asked):
        from diffusers import WanImageToVideoPipeline as Real

        inspect.signature(Real.__call__).bind(self, **asked)
        config = types.SimpleNamespace(boundary_ratio=None)
        this = types.SimpleNamespace(config=config, _callback_tensor_inputs=Real._callback_tensor_inputs)
        inputs = [asked[name] for name in ("prompt", "image", "height", "width")]
        Real.check_inputs(this, inputs[0], None, *inputs[1:])
        self.asked, count = asked, asked["num_frames"]
        assert asked["image"].size == asked["last_image"].size == (WIDTH, HEIGHT) and count % 4 == 1
        times = torch.arange(count).view(-1, 1, 1, 1) / (count - 1)
        return types.SimpleNamespace(frames=times.expand(1, count, 3, asked["height"], asked["width"]).bfloat16())


def test_wan(pair):
    pipeline = Clip()
    made = wan.make(None, pair, frames=3, seed=7, weights=pipeline, side=64)
    check(made, pair, 3)
    assert torch.allclose(made.frames[1:-1].mean((1, 2, 3)), torch.tensor([0.25, 0.5, 0.75]), atol=2e-3)
    asked = pipeline.asked
    assert (asked["height"], asked["width"], asked["num_frames"]) == (48, 80, 81) and asked["prompt"] == pair.caption
    assert asked["generator"].initial_seed() == 7 and made.unet_calls == 100
    assert made.notes[0] == "made at 80x48 pixels" and "81 frames made" in made.notes[1]
    made = wan.make(None, pair, frames=6, seed=7, weights=pipeline, side=64, num_frames=5)
    assert pipeline.asked["num_frames"] == 9 and made.frames.shape[0] == 8  # never fewer than are asked for
    with pytest.raises(ValueError, match="4k\\+1 frames, for instance 77"):
        wan.make(None, pair, frames=3, seed=0, weights=pipeline, num_frames=79)


def test_wan_from_a_folder_that_does_not_fit(pair, tmp_path, monkeypatch):
    def make():
        return wan.make(None, pair, frames=3, seed=0, weights=tmp_path, device="cpu")

    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ValueError, match="pip install ftfy"):
        make()
    give_ftfy(monkeypatch)
    with pytest.raises(ValueError, match="is no first-and-last-frame Wan.*FLF2V"):
        make()
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text('{"image_dim": 1280, "pos_embed_seq_len": null}')
    with pytest.raises(ValueError, match="takes a first image only"):
        make()
    with pytest.raises(ValueError, match="give a folder, a hub name, or a loaded pipeline"):
        wan.make(None, pair, frames=3, seed=0, weights=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The real pipeline in miniature, with random weights, as `save_pretrained` leaves it."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModel,
        PreTrainedTokenizerFast,
        UMT5Config,
        UMT5EncoderModel,
    )

    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "red": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    seeing = {"hidden_size": 4, "projection_dim": 4, "num_hidden_layers": 2, "num_attention_heads": 2}
    reading = {"vocab_size": 8, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 1, "num_heads": 4}
    heads = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "ffn_dim": 32, "freq_dim": 256}
    ports = {"in_channels": 36, "out_channels": 16, "text_dim": 32, "image_dim": 4}
    pipeline = WanImageToVideoPipeline(
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>"),
        text_encoder=UMT5EncoderModel(UMT5Config(**reading)),
        vae=AutoencoderKLWan(
            base_dim=3, z_dim=16, dim_mult=[1] * 4, num_res_blocks=1, temperal_downsample=[False, True, True]
        ),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        image_processor=CLIPImageProcessor(crop_size=32, size=32),
        image_encoder=CLIPVisionModel(CLIPVisionConfig(**seeing, image_size=32, intermediate_size=16, patch_size=8)),
        transformer=WanTransformer3DModel(**heads, **ports, pos_embed_seq_len=2 * 17, rope_max_seq_len=32),
    )
    where = tmp_path_factory.mktemp("wan")
    pipeline.save_pretrained(where)
    return where


def test_the_real_pipeline(pair, folder, monkeypatch):
    from diffusers.pipelines.wan import pipeline_wan_i2v

    give_ftfy(monkeypatch)
    monkeypatch.setattr(pipeline_wan_i2v, "ftfy", types.SimpleNamespace(fix_text=str), raising=False)
    monkeypatch.setenv("INTERP_WAN", str(folder))

    def make(seed, frames=5):
        how = {"num_frames": 9, "num_inference_steps": 2, "side": 48, "device": "cpu"}
        return wan.make(None, pair, frames=frames, seed=seed, **how)

    made = make(1)
    check(made, pair, 5)
    assert torch.equal(made.frames, make(1).frames) and not torch.equal(made.frames, make(2).frames)
    assert torch.equal(made.frames[3], make(1, 3).frames[2])  # of one clip, the frame in the middle
    assert made.unet_calls == 4 and "9 frames made" in made.notes[1]
