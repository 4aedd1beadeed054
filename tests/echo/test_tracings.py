import numpy as np
import pytest

from custom_apps.echo.tracings import crosses_itself, fill_polygon, long_axis_length, lv_area, lv_mask, outline

BULLET = np.array(
    [[10, 2, 10, 18], [8, 4, 12, 4], [6, 8, 14, 8], [5.4, 12, 14.6, 12], [5.6, 16, 14.2, 16]], dtype=np.float32
)


def test_outline_goes_down_one_side_and_up_the_other():
    assert outline(BULLET)[0].tolist() == [8, 4]
    assert outline(BULLET)[3].tolist() == pytest.approx([5.6, 16])
    assert outline(BULLET)[4].tolist() == pytest.approx([14.2, 16])
    assert outline(BULLET)[-1].tolist() == [12, 4]


def test_filled_triangle_includes_its_border():
    mask = fill_polygon(np.array([[1, 1], [5, 1], [1, 5]]), (7, 8))
    assert mask.tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]


def slow_mask(corners, size):
    """Turns of the outline about each pixel, summed up; pixels on an edge belong to the mask."""
    height, width = size
    mask = np.zeros(size, np.uint8)
    for y in range(height):
        for x in range(width):
            relative = corners - [x, y]
            following = np.roll(relative, -1, axis=0)
            cross = relative[:, 0] * following[:, 1] - relative[:, 1] * following[:, 0]
            dot = (relative * following).sum(1)
            on_edge = ((cross == 0) & (dot <= 0)).any()
            turns = np.arctan2(cross, dot).sum() / (2 * np.pi)
            mask[y, x] = on_edge or abs(round(turns)) % 2 == 1
    return mask


@pytest.mark.parametrize("seed", range(20))
def test_pixels_are_those_that_the_outline_goes_round(seed):
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 12)))
    radii = random.uniform(3, 11, len(angles))
    corners = np.rint(np.stack([12 + radii * np.cos(angles), 9 + radii * np.sin(angles)], 1)).astype(np.int64)
    assert np.array_equal(fill_polygon(corners, (19, 23)), slow_mask(corners, (19, 23)))


def test_polygons_beyond_the_frame_are_clipped():
    mask = fill_polygon(np.array([[-5, -5], [3, -5], [3, 3], [-5, 3]]), (6, 7))
    assert mask[:4, :4].all()
    assert mask.sum() == 16
    assert not fill_polygon(np.array([[10, 10], [12, 10], [11, 14]]), (6, 7)).any()


def test_mask_area_is_about_that_of_the_outline():
    large = BULLET * 8
    mask = lv_mask(large, (150, 150))
    assert mask.dtype == np.uint8
    # The border belongs to the mask: half a pixel all around.
    assert lv_area(large) < mask.sum() < lv_area(large) * 1.08


def test_area_and_long_axis():
    rows = np.array([[0, 0, 3, 4], [0, 0, 10, 0], [0, 5, 10, 5]], dtype=np.float32)
    assert lv_area(rows) == 50
    assert long_axis_length(rows) == 5


def test_crossing_outlines_are_noticed():
    assert not crosses_itself(BULLET)
    swapped = BULLET.copy()
    swapped[2] = swapped[2][[2, 3, 0, 1]]
    assert crosses_itself(swapped)
    # Chords that repeat are no crossing.
    assert not crosses_itself(np.concatenate([BULLET, BULLET[-1:]]))
