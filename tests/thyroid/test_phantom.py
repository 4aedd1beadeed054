import numpy as np
import pytest

from custom_apps.common.errors import DataError
from custom_apps.thyroid.image_file import image_files, read_image
from custom_apps.thyroid.mask_file import read_mask
from custom_apps.thyroid.phantom import thyroid_case, write_thyroid_phantom


def case(number, seed=0, size=None):
    return thyroid_case(np.random.default_rng([seed, number]), number, size)


@pytest.fixture(scope="module")
def pictures():
    return [case(number) for number in range(12)]


def extent(mask):
    rows, columns = np.where(mask)
    return np.ptp(rows) + 1, np.ptp(columns) + 1


def test_pictures_have_the_range_of_ultrasound(pictures):
    for picture in pictures:
        height, width = picture.image.shape
        assert 300 <= height <= 370
        assert 350 <= width <= 450
        assert picture.image.dtype == np.uint8
        assert picture.image.min() < 30
        assert picture.image.max() > 230
        assert 60 < picture.image.mean() < 150
        assert 0.005 < picture.mask.mean() < 0.15


def test_malignant_nodules_are_taller_darker_and_rougher(pictures):
    ratios, contrasts, roughness = {0: [], 1: []}, {0: [], 1: []}, {0: [], 1: []}
    for number, picture in enumerate(pictures):
        height, width = extent(picture.mask)
        ratios[number % 2].append(height / width)
        ring = np.zeros_like(picture.mask)
        rows, columns = np.where(picture.mask)
        ring[max(0, rows.min() - 8) : rows.max() + 8, max(0, columns.min() - 8) : columns.max() + 8] = True
        contrasts[number % 2].append(picture.image[picture.mask].mean() - picture.image[ring & ~picture.mask].mean())
        border = picture.mask & ~(
            np.roll(picture.mask, 1, 0)
            & np.roll(picture.mask, -1, 0)
            & np.roll(picture.mask, 1, 1)
            & np.roll(picture.mask, -1, 1)
        )
        roughness[number % 2].append(border.sum() ** 2 / picture.mask.sum())
    assert min(ratios[1]) > 0.9
    assert max(ratios[0]) < 1.05
    assert max(contrasts[1]) < -15
    assert np.mean(roughness[1]) > 1.1 * np.mean(roughness[0])


def test_cysts_brighten_what_is_behind_them():
    behind = []
    for seed in range(4):
        picture = case(4, seed)
        rows, columns = np.where(picture.mask)
        middle, half = int(columns.mean()), np.ptp(columns) // 6
        below = np.s_[rows.max() + 8 : rows.max() + 22]
        shadow = picture.image[below, middle - half : middle + half].mean()
        side = np.ptp(columns)
        beside = [
            picture.image[below, max(0, middle + sign * side - half) : middle + sign * side + half] for sign in (-1, 1)
        ]
        behind.append(shadow - np.mean([part.mean() for part in beside]))
        assert picture.image[picture.mask].mean() < 60
    assert np.mean(behind) > 3


def test_speckle_is_wider_across_the_beam(pictures):
    image = pictures[0].image[60:].astype(float)
    along, across = (np.abs(np.diff(image, axis=axis)).mean() for axis in (0, 1))
    assert along > 1.15 * across


def test_same_seed_same_images(tmp_path):
    folders = [
        write_thyroid_phantom(tmp_path / name, 4, 2, seed, size=64) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    one, same, other = ([read_image(path) for path in image_files(folder, deep=True)] for folder in folders)
    assert all(np.array_equal(*pair) for pair in zip(one, same, strict=True))
    assert not any(np.array_equal(*pair) for pair in zip(one, other, strict=True))
    names = [path.relative_to(folders[0]).as_posix() for path in image_files(folders[0], deep=True)]
    assert {name.rsplit("/", 1)[0] for name in names} == {
        f"{split}/{name}" for split in ("train", "val", "test") for name in ("benign", "malignant")
    }


def test_layouts_hold_the_same_images(class_phantom, nodule_phantom, tn3k_phantom):
    pairs = [("train/benign/phantom_0004.png", "images/train/phantom_0004.png")]
    for first, second in pairs:
        assert (class_phantom / first).read_bytes() == (nodule_phantom / second).read_bytes()
    masks = (
        read_mask(nodule_phantom / "masks/train/phantom_0004.png"),
        read_mask(tn3k_phantom / "trainval-mask/0004.jpg"),
    )
    assert (masks[0] != masks[1]).mean() < 0.002


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="layout"):
        write_thyroid_phantom(tmp_path, layout="coco")
    with pytest.raises(ValueError, match="four cases"):
        write_thyroid_phantom(tmp_path, 3)
    write_thyroid_phantom(tmp_path, 4, 0, size=32)
    with pytest.raises(DataError, match="not overwritten"):
        write_thyroid_phantom(tmp_path, 4)
