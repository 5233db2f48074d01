"""The clocks and gauges of `make bench`, the true architectures it measures, and that what it compares is equal."""

from pathlib import Path

import numpy as np
import pytest
import torch

from interp_lib import load_image_model, load_video_model
from interp_lib.bench.speed import dual
from interp_lib.bench.speed.probe import in_own_process, in_turns, peak_memory, ratio
from interp_lib.bench.speed.shapes import KINDS, build_unet, main, write_random
from interp_lib.dreammover.attention import replace_self_attention
from interp_lib.inbetweening.temporal import temporal_attentions
from interp_lib.models.image_model import up_block_self_attentions

SVD = Path(__file__).parents[1] / "conformance" / "inbetween" / "tiny_svd"
TASK = {"size": (64, 64), "frames": 5, "steps": 4, "recurrence": 2}
MIB = 2**20


def test_works_run_in_turns_after_warming_up():
    order = []
    seconds = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=2)
    assert order == ["a", "b"] * 3 and [len(x) for x in seconds.values()] == [2, 2]
    assert ratio({"x": [2.0, 30.0, 4.0], "y": [1.0, 10.0, 4.0]}, "x", "y") == 2.0


def allocate(mib):
    def work():
        block = np.ones(mib * MIB, dtype=np.uint8)  # written to, so it is there
        return int(block[-1])

    return peak_memory(work)


@pytest.mark.long
def test_peak_memory_is_what_was_held():
    (one, small), (_, large) = in_own_process(allocate, 1), in_own_process(allocate, 301)
    assert one == 1
    assert 290 < large - small < 310


# the true architectures, without their weights


@pytest.fixture(scope="module")
def unets():
    with torch.device("meta"):
        return {kind: build_unet(kind) for kind in KINDS}


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("sd15", 859_520_964), ("sd21", 865_910_724), ("svd", 1_524_623_082), ("svd-xt", 1_524_623_082)],
)
def test_the_networks_are_the_true_ones(unets, kind, parameters):
    assert sum(p.numel() for p in unets[kind].parameters()) == parameters  # as of the published files


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_which_self_attention_layers_the_presets_replace(unets, kind):
    unet = unets[kind]
    stages = [name.split(".")[0] for name, _ in unet.named_modules() if name.endswith(".attn1")]
    assert len(stages) == 16 and sum(stage == "up_blocks" for stage in stages) == 9
    in_order = [(stage, block) for stage in ("down", "mid", "up") for block in _blocks(unet, stage)]
    assert len(in_order) == 16
    with replace_self_attention(unet, preset="released") as control:
        last_two = control.names
    # the released code counts all sixteen in the order in which they run and replaces those from 10 to 15
    assert [in_order.index(("up", name)) for name in last_two] == [10, 11, 12, 13, 14, 15]
    with replace_self_attention(unet, preset="paper") as control:
        assert control.count == 9


def _blocks(unet, stage):
    if stage == "up":
        return [name for block in range(4) for name, _ in up_block_self_attentions(unet, block)]
    own = "mid_block" if stage == "mid" else "down_blocks"
    return [name for name, _ in unet.named_modules() if name.startswith(own) and name.endswith(".attn1")]


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_the_papers_features_have_1280_channels_at_half_the_latent_size(unets, kind):
    blocks = unets[kind].up_blocks
    assert blocks[1].resnets[-1].out_channels == 1280
    # the lowest level is an eighth of the latents a side; the first two of three upsamplings have passed
    assert [block.upsamplers is not None for block in blocks] == [True, True, True, False]


def test_svd_has_sixteen_temporal_self_attentions(unets):
    assert len(temporal_attentions(unets["svd"])) == 16 and unets["svd-xt"].config.num_frames == 25


# narrower folders, through the loaders


def test_a_narrow_folder_of_each_generation_loads(tmp_path):
    for kind, predicts_v in (("sd15", False), ("sd21", True)):
        model = load_image_model(write_random(kind, tmp_path / kind, narrower=10), device="cpu")
        assert model.predicts_v is predicts_v and model.embed_text("a").shape == (1, 77, 64)
        noise = model.predict_noise(torch.zeros(1, 4, 8, 8), 1, model.embed_text(""))
        assert noise.shape == (1, 4, 8, 8) and bool(torch.isfinite(noise).all())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["svd", "x", "--narrower", "3"], "give 1, 2, 5 or 10"), (["sdxl", "x"], "invalid choice")],
)
def test_one_sentence_for_a_wrong_shape(arguments, words, capsys):
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and words in capsys.readouterr().err


# dual sampling


@pytest.mark.long
def test_two_networks_with_stored_maps_make_the_same_latents():
    model = dual.load(str(SVD), "cpu")
    model.unet.double()
    made = dual.make_task(model, **TASK)
    with torch.no_grad():
        one = dual.sample("as it comes", model, None, made)
        two = dual.sample("two networks", model, dual.second_network(model), made)
    assert float((one - two).square().mean().sqrt() / one.std()) < 1e-5
    model.reverse = {name: 2 * delta for name, delta in model.reverse.items()}
    with torch.no_grad():
        other = dual.sample("as it comes", model, None, made)
    assert float((other - one).std() / one.std()) > 1e-3  # the deltas matter


@pytest.mark.long
def test_dual_is_measured(capsys):
    found = dual.measure_dual(str(SVD), device="cpu", repeats=1, **TASK)
    assert found["unet_calls"] == 4 + 2 * 2 and 0.5 < found["overhead"] < 2 and 0.3 < found["against_two"] < 2
    assert all(100 < mib < 4000 for mib in found["memory_mib"].values())
    assert 2 * found["maps_mib"] < found["unet_weights_mib"]
    assert load_video_model(SVD, device="cpu").reverse is None
