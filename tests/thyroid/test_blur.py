import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter

from custom_apps.cli import PREPARATION
from custom_apps.common.errors import DataError
from custom_apps.thyroid.blur import METHODS, Blurd, blurred, random_of_name
from custom_apps.thyroid.blur_kernels import defocus_kernel, gaussian_taps, motion_kernel


def noise(shape=(37, 51), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_published_taps():
    assert gaussian_taps(1.1).tolist() == [0, 2, 18, 62, 92, 62, 18, 2, 0]


@pytest.mark.parametrize("sigma", [0.1, 0.37, 1.1, 3.0, 7.3])
def test_taps_are_a_symmetric_gaussian_of_sum_256(sigma):
    taps = gaussian_taps(sigma)
    assert taps.sum() == 256
    assert len(taps) % 2 == 1
    assert np.array_equal(taps, taps[::-1])
    places = np.arange(len(taps)) - len(taps) // 2
    real = np.exp(-(places**2) / (2 * sigma**2))
    assert np.abs(taps - 256 * real / real.sum()).max() <= 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(37, 51), (3, 5), (2, 20, 16), (1, 1)])
def test_shape_type_and_flat_images_are_kept(method, shape):
    flat = np.full(shape, 93, np.uint8)
    result = blurred(flat, method, 1.1, np.random.RandomState(0))
    assert result.dtype == np.uint8
    assert np.array_equal(result, flat)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_smooths_and_colors_are_blurred_one_by_one(method):
    image = noise()
    result = blurred(image, method, 1.1, np.random.RandomState(3))
    assert result.std() < 0.8 * image.std()
    assert abs(result.mean() - image.mean()) < 8
    both = blurred(np.stack([image, 255 - image]), method, 1.1, np.random.RandomState(3))
    assert np.array_equal(both[0], result)


def test_close_to_floating_point_filters():
    image = noise()
    real = gaussian_filter(image.astype(float), 1.1, mode="mirror", radius=4)
    assert np.abs(blurred(image) - real).max() <= 2
    assert np.abs(blurred(image, "mean") - uniform_filter(image.astype(float), 5, mode="mirror")).max() <= 0.5


def test_median_and_defocus_of_a_single_spot():
    image = np.zeros((21, 21), np.uint8)
    image[10, 10] = 255
    assert not blurred(image, "median").any()
    assert (blurred(image, "defocus") > 0).sum() == (defocus_kernel() > 0).sum() == 81


def test_speckle_is_reduced_and_an_edge_is_kept():
    random = np.random.default_rng(0)
    image = np.where(np.arange(60) < 30, 60, 160)[None] * (1 + 0.12 * random.normal(size=(60, 60)))
    image = image.clip(0, 255).astype(np.uint8)
    result = blurred(image, "srad")
    assert result[:, 5:25].std() < 0.35 * image[:, 5:25].std()
    assert result[:, 32:40].mean() - result[:, 20:28].mean() > 80


def test_motion_kernels_are_lines():
    kernels = [motion_kernel(np.random.RandomState(seed)) for seed in range(60)]
    for kernel in kernels:
        assert kernel.sum() == pytest.approx(1)
        assert 2 <= (kernel > 0).sum() <= 5
    assert len({kernel.tobytes() for kernel in kernels}) > 30


def test_motion_follows_the_name_alone():
    image = noise()[None]
    blur = Blurd("image", "motion")
    first = blur({"image": image, "case": "benign/a"})["image"]
    blur({"image": image, "case": "b"})
    assert np.array_equal(first, blur({"image": image, "case": "other/a"})["image"])
    assert np.array_equal(first[0], blurred(image[0], "motion", random=random_of_name("a")))
    others = [blurred(image[0], "motion", random=random_of_name(name)) for name in "bcdefg"]
    assert sum(np.array_equal(first[0], other) for other in others) < 2


def test_range_of_sigma_is_drawn():
    image = noise()[None]
    blur = Blurd("image", sigma=(0.5, 2.0))
    assert not blur.deterministic
    blur.set_random_state(seed=1)
    results = [blur({"image": image, "case": "a"})["image"] for _ in range(3)]
    assert len({result.tobytes() for result in results}) == 3
    blur.set_random_state(seed=1)
    assert np.array_equal(results[0], blur({"image": image, "case": "a"})["image"])


def test_nothing_is_blurred_twice():
    with pytest.raises(DataError, match=r"blurred already \(gaussian 1.1\)"):
        Blurd()({"image": noise()[None], "case": "a", "blur": "gaussian 1.1"})


def test_bad_input():
    with pytest.raises(ValueError, match="one of gaussian"):
        blurred(noise(), "box")
    with pytest.raises(ValueError, match="above 0"):
        blurred(noise(), "gaussian", 0)
    with pytest.raises(ValueError, match="range"):
        Blurd(sigma=(2.0, 1.0))
    with pytest.raises(TypeError, match="8-bit"):
        blurred(noise().astype(float))
    with pytest.raises(ValueError, match="random"):
        blurred(noise(), "motion")


def test_command_line_knows_every_method():
    assert PREPARATION["method"]["choices"] == METHODS
