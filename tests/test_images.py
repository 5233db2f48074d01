"""Images in: every kind of file arrives as RGB in [0,1], what is adapted is said, what is wrong is one sentence."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from interp_lib.images import area_size, as_images, fit_images, from_bytes, open_image, prepare_pair, to_pil

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)


def save(path, array, mode=None, **kw):
    Image.fromarray(array).convert(mode).save(path, **kw) if mode else Image.fromarray(array).save(path, **kw)
    return path


def planes(array):
    return torch.from_numpy(array.astype(np.float32) / 255).permute(2, 0, 1)[None]


def test_rgb_is_exact_and_needs_no_note(tmp_path):
    image, notes = open_image(save(tmp_path / "a.png", RGB))
    assert notes == [] and image.dtype == torch.float32 and torch.equal(image, planes(RGB))


def test_rgba_is_composited_on_white(tmp_path):
    alpha = np.full((12, 20, 1), 0, np.uint8)
    alpha[:, 10:] = 255
    image, notes = open_image(save(tmp_path / "a.png", np.concatenate([RGB, alpha], 2)))
    assert torch.equal(image[..., 10:], planes(RGB)[..., 10:]) and bool((image[..., :10] == 1).all())
    assert len(notes) == 1 and "white" in notes[0]


@pytest.mark.parametrize(("mode", "word"), [("L", "grey"), ("1", "black and white"), ("CMYK", "CMYK")])
def test_other_modes_become_rgb_and_it_is_said(tmp_path, mode, word):
    path = save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), RGB, mode)
    image, notes = open_image(path)
    assert torch.equal(image, planes(np.array(Image.open(path).convert("RGB"))))
    assert len(notes) == 1 and word in notes[0] and str(path) in notes[0]


def test_a_transparent_palette_is_composited(tmp_path):
    indices = np.zeros((12, 20), np.uint8)
    indices[:, :5] = 1
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette([200, 100, 0, 0, 0, 0])
    picture.save(tmp_path / "a.png", transparency=1)
    image, notes = open_image(tmp_path / "a.png")
    assert bool((image[..., :5] == 1).all()) and float(image[0, 1, 0, 9]) == pytest.approx(100 / 255)
    assert any("white" in note for note in notes) and any("palette" in note for note in notes)


def test_16_bit_grey_keeps_its_precision(tmp_path):
    values = RNG.integers(0, 65536, (12, 20), dtype=np.uint16)
    image, notes = open_image(save(tmp_path / "a.png", values))
    expected = torch.from_numpy(values.astype(np.float64) / 65535).float().expand(1, 3, 12, 20)
    assert torch.allclose(image, expected, atol=1e-7) and "16-bit" in notes[0]


def test_16_bit_rgb_is_read_and_the_loss_is_said(tmp_path):
    import struct
    import zlib

    values = RNG.integers(0, 65536, (12, 20, 3), dtype=np.uint16)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 20, 12, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    image, notes = open_image(tmp_path / "a.png")
    expected = torch.from_numpy(values.astype(np.float32) / 65535).permute(2, 0, 1)[None]
    assert (image - expected).abs().max() < 1 / 255 and any("16 bits" in note for note in notes)


def test_exif_orientation_is_applied_and_said(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    image, notes = open_image(save(tmp_path / "a.png", RGB, exif=exif))
    assert torch.equal(image, planes(np.rot90(RGB, -1).copy())) and "EXIF" in notes[0]


def test_colours_of_another_profile_are_converted_and_noted(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image, notes = open_image(save(tmp_path / "a.png", RGB, icc_profile=srgb))
    assert torch.equal(image, planes(RGB)) and notes == []  # sRGB already
    swapped = swap_red_and_green(srgb)
    image, notes = open_image(save(tmp_path / "b.png", RGB, icc_profile=swapped))
    assert (image - planes(RGB[..., [1, 0, 2]])).abs().max() < 3 / 255
    assert len(notes) == 1 and "to sRGB" in notes[0] and "'abcd" in notes[0]
    image, notes = open_image(save(tmp_path / "c.png", RGB, icc_profile=b"nonsense"))
    assert torch.equal(image, planes(RGB)) and "profile cannot be used" in notes[0]
    image, notes = open_image(io.BytesIO((tmp_path / "b.png").read_bytes()), name="upload")
    assert notes[0].startswith("upload: colours converted")


def swap_red_and_green(profile):
    """A profile whose red primary is sRGB's green and the other way round, under another name."""
    data = bytearray(profile)
    tags = {bytes(data[k : k + 4]): k for k in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12)}
    red, green = (data[tags[name] + 4 : tags[name] + 12] for name in (b"rXYZ", b"gXYZ"))
    data[tags[b"rXYZ"] + 4 : tags[b"rXYZ"] + 12], data[tags[b"gXYZ"] + 4 : tags[b"gXYZ"] + 12] = green, red
    return bytes(data).replace("sRGB".encode("utf-16-be"), "abcd".encode("utf-16-be"))


