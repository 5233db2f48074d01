"""The app without a browser: from uploads and settings to a video, or to one sentence with nothing lost."""

import base64
import io
import re
import struct
import threading
import zlib
from datetime import UTC, datetime
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch
from PIL import Image

from interp_lib import as_images, render_pair
from interp_lib.dreammover.inputs import LORA
from interp_lib.images import to_pil
from interp_lib.show import app_video
from interp_lib.show.app import Page, app
from interp_lib.show.app_video import METHODS, Models, Settings, Stopped, make_video, read_upload, time_left

CONFORMANCE = Path(__file__).parents[1] / "conformance"
QUICK = {"steps": 3, "inversion_steps": 2, "recurrence": 1, "frames": 4}


def encoded(image, kind="PNG", **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


PAIR = [to_pil(image) for image in (render_pair(3, size=64).image0, render_pair(3, size=64).image1)]
GOOD = [encoded(image) for image in PAIR]


@pytest.fixture(scope="module")
def models():
    tiny = {"image": CONFORMANCE / "dreammover" / "tiny_sd", "video": CONFORMANCE / "inbetween" / "tiny_svd"}
    return Models(**{kind: str(path) for kind, path in tiny.items()}, device="cpu")


@pytest.fixture(scope="module")
def images():
    return tuple(as_images(image) for image in PAIR)


def bomb():
    """A PNG of 100,000 x 100,000 pixels in a few bytes."""
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


WRONG_FILES = {
    "text": (b"not an image", "x.png is not an image"),
    "empty": (b"", "x.png is empty"),
    "truncated": (GOOD[0][:200], "x.png cannot be read as an image"),
    "bomb": (bomb(), "x.png has more than 89 million pixels"),
    "one pixel": (encoded(Image.new("RGB", (1, 1))), "x.png is 1x1 pixels"),
    "too large": (GOOD[0] + bytes(app_video.LARGEST * 10**6), "x.png has 64 MB: at most 64 MB"),
}


@pytest.mark.parametrize("data, sentence", WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_file_is_named_and_refused(data, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        read_upload(data, "x.png")
    assert "/tmp" not in str(caught.value) and "upload" not in str(caught.value)


def test_what_was_adapted_is_said_of_the_uploads_own_name():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image, notes = read_upload(encoded(Image.new("L", (40, 24)), "JPEG", exif=exif), "<b>holiday</b>.jpg")
    assert image.shape == (1, 3, 40, 24)
    assert any("upright" in note for note in notes) and all(note.startswith("<b>holiday</b>.jpg:") for note in notes)


@pytest.mark.long
@pytest.mark.parametrize("method, lora", [(METHODS[0], False), (METHODS[0], True), (METHODS[1], False)])
def test_a_video_is_made_and_every_call_is_foreseen(models, images, tmp_path, method, lora, monkeypatch):
    monkeypatch.setitem(LORA, "paper", LORA["paper"]._replace(steps=3))
    calls = []
    settings = Settings(method=method, lora=lora, **QUICK)
    made = make_video(images, settings, models, tmp_path / "v.mp4", lambda done, total: calls.append((done, total)))
    total = calls[0][1]
    assert calls == [(k, total) for k in range(total)]
    frames = iio.imread(made.video.path)
    assert len(frames) == 4 and f"4 frames of {frames.shape[2]}x{frames.shape[1]} pixels" in made.summary
    assert f"{total - 3 * lora} U-Net calls" in made.summary


@pytest.mark.long
def test_the_same_seed_makes_the_same_bytes_and_another_does_not(models, images, tmp_path):
    def made(seed):
        settings = Settings(method=METHODS[1], seed=seed, **QUICK)
        return make_video(images, settings, models, tmp_path / f"{seed}.mp4").video.path.read_bytes()

    assert made(0) == made(0) and made(0) != made(1)


WRONG_SETTINGS = {
    "frames": ({"frames": 2}, "frames=2 is out of range"),
    "steps": ({"steps": 1}, "steps=1 is out of range"),
    "inversion_steps": ({"steps": 5, "inversion_steps": 6}, "noise step 6 is beyond the 5 steps"),
    "method": ({"method": "magic"}, "method='magic' is unknown"),
    "seed": ({"seed": -1}, "seed=-1 is out of range"),
    "recurrence": ({"recurrence": -1}, "recurrence=-1 is out of range"),
}


@pytest.mark.parametrize("change, sentence", WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_wrong_settings_are_refused_before_a_model_is_loaded(images, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        make_video(images, Settings(**change), Models(image="nowhere", video="nowhere"), tmp_path / "v.mp4")


def test_images_that_are_no_pair_are_refused_before_a_model_is_loaded(images, tmp_path):
    nowhere = Models(image="nowhere", video="nowhere")
    with pytest.raises(ValueError, match="first image is 64x64 pixels and the last 32x64"):
        make_video((images[0], images[1][..., :32]), Settings(), nowhere, tmp_path / "v.mp4")
    with pytest.raises(ValueError, match="identical"):
        make_video((images[0], images[0].clone()), Settings(), nowhere, tmp_path / "v.mp4")


def test_stopping_leaves_the_model_as_it_was_and_no_file(models, images, tmp_path):
    model, settings = models.get(METHODS[0]), Settings(**QUICK)
    before = {name: value.clone() for name, value in model.unet.state_dict().items()}

    def stop(done, total):
        if done == total - 1:
            raise Stopped

    with pytest.raises(Stopped):
        make_video(images, settings, models, tmp_path / "v.mp4", stop)
    after = model.unet.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert not model.unet._forward_pre_hooks and not list(tmp_path.iterdir())


def test_time_left():
    assert time_left(0, 10, 0.0) == "0 of 10 network calls"
    assert time_left(4, 10, 2.0) == "4 of 10 network calls, about 3 s left"


# --- the page, its widgets driven as a browser drives them -------------------------------------------------------


@pytest.fixture
def page(models):
    page = Page(models)
    for name, value in QUICK.items():
        page.knobs[name].value = value
    return page


def upload(page, end, data, name="a.png"):
    told = {"name": name, "type": "", "size": len(data), "last_modified": datetime.now(UTC)}
    page.uploads[end].value = (told | {"content": memoryview(data)},)


def run(page):
    page.make.click()
    if page.run is not None:
        page.run.join(120)


def test_two_uploads_make_a_video_that_can_be_downloaded(page):
    for end, data in zip(("first", "last"), GOOD, strict=True):
        upload(page, end, data, f"{end}.png")
        assert f'alt="the {end} image, {end}.png"' in page.previews[end].value
    run(page)
    assert "The video is ready" in page.status.value and page.bar.value == page.bar.max > 1
    data = re.search(r'download="video.mp4" href="data:video/mp4;base64,([^"]+)"', page.result.value)[1]
    assert len(iio.imread(base64.b64decode(data), extension=".mp4")) == 4
    assert 'aria-label="4 frames from the first image' in page.result.value
    assert page.stop.disabled and not page.make.disabled


def test_a_wrong_upload_is_told_and_keeps_what_was_there(page):
    upload(page, "first", GOOD[0])
    kept, shown = page.images["first"], page.previews["first"].value
    upload(page, "first", b"nothing", "<i>text.png")
    assert 'role="alert"' in page.status.value and "&lt;i&gt;text.png is not an image" in page.status.value
    assert page.images["first"] is kept and page.previews["first"].value == shown
    run(page)
    assert "no last image yet" in page.status.value and page.run is None
    upload(page, "last", encoded(Image.new("RGB", (32, 32))))
    run(page)
    assert "first image is 64x64 pixels and the last 32x32" in page.status.value and page.run is None


def test_a_model_that_is_not_there_is_told_and_nothing_is_lost(tmp_path):
    page = Page(Models(image=str(tmp_path / "no-model")))
    for end, data in zip(("first", "last"), GOOD, strict=True):
        upload(page, end, data)
    page.knobs["seed"].value = 5
    run(page)
    assert "no-model" in page.status.value and 'role="alert"' in page.status.value
    assert page.knobs["seed"].value == 5 and page.images["last"] is not None and not page.make.disabled


def test_stop_is_heard_and_the_next_run_is_whole(page, monkeypatch):
    for end, data in zip(("first", "last"), GOOD, strict=True):
        upload(page, end, data)
    reached, go_on, plain = threading.Event(), threading.Event(), page._say

    def say(sentence, **how):
        plain(sentence, **how)
        if "1 of" in sentence:
            reached.set()
            go_on.wait(60)

    monkeypatch.setattr(page, "_say", say)
    page.make.click()
    assert reached.wait(60) and page.make.disabled
    page.stop.click()
    go_on.set()
    page.run.join(60)
    assert "Stopped" in page.status.value and page.result.value == ""
    run(page)
    assert "The video is ready" in page.status.value


def test_settings_follow_the_method_and_models_the_environment(page, monkeypatch):
    shown = {name for name, knob in page.knobs.items() if knob.layout.display != "none"}
    page.knobs["method"].value = METHODS[1]
    others = {name for name, knob in page.knobs.items() if knob.layout.display != "none"}
    assert shown - others == {"inversion_steps", "lora", "prompt"} and others - shown == {"recurrence"}
    monkeypatch.setenv("INTERP_MODEL", "somewhere")
    assert "embedded models are tiny" in app().children[0].value
    assert "embedded" not in app(Models(image="a", video="b")).children[0].value
