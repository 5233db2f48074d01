"""Costs computed without weights: operations and bytes counted by hand, and against real tensors."""

from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from interp_lib.bench.page import put
from interp_lib.bench.speed import expect
from interp_lib.bench.speed.shapes import build_unet

ROOT = Path(__file__).resolve().parents[2]


def test_operations_and_bytes_of_a_hand_made_case():
    a, w = torch.ones(256, 1024), torch.ones(1024, 512)

    def work():
        x = a @ w  # 512 KiB
        y = x + 1  # as much beside it
        del x
        return y * 2  # as much, where x was

    found = expect.cost(work)
    assert found.operations == 2 * 256 * 1024 * 512
    assert found.bytes == 2 * 256 * 512 * 4
    with FakeTensorMode() as fake:
        a, w = fake.from_tensor(a), fake.from_tensor(w)
        assert expect.cost(work) == found


def test_fake_tensors_cost_what_real_ones_cost():
    def found():
        unet = build_unet("sd15", narrower=10).eval()
        z, t, words = torch.zeros(2, 4, 16, 16), torch.tensor(1), torch.zeros(2, 77, unet.config.cross_attention_dim)
        return expect.cost(lambda: unet(z, t, encoder_hidden_states=words))

    with FakeTensorMode():
        computed = found()
    assert computed == found() and computed.bytes > 16 * 16 * 32 * 2 * 4


@pytest.mark.long
def test_the_papers_settings():
    found = expect.image_run(frames=32, batch_size=8)
    assert found["unet_calls"] == 30 + 1 + 30 * (1 + 4)
    assert found["weights"]["unet"] == 2 * 859_520_964
    fewer = expect.image_run(frames=32, batch_size=4)
    assert fewer["held"]["U-Net call"] < 0.6 * found["held"]["U-Net call"]
    assert fewer["operations"] == pytest.approx(found["operations"], rel=1e-6)


@pytest.mark.long
def test_less_of_a_video_costs_less():
    small = {"size": (64, 64), "frames": 4, "steps": 2, "recurrence": 1}
    whole, chunked = expect.video_run(**small), expect.video_run(**small, chunking=True)
    assert whole["unet_calls"] == 3 and whole["operations"] == chunked["operations"]
    assert chunked["held"]["U-Net call"] < whole["held"]["U-Net call"]
    low_memory = expect.video_run(**small, low_memory=True)
    assert low_memory["unet_calls"] == 3 and low_memory["operations"] == whole["operations"]
    assert low_memory["held"]["U-Net call"] < 0.6 * whole["held"]["U-Net call"]


@pytest.mark.long
def test_one_network_saves_a_network_and_the_stored_maps():
    """Dual sampling as it comes, at the paper's size, against a network a direction (METHODS, section 3)."""
    one, two = expect.video_run(), expect.video_run(networks=2)
    frames, sides = 25, (72, 128)
    heads_by_level = {0: 5, 1: 10, 2: 20, 3: 20}
    layers = {0: 2 + 3, 1: 2 + 3, 2: 2 + 3, 3: 1}  # down and up, and the middle on the lowest level
    pixels = {level: -(-sides[0] // 2**level) * -(-sides[1] // 2**level) for level in layers}
    maps = sum(2 * 2 * layers[n] * pixels[n] * heads_by_level[n] * frames**2 for n in layers)  # branches, bfloat16
    held = [sum(run["weights"].values()) + run["held"]["U-Net call"] for run in (one, two)]
    assert held[1] - held[0] >= 1.5 * (one["weights"]["unet"] + maps)
    assert one["weights"]["deltas"] == 2 * 2 * (5 * 320**2 + 5 * 640**2 + 6 * 1280**2)  # two matrices, bfloat16
    assert two["operations"] / one["operations"] == pytest.approx(1, abs=0.03)  # Q and K twice, and no more
    whole = expect.video_run(low_memory=False)  # why it is not the default
    assert whole["held"]["U-Net call"] > two["held"]["U-Net call"]


def test_a_share_is_a_share(capsys):
    assert expect.main(["--share", "0"]) == 2
    assert "--share 0.0 is no share" in capsys.readouterr().err


@pytest.mark.long
def test_the_pages_have_what_was_computed():
    written = {"docs/gpu.md": (expect.report, expect.COMMAND), "README.md": (expect.short, expect.SHORT)}
    for name, (text, command) in written.items():
        page = (ROOT / name).read_text()
        assert put(page, text(0.4), command) == page
