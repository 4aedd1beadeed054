import numpy as np
import pytest
import torch

from custom_apps.seg.augmentation_intensity import RandChannelContrastd
from custom_apps.seg.augmentation_strong import (
    STRENGTHS,
    RandChannelMediand,
    RandChannelSharpend,
    StrongIntensityTransforms,
    UnlabeledTransforms,
)


def patch(size, seed=0, channels=1):
    generator = torch.Generator().manual_seed(seed)
    label = torch.zeros(1, *size, dtype=torch.int16)
    label[:, 0] = -1
    return {"image": torch.randn(channels, *size, generator=generator), "label": label, "case": "a"}


@pytest.mark.parametrize("size", [(12, 20, 16), (24, 30)])
def test_the_weak_view_is_what_the_spatial_transforms_leave(size):
    transform = UnlabeledTransforms(size)
    # Compose seeds each step in turn, so that the others draw the same without the strong one.
    others = [step for step in transform.transforms if not isinstance(step, StrongIntensityTransforms)]
    item, changed = patch(transform.initial_patch_size), 0
    original = item["image"].clone()
    for seed in range(8):
        transform.set_random_state(seed=seed)
        views = transform(item)
        assert set(views) == {"image", "weak"}
        assert type(views["weak"]) is torch.Tensor
        assert views["image"].shape == views["weak"].shape == (1, *size)
        transform.set_random_state(seed=seed)
        alone = {**item}
        for step in others:
            alone = step(alone)
        assert torch.equal(views["weak"], alone["weak"]), "strong transforms do not reach the weak view"
        assert torch.equal(alone["image"], alone["weak"])
        changed += not torch.equal(views["image"], views["weak"])
    assert changed >= 6
    assert torch.equal(item["image"], original)


def test_one_seed_gives_one_pair_of_views():
    transform = UnlabeledTransforms((12, 20, 16), "mild")
    item = patch(transform.initial_patch_size)
    found = []
    for seed in (1, 1, 2):
        transform.set_random_state(seed=seed)
        found.append(transform(item)["image"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_masked_channels_stay_zero_outside_in_both_views():
    size = (12, 16, 16)
    transform = UnlabeledTransforms(size, mirror_axes=[], masked_channels=[1])
    # Without rotation and scaling, label -1 covers the first slices.
    transform.transforms[0].rotation_prob = transform.transforms[0].scaling_prob = 0
    item = patch(transform.initial_patch_size, channels=2)
    item["label"][:, : item["label"].shape[1] // 2] = -1
    transform.set_random_state(seed=0)
    views = transform(item)
    outside = slice(0, size[0] // 2)
    for view in views.values():
        assert not view[1, outside].any()
        assert view[0, outside].any()


def test_probabilities_of_the_published_table_and_of_its_milder_form():
    strong, mild = STRENGTHS["strong"], STRENGTHS["mild"]
    assert (strong.low_resolution, strong.boxes, strong.inverted_gamma) == (0.7, 0.7, 0.2)
    assert all(value < vars(strong)[name] for name, value in vars(mild).items())
    with pytest.raises(ValueError, match="strength must be one of"):
        StrongIntensityTransforms((8, 8), "brutal")


def test_boxes_are_blank_and_of_the_given_size():
    transform = StrongIntensityTransforms((30, 30, 30))
    boxes = next(step for step in transform.transforms if "CoarseDropout" in type(step).__name__)
    boxes.set_random_state(seed=0)
    shares = []
    for _ in range(40):
        blank = boxes({"image": torch.ones(1, 30, 30, 30)})["image"] == 0
        shares.append(float(blank.float().mean()))
    assert np.mean([share > 0 for share in shares]) == pytest.approx(0.7, abs=0.2)
    assert max(shares) <= 4 / 27
    assert min(share for share in shares if share) >= 1 / 1000


def test_median_removes_a_spike_and_sharpening_steepens_an_edge():
    spike = torch.zeros(1, 9, 9, 9)
    spike[0, 4, 4, 4] = 1
    median = RandChannelMediand(["image"], prob=1.0, edge=(3, 3))
    assert not median({"image": spike})["image"].any()
    edge = torch.zeros(1, 8, 8)
    edge[..., 4:] = 1
    sharp = RandChannelSharpend(["image"], prob=1.0, strength=(0.5, 0.5))({"image": edge})["image"]
    np.testing.assert_allclose(sharp[0, 3, 2:6], [0.0, -0.5, 1.5, 1.0])


def test_contrast_without_the_old_range():
    image = torch.randn(1, 10, 10)
    options = {"prob": 1.0, "factor": (1.5, 1.5), "keys": ["image"]}
    kept, free = (RandChannelContrastd(keep_range=keep, **options) for keep in (True, False))
    for transform in (kept, free):
        # The draw above 1 is forced, as that below 1 narrows the range.
        transform.below_or_above = lambda low, high: high
    assert kept({"image": image})["image"].max() == image.max()
    assert free({"image": image})["image"].max() > image.max()
