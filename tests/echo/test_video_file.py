import pickle

import numpy as np
import pytest

from custom_apps.common.errors import DataError
from custom_apps.echo.video_file import is_dicom, read_video
from custom_apps.echo.video_writing import write_video


def colored_video(frames=12, height=34, width=50):
    """Smooth colors, which compression keeps."""
    t, y, x = np.mgrid[:frames, :height, :width]
    channels = [120 + 80 * np.sin(x / 12 + t / 4), 90 + 60 * np.cos(y / 9), 60 + 4 * t + 0 * y]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.mark.parametrize("ending", [".avi", ".mp4"])
@pytest.mark.parametrize("fps", [50.0, 29.97, 23.5])
def test_color_comes_back(tmp_path, ending, fps):
    frames = colored_video()
    write_video(frames, tmp_path / f"a{ending}", fps)
    video = read_video(tmp_path / f"a{ending}")
    assert video.frames.shape == frames.shape
    assert video.frames.dtype == np.uint8
    assert video.fps == pytest.approx(fps, rel=1e-3)
    # MP4 halves the resolution of color.
    assert np.abs(video.frames.astype(float) - frames).mean() < (2.5 if ending == ".avi" else 6)


@pytest.mark.parametrize("ending", [".avi", ".mp4"])
def test_gray_is_the_luma_of_color(tmp_path, ending):
    write_video(colored_video(), tmp_path / f"a{ending}", 50)
    color = read_video(tmp_path / f"a{ending}").frames.astype(float)
    gray = read_video(tmp_path / f"a{ending}", gray=True).frames
    assert gray.shape == color.shape[:3]
    assert np.abs(gray - color @ [0.299, 0.587, 0.114]).mean() < 2.5


def test_gray_video_of_odd_size(tmp_path):
    frames = colored_video(5, 33, 47)[..., 0]
    write_video(frames, tmp_path / "a.avi", 50)
    assert np.abs(read_video(tmp_path / "a.avi", gray=True).frames.astype(float) - frames).mean() < 1
    color = read_video(tmp_path / "a.avi").frames
    assert color.shape == (5, 33, 47, 3)
    assert np.ptp(color, axis=-1).max() <= 1


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_truncated_file_is_named(tmp_path, share):
    path = tmp_path / "cut.avi"
    write_video(colored_video(40), path, 50)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"cut.avi") as caught:
        read_video(path)
    assert caught.value.path == str(path)


def test_damage_in_the_middle_is_found(tmp_path):
    path = tmp_path / "hole.avi"
    write_video(colored_video(40), path, 50)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"hole.avi"):
        read_video(path)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a video at all, but some text" * 20])
def test_files_that_are_no_video(tmp_path, content):
    path = tmp_path / "text.avi"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"text.avi"):
        read_video(path)


def test_video_without_frames(tmp_path):
    import av

    path = tmp_path / "empty.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=50)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        container.start_encoding()
    with pytest.raises(DataError, match=r"empty.avi"):
        read_video(path)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_video(tmp_path / "absent.avi")


def test_errors_travel_between_processes(tmp_path):
    error = pickle.loads(pickle.dumps(DataError(tmp_path / "a.avi", "problem", "expectation")))
    assert error.path.endswith("a.avi")


def test_dicom_is_known_by_ending_or_content(tmp_path):
    (tmp_path / "noending").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "a.DCM").write_bytes(b"")
    (tmp_path / "a.avi").write_bytes(b"RIFF")
    assert is_dicom(tmp_path / "noending")
    assert is_dicom(tmp_path / "a.DCM")
    assert not is_dicom(tmp_path / "a.avi")


@pytest.mark.parametrize(
    ("frames", "name"),
    [
        (np.zeros((2, 8, 8), np.float32), "a.avi"),
        (np.zeros((0, 8, 8), np.uint8), "a.avi"),
        (np.zeros((8, 8), np.uint8), "a.avi"),
        (np.zeros((2, 8, 8), np.uint8), "a.gif"),
    ],
)
def test_writing_refuses_what_is_no_video(tmp_path, frames, name):
    with pytest.raises(ValueError, match=r"frames are|written as"):
        write_video(frames, tmp_path / name, 50)
    assert not list(tmp_path.iterdir())
