import numpy as np
import pytest
import torch

from custom_apps.common.errors import DataError
from custom_apps.echo.loading import LoadFrameArrayd, LoadVideod
from custom_apps.echo.video_writing import write_video


def test_videos_become_channels_first(tmp_path):
    write_video(np.full((5, 12, 16, 3), 90, np.uint8), tmp_path / "a.avi", 40)
    item = LoadVideod()({"image": str(tmp_path / "a.avi"), "case": "a"})
    assert item["image"].shape == (3, 5, 12, 16)
    assert item["image"].dtype == torch.uint8
    assert item["fps"] == 40
    # The data set knows better than the file.
    item = LoadVideod(gray=True)({"image": tmp_path / "a.avi", "fps": 51.0})
    assert item["image"].shape == (1, 5, 12, 16)
    assert item["fps"] == 51


@pytest.mark.parametrize("shape", [(4, 1, 6, 7), (4, 6, 7)])
def test_arrays(tmp_path, shape):
    array = np.random.default_rng(0).random(shape)
    np.save(tmp_path / "a.npy", array)
    image = LoadFrameArrayd()({"image": str(tmp_path / "a.npy")})["image"]
    assert image.shape == (1, 4, 6, 7)
    assert image.dtype == torch.float32
    assert np.allclose(image[0], array.reshape(4, 6, 7))


@pytest.mark.parametrize(
    "array", [np.zeros((4, 2, 6, 7)), np.zeros(5), np.zeros((0, 1, 4, 4)), np.full((2, 3, 3), np.nan)]
)
def test_other_arrays_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=r"a.npy"):
        LoadFrameArrayd()({"image": str(tmp_path / "a.npy")})


def test_broken_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 1, 30, 30)))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:900])
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    for name in ("a.npy", "objects.npy", "absent.npy"):
        with pytest.raises(DataError, match=name):
            LoadFrameArrayd()({"image": str(tmp_path / name)})
