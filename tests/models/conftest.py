"""The tiny random pipeline of the conformance folder, whole and as a copy that a test may spoil."""

import shutil
from pathlib import Path

import pytest
import torch

from interp_lib.images import open_image
from interp_lib.models.load import load_image_model

CONFORMANCE = Path(__file__).parents[1] / "conformance" / "dreammover"
TINY = CONFORMANCE / "tiny_sd"


@pytest.fixture(scope="module")
def model():
    return load_image_model(TINY, device="cpu")


@pytest.fixture(scope="module")
def images():
    pair = torch.cat([open_image(CONFORMANCE / f"{k}.png")[0] for k in (0, 1)])
    return torch.cat([pair, pair.flip(-1), pair.flip(-2), 1 - pair])[..., :64, :96]


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(TINY, tmp_path / "model", copy_function=shutil.copyfile)
    for path in (tmp_path / "model").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path / "model"
