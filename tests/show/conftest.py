"""The tiny random models of the conformance folders."""

from pathlib import Path

import pytest

from interp_lib import load_image_model, load_video_model

CONFORMANCE = Path(__file__).parents[1] / "conformance"
SD, SVD = CONFORMANCE / "dreammover" / "tiny_sd", CONFORMANCE / "inbetween" / "tiny_svd"


@pytest.fixture(scope="session")
def image_model():
    return load_image_model(SD, device="cpu")


@pytest.fixture(scope="session")
def video_model():
    return load_video_model(SVD, device="cpu")
