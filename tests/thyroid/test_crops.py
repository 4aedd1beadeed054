import numpy as np
import pytest
import torch
from PIL import Image

from custom_apps.thyroid.crops import RandResizedCropd, ResizeCenterCropd, Squashd
from custom_apps.thyroid.image_resize import resize_linear, resize_nearest, resize_smooth
from custom_apps.thyroid.random_erasing import RandErased


def noise(shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_all_images_get_the_same_box():
    image = noise((1, 60, 90))
    crop = RandResizedCropd(("image", "target"), (20, 24))
    crop.set_random_state(seed=0)
    result = crop({"image": image, "target": image})
    assert result["image"].shape == (1, 20, 24)
    assert np.array_equal(result["image"], result["target"])


def test_boxes_keep_their_limits():
    crop = RandResizedCropd(size=8, area=(0.2, 1.0))
    crop.set_random_state(seed=0)
    boxes = np.array([crop.randomize((300, 400)) for _ in range(500)])
    height, width = boxes[:, 2], boxes[:, 3]
    assert (boxes[:, 0] + height <= 300).all()
    assert (boxes[:, 1] + width <= 400).all()
    share = height * width / 120000
    assert 0.19 < share.min() < 0.25
    assert share.max() > 0.9
    assert ((width / height > 0.74) & (width / height < 1.35)).all()


def test_whole_image_is_what_pillow_makes_of_it():
    image = noise((3, 31, 31))
    crop = RandResizedCropd(size=20, area=(1.0, 1.0), ratio=(1.0, 1.0))
    expected = Image.fromarray(image.transpose(1, 2, 0)).resize((20, 20), Image.Resampling.BICUBIC)
    assert np.array_equal(crop({"image": image})["image"].transpose(1, 2, 0), np.array(expected))


def test_images_too_narrow_for_a_box():
    crop = RandResizedCropd(size=8)
    crop.set_random_state(seed=0)
    for _ in range(20):
        assert crop({"image": noise((1, 5, 200))})["image"].shape == (1, 8, 8)
    assert crop({"image": noise((1, 1, 1))})["image"].shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("size", "shape", "shorter"), [(224, (300, 400), 256), (224, (517, 301), 256), (384, (300, 400), 384)]
)
def test_middle_of_the_image(size, shape, shorter):
    crop = ResizeCenterCropd(size=size)
    assert crop.shorter == shorter
    ramp = np.broadcast_to(np.linspace(0, 255, shape[1])[None, None], (1, *shape)).astype(np.uint8)
    result = crop({"image": ramp})["image"]
    assert result.shape == (1, size, size)
    assert abs(result.mean() - 127) < 2
    visible = size / (shorter * max(1, shape[1] / shape[0]))
    assert abs(np.ptp(result.astype(float)) - 255 * visible) < 5


def test_squash_and_interpolations():
    image = noise((1, 40, 25))
    assert Squashd(size=(7, 9))({"image": image})["image"].shape == (1, 7, 9)
    tiny = np.array([[[0, 100], [200, 40]]], np.uint8)
    assert resize_nearest(tiny, (4, 4))[0].tolist() == [[0, 0, 100, 100]] * 2 + [[200, 200, 40, 40]] * 2
    assert resize_nearest(noise((1, 5, 3)), (3, 3)).shape == (1, 3, 3)
    rows = resize_nearest(np.arange(5, dtype=np.uint8)[None, :, None], (3, 1))[0, :, 0]
    assert rows.tolist() == [0, 1, 3]
    assert np.array_equal(resize_linear(image, (40, 25)), image)
    assert np.array_equal(resize_smooth(image, (40, 25)), image)
    assert resize_linear(tiny, (4, 2))[0, :, 0].tolist() == [0, 50, 150, 200]


def test_erasing():
    image = torch.full((3, 50, 60), 7.0)
    erase = RandErased(prob=1.0)
    erase.set_random_state(seed=0)
    shares = []
    for _ in range(200):
        result = erase({"image": image})["image"]
        erased = (result != 7).all(0)
        rows, columns = torch.where(erased)
        height, width = (int(axis.max() - axis.min()) + 1 for axis in (rows, columns))
        assert erased.sum() == height * width
        assert 0.25 < height / width < 4
        shares.append(height * width / 3000)
    assert 0.015 < min(shares) < 0.05
    assert 0.28 < max(shares) < 0.35
    noise_values = result[:, erased]
    assert noise_values.std() == pytest.approx(1, abs=0.2)
    assert image.unique().tolist() == [7]
    never = RandErased(prob=0.0)
    assert never({"image": image})["image"] is image
    assert torch.equal(RandErased(prob=1.0)({"image": torch.ones(3, 1, 1)})["image"], torch.ones(3, 1, 1))
