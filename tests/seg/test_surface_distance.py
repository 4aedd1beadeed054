import math

import numpy as np
import pytest

from custom_apps.seg.surface_distance import surface_distances


def ball(radius_mm, spacing, shape, centre):
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return np.linalg.norm((grid - centre) * spacing, axis=-1) <= radius_mm


def test_the_area_of_a_ball_is_that_of_a_sphere():
    spacing = (1.0, 0.5, 0.5)
    mask = ball(8, spacing, (24, 44, 44), (12, 22, 22))
    area = surface_distances(mask, mask, spacing).reference_area.sum()
    assert 1 < area / (4 * math.pi * 8**2) < 1.12, "facets at 45 degrees are a little too large, faces would be 1.5"


def test_the_length_of_a_circle():
    mask = ball(20, (1.0, 1.0), (50, 50), (25, 25))
    length = surface_distances(mask, mask, (1, 1)).reference_area.sum()
    assert 1 < length / (2 * math.pi * 20) < 1.1, "chords at 45 degrees are a little too long, edges would be 1.27"


def test_a_mask_agrees_with_itself():
    mask = np.random.default_rng(0).random((6, 7, 5)) > 0.6
    distances = surface_distances(mask, mask, (2, 1, 1))
    assert distances.normalized_surface_dice(0) == 1
    assert distances.robust_hausdorff_mm(100) == 0
    assert distances.symmetric_average_mm() == 0


def test_a_shifted_slab_has_the_distance_of_its_shift():
    mask = np.zeros((12, 9, 9), bool)
    mask[3:6] = True
    distances = surface_distances(np.roll(mask, 2, 0), mask, (2.5, 1, 1))
    assert distances.robust_hausdorff_mm(100) == pytest.approx(5.0)
    assert distances.normalized_surface_dice(4.9) < 0.75
    assert distances.normalized_surface_dice(5.0) == 1


def test_swapping_the_masks_swaps_the_directions():
    random = np.random.default_rng(1)
    one, other = random.random((7, 6, 8)) > 0.7, random.random((7, 6, 8)) > 0.7
    forth, back = surface_distances(one, other, (3, 1, 1)), surface_distances(other, one, (3, 1, 1))
    assert forth.average_mm() == back.average_mm()[::-1]
    assert forth.overlaps(1.0) == back.overlaps(1.0)[::-1]
    assert forth.robust_hausdorff_mm(95) == back.robust_hausdorff_mm(95)


def test_the_place_of_the_mask_in_the_image_does_not_matter():
    random = np.random.default_rng(2)
    one, other = random.random((4, 5, 3)) > 0.5, random.random((4, 5, 3)) > 0.5
    padded = [np.pad(mask, ((2, 0), (0, 3), (5, 1))) for mask in (one, other)]
    assert np.array_equal(
        surface_distances(one, other, (1, 2, 3)).reference_mm, surface_distances(*padded, (1, 2, 3)).reference_mm
    )


def test_empty_masks():
    empty, full = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    nothing = surface_distances(empty, empty, (1, 1, 1))
    assert math.isnan(nothing.normalized_surface_dice(1))
    assert math.isnan(nothing.robust_hausdorff_mm())
    assert math.isnan(nothing.symmetric_average_mm())
    for pair in ((empty, full), (full, empty)):
        one_sided = surface_distances(*pair, (1, 1, 1))
        assert one_sided.normalized_surface_dice(1000) == 0
        assert one_sided.robust_hausdorff_mm() == math.inf
        assert one_sided.symmetric_average_mm() == math.inf


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="expected two masks"):
        surface_distances(np.zeros((2, 2), bool), np.zeros((2, 2), bool), (1, 1, 1))
    with pytest.raises(ValueError, match="expected two masks"):
        surface_distances(np.zeros((2, 2), bool), np.zeros((2, 3), bool), (1, 1))


@pytest.mark.parametrize(("axis", "spacing"), [(0, 0.5), (1, 0.4), (2, 0.3)])
def test_a_tolerance_below_a_voxel_separates_moved_faces_from_sliding_ones(axis, spacing):
    # A layer that crosses the whole image, moved by one voxel: its two faces are one voxel edge apart everywhere, and
    # no other surface lies between. Tolerances a little below and above the edge give the two extremes.
    mask = np.zeros((12, 14, 16), bool)
    layer = [slice(None)] * 3
    layer[axis] = slice(4, 9)
    mask[tuple(layer)] = True
    distances = surface_distances(np.roll(mask, 1, axis), mask, (0.5, 0.4, 0.3))
    faces = (
        2 * np.prod([n * s for n, s in zip(mask.shape, (0.5, 0.4, 0.3), strict=True)]) / (mask.shape[axis] * spacing)
    )
    total = distances.reference_area.sum()
    # The rim where the layer meets the border of the image slides along itself and stays within any tolerance.
    moved = 1 - distances.normalized_surface_dice(0.999 * spacing)
    assert distances.normalized_surface_dice(1.001 * spacing) == 1
    assert moved * total == pytest.approx(faces, rel=0.2)
    assert 0 < moved < 1
    assert distances.robust_hausdorff_mm(95) == pytest.approx(spacing)
