"""The tiny random pipeline of the conformance folder, whole and as a copy that a test may spoil."""

import shutil
from pathlib import Path

import pytest
import torch

from interp_lib.images import open_image
from interp_lib.models.load import load_image_model

CONFORMANCE = Path(__file__).parents[1] / "conformance" / "dreammover"
TINY = CONFORMANCE / "tiny_sd"
SVD = CONFORMANCE.parent / "inbetween" / "tiny_svd"


@pytest.fixture(scope="module")
def model():
    return load_image_model(TINY, device="cpu")


@pytest.fixture(scope="module")
def images():
    pair = torch.cat([open_image(CONFORMANCE / f"{k}.png")[0] for k in (0, 1)])
    return torch.cat([pair, pair.flip(-1), pair.flip(-2), 1 - pair])[..., :64, :96]


def writable(source, target):
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


@pytest.fixture
def copy(tmp_path):
    return writable(TINY, tmp_path / "model")


@pytest.fixture
def video_copy(tmp_path):
    return writable(SVD, tmp_path / "video")