def test_first_frame_of_an_animation(tmp_path):
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    image, notes = open_image(tmp_path / "a.webp")
    assert float(image[0, 0].min()) > 0.9 and "first of 2 frames" in notes[0]


def test_tensors_pass_through_and_pil_round_trips():
    x = planes(RGB)
    assert torch.equal(as_images(x), x) and torch.equal(as_images(x[0]), x)
    assert torch.equal(as_images(to_pil(x)), x) and torch.equal(as_images(to_pil(x[0])), x)
    assert as_images(x.half()).dtype == torch.float32
    notes = []
    as_images(to_pil(x).convert("L"), notes=notes)
    assert "grey" in notes[0]


def test_own_size_is_only_cropped():
    x = torch.rand(2, 3, 21, 36)
    fitted, notes = fit_images(x)
    assert torch.equal(fitted, x[:, :, 2:18, 2:34]) and len(notes) == 1 and "36x21 to 32x16" in notes[0]
    same, notes = fit_images(x[:, :, :16, :32])
    assert notes == [] and torch.equal(same, x[:, :, :16, :32])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(*[st.integers(16, 64)] * 4)
def test_fit_keeps_the_aspect_and_the_centre(height, width, new_height, new_width):
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    fitted, _ = fit_images(torch.stack([x, y, x])[None], size=(new_height, new_width), multiple=1)
    assert fitted.shape[-2:] == (new_height, new_width)
    scale = max(new_height / height, new_width / width)
    middle = fitted[0, :, new_height // 4 : -(new_height // 4) or None, new_width // 4 : -(new_width // 4) or None]
    for ramp, length, axis in ((middle[0], width, 1), (middle[1], height, 0)):
        step = ramp.diff(dim=axis).mean()
        assert float(step) * scale * (length - 1) == pytest.approx(1, abs=0.25)  # whole pixels: up to half a one off
        assert float(ramp.mean()) == pytest.approx(0.5, abs=(0.6 / scale + 0.2) / (length - 1))


def test_a_size_off_the_multiple_is_brought_down_and_noted():
    fitted, notes = fit_images(torch.rand(1, 3, 64, 64), size=100)
    assert fitted.shape[-2:] == (96, 96) and "100x100 brought down to 96x96" in notes[0]
    with pytest.raises(ValueError, match="size"):
        fit_images(torch.rand(1, 3, 64, 64), size=4)


@pytest.mark.parametrize("size", [64.0, True, (32, "32"), (32, 32, 32), None])
def test_sizes_that_are_no_whole_pixels(size):
    with pytest.raises(ValueError, match="size.*[.]$"):
        fit_images(torch.rand(1, 3, 40, 56), size=size, multiple=64 if size is None else 8)  # holds no such multiple


def test_numpy_integers_are_sizes_too():
    assert fit_images(torch.rand(1, 3, 40, 56), size=np.int64(32))[0].shape[-2:] == (32, 32)
    assert area_size(np.int64(40), np.int64(40), side=np.int64(32)) == (32, 32)


def test_bytes_become_an_image_even_from_read_only_memory():
    frozen = np.frombuffer(RGB.tobytes(), np.uint8).reshape(RGB.shape)
    assert torch.equal(from_bytes(frozen), planes(RGB))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(40, 1200, (64, 1920)), (1200, 40, (1920, 64)), (90, 160, (64, 128)), (300, 400, (64, 64)), (64, 64, (64, 64))],
)
def test_a_coarse_multiple_keeps_a_panorama_whole_and_what_is_cut_is_said(height, width, expected):
    images = list(torch.rand(2, 1, 3, height, width))
    prepared, notes = prepare_pair(images, native_size=64, multiple=64)
    assert prepared[0].shape[-2:] == prepared[1].shape[-2:] == expected
    share = min(height / width * expected[1] / expected[0], width / height * expected[0] / expected[1])
    assert share >= 0.75 - 1e-9 and any("of the picture" in note for note in notes) == (share < 0.9)


def test_keyframes_may_come_back_but_not_at_once():
    a, b = torch.rand(2, 1, 3, 16, 16)
    assert len(prepare_pair([a, b, a], native_size=16, multiple=8)[0]) == 3
    with pytest.raises(ValueError, match="image1 and image2 are identical"):
        prepare_pair([a, b, b], native_size=16, multiple=8)


def test_area_size():
    assert area_size(500, 500, side=128) == (128, 128)
    h, w = area_size(500, 741, side=512, multiple=64)
    assert (h % 64, w % 64) == (0, 0) and abs(h * w / 512**2 - 1) < 0.15 and abs(w / h - 1.482) < 0.2
