import math

import numpy as np
import pytest

from custom_apps.thyroid.segmentation_metrics import (
    SegmentationTable,
    area_counts,
    image_row,
    image_scores,
    pooled_scores,
    published_image_scores,
)


def box(top, left, height, width, shape=(40, 50)):
    mask = np.zeros(shape, np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def test_counts_leave_ignored_pixels_out():
    label = box(5, 5, 10, 10)
    label[:8] = 255
    counts = area_counts(box(5, 5, 20, 10), label)
    assert counts.tolist() == [[1600 - 170, 1600 - 170, 1600 - 70], [70, 170, 70]]
    with pytest.raises(ValueError, match="shape"):
        area_counts(label, label[:3])
    with pytest.raises(ValueError, match="prediction holds"):
        area_counts(label + 3, np.zeros_like(label))


def test_pooled_is_of_all_pixels_and_per_image_is_a_mean():
    label = box(5, 5, 10, 10)
    large = box(0, 0, 30, 40)
    rows = [image_row("a", label, label), image_row("b", box(0, 0, 15, 40), large)]
    table = SegmentationTable([*rows, rows[0]])
    assert len(table.rows) == 2
    assert table.pooled()["iou"][1] == pytest.approx((100 + 600) / (100 + 1200))
    assert table.pooled()["dice"][1] == pytest.approx(2 * 700 / (1300 + 700))
    estimates = table.estimates(resamples=200)
    assert estimates["per_image"]["iou"].value == pytest.approx(0.75)
    assert estimates["pooled"]["iou"].value == pytest.approx(700 / 1300)
    assert estimates["pooled"]["iou"].low == pytest.approx(0.5)
    assert estimates["pooled"]["iou"].high == pytest.approx(1)
    assert estimates["pooled"]["overall_accuracy"].value == pytest.approx((2000 + 1400) / 4000)
    assert "published_per_image" not in estimates


def test_hausdorff_distance_is_between_outlines():
    scores = image_scores(box(10, 10, 20, 20), box(10, 13, 20, 20))
    assert scores["hd95_pixels"] == pytest.approx(3)
    # A hole moves the outline; distances from all pixels to the other mask do not see it.
    hollow = box(10, 10, 20, 20)
    hollow[18:22, 18:22] = 0
    assert image_scores(box(10, 10, 20, 20), hollow)["hd95_pixels"] > 5
    assert published_image_scores(hollow, box(10, 10, 20, 20))["hd95_pixels"] == 0


def test_published_score_of_misses():
    empty, label = np.zeros((40, 50), np.uint8), box(10, 20, 10, 10)
    scores = published_image_scores(empty, label)
    assert scores["iou"] == pytest.approx(1 / 101)
    assert scores["dice"] == pytest.approx(2 * (1 / 101) / (1 + 1 / 101))
    assert scores["hd95_pixels"] > 20
    assert math.isnan(published_image_scores(label, empty)["hd95_pixels"])
    perfect = published_image_scores(label, label)
    assert perfect == {"iou": 1.0, "dice": 1.0, "hd95_pixels": 0.0}


def test_empty_masks_are_counted_apart():
    empty, label = np.zeros((40, 50), np.uint8), box(10, 20, 10, 10)
    published = published_image_scores(label, label)
    pairs = {"missed": (empty, label), "alarm": (label, empty), "nothing": (empty, empty), "hit": (label, label)}
    table = SegmentationTable([image_row(name, *pair, published) for name, pair in pairs.items()])
    assert (table.missed, table.alarms) == (1, 1)
    estimates = table.estimates(resamples=100)
    assert estimates["per_image"]["dice"].cases == 3
    assert estimates["per_image"]["dice"].value == pytest.approx(1 / 3)
    assert estimates["per_image"]["hd95_pixels"].cases == 1
    assert estimates["published_per_image"]["iou"].value == 1
    assert pooled_scores(np.zeros((2, 2, 3)))["iou"].tolist() == pytest.approx([math.nan, math.nan], nan_ok=True)


def test_one_image_has_no_interval():
    table = SegmentationTable([image_row("a", box(1, 1, 4, 4), box(1, 1, 4, 8))])
    estimate = table.estimates()["pooled"]["iou"]
    assert estimate.value == pytest.approx(0.5)
    assert math.isnan(estimate.low)
