"""The app without a browser: its widgets driven as a browser drives them, from uploads to a film or to one sentence."""

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

from interp_lib import render_pair
from interp_lib.images import to_pil
from interp_lib.show.app import LARGEST, METHODS, Page
from interp_lib.show.film import make_film

CONFORMANCE = Path(__file__).parents[1] / "conformance"
TINY = {"image": str(CONFORMANCE / "dreammover" / "tiny_sd"), "video": str(CONFORMANCE / "inbetween" / "tiny_svd")}


def encoded(image, kind="PNG", **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


PAIR = render_pair(3, size=64)
GOOD = [encoded(to_pil(image)) for image in (PAIR.image0, PAIR.image1)]


@pytest.fixture(scope="module")
def shared():
    """The models, loaded once for all pages."""
    return Page(TINY | {"device": "cpu"})


@pytest.fixture
def page(shared):
    page = Page(TINY | {"device": "cpu"})
    page.loaded = shared.loaded
    for name, value in {"steps": 30, "frames": 4, "size": 64}.items():
        page.knobs[name].value = value
    return page


def upload(page, end, data, name="a.png"):
    record = {"name": name, "type": "", "size": len(data), "last_modified": datetime.now(UTC)}
    page.uploads[end].value = (record | {"content": memoryview(data)},)


def fill(page):
    for end, data in zip(("first", "last"), GOOD, strict=True):
        upload(page, end, data, f"{end}.png")


def run(page):
    page.make.click()
    if page.run is not None:
        page.run.join(240)


def bomb():
    """A PNG of 100,000 x 100,000 pixels in a few bytes."""
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


WRONG_FILES = {
    "text": (b"not an image", "is not an image"),
    "empty": (b"", "is not an image"),
    "truncated": (GOOD[0][:200], "cannot be read as an image"),
    "bomb": (bomb(), "has more than 89 million pixels"),
    "one pixel": (encoded(Image.new("RGB", (1, 1))), "is 1x1 pixels"),
    "too large": (GOOD[0] + bytes(LARGEST * 10**6), "has 64 MB: at most 64 MB"),
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
@pytest.mark.parametrize("method", METHODS)
def test_two_uploads_become_the_command_lines_film(page, tmp_path, method):
    fill(page)
    page.knobs["method"].value = method
    run(page)
    assert "The film is ready" in page.status.value, page.status.value
    assert page.stop.disabled and not page.make.disabled
    data = base64.b64decode(
        re.search(r'download="film.mp4" href="data:video/mp4;base64,([^"]+)"', page.result.value)[1]
    )
    assert len(iio.imread(data, extension=".mp4")) == 4
    assert 'aria-label="4 frames from the first to the last image' in page.result.value
    model = page.loaded[METHODS[method]]
    how = {"frames": 2} if method == "DreamMover" else {"frames": 4, "method": "no-finetune"}
    make_film(model, *page.images.values(), tmp_path / "v.mp4", size=64, steps=30, progress=False, **how)
    assert (tmp_path / "v.mp4").read_bytes() == data


def test_what_is_missing_or_wrong_is_said_before_a_model_is_loaded(page, tmp_path):
    page.sources["image"], page.loaded = str(tmp_path / "no-model"), {}
    upload(page, "first", GOOD[0])
    run(page)
    assert "no last image yet" in page.status.value and page.run is None
    upload(page, "last", GOOD[0])
    run(page)
    assert "identical" in page.status.value and page.run is None
    upload(page, "last", GOOD[1])
    page.knobs["seed"].value = 5
    run(page)
    assert "no-model" in page.status.value and 'role="alert"' in page.status.value
    assert page.knobs["seed"].value == 5 and not page.make.disabled


@pytest.mark.long
def test_stop_ends_the_run_and_restores_the_model(page, monkeypatch):
    fill(page)
    reached, go_on, plain = threading.Event(), threading.Event(), page._say

    def say(sentence, **how):
        plain(sentence, **how)
        if "call 2 " in sentence:
            reached.set()
            go_on.wait(60)

    monkeypatch.setattr(page, "_say", say)
    page.make.click()
    assert reached.wait(120) and page.make.disabled
    unet = page.loaded["image"].unet
    page.stop.click()
    go_on.set()
    page.run.join(60)
    assert "Stopped" in page.status.value and page.result.value == ""
    assert not unet._forward_pre_hooks and not any("lora" in name for name, _ in unet.named_parameters())
    assert all(torch.isfinite(p).all() for p in unet.parameters())


def test_the_environment_names_the_models(monkeypatch):
    monkeypatch.setenv("INTERP_MODEL", "somewhere")
    assert Page().sources == {"image": "somewhere", "video": "embedded", "device": "auto"}
