"""Wrong images, videos, and folders of them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from interp_lib import area_size, as_images, fit_images, load_clips, load_pair
from interp_lib.bench import list_cases, load_case, tvl1_flow
from interp_lib.images import open_image, to_pil
from tests.robustness.harness import Row, refuse

NAN, INF = float("nan"), float("inf")


def cut_short(ground):
    """An image that Pillow has opened and not yet read, as a user may hand it over."""
    return Image.open(io.BytesIO((ground.files / "cut.png").read_bytes()))


def picture(name, says, kind=ValueError):
    return Row(f"open_image: {name}", lambda g: open_image(g.files / name), f"{name} {says}", kind)


def pair(about, source, says, kind=ValueError, **options):
    """source: of the ground, a name, or the names of files."""

    def call(ground):
        named = source(ground) if callable(source) else source
        load_pair(tuple(ground.files / n for n in named) if isinstance(named, tuple) else named, **options)

    return Row(f"load_pair: {about}", call, says, kind)


def tensor(about, x, says):
    return Row(f"as_images: {about}", lambda g: as_images(x, name="image0"), f"image0 .*{says}")


def clips(about, folder, says, kind=ValueError, **options):
    return Row(
        f"load_clips: {about}",
        lambda g: load_clips(g.files / folder if isinstance(folder, str) else folder, **options),
        says,
        kind,
    )


def case(about, kind_of, says, kind=ValueError, item=None):
    def call(ground):
        spec = kind_of.format(files=ground.files)
        return list_cases(spec) if item is None else load_case(f"{spec}:{item}", frames=3)

    return Row(f"{'list_cases' if item is None else 'load_case'}: {about}", call, says, kind)


ROWS = [
    picture("missing.png", "does not exist: give the path", FileNotFoundError),
    picture("text.png", "is not an image .*: use PNG, JPEG or WebP"),
    picture("empty.png", "is not an image .*: use PNG, JPEG or WebP"),
    picture("cut.png", r"cannot be read as an image \(.*\): it may be damaged, save it again"),
    picture("cut.jpg", r"cannot be read as an image \(.*\): it may be damaged, save it again"),
    picture("pixel.png", "is 1x1 pixels: at least 8 .* use a larger image"),
    picture("flat.png", "is 20x4 pixels: at least 8"),
    picture("nan.tif", "contains NaN or infinite"),
    picture("range.tif", r"has values from 7 to 7: images are in \[0,1\], so rescale"),
    picture("bomb.png", "has more than .* million pixels: make it smaller"),
    picture("loop.png", "does not exist: give the path", FileNotFoundError),
    picture("empty", "is a folder, not an image: name one file"),
    Row("open_image: a name too long", lambda g: open_image("x" * 400), "x does not exist: give", FileNotFoundError),
    Row("open_image: no path", lambda g: open_image(None), "None is no path of an image: give"),
    tensor("NaN", torch.full((3, 16, 16), NAN), "contains NaN or infinite values: .*finite"),
    tensor("infinite", torch.full((3, 16, 16), INF), "contains NaN or infinite values: .*finite"),
    tensor("bytes as floats", torch.full((3, 16, 16), 255.0), r"from 255 to 255: images are in \[0,1\], so rescale"),
    tensor("below 0", torch.full((3, 16, 16), -0.5), "from -0.5 to -0.5: .*rescale"),
    tensor("uint8", torch.zeros(3, 16, 16, dtype=torch.uint8), "torch.uint8 values: .*divide by 255"),
    tensor("one channel", torch.zeros(1, 16, 16), r"shape \[1, 16, 16\]: .*three colour channels"),
    tensor("a video", torch.zeros(1, 3, 3, 16, 16), "shape .*three colour channels"),
    tensor("a batch of none", torch.zeros(0, 3, 16, 16), "shape .*three colour channels"),
    tensor("no width", torch.zeros(1, 3, 16, 0), "shape .*three colour channels"),
    tensor("one pixel", torch.zeros(3, 1, 1), "is 1x1 pixels: .*use a larger image"),
    tensor("an array", np.zeros((3, 16, 16)), r"type ndarray: give a tensor \[N,3,H,W\]"),
    tensor("a path", "a.png", "type str: give a tensor"),
    Row("as_images: a damaged PIL image", lambda g: as_images(cut_short(g)), "image cannot be read .*damaged, save"),
    Row("to_pil: two frames", lambda g: to_pil(torch.zeros(2, 3, 16, 16)), "frame holds 2 images: pass one"),
    Row("fit_images: size", lambda g: fit_images(g.first, size=NAN), "size=nan is out of range: give a whole number"),
    Row("fit_images: multiple", lambda g: fit_images(g.first, multiple="8"), "multiple='8' is out of range: give"),
    Row("area_size: side", lambda g: area_size(64, 64, side=0), "side=0 is out of range: give a whole number"),
    Row("tvl1_flow: sizes", lambda g: tvl1_flow(g.first, g.last[..., :32]), "two images .* of one size, not"),
    pair("unknown name", "motorbike", "motorbike is neither .*: the bundled ones are", FileNotFoundError),
    pair("no seed", "world:x", "world:x is neither .*: the bundled ones are", FileNotFoundError),
    pair("no name", "", "'' is no pair: give a bundled name, a folder"),
    pair("None", None, "None is no pair: give a bundled name, a folder"),
    pair("a number", 7, "7 is no pair: give a bundled name, a folder"),
    pair("a number for a file", lambda g: [g.files / "a.png", 3], "3 is no pair: give"),
    pair("a name too long", "x" * 400, "x is neither .*: the bundled ones are", FileNotFoundError),
    pair("of an unknown user", "~nobody-here/x", "is neither .*: the bundled", FileNotFoundError),
    pair("one file", lambda g: g.files / "a.png", "a.png is one file: a pair needs two images"),
    pair("three files", ("a.png", "b.png", "cut.png"), "a pair is two images, but 3 paths .*: name the first and"),
    pair("a missing file", ("a.png", "none.png"), "none.png does not exist: give the path", FileNotFoundError),
    pair("one file twice", ("a.png", "a.png"), "identical images: there is nothing to interpolate"),
    pair("equal files", ("a.png", "same.png"), "identical images: there is nothing to interpolate"),
    pair("different sizes", ("a.png", "larger.png"), "larger.png is 96x80 pixels but .*64x64: bring both to one size"),
    pair("an empty folder", lambda g: g.files / "empty", "empty holds 0 image.*: a pair needs two"),
    pair("a folder of one", lambda g: g.files / "one", "one holds 1 image.*: a pair needs two"),
    pair("a folder of two sizes", lambda g: g.files / "mixed" / "x", "1.png is 40x40 pixels but .*: bring both"),
    pair("a symlink loop", lambda g: g.files / "loop", "loop is neither a folder nor", FileNotFoundError),
    pair("size", "world", "size=12.5 is out of range: give a whole number", size=12.5),
    clips("missing folder", "none", "none is no folder: give one that holds videos", FileNotFoundError),
    clips("no folder", None, "None is no folder: give one that holds videos"),
    clips("a file", "a.png", "a.png is no folder: give one that holds videos", FileNotFoundError),
    clips("an empty folder", "empty", "empty holds no clip: put videos"),
    clips("a truncated video", "cut", "cut.mp4 cannot be decoded as a video: convert it to MP4"),
    clips("a text", "named", "text.mp4 cannot be decoded as a video: convert it"),
    clips("a list of other files", "listed", "list.mp4 cannot be decoded as a video: convert it", frames=2),
    clips("an empty file", "bare", "none.mp4 cannot be decoded as a video: convert it"),
    clips("one frame", "single", "one.mp4 has 1 frames: .*smaller stride or number of frames", frames=2),
    clips("different sizes", "mixed", "1.png is 40x40 pixels, other frames of its folder are 32x32", frames=2),
    clips("size, before any decoding", "named", "size='big' is out of range: give", size="big"),
    clips("frames", "named", "frames=1 is out of range: give a whole number", frames=1),
    clips("stride", "named", "stride=0 is out of range: give a whole number", stride=0),
    clips("windows", "named", "windows=True is out of range: give a whole number", windows=True),
    case("unknown set", "kitti:{files}", "'kitti:.*' is no data set .*: choose one of"),
    case("no text", "7x", "'7x' is no data set .*: choose one of"),
    case("count", "world-bench:many", "with or without the number of cases, as in world-bench:50"),
    case("missing folder", "davis:{files}/none", "is not there: davis:FOLDER needs FOLDER/JPEG", FileNotFoundError),
    case("davis without its folders", "davis:{files}/one", "has no sequence in JPEGImages/480p: davis:FOLDER needs"),
    case("davis with a gap", "davis:{files}/gap", "bear goes from frame 0 to frame 2: davis:FOLDER needs"),
    case("half a pair", "pairs:{files}/half", "cat has 1 image.s.: cat_0.png: pairs:FOLDER needs"),
    case("pairs of one", "pairs:{files}/mixed/x", "0.png is named neither PAIR_0 nor PAIR_1: pairs:FOLDER needs"),
    case("folders among videos", "pexels:{files}/videos", "holds a folder among the videos: pexels:FOLDER needs"),
    case("a text for a video", "pexels:{files}/named", "text.mp4 cannot be decoded .*: convert", item="text.mp4"),
    case("a file outside", "pexels:{files}/named", "has no '../clip.mp4': it holds text.mp4", item="../clip.mp4"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.about)
def test_refused(ground, row):
    refuse(row, ground)
