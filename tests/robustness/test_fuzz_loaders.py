"""Random and mutated files: a loader gives a result or one of its two documented exceptions, in one sentence."""

import io
import json
import struct
from contextlib import suppress
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from interp_lib import load_lora
from interp_lib.images import open_image
from interp_lib.models.folder import read_json
from interp_lib.models.load import load_deltas
from notebooks.run import parse_value, read_notebook
from tests.robustness.harness import DELTAS, image_model, video_model

pytestmark = pytest.mark.long

fuzz = settings(
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=10_000,  # ms: never a hang
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """Models are loaded before any example's time is taken."""
    image_model(), video_model()


def answers(work):
    """The result, or None where the input is refused as documented."""
    try:
        return work()
    except (ValueError, FileNotFoundError) as error:
        assert type(error) in (ValueError, FileNotFoundError), repr(error)
        assert "\n" not in str(error) and len(str(error)) > 20, repr(error)
        assert error.__suppress_context__ or error.__context__ is None, repr(error)
        return None


@cache
def pictures():
    """The bytes of small pictures of every format and kind that users bring."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 4), dtype=np.uint8)
    kinds = {"RGB": pixels[..., :3], "RGBA": pixels, "L": pixels[..., 0], "I;16": pixels[..., 0].astype(np.uint16) * 9}
    images = {mode: Image.fromarray(x) for mode, x in kinds.items()}
    images |= {"P": images["RGB"].convert("P"), "1": images["L"].convert("1"), "CMYK": images["RGB"].convert("CMYK")}
    images |= {"LAB": Image.merge("LAB", images["RGB"].split()), "YCbCr": images["RGB"].convert("YCbCr")}
    written, exif = [], Image.Exif()
    exif[0x0112] = 6
    for image, form in product(images.values(), ("png", "jpeg", "tiff", "webp", "gif", "bmp")):
        file = io.BytesIO()
        with suppress(OSError, ValueError):  # a format without this mode
            image.save(file, form, **({} if form in ("gif", "bmp") else {"exif": exif}))
            written.append(file.getvalue())
    return written


@st.composite
def mutated(draw, valid):
    """A valid file with stretches of up to 40 bytes replaced, cut out or put in, or its end missing."""
    data = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        data[at : at + draw(st.sampled_from([0, 1, 8, 40]))] = draw(st.binary(max_size=8))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@fuzz
@given(data=st.one_of(st.deferred(lambda: mutated(pictures())), st.binary(max_size=400)))
def test_pictures(tmp_path, data):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    if (result := answers(lambda: open_image(path))) is not None:
        image, notes = result
        assert image.shape[:2] == (1, 3) and image.dtype == torch.float32 and bool(torch.isfinite(image).all())
        assert 0 <= float(image.min()) <= float(image.max()) <= 1 and all(isinstance(note, str) for note in notes)


def test_the_pictures_before_mutation_are_read(tmp_path):
    """The control: what is mutated above is valid, and most of it is taken."""
    path, taken = tmp_path / "a.png", 0
    for data in pictures():
        path.write_bytes(data)
        taken += answers(lambda: open_image(path)) is not None
    assert len(pictures()) > 25 and taken >= len(pictures()) - 2  # LAB is refused


SHAPES = st.lists(st.integers(0, 3), max_size=3)
NAMES = st.sampled_from(["unet.a.lora_A.weight", "lora_A.weight", "unet.a.lora_B.weight", "conv_in.bias", "x"])


@st.composite
def weights(draw):
    """A small safetensors file: wrong names, shapes and dtypes, sometimes with a header that lies."""
    dtypes = st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool, torch.uint8])
    state = draw(st.dictionaries(NAMES, st.tuples(SHAPES, dtypes), max_size=4))
    data = save({name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in state.items()})
    size = struct.unpack("<Q", data[:8])[0]
    header = data[8 : 8 + size]
    lie = draw(st.sampled_from(["", "size", "offsets", "json", "dtype", "shape"]))
    if lie == "size":
        return struct.pack("<Q", draw(st.integers(0, 2**64 - 1))) + data[8:]
    changes = {"offsets": (b"[0,", b"[9,"), "json": (b"{", b"[{"), "dtype": (b"F32", b"F99"), "shape": (b"[", b"[-")}
    if lie:
        header = header.replace(*changes[lie])
        return struct.pack("<Q", len(header)) + header + data[8 + size :]
    return data


FILES = st.one_of(
    weights(), st.deferred(lambda: mutated([DELTAS.read_bytes()[:3000], save({})])), st.binary(max_size=99)
)


@fuzz
@given(data=FILES)
def test_weights(tmp_path, data):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    deltas = answers(lambda: load_deltas(path, video_model().unet))
    assert deltas is None or all(bool(torch.isfinite(value).all()) for value in deltas.values())
    assert answers(lambda: load_lora(image_model(), path)) is None  # none of these fits the model
    assert not getattr(image_model().unet, "peft_config", {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@fuzz
@given(data=st.binary(max_size=60) | JSON.map(lambda x: json.dumps(x).encode()))
@example(data=b"[" * 100_000)
@example(data=b'{"a": ' + b"1" * 5000 + b"}")
def test_json_files_and_notebooks(tmp_path, data):
    path = tmp_path / "a.ipynb"
    path.write_bytes(data)
    found = answers(lambda: read_json(path))
    assert found is None or isinstance(found, dict)
    answers(lambda: read_notebook(path))


VALUES = st.text(max_size=12) | st.text("()[]{},:0123456789.e-+'\"", max_size=12)


@fuzz
@given(default=st.sampled_from(["x", 2, 0.5, True, None]), value=VALUES)
@example(default=2, value="(" * 5000)
@example(default=2, value="{[]: 1}")
def test_parameters_of_a_notebook(default, value):
    found = answers(lambda: parse_value("any", value, default))
    kinds = (int, float) if isinstance(default, float) else type(default)
    assert found is None or default is None or isinstance(found, kinds)
