"""Films of two and of more keyframes, by either method: how many frames, and which of them are the keyframes."""

import re

import imageio.v3 as iio
import pytest

from interp_lib import render_pair
from interp_lib.show.film import make_film

PAIR, OTHER = render_pair(3, size=64), render_pair(4, size=64)
SETTINGS = {"image_model": {"steps": 4, "frames": 1, "lora": False}}
SETTINGS["video_model"] = {"steps": 2, "frames": 3, "recurrence": 0, "method": "no-finetune"}
KEYFRAMES = [
    (2, False, 3, "the first and the last of them the keyframes"),
    (3, False, 5, "frames 0, 2 and 4, counted from 0, the keyframes"),
    (3, True, 6, "frames 0, 2 and 4, counted from 0, the keyframes, in a loop"),
]


@pytest.mark.long
@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("count, loop, frames, keyframes", KEYFRAMES)
def test_a_film_says_which_frames_are_the_keyframes(request, tmp_path, kind, count, loop, frames, keyframes):
    model, images = request.getfixturevalue(kind), [PAIR.image0, PAIR.image1, OTHER.image0][:count]
    film = make_film(model, images, tmp_path / "film", loop=loop, size=64, progress=False, **SETTINGS[kind])
    assert re.match(rf"{frames} frames of 64x64 pixels at 8 fps by .*, {keyframes}, \d+ U-Net calls", film.summary)
    assert len(film.images) == count and film.count == frames == len(list((tmp_path / "film").iterdir()))
    for k, image in enumerate(film.images if kind == "image_model" else ()):
        written = iio.imread(tmp_path / "film" / f"{2 * k:04d}.png")
        assert (written == (image[0] * 255).round().byte().permute(1, 2, 0).numpy()).all()
