import numpy as np
import pytest
from PIL import Image

from custom_apps.thyroid.rand_augment import FILL, OPERATIONS, RandAugmentd

SHAPE = (3, 40, 50)


def picture(seed=0):
    smooth = np.random.default_rng(seed).integers(30, 220, (3, 5, 6)).astype(np.uint8)
    return np.array(Image.fromarray(smooth.transpose(1, 2, 0)).resize(SHAPE[:0:-1], 3)).transpose(2, 0, 1)


def applied(name, share=1.0, sign=1):
    image = Image.fromarray(picture().transpose(1, 2, 0))
    return np.array(OPERATIONS[name](image, share, sign)).transpose(2, 0, 1).astype(int)


def test_fifteen_operations_that_all_change_an_image():
    assert len(OPERATIONS) == 15
    for name in OPERATIONS:
        result = applied(name, 0.9)
        assert result.shape == SHAPE
        assert (result != picture()).any(), name


def test_values_of_tone_operations():
    image = picture().astype(int)
    assert np.array_equal(applied("invert"), 255 - image)
    assert np.array_equal(applied("posterize", 0.5), image & 0b11000000)
    assert np.array_equal(applied("posterize", 0.0), image & 0b11110000)
    assert not applied("posterize").any()
    assert np.array_equal(applied("solarize", 0.5), np.where(image < 128, image, 255 - image))
    assert np.array_equal(applied("solarize", 0.0), image)
    assert np.array_equal(applied("solarize_add", 0.5), np.where(image < 128, image + 55, image))
    assert np.abs(applied("brightness", 0.5, -1) - 0.55 * image).max() <= 1
    assert applied("brightness", 1.0, -1).max() <= 0.1 * image.max() + 1
    assert np.abs(applied("color", 1.0, -1) - image).max() > 3
    gray = np.repeat(image[:1], 3, axis=0)
    result = OPERATIONS["color"](Image.fromarray(gray.transpose(1, 2, 0).astype(np.uint8)), 1.0, 1)
    assert np.array_equal(np.array(result).transpose(2, 0, 1), gray)


def test_geometry():
    image = picture().astype(int)
    moved = applied("translate_x", 10 / (0.45 * 50), 1)
    assert np.array_equal(moved[:, :, :40], image[:, :, 10:])
    assert (moved[:, :, 41:] == np.array(FILL)[:, None, None]).all()
    up = applied("translate_y", 9 / (0.45 * 40), -1)
    assert np.array_equal(up[:, 9:], image[:, :31])
    sheared = applied("shear_x", 1.0, 1)
    assert np.abs(sheared[:, 0] - image[:, 0]).max() <= 12
    assert (sheared[:, -1, -5:] == np.array(FILL)[:, None]).all()
    corner = applied("rotate", 1.0, 1)[:, 0, 0]
    assert corner.tolist() == list(FILL)


def test_draws():
    augment = RandAugmentd()
    augment.set_random_state(seed=0)
    draws = [augment.randomize() for _ in range(2000)]
    counts = np.bincount([len(draw) for draw in draws], minlength=3) / len(draws)
    assert np.abs(counts - [0.25, 0.5, 0.25]).max() < 0.04
    names, shares, signs = zip(*(step for draw in draws for step in draw), strict=True)
    assert set(names) == set(OPERATIONS)
    assert np.mean(shares) == pytest.approx(0.9, abs=0.01)
    assert np.std(shares) == pytest.approx(0.05, abs=0.01)
    assert max(shares) <= 1
    assert abs(np.mean(signs)) < 0.1


def test_transform_is_repeatable_and_needs_color():
    augment = RandAugmentd(operations=4, prob=1.0)
    augment.set_random_state(seed=3)
    first = augment({"image": picture()})["image"]
    augment.set_random_state(seed=3)
    assert np.array_equal(first, augment({"image": picture()})["image"])
    assert first.shape == SHAPE
    with pytest.raises(ValueError, match="three channels"):
        augment({"image": picture()[:1]})
    untouched = RandAugmentd(prob=0.0)({"image": picture()})["image"]
    assert np.array_equal(untouched, picture())
