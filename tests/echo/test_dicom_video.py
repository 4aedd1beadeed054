import io
import math

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, UltrasoundMultiFrameImageStorage, generate_uid

from custom_apps.common.errors import DataError
from custom_apps.echo.dicom_video import frame_rate
from custom_apps.echo.video_file import read_video


def write_dicom(path, frames, photometric, transfer=ExplicitVRLittleEndian, pixel_data=None, bits=8, **tags):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = transfer
    dataset.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.NumberOfFrames = len(frames)
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    if frames.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * frames.dtype.itemsize, bits, bits - 1
    dataset.PixelRepresentation = 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = frames.tobytes() if pixel_data is None else pixel_data
    dataset["PixelData"].is_undefined_length = transfer == JPEGBaseline8Bit
    dataset.save_as(path, enforce_file_format=True)
    return path


def gray_frames(frames=4, height=20, width=24):
    t, y, x = np.mgrid[:frames, :height, :width]
    return (20 * t + 3 * y + 4 * x).astype(np.uint8)


def color_frames():
    gray = gray_frames()
    return np.stack([gray, 255 - gray, gray // 2], axis=-1)


def test_rgb(tmp_path):
    frames = color_frames()
    video = read_video(write_dicom(tmp_path / "a.dcm", frames, "RGB", FrameTime=20.0))
    assert np.array_equal(video.frames, frames)
    assert video.fps == pytest.approx(50)
    gray = read_video(tmp_path / "a.dcm", gray=True).frames
    assert np.abs(gray - frames @ [0.2989, 0.587, 0.114]).max() <= 0.51


def test_ybr_becomes_rgb(tmp_path):
    frames = color_frames()
    stored = np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in frames])
    video = read_video(write_dicom(tmp_path / "a.dcm", stored, "YBR_FULL"))
    assert np.abs(video.frames.astype(int) - frames).max() <= 4
    assert math.isnan(video.fps)


def test_compressed_color(tmp_path):
    frames, parts = color_frames(), []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=95, subsampling=0)
        parts.append(buffer.getvalue())
    path = write_dicom(tmp_path / "a.dcm", frames, "YBR_FULL_422", JPEGBaseline8Bit, encapsulate(parts))
    assert np.abs(read_video(path).frames.astype(int) - frames).mean() < 4


@pytest.mark.parametrize(
    ("photometric", "expected"), [("MONOCHROME2", lambda v: v), ("MONOCHROME1", lambda v: 255 - v)]
)
def test_monochrome(tmp_path, photometric, expected):
    frames = gray_frames()
    path = write_dicom(tmp_path / "without_ending", frames, photometric, CineRate=33)
    video = read_video(path, gray=True)
    assert np.array_equal(video.frames, expected(frames))
    assert video.fps == 33
    assert np.array_equal(read_video(path).frames, np.repeat(expected(frames)[..., None], 3, axis=-1))


def test_deep_monochrome_uses_the_range_of_its_bits_or_its_window(tmp_path):
    frames = gray_frames().astype(np.uint16) * 16
    path = write_dicom(tmp_path / "deep.dcm", frames, "MONOCHROME2", bits=12)
    assert np.abs(read_video(path, gray=True).frames.astype(int) - frames / 4095 * 255).max() <= 0.51
    path = write_dicom(tmp_path / "w.dcm", frames, "MONOCHROME2", bits=12, WindowCenter=1000, WindowWidth=800)
    shown = read_video(path, gray=True).frames
    assert (shown[frames < 590] == 0).all()
    assert (shown[frames > 1410] == 255).all()
    assert abs(int(shown[frames == 1008][0]) - 128) <= 3


@pytest.mark.parametrize(
    ("tags", "fps"),
    [
        ({"FrameTime": 25.0, "CineRate": 10}, 40),
        ({"FrameTimeVector": [0.0, 20.0, 30.0]}, 40),
        ({"CineRate": 31}, 31),
        ({"RecommendedDisplayFrameRate": 29}, 29),
        ({"FrameTime": 0.0, "CineRate": 0}, math.nan),
    ],
)
def test_frame_rate(tags, fps):
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    assert frame_rate(dataset) == pytest.approx(fps, nan_ok=True)


def test_single_image_is_refused(tmp_path):
    path = write_dicom(tmp_path / "still.dcm", gray_frames(1), "MONOCHROME2")
    with pytest.raises(DataError, match=r"still.dcm: a single image"):
        read_video(path)


def test_damaged_file_is_named(tmp_path):
    path = write_dicom(tmp_path / "cut.dcm", color_frames(), "RGB")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"cut.dcm"):
        read_video(path)
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(DataError, match=r"text.dcm"):
        read_video(tmp_path / "text.dcm")
