"""The app without a browser: its widgets driven as a browser drives them, from uploads to a film or to one sentence."""

import base64
import io
import re
import threading
from datetime import UTC, datetime
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from interp_lib import render_pair
from interp_lib.dreammover.pipeline import QUICK
from interp_lib.images import to_pil
from interp_lib.show import app
from interp_lib.show.film import make_film
from tests.show.conftest import SD, SVD

PAIR = render_pair(3, size=64)
LOADED = {}  # the models, loaded once for all pages


def encoded(image, kind="PNG", **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


GOOD = [encoded(to_pil(image)) for image in (PAIR.image0, PAIR.image1)]


@pytest.fixture
def page(monkeypatch):
    for name, value in {"INTERP_MODEL": SD, "INTERP_VIDEO_MODEL": SVD, "INTERP_DEVICE": "cpu"}.items():
        monkeypatch.setenv(name, str(value))
    page = app.Page()
    page.loaded = LOADED
    for name, value in {"steps": 4, "frames": 4, "size": 64}.items():
        page.knobs[name].value = value
    return page


def upload(page, end, data, name="a.png"):
    record = {"name": name, "type": "", "size": len(data), "last_modified": datetime.now(UTC)}
    page.uploads[end].value = (record | {"content": memoryview(data)},)


def run(page, *images):
    for end, data in zip(app.ENDS, images, strict=False):
        upload(page, end, data, f"{end}.png")
    page.make.click()
    if page.run is not None:
        page.run.join(240)


WRONG_FILES = {
    "text": (b"not an image", "is not an image"),
    "one pixel": (encoded(Image.new("RGB", (1, 1))), "is 1x1 pixels"),
    "too large": (GOOD[0] + bytes(app.LARGEST * 10**6), "has 64 MB: at most 64 MB"),
}


@pytest.mark.parametrize("data, sentence", WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_upload_is_refused_by_name_and_the_image_before_it_stays(page, data, sentence):
    upload(page, "first", GOOD[0])
    before, shown = page.images["first"], page.previews["first"].value
    upload(page, "first", data, "<i>x.png")
    assert f"&lt;i&gt;x.png {sentence}" in page.status.value and 'role="alert"' in page.status.value
    assert page.images["first"] is before and page.previews["first"].value == shown


def test_what_was_adapted_is_listed_under_the_uploads_own_name(page):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by a quarter
    upload(page, "first", encoded(Image.new("L", (40, 24)), "JPEG", exif=exif), "holiday.jpg")
    assert "holiday.jpg: rotated upright" in page.previews["first"].value and page.images["first"].shape[-1] == 24


@pytest.mark.long
@pytest.mark.parametrize("method", app.METHODS)
def test_two_uploads_become_the_command_lines_film_next_to_a_cross_dissolve(page, tmp_path, method):
    page.knobs["method"].value = method
    run(page, GOOD[0], encoded(to_pil(PAIR.image1).resize((96, 80))))
    assert "The film is ready" in page.status.value, page.status.value
    assert page.stop.disabled and not page.make.disabled
    film, faded = (base64.b64decode(x) for x in re.findall(r'<video [^>]*base64,([^"]+)"', page.result.value))
    assert f'{base64.b64encode(film).decode()}">Download the film (MP4)' in page.result.value
    assert f"<figcaption>{method}</figcaption>" in page.result.value and "Cross-dissolve" in page.result.value
    assert "second image is 96x80 pixels and first image 64x64: fitted to it" in page.result.value
    model = page.loaded[app.METHODS[method]]
    how = {"frames": 2} if method == "DreamMover" else {"frames": 4, "method": "no-finetune"}
    same = make_film(model, list(page.images.values()), tmp_path / "v.mp4", size=64, steps=4, progress=False, **how)
    assert Path(same.media).read_bytes() == film
    frames, (first, last) = iio.imread(faded, extension=".mp4").astype(float), (255 * x[0] for x in same.images)
    assert len(iio.imread(film, extension=".mp4")) == len(frames) == 4
    expected = ((2 * first + last) / 3).permute(1, 2, 0).numpy()
    assert np.abs(frames[1] - expected).mean() < 6


@pytest.mark.long
def test_quick_is_the_librarys_quick_setting(page, tmp_path):
    page.knobs["steps"].value, page.knobs["quick"].value = 0, True
    run(page, *GOOD)
    film = base64.b64decode(re.search(r'<video [^>]*base64,([^"]+)"', page.result.value)[1])
    images = list(page.images.values())
    same = make_film(page.loaded["image"], images, tmp_path / "v.mp4", size=64, frames=2, progress=False, **QUICK)
    assert Path(same.media).read_bytes() == film


def test_a_model_that_is_not_there_is_one_sentence_and_nothing_entered_is_lost(page, tmp_path):
    page.sources["image"], page.loaded = str(tmp_path / "no-model"), {}
    page.knobs["seed"].value = 5
    run(page, GOOD[0])
    assert "no last image yet" in page.status.value and page.run is None
    run(page, *GOOD)
    assert "no-model" in page.status.value and 'role="alert"' in page.status.value
    assert page.knobs["seed"].value == 5 and not page.make.disabled


def test_the_numbers_are_limited_to_what_the_model_makes(page):
    page.loaded = {}
    for method, most in (("DreamMover", 40), ("Generative Inbetweening", 25), ("DreamMover", 40)):
        page.knobs["method"].value = method
        page.knobs["frames"].value = 40
        assert page.knobs["frames"].value == most and page.knobs["prompt"].disabled == (most == 25)


@pytest.mark.long
def test_stop_ends_the_run_and_restores_the_model(page, monkeypatch):
    reached, go_on, plain = threading.Event(), threading.Event(), page._say

    def say(sentence, **how):
        plain(sentence, **how)
        if "call 2 " in sentence:
            reached.set()
            go_on.wait(60)

    monkeypatch.setattr(page, "_say", say)
    for end, data in zip(app.ENDS, GOOD, strict=True):
        upload(page, end, data)
    page.make.click()
    assert reached.wait(120) and page.make.disabled
    unet = page.loaded["image"].unet
    page.stop.click()
    go_on.set()
    page.run.join(60)
    assert "Stopped" in page.status.value and page.result.value == "" and not page.make.disabled
    assert not unet._forward_pre_hooks and not any("lora" in name for name, _ in unet.named_parameters())
    assert all(torch.isfinite(p).all() for p in unet.parameters())


@pytest.mark.parametrize(
    "error, sentence",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "ran out of memory: ask for fewer frames or a smaller"),
        (RuntimeError("[enforce fail] can't allocate memory: you tried"), "ran out of memory: ask for fewer frames"),
        (MemoryError("the model needs 9 GB:\n give batch_size=1."), "the model needs 9 GB: give batch_size=1."),
        (KeyError("x"), "Something unexpected went wrong (KeyError: &#x27;x&#x27;). Images and settings are kept."),
    ],
)
def test_what_ends_a_run_is_one_sentence(page, monkeypatch, error, sentence):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(app, "make_film", fail)
    run(page, *GOOD)
    assert sentence in page.status.value and not page.make.disabled
