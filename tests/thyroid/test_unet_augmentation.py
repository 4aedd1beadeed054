import numpy as np
import pytest

from custom_apps.thyroid.clahe import equalize_locally
from custom_apps.thyroid.photometric_distortion import RandPhotometricd, linear
from custom_apps.thyroid.unet_augmentation import LINES, RandGrayd, RandShiftScaled, changed, sharpening


def noise(shape=(1, 60, 70), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def disk(size):
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    return ((((y - 0.55) / 0.2) ** 2 + ((x - 0.45) / 0.15) ** 2) < 1)[None]


def test_image_and_smaller_mask_move_together():
    move = RandShiftScaled()
    move.set_random_state(seed=0)
    sizes = []
    for _ in range(60):
        result = move({"image": disk(128) * np.uint8(255), "label": disk(64).astype(np.uint8)})
        small = (result["image"][0, ::2, ::2] >= 128) & (result["image"][0, 1::2, 1::2] >= 128)
        assert set(np.unique(result["label"])) <= {0, 1}
        assert (small != (result["label"][0] > 0)).mean() < 0.02
        sizes.append(result["label"].sum() / disk(64).sum())
    assert min(sizes) < 0.5
    assert max(sizes) > 1.6


def test_shift_alone():
    move = RandShiftScaled(scale=0.0, shift=0.25)
    move.randomize = lambda data=None: (1.0, np.array([0.25, -0.125]))
    image = noise((1, 40, 40))
    result = move({"image": image, "label": image})
    for key in ("image", "label"):
        assert np.array_equal(result[key][0, :35, 10:], image[0, 5:, :30])
        assert not result[key][0, :, :10].any()


def test_local_equalization():
    dark = (noise((160, 200)) // 8).astype(np.uint8)
    bright = equalize_locally(dark, 4.0)
    assert bright.shape == dark.shape
    assert bright.dtype == np.uint8
    assert np.ptp(bright) > 2 * np.ptp(dark)
    assert np.ptp(equalize_locally(dark, 1.0)) < np.ptp(bright)
    order = np.argsort(dark[70:90, 70:90], axis=None, kind="stable")
    center = bright[70:90, 70:90].ravel()[order].astype(int)
    assert (np.diff(center) > -12).all()
    for shape in ((61, 43), (5, 9), (1, 1), (8, 8)):
        assert equalize_locally(noise(shape)).shape == shape


def test_one_tile_without_limit_is_plain_equalization():
    image = np.repeat(np.array([10, 20, 30, 40], np.uint8), 64).reshape(16, 16)
    assert sorted(set(equalize_locally(image, 256, 1).ravel().tolist())) == [64, 128, 191, 255]


def test_gray_steps():
    image = noise()
    assert np.array_equal(changed(image, "brightness", 0.2), np.clip(image.astype(int) + 51, 0, 255))
    assert np.array_equal(changed(image, "gamma", 1.0), image)
    assert changed(image, "gamma", 0.8).mean() > image.mean()
    assert np.array_equal(changed(image, "contrast", 1.0), image)
    flat = np.full((1, 9, 9), 100, np.uint8)
    assert np.array_equal(changed(flat, "box", None), flat)
    assert changed(flat, "sharpen", (0.5, 1.0))[0, 4, 4] == 100
    for index in range(len(LINES)):
        assert LINES[index].sum() == pytest.approx(1)
        assert changed(image, "motion", index).std() < image.std()
    assert sharpening(0.3, 0.6).sum() == pytest.approx(0.3 * 0.6 + 0.7)


def test_steps_are_drawn_half_of_the_time():
    gray = RandGrayd()
    gray.set_random_state(seed=0)
    draws = [gray.randomize() for _ in range(1500)]
    names = [name for draw in draws for name, _ in draw]
    assert np.mean([len(draw) for draw in draws]) == pytest.approx(1.5, abs=0.08)
    assert names.count("contrast") == pytest.approx(750, abs=80)
    for name in ("equalize", "brightness", "gamma", "sharpen", "box", "motion"):
        assert names.count(name) == pytest.approx(250, abs=60)
    result = gray({"image": noise()})["image"]
    assert result.shape == (1, 60, 70)
    assert result.dtype == np.uint8


def test_photometric_draws_and_limits():
    distort = RandPhotometricd()
    distort.set_random_state(seed=0)
    draws = [distort.randomize() for _ in range(2000)]
    values = {name: [v for draw in draws for n, v in draw if n == name] for name, _ in draws[0] + draws[1] + draws[2]}
    assert set(values) == {"brightness", "contrast", "saturation", "hue"}
    for name, (low, high) in {"brightness": (-32, 32), "contrast": (0.5, 1.5), "hue": (-18, 17)}.items():
        assert len(values[name]) == pytest.approx(1000, abs=90)
        assert low <= min(values[name])
        assert max(values[name]) <= high
    assert {-18.0, 17.0} <= set(values["hue"])
    last = [draw[-1][0] == "contrast" for draw in draws if {"contrast", "hue"} <= {name for name, _ in draw}]
    assert np.mean(last) == pytest.approx(0.5, abs=0.08)


def test_gray_has_no_hue():
    distort = RandPhotometricd()
    distort.randomize = lambda data=None: [("saturation", 1.5), ("hue", 17.0)]
    image = noise((3, 20, 20))
    gray = np.repeat(image[:1], 3, axis=0)
    assert np.array_equal(distort({"image": gray})["image"], gray)
    assert np.array_equal(distort({"image": image[:1]})["image"], image[:1])
    assert (distort({"image": image})["image"] != image).any()
    distort.randomize = lambda data=None: [("saturation", 1.0), ("hue", 0.0)]
    assert np.array_equal(distort({"image": image})["image"], image)
    assert linear(np.array([[[10, 200]]], np.uint8), 1.5, 0).tolist() == [[[15, 255]]]
