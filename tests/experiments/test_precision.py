"""Half precision on the embedded models: finite frames near those of float32, by both methods."""

import pytest

from experiments.studies.precision import compare
from interp_lib import inbetween, interpolate, load_image_model, load_video_model, render_pair

pytestmark = pytest.mark.long
PAIR = render_pair(0, size=64)


def dreammover(model):
    options = {"frames": 1, "steps": 10, "inversion_steps": 3, "lora": False, "progress": False}
    return interpolate(model, PAIR.image0, PAIR.image1, **options)


def inbetweening(model):
    return inbetween(model, PAIR.image0, PAIR.image1, frames=4, steps=3, recurrence=1, progress=False)


@pytest.mark.parametrize(
    "load, run, floors", [(load_image_model, dreammover, (50, 30)), (load_video_model, inbetweening, (60, 40))]
)
def test_half_precision(load, run, floors):
    for row, floor in zip(compare(run, load, load(device="cpu")), floors, strict=True):
        assert row["not_finite"] == 0 and row["lowest"] > floor, row
