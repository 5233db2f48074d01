"""A picture or video on disk that a notebook shows together with its alt text."""

import base64
import html
import io
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

MIME = {".png": "image/png", ".gif": "image/gif", ".webp": "image/webp", ".mp4": "video/mp4", ".mov": "video/quicktime"}
SMALL = 120_000  # bytes: notebooks are committed with what they show


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Media(os.PathLike):
    """A file that was written: usable as a path, shown with its alt text at the end of a notebook cell.

    notes: what was adapted when it was written, one sentence each. A folder of frames is shown as its alt text alone.
    """

    path: Path
    alt: str = ""
    notes: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        return str(self.path)

    __str__ = __fspath__

    @property
    def data_url(self) -> str:
        """The whole file as the address of an <img>, a <video> or a link."""
        return data_url(self.path.read_bytes(), MIME[self.path.suffix.lower()])

    def _repr_mimebundle_(self, include=None, exclude=None):
        mime, alt = MIME.get(self.path.suffix.lower()), html.escape(self.alt)
        if mime is None:
            return {"text/plain": self.alt or str(self.path)}, {}
        if mime == "image/png":
            picture = base64.b64encode(_reduce(self.path.read_bytes())).decode()
            return {mime: picture, "text/plain": self.alt}, {mime: {"alt": self.alt}}
        tag = f'<img alt="{alt}" src="{self.data_url}">'
        if mime.startswith("video/"):
            tag = f'<video controls loop aria-label="{alt}" src="{self.data_url}"></video>'
        return {"text/html": tag, "text/plain": self.alt}, {}


def _reduce(png: bytes) -> bytes:
    """Reduce a large picture to 256 colours for the notebook; the file on disk keeps them all."""
    if len(png) <= SMALL:
        return png
    buffer = io.BytesIO()
    # k-means refines the palette: without it a colour wheel falls into facets.
    few = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return min(png, buffer.getvalue(), key=len)
