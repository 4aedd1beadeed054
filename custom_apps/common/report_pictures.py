"""Pictures put into a page: read, made small enough, written as data addresses."""

from __future__ import annotations

import base64
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from custom_apps.common.report_parts import Picture

LONGEST_EDGE = 1600
SMALL_WIDTH, SHOWN_SHARE = 480, 0.75
READABLE_SHARE, READABLE_WIDTH = 0.36, 820
"""Letters of the figures, 9 points at 160 dots an inch, are then seven pixels high."""
JPEG_QUALITY, JPEG_GAIN = 88, 0.6


@dataclass(frozen=True)
class InlinePicture:
    """A picture as a page shows it.

    Attributes:
        uri: the data address.
        width: pixels.
        height: pixels.
        drawn_width: pixels of the file, before it was made smaller.
        caption: below it.
        alt: for those who cannot see it.
    """

    uri: str
    width: int
    height: int
    drawn_width: int
    caption: str
    alt: str

    @property
    def shown_width(self) -> int:
        """Pixels of the page; figures have more than are needed at arm's length."""
        return min(self.width, max(min(self.drawn_width, SMALL_WIDTH), round(SHOWN_SHARE * self.drawn_width)))

    @property
    def readable_width(self) -> int:
        """Pixels to which a small screen may shrink the picture; what is still wider is scrolled."""
        return min(round(READABLE_SHARE * self.drawn_width), READABLE_WIDTH, self.shown_width)


def inline(picture: Picture, longest_edge: int = LONGEST_EDGE) -> InlinePicture | None:
    """The picture as a PNG, or as a JPEG where that is much smaller; None if it cannot be read.

    Args:
        picture: the file.
        longest_edge: to which larger ones are scaled down, pixels.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns of pictures so large that they may be an attack.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(picture.path) as opened:
                image = opened.convert("RGBA" if "A" in opened.getbands() or "transparency" in opened.info else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    if image.mode == "RGBA":
        # Figures are made for white paper.
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    drawn_width = image.width
    image.thumbnail((longest_edge, longest_edge), Image.Resampling.LANCZOS)
    png, jpeg = _encoded(image, "PNG", optimize=True), _encoded(image, "JPEG", quality=JPEG_QUALITY)
    kind, content = ("jpeg", jpeg) if len(jpeg) < JPEG_GAIN * len(png) else ("png", png)
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return InlinePicture(uri, *image.size, drawn_width, picture.caption, picture.alt)


def _encoded(image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def readable(path: Path) -> str:
    """Name of a file in its folder, for a message."""
    return f"{path.parent.name}/{path.name}"
