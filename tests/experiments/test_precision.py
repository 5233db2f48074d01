"""Half precision on the embedded models: finite frames near those of float32, by both methods."""

import pytest

from experiments.studies.precision import precision, precision_video
from interp_lib import load_image_model, load_video_model

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    "study, load, floors", [(precision, load_image_model, (40, 29)), (precision_video, load_video_model, (60, 40))]
)
def test_half_precision(study, load, floors):
    rows = study.measure(load(device="cpu"), **study.items[0])
    for row, floor in zip(rows, floors, strict=True):
        assert row["not_finite"] == 0 and row["lowest"] > floor, row
