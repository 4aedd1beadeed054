import math

import numpy as np
import pytest

from custom_apps.seg.patch_geometry import (
    allowed_start,
    choose_centre,
    cut_patch,
    initial_patch_size,
    is_forced,
    spatial_range,
)


@pytest.mark.parametrize(
    ("patch", "degrees", "dummy"),
    [
        ((128, 128, 128), (30, 30, 30), False),
        ((40, 224, 192), (180, 0, 0), True),
        ((16, 48, 48), (30, 30, 30), False),
        ((15, 48, 48), (180, 0, 0), True),
        ((320, 320), (180,), False),
        ((384, 640), (15,), False),
        ((300, 200), (180,), False),
    ],
)
def test_allowed_rotation(patch, degrees, dummy):
    allowed = spatial_range(patch)
    assert allowed.rotation == pytest.approx([math.radians(angle) for angle in degrees])
    assert allowed.dummy_2d is dummy


@pytest.mark.parametrize(
    ("patch", "initial"),
    [
        # 128 (cos 30° + sin 30°) / 0.85 = 205.7, the known value for nnU-Net's cubic patch.
        ((128, 128, 128), (205, 205, 205)),
        ((40, 56, 40), (73, 80, 73)),
        # A quarter turn exchanges the edges; the slice axis of a dummy-2D patch keeps its size.
        ((40, 224, 192), (40, 263, 263)),
        ((320, 320), (376, 376)),
    ],
)
def test_initial_patch_size(patch, initial):
    assert initial_patch_size(patch) == initial


@pytest.mark.parametrize("image", [(19, 30, 5), (7, 8, 40)])
@pytest.mark.parametrize(("initial", "final"), [((11, 12, 9), (8, 8, 8)), ((8, 8, 8), (8, 8, 8))])
def test_allowed_start_covers_the_grown_image(image, initial, final):
    first, last = allowed_start(image, initial, final)
    for axis in range(3):
        margin = max(initial[axis] - final[axis], initial[axis] - image[axis])
        assert first[axis] == -(margin // 2)
        assert last[axis] + initial[axis] == image[axis] + margin - margin // 2
        assert last[axis] >= first[axis]


@pytest.mark.parametrize(
    ("batch", "forced"), [(1, []), (2, [1]), (3, [2]), (7, [5, 6]), (12, [8, 9, 10, 11]), (13, [9, 10, 11, 12])]
)
def test_the_last_third_of_a_batch_is_forced(batch, forced):
    assert [place for place in range(batch) if is_forced(place, batch, 0.33)] == forced


def test_classes_are_chosen_uniformly_however_large_they_are():
    locations = {
        1: np.array([[0, 1, 1, 1]]),
        (2, 3): np.repeat([[0, 5, 5, 5]], 1000, 0),
        4: np.zeros((0, 4), dtype=int),
        (-1, 0, 1, 2, 3): np.array([[0, 9, 9, 9]]),
    }
    random = np.random.RandomState(0)
    forced = [tuple(choose_centre(locations, True, random)) for _ in range(400)]
    assert set(forced) == {(1, 1, 1), (5, 5, 5)}
    assert 150 < forced.count((1, 1, 1)) < 250
    # Without force a place is chosen only because of the ignore label, among all that is annotated.
    assert tuple(choose_centre(locations, False, random)) == (9, 9, 9)
    assert choose_centre({1: locations[1]}, False, random) is None
    assert choose_centre({4: locations[4]}, True, random) is None


@pytest.mark.parametrize("start", [(-2, -3, 4), (3, 2, 0), (0, 0, 0), (-20, 0, 0), (30, 0, 0)])
def test_cut_patch_fills_what_lies_outside(start):
    array = np.arange(2 * 5 * 6 * 7, dtype=np.float32).reshape(2, 5, 6, 7)
    padded = np.pad(array, [(0, 0)] + [(40, 40)] * 3, constant_values=-1)
    size = (4, 8, 5)
    expected = padded[(slice(None), *(slice(40 + s, 40 + s + n) for s, n in zip(start, size, strict=True)))]
    patch = cut_patch(array, start, size, -1)
    np.testing.assert_array_equal(patch, expected)
    patch[...] = 0
    assert array[1, 1, 1, 1] != 0, "a patch must not share memory with the image"
