"""A picture or video on disk that a notebook shows together with its alt text."""

from __future__ import annotations

import base64
import html
import io
import os
from dataclasses import dataclass
from pathlib import Path

MIME = {
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
}
SMALL = 120_000  # bytes: notebooks are committed with what they show


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

    def __str__(self) -> str:
        return str(self.path)

    def _repr_mimebundle_(self, include=None, exclude=None):
        mime = MIME.get(self.path.suffix.lower())
        if mime is None:
            return {"text/plain": self.alt or str(self.path)}, {}
        data = self.path.read_bytes()
        if mime == "image/png":
            encoded = base64.b64encode(_smaller(data)).decode()
            return {mime: encoded, "text/plain": self.alt}, {mime: {"alt": self.alt}}
        source, alt = f'src="data:{mime};base64,{base64.b64encode(data).decode()}"', html.escape(self.alt)
        video = mime.startswith("video/")
        tag = f'<video controls loop aria-label="{alt}" {source}></video>' if video else f'<img alt="{alt}" {source}>'
        return {"text/html": tag, "text/plain": self.alt}, {}


def _smaller(png: bytes) -> bytes:
    """Reduce a large picture to 256 colours for the notebook; the file on disk keeps them all."""
    if len(png) <= SMALL:
        return png
    from PIL import Image

    buffer = io.BytesIO()
    # k-means refines the palette: without it a colour wheel falls into facets.
    few = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return min(png, buffer.getvalue(), key=len)
