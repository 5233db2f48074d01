"""The app in Chromium: two uploads, a video that plays, a download; wrong uploads are told; everything has a name."""

import re

import imageio.v3 as iio
import pytest

from interp_lib import render_pair
from interp_lib.images import to_pil
from interp_lib.show.app import LARGEST
from tests.browser.conftest import SHOTS

pytestmark = pytest.mark.browser
NAMED = "button:visible, input:visible, select:visible"
LABELS = "elements => elements.map(e => (e.labels?.[0]?.textContent || e.textContent || e.title).trim())"


@pytest.fixture
def files(tmp_path):
    """A world pair, one of its images at another size, a text that calls itself an image, and a file too large."""
    pair = render_pair(23, size=128)
    to_pil(pair.image0).save(tmp_path / "first.png")
    to_pil(pair.image1).save(tmp_path / "last.png")
    to_pil(pair.image1).resize((96, 128)).save(tmp_path / "narrow.png")
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "large.png").write_bytes(bytes((LARGEST + 1) * 10**6))
    return tmp_path


@pytest.fixture
def opened(page, app):
    page.set_default_timeout(60_000)
    page.goto(app)
    page.get_by_role("heading", name="Frames between two images").wait_for(timeout=180_000)
    page.get_by_role("button", name="Make the film").wait_for()
    return page


def choose(page, end, path):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=f"Choose the {end} image").press("Enter")
    chooser.value.set_files(path)


def fill(page, label, value):
    field = page.get_by_label(label)
    field.fill(str(value))
    field.press("Tab")


def says(page, sentence, timeout=60_000):
    page.get_by_text(sentence).first.wait_for(timeout=timeout)


def test_two_images_become_a_video_by_either_method(opened, files):
    page = opened
    for end in ("first", "last"):
        choose(page, end, files / f"{end}.png")
        page.get_by_alt_text(f"the {end} image, {end}.png").wait_for()
    fill(page, "Frames, both images included", 5)
    fill(page, "Steps (0: the model's)", 4)
    page.screenshot(path=SHOTS / "app_chosen.png")
    for method in ("DreamMover", "Generative Inbetweening"):
        page.get_by_label("Method").select_option(method)
        page.get_by_role("button", name="Make the film").press("Enter")
        says(page, re.compile(f"5 frames of .* by {method}"), timeout=300_000)
        says(page, "The film is ready")
        page.wait_for_function("() => document.querySelector('video')?.readyState >= 2")
        width, error = page.evaluate("() => (v => [v.videoWidth, v.error])(document.querySelector('video'))")
        assert width >= 64 and error is None
        with page.expect_download() as download:
            page.get_by_role("link", name="Download the film (MP4)").press("Enter")
        assert download.value.suggested_filename == "film.mp4"
        path = files / f"{method}.mp4"
        download.value.save_as(path)
        assert len(iio.imread(path)) == 5
        page.screenshot(path=SHOTS / f"app_{method.split()[0].lower()}.png", full_page=True)
    assert not page.errors


def test_a_wrong_upload_is_told_and_nothing_is_lost(opened, files):
    page = opened
    page.get_by_role("button", name="Make the film").click()
    says(page, "there is no first image yet")
    fill(page, "Seed", 7)
    choose(page, "first", files / "first.png")
    page.get_by_alt_text("the first image, first.png").wait_for()
    choose(page, "first", files / "text.png")
    says(page, "text.png is not an image that Pillow can read")
    page.screenshot(path=SHOTS / "app_wrong.png")
    choose(page, "last", files / "large.png")
    says(page, f"large.png has {LARGEST + 1} MB: at most {LARGEST} MB are taken")
    choose(page, "last", files / "narrow.png")
    page.get_by_alt_text("the last image, narrow.png").wait_for()
    assert page.get_by_label("Seed").input_value() == "7"
    assert page.get_by_alt_text("the first image, first.png").is_visible()
    assert not page.errors


def test_every_control_has_a_name_and_the_page_fetches_nothing_from_elsewhere(page, app):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_default_timeout(60_000)
    page.goto(app)
    page.get_by_role("button", name="Make the film").wait_for(timeout=180_000)
    named = page.locator(NAMED).evaluate_all(LABELS)
    assert len(named) >= 9 and all(named), named
    assert page.title() == "Frames between two images"
    assert page.evaluate("() => document.documentElement.lang").startswith("en")
    own = app.split("?")[0]
    elsewhere = [url for url in asked if url.startswith("http") and not url.startswith(own)]
    assert len(asked) > 5 and not elsewhere
    assert not page.errors
