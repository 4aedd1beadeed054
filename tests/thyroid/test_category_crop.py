import numpy as np
import pytest

from custom_apps.thyroid.category_crop import PadToSized, RandCategoryCropd
from custom_apps.thyroid.rescale import RescaleToFitd, SquareImaged, fitted_size


def mask_with_spot(height=200, width=240, edge=20):
    mask = np.zeros((1, height, width), np.uint8)
    mask[:, 30 : 30 + edge, 40 : 40 + edge] = 1
    return mask


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [
        ((337, 412), (1096, 768), (768, 939)),
        ((412, 337), (1096, 768), (939, 768)),
        ((100, 400), (1096, 768), (274, 1096)),
        ((771, 1463), (1096, 768), (578, 1096)),
    ],
)
def test_fitted_size(size, limits, expected):
    assert fitted_size(size, limits) == expected


def test_random_scale_is_one_for_image_and_mask():
    rescale = RescaleToFitd(limits=(120, 100), ratio=(0.5, 2.0))
    rescale.set_random_state(seed=0)
    factors = []
    for _ in range(200):
        result = rescale({"image": mask_with_spot() * 200, "label": mask_with_spot()})
        assert result["image"].shape == result["label"].shape
        assert set(np.unique(result["label"])) <= {0, 1}
        factors.append(result["image"].shape[2] / 120)
    assert 0.49 < min(factors) < 0.6
    assert 1.9 < max(factors) <= 2.0


def test_crops_that_hold_one_class_alone_are_drawn_again():
    crop, first = RandCategoryCropd(size=64, limit=0.95), RandCategoryCropd(size=64, limit=1.0)
    mask = mask_with_spot()
    hits = []
    for one in (crop, first):
        one.set_random_state(seed=0)
        results = [one({"image": mask * 9, "label": mask}) for _ in range(200)]
        assert all(result["image"].shape == (1, 64, 64) for result in results)
        assert all(np.array_equal(result["image"], result["label"] * 9) for result in results)
        hits.append(np.mean([result["label"].any() for result in results]))
    assert hits[0] > 2 * hits[1]
    assert hits[0] < 1


def test_limit_counts_pixels_that_are_not_ignored():
    crop = RandCategoryCropd(size=10, limit=0.75)
    crop.set_random_state(seed=0)
    mask = np.full((1, 10, 40), 255, np.uint8)
    mask[:, :, 20:25], mask[:, :, 25:30] = 0, 1
    shares = [(crop({"image": mask, "label": mask})["label"] == 1).sum() for _ in range(60)]
    assert np.mean([0 < share < 100 for share in shares]) > 0.8


def test_images_smaller_than_the_box_are_kept_whole_and_filled_up():
    mask = mask_with_spot(30, 300, 5)
    mask[:, 3:8, ::12] = 1
    data = {"image": mask.astype(np.float32) + 2, "label": mask}
    result = PadToSized(size=64)(RandCategoryCropd(size=64)(data))
    assert result["image"].shape == result["label"].shape == (1, 64, 64)
    assert not result["image"][:, 30:].any()
    assert (result["label"][:, 30:] == 255).all()
    assert (result["label"][:, :30] < 2).all()


def test_square_images():
    data = {"image": mask_with_spot() * 100, "label": mask_with_spot()}
    squashed = SquareImaged(size=64, label_size=32)(data)
    assert squashed["image"].shape == (1, 64, 64)
    assert np.array_equal(squashed["image"][:, ::2, ::2], squashed["label"] * 100)
    fitted = SquareImaged(size=64, label_size=32, keep_aspect=True, interpolation="linear")(data)
    assert not fitted["image"][:, 54:].any()
    assert (fitted["label"][:, 27:] == 255).all()
    assert (fitted["label"][:, :27] < 2).all()
    assert SquareImaged(size=64, label_size=None)(data)["label"] is data["label"]
    with pytest.raises(ValueError, match="interpolation"):
        SquareImaged(interpolation="cubic")
