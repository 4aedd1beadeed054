"""Decoding of video files, strictly: a file yields all the frames that it announces, or an error that names it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from custom_apps.common.errors import DataError

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

ENDINGS = (".avi", ".mp4", ".dcm", ".dicom", ".mov", ".mkv", ".m4v", ".wmv", ".mpg")
FULL_RANGE_LUMA = ("gray", "yuvj")


@dataclass(frozen=True)
class Video:
    """A decoded video.

    Attributes:
        frames: uint8, (frames, height, width, 3) in RGB or (frames, height, width) in gray.
        fps: frames per second, NaN where the file does not tell.
    """

    frames: np.ndarray
    fps: float


def read_video(path: str | Path, gray: bool = False) -> Video:
    """Decodes every frame of an AVI, MP4 or multi-frame DICOM file (or of any other that FFmpeg reads).

    Args:
        path: the file. DICOM is recognized by its ending or by its magic bytes.
        gray: luma instead of RGB. Motion JPEG stores it, which makes this several times faster.

    Raises:
        DataError: no such file, no video in it, a frame that does not decode, no frame at all, fewer frames than the
            file announces, frames of different sizes.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "no such file", "a video")
    if is_dicom(path):
        from custom_apps.echo.dicom_video import read_dicom_video

        return read_dicom_video(path, gray)
    return _read_with_ffmpeg(path, gray)


def is_dicom(path: str | Path) -> bool:
    """Whether a file is DICOM: by the magic bytes at offset 128, or by its ending."""
    path = Path(path)
    if path.suffix.lower() in (".dcm", ".dicom"):
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read_with_ffmpeg(path: Path, gray: bool) -> Video:
    import av

    frames: list[np.ndarray] = []
    # One for all frames: to set up a conversion takes longer than to convert.
    reformatter = av.video.reformatter.VideoReformatter()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(path, "holds no video stream", "a video")
            stream = container.streams.video[0]
            announced, fps, left_out = stream.frames, float(stream.average_rate or math.nan), 0
            for packet in container.demux(stream):
                # Edit lists of MP4 cut frames off at the ends, which are counted all the same.
                left_out += packet.is_discard
                if packet.is_corrupt:
                    raise DataError(path, f"frame {len(frames)} is cut off", "a complete file")
                for frame in packet.decode():
                    frames.append(_pixels(path, frame, len(frames), gray, reformatter))
    except (av.FFmpegError, OSError) as error:
        where = f"frame {len(frames)} does not decode" if frames else "is not a readable video"
        raise DataError(path, f"{where} ({error.strerror or error})", "an undamaged video") from error
    if not frames:
        raise DataError(path, "holds no frame", "at least one")
    if len(frames) + left_out < announced:
        raise DataError(path, f"{len(frames)} frames decode", f"{announced}, as the file announces")
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        raise DataError(path, f"frames of different sizes {sorted(sizes)}", "one size")
    return Video(np.stack(frames), fps)


def _pixels(path: Path, frame: av.VideoFrame, number: int, gray: bool, reformatter: VideoReformatter) -> np.ndarray:
    if frame.is_corrupt:
        raise DataError(path, f"frame {number} is damaged", "an undamaged video")
    if not gray:
        return reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    if frame.format.name.startswith(FULL_RANGE_LUMA) and frame.format.components[0].bits == 8:
        # The stored plane is the answer already; rows are padded to the codec's alignment.
        plane = frame.planes[0]
        return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width].copy()
    return reformatter.reformat(frame, format="gray", threads=1).to_ndarray()
