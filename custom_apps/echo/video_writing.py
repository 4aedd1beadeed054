"""Writing of video files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from custom_apps.common.partial_file import partial_file

# Motion JPEG stores the full range of gray values; colors in full resolution where there are any.
CODECS = {".avi": ("mjpeg", "yuvj444p"), ".mp4": ("mpeg4", "yuv420p")}
GRAY_AVI = "yuvj420p"


def write_video(frames: np.ndarray, path: str | Path, fps: float) -> None:
    """Writes motion JPEG (``.avi``) or MPEG-4 (``.mp4``), whole or not at all, replacing what is there.

    Args:
        frames: uint8 (F, H, W, 3) in RGB or (F, H, W) in gray. MP4 needs even height and width.
        path: the file; its ending decides the format.
        fps: frames per second.

    Raises:
        ValueError: another ending, no frame, or frames of another type or shape.
    """
    import av

    path = Path(path)
    if path.suffix.lower() not in CODECS:
        raise ValueError(f"videos are written as {' or '.join(CODECS)}, not {path.suffix!r}")
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or not len(frames):
        raise ValueError(f"frames are {frames.dtype} {frames.shape}, expected uint8 (F, H, W[, 3])")
    codec, pixels = CODECS[path.suffix.lower()]
    with partial_file(path) as temporary, av.open(str(temporary), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = GRAY_AVI if codec == "mjpeg" and frames.ndim == 3 else pixels
        # The same bytes on every machine, in good quality.
        stream.codec_context.thread_count = 1
        stream.codec_context.qmin, stream.codec_context.qmax = 2, 3
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="gray" if frame.ndim == 2 else "rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
