import numpy as np
import pytest
from PIL import Image

from custom_apps.common.errors import DataError
from custom_apps.thyroid.mask_file import read_mask


def disk(height=40, width=30):
    y, x = np.mgrid[:height, :width]
    return (y - 18) ** 2 + (x - 12) ** 2 < 64


def palette(values, colors):
    image = Image.fromarray(values.astype(np.uint8), "P")
    image.putpalette(colors)
    return image


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("mode", [None, "RGB", "RGBA"])
def test_both_conventions_of_binary_masks(tmp_path, save_image, value, mode):
    path = save_image(tmp_path / "m.png", (disk() * value).astype(np.uint8), mode)
    assert np.array_equal(read_mask(path), disk())


def test_other_encodings(tmp_path, save_image):
    one_bit = save_image(tmp_path / "m.bmp", disk(), "1")
    indices = save_image(tmp_path / "m.png", palette(disk(), [0, 0, 0, 200, 30, 30]))
    lossy = save_image(tmp_path / "m.jpg", (disk() * 255).astype(np.uint8), quality=75)
    color_lossy = save_image(tmp_path / "c.jpg", (disk() * 255).astype(np.uint8), "RGB", quality=75)
    for path in (one_bit, indices, lossy, color_lossy):
        assert np.array_equal(read_mask(path), disk()), path
    empty = save_image(tmp_path / "e.jpg", np.zeros((20, 20), np.uint8))
    assert not read_mask(empty).any()


def test_ignored_pixels_only_where_asked_for(tmp_path, save_image):
    values = disk().astype(np.uint8)
    values[:3] = 255
    path = save_image(tmp_path / "m.png", values)
    assert np.array_equal(read_mask(path, "index"), values)
    with pytest.raises(DataError, match="values 0, 1, 255"):
        read_mask(path)
    # Taken as indices, a mask of 0 and 255 has no nodule, which is what it says.
    both = save_image(tmp_path / "b.png", (disk() * 255).astype(np.uint8))
    assert (read_mask(both, "index") == 255).sum() == disk().sum()


@pytest.mark.parametrize(
    ("name", "image", "reason"),
    [
        ("two.png", (disk() * 2).astype(np.uint8), "values 0, 2"),
        ("half.png", (disk() * 128).astype(np.uint8), "values 0, 128"),
        ("smooth.png", np.arange(200, dtype=np.uint8).reshape(10, 20), "200 values"),
        ("deep.png", (disk() * 65535).astype(np.uint16), "values 0, 65535"),
        ("color.png", np.dstack([disk() * 255, disk() * 0, disk() * 0]).astype(np.uint8), "in color"),
        ("one.jpg", (disk() * 40).astype(np.uint8), "JPEG mask"),
        ("gray.jpg", np.full((30, 30), 128, np.uint8), "JPEG mask"),
        ("inverted.png", palette(disk(), [255, 255, 255, 0, 0, 0]), "brighter"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, save_image, name, image, reason):
    path = save_image(tmp_path / name, image)
    with pytest.raises(DataError, match=reason) as error:
        read_mask(path)
    assert error.value.path == str(path)


def test_transparent_broken_and_missing(tmp_path, save_image):
    pixels = np.dstack([disk() * 255] * 3 + [disk() * 255]).astype(np.uint8)
    with pytest.raises(DataError, match="transparent"):
        read_mask(save_image(tmp_path / "a.png", pixels))
    (tmp_path / "b.png").write_text("no mask")
    with pytest.raises(DataError, match="cannot be read"):
        read_mask(tmp_path / "b.png")
    with pytest.raises(DataError, match="no such file"):
        read_mask(tmp_path / "c.png")
    with pytest.raises(DataError, match="lossless"):
        read_mask(save_image(tmp_path / "d.jpg", (disk() * 255).astype(np.uint8)), "index")
    with pytest.raises(ValueError, match="convention"):
        read_mask(tmp_path / "a.png", "soft")
