"""Clocks and gauges, costs counted by hand and against real tensors, and that what is compared is equal."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from experiments.speed import dual, gpu_budget, image, random_models
from experiments.speed.__main__ import main
from experiments.speed.random_models import build_unet, write_random
from experiments.speed.timing import in_own_process, peak_memory, ratio, time_interleaved
from interp_lib import load_image_model
from interp_lib.dreammover.attention import replace_self_attention
from interp_lib.inbetweening.temporal import temporal_attentions
from interp_lib.models.image_model import up_block_self_attentions

CONFORMANCE = Path(__file__).parents[1] / "conformance"
SD, SVD = CONFORMANCE / "dreammover" / "tiny_sd", CONFORMANCE / "inbetween" / "tiny_svd"
TASK = Namespace(video_size=(64, 64), video_frames=5, steps=4, recurrence=2)


def test_works_run_in_turns_after_warming_up():
    order = []
    seconds = time_interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=2)
    assert order == ["a", "b"] * 3 and [len(x) for x in seconds.values()] == [2, 2]
    assert ratio({"x": [2.0, 30.0, 4.0], "y": [1.0, 10.0, 4.0]}, "x", "y") == 2.0


def allocate(mib):
    def work():
        block = np.ones(mib * 2**20, dtype=np.uint8)  # written to, so it is there
        return int(block[-1])

    return peak_memory(work)


@pytest.mark.long
def test_peak_memory_is_what_was_held():
    (one, small), (_, large) = in_own_process(allocate, 1), in_own_process(allocate, 301)
    assert one == 1 and 290 < large - small < 310


@pytest.fixture(scope="module")
def unets():
    with torch.device("meta"):
        return {kind: build_unet(kind) for kind in ("sd15", "svd", "svd-xt")}


def test_the_networks_are_the_true_ones(unets):
    counts = {kind: sum(p.numel() for p in unet.parameters()) for kind, unet in unets.items()}
    assert counts == {"sd15": 859_520_964, "svd": 1_524_623_082, "svd-xt": 1_524_623_082}  # as of the published files
    assert len(temporal_attentions(unets["svd"])) == 16 and unets["svd-xt"].config.num_frames == 25
    blocks = unets["sd15"].up_blocks
    assert blocks[1].resnets[-1].out_channels == 1280  # the paper's features, at half the latents' size:
    # the lowest level is an eighth of the latents a side; the first two of three upsamplings have passed
    assert [block.upsamplers is not None for block in blocks] == [True, True, True, False]


def test_which_self_attention_layers_the_presets_replace(unets):
    unet = unets["sd15"]
    ups = [name for block in range(4) for name, _ in up_block_self_attentions(unet, block)]
    others = [name for name, _ in unet.named_modules() if name.endswith(".attn1") and not name.startswith("up_blocks")]
    assert len(ups) == 9 and len(others) == 7  # down-blocks and the middle run first
    with replace_self_attention(unet, preset="released") as control:
        # the released code counts all sixteen in the order in which they run and replaces those from 10 to 15
        assert [len(others) + ups.index(name) for name in control.names] == [10, 11, 12, 13, 14, 15]
    with replace_self_attention(unet, preset="paper") as control:
        assert control.count == 9


@pytest.mark.long
def test_a_random_model_goes_through_the_loader(tmp_path, monkeypatch):
    small = {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 768, "sample_size": 8}
    unet = random_models.diffusers.UNet2DConditionModel(**small)  # two GB less to write
    monkeypatch.setattr(random_models, "build_unet", lambda kind: unet)
    write_random("sd15", tmp_path / "sd15")
    model = load_image_model(tmp_path / "sd15", device="cpu")
    noise = model.predict_noise(torch.zeros(1, 4, 8, 8), 1, model.embed_text("a"))
    assert noise.shape == (1, 4, 8, 8) and bool(torch.isfinite(noise).all())


def test_operations_and_bytes_of_a_hand_made_case():
    a, w = torch.ones(256, 1024), torch.ones(1024, 512)

    def work():
        x = a @ w  # 512 KiB
        y = x + 1  # as much next to it
        del x
        return y * 2  # as much, where x was

    assert gpu_budget.cost(work) == (2 * 256 * 1024 * 512, 2 * 256 * 512 * 4)
    with FakeTensorMode() as fake:
        a, w = fake.from_tensor(a), fake.from_tensor(w)
        assert gpu_budget.cost(work) == (2 * 256 * 1024 * 512, 2 * 256 * 512 * 4)


def test_fake_tensors_cost_what_real_ones_cost():
    unet = load_image_model(SD, device="cpu").unet

    def inputs():
        return torch.zeros(2, 4, 16, 16), torch.tensor(1), torch.zeros(2, 77, unet.config.cross_attention_dim)

    z, t, words = inputs()
    real = gpu_budget.cost(lambda: unet(z, t, encoder_hidden_states=words))
    with FakeTensorMode(allow_non_fake_inputs=True):
        z, t, words = inputs()
        assert gpu_budget.cost(lambda: unet(z, t, encoder_hidden_states=words)) == real
    assert real[1] > 16 * 16 * 32 * 2 * 4


@pytest.mark.long
def test_the_papers_settings():
    run = gpu_budget.image_run()
    assert run["calls"] == 30 + 1 + 30 * (1 + 4) and run["weights"]["unet"] == 2 * 859_520_964
    fewer = gpu_budget.image_run(batch_size=4)
    assert fewer["unet"] < 0.6 * run["unet"] and fewer["operations"] == pytest.approx(run["operations"], rel=1e-6)


@pytest.mark.long
def test_one_network_saves_a_network_and_the_stored_maps():
    """Dual sampling as it comes, at the paper's size, against a network per direction (METHODS, section 3)."""
    one, two = gpu_budget.video_run(), gpu_budget.video_run(two_networks=True)
    frames, sides = 25, (72, 128)
    heads_by_level = {0: 5, 1: 10, 2: 20, 3: 20}
    layers = {0: 2 + 3, 1: 2 + 3, 2: 2 + 3, 3: 1}  # down and up, and the middle on the lowest level
    pixels = {level: -(-sides[0] // 2**level) * -(-sides[1] // 2**level) for level in layers}
    maps = sum(2 * 2 * layers[n] * pixels[n] * heads_by_level[n] * frames**2 for n in layers)  # branches, bfloat16
    held = [sum(run["weights"].values()) + run["unet"] for run in (one, two)]
    assert held[1] - held[0] >= 1.5 * (one["weights"]["unet"] + maps)
    assert one["weights"]["second"] == 2 * 2 * (5 * 320**2 + 5 * 640**2 + 6 * 1280**2)  # two matrices, bfloat16
    assert two["operations"] / one["operations"] == pytest.approx(1, abs=0.03)  # Q and K twice, and no more
    assert (one["calls"], two["calls"]) == (175, 350)


@pytest.mark.long
def test_two_networks_with_stored_maps_make_the_same_latents():
    model = dual.load_with_deltas(str(SVD), "cpu")
    model.unet.double()
    task = dual.make_task(model, TASK)
    with torch.no_grad():
        one = dual.sample("as it comes", model, None, task)
        two = dual.sample("two networks", model, dual.second_network(model), task)
    assert float((one - two).square().mean().sqrt() / one.std()) < 1e-5
    model.reverse = {name: 2 * delta for name, delta in model.reverse.items()}
    with torch.no_grad():
        other = dual.sample("as it comes", model, None, task)
    assert float((other - one).std() / one.std()) > 1e-3  # the deltas matter


def test_the_flow_agrees_with_a_loop():
    found = image.flow(Namespace(device="cpu"), side=12, channels=64)
    assert found["agree"] == 1 and found["faster"] > 1


@pytest.mark.long
def test_what_is_measured_is_written(tmp_path, capsys):
    out, size = tmp_path / "new" / "bench.json", ["--size", "64", "--video-size", "64", "64", "--video-frames", "3"]
    models = ["--model", str(SD), "--video-model", str(SVD), "--dtype", "float16", "--device", "cpu"]
    steps = ["--frames", "4", "--steps", "4", "--recurrence", "1"]
    main(["overhead", "lora", "dual", "image", "video", *models, *size, *steps, "--out", str(out)])
    found, said = json.loads(out.read_text()), capsys.readouterr().out
    assert found["overhead"]["unet_batches"] == [2, 2, 2, 2, 4, 2, 4] and 0.5 < found["overhead"]["overhead"] < 3
    assert 0.3 < found["lora"]["lora_over_bare"] < 10 and "lora_over_bare" in said
    two_ways = found["dual"]
    assert two_ways["unet_calls"] == 4 + 2 and 0.3 < two_ways["overhead"] < 3 and 0.2 < two_ways["against_two"] < 3
    assert all(100 < mib < 4000 for mib in two_ways["memory_mib"].values())
    assert 2 * two_ways["maps_mib"] < two_ways["unet_weights_mib"]
    assert found["image"]["unet_calls"] == 2 + 1 + 2 * 2 and found["video"]["unet_calls"] == 4 + 2
    assert all(40 < found[part]["psnr"] < 90 for part in ("image", "video"))  # not the same, and near
