import math

import numpy as np
import pytest
import torch

from custom_apps.seg import augmentation_spatial
from custom_apps.seg.augmentation_spatial import RandRotateScaleCropd


def transform(patch_size, matrix, **options):
    """The transform with a fixed matrix instead of a drawn one."""
    made = RandRotateScaleCropd(("image", "label"), patch_size, **options)
    made.randomize = lambda data=None: matrix
    return made


def rotation(degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


def sample(size, channels=1, seed=0):
    random = np.random.RandomState(seed)
    image = torch.from_numpy(random.normal(size=(channels, *size)).astype(np.float32))
    label = torch.from_numpy(random.randint(-1, 4, size=(1, *size)).astype(np.int16))
    return {"image": image, "label": label}


@pytest.mark.parametrize(("size", "patch"), [((9, 11, 13), (5, 7, 9)), ((11, 12), (5, 8)), ((6, 6, 6), (6, 6, 6))])
def test_nothing_drawn_is_the_exact_centre(size, patch):
    item = sample(size, 2)
    result = transform(patch, None)(item)
    box = tuple(slice((n - p) // 2, (n - p) // 2 + p) for n, p in zip(size, patch, strict=True))
    assert torch.equal(result["image"], item["image"][(slice(None), *box)])
    assert torch.equal(result["label"], item["label"][(slice(None), *box)])


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize(("size", "patch"), [((9, 11, 13), (5, 7, 9)), ((11, 13), (5, 7))])
def test_the_identity_matrix_resamples_to_the_centre(interpolation, size, patch):
    item = sample(size, 2)
    axes = len(size)
    resampled = transform(patch, np.eye(axes), interpolation=interpolation)(item)
    cut = transform(patch, None)(item)
    torch.testing.assert_close(resampled["image"], cut["image"], atol=2e-5, rtol=0)
    assert torch.equal(resampled["label"], cut["label"])
    assert resampled["label"].dtype == torch.int16


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_quarter_turn_is_exact(interpolation):
    item = sample((7, 7))
    result = transform((7, 7), rotation(90), interpolation=interpolation)(item)
    # The matrix leads from output to input: output (i, j) shows input (-j, i) about the centre.
    torch.testing.assert_close(result["image"][0], item["image"][0].rot90(-1), atol=2e-5, rtol=0)
    assert torch.equal(result["label"][0], item["label"][0].rot90(-1))


def test_axes_of_different_length_keep_their_geometry():
    # A line along the diagonal of an elongated image stays at 45 degrees when it is turned by 45 degrees to an axis.
    size = (41, 81)
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in size), indexing="ij")
    line = (torch.abs(y - x) < 1.5).float()[None]
    result = transform((21, 21), rotation(45))({"image": line, "label": line.to(torch.int16)})
    on_axis = result["image"][0, :, 10]
    assert on_axis.min() > 0.9
    assert result["image"][0, :, :6].max() < 0.1


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_factor_above_one_shows_more_and_fills_the_border(interpolation):
    item = {"image": torch.ones(1, 16, 16, 16), "label": torch.ones(1, 16, 16, 16, dtype=torch.int16)}
    result = transform((16, 16, 16), np.eye(3) * 1.4, interpolation=interpolation)(item)
    assert result["image"][0, 0, 8, 8] == 0
    assert result["image"][0, 8, 8, 8] == pytest.approx(1, abs=1e-5)
    assert result["label"][0, 0, 8, 8] == -1
    assert result["label"][0, 8, 8, 8] == 1


def test_labels_are_never_averaged():
    label = torch.zeros(1, 20, 20, dtype=torch.int16)
    label[0, 5:15, 5:15] = 7
    result = transform((14, 14), rotation(33))({"image": label.float(), "label": label})
    assert set(result["label"].unique().tolist()) == {0, 7}
    inside = result["image"][0] / 7 > 0.5
    assert torch.equal(result["label"][0] == 7, inside)


def test_many_labels_in_a_large_patch_are_taken_in_turns(monkeypatch):
    item = sample((12, 13, 14))
    matrix = np.eye(3) * 1.2
    together = transform((8, 8, 8), matrix)(item)["label"]
    monkeypatch.setattr(augmentation_spatial, "LARGEST_STACK", 1)
    assert torch.equal(transform((8, 8, 8), matrix)(item)["label"], together)


def test_thin_patches_turn_every_slice_alike():
    item = sample((3, 20, 20), 2)
    flat = RandRotateScaleCropd(("image", "label"), (3, 12, 12))
    assert flat.range.dummy_2d
    flat.randomize = lambda data=None: rotation(20)
    result = flat(item)
    alone = transform((12, 12), rotation(20))({key: value[:, 1] for key, value in item.items()})
    torch.testing.assert_close(result["image"][:, 1], alone["image"])
    assert torch.equal(result["label"][:, 1], alone["label"])


def test_draws():
    made = RandRotateScaleCropd(("image", "label"), (40, 56, 40)).set_random_state(0)
    matrices = [made.randomize() for _ in range(2000)]
    drawn = [m for m in matrices if m is not None]
    assert 0.33 < len(drawn) / 2000 < 0.39  # 1 - 0.8²
    factors = np.array([np.cbrt(np.linalg.det(m)) for m in drawn])
    scaled = factors[np.abs(factors - 1) > 1e-9]
    assert 0.49 < len(scaled) / len(drawn) < 0.62  # 0.2 / 0.36
    assert 0.7 <= scaled.min() < 0.72
    assert 1.38 < scaled.max() <= 1.4
    # The middle axis turns farthest: its cosine is at least cos² 30° - sin³ 30°.
    turned = [m / f for m, f in zip(drawn, factors, strict=True)]
    assert max(math.degrees(math.acos(np.clip(m[i, i], -1, 1))) for m in turned for i in range(3)) < 52
    with pytest.raises(ValueError, match="interpolation"):
        RandRotateScaleCropd(("image",), (8, 8), interpolation="nearest")
