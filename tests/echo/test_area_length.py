import math

import numpy as np
import pytest

from custom_apps.echo.area_length import ejection_fraction_percent, measure_ventricle


def ellipse(half_length: float, half_width: float, angle_degrees: float = 0.0, size: int = 161) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    angle = math.radians(angle_degrees)
    along, across = y * math.cos(angle) + x * math.sin(angle), x * math.cos(angle) - y * math.sin(angle)
    return (along / half_length) ** 2 + (across / half_width) ** 2 <= 1


@pytest.mark.parametrize("angle_degrees", [0, 17, 45, 90, 130])
def test_an_ellipsoid(angle_degrees):
    found = measure_ventricle(ellipse(60, 30, angle_degrees))
    assert found.area == pytest.approx(math.pi * 60 * 30, rel=0.01)
    assert found.long_axis == pytest.approx(120, rel=0.02)
    volume = 4 / 3 * math.pi * 60 * 30 * 30
    assert found.volume("area_length") == pytest.approx(volume, rel=0.03)
    assert found.volume("disks") == pytest.approx(volume, rel=0.03)


def test_a_rectangle_by_hand():
    mask = np.zeros((30, 20), bool)
    mask[4:24, 6:11] = True
    found = measure_ventricle(mask, pixel_size=0.5)
    assert (found.area, found.long_axis) == (25.0, pytest.approx(10.0))
    assert found.widths == pytest.approx([2.5] * 20)
    assert found.volume() == pytest.approx(8 * 25**2 / (3 * math.pi * 10))
    assert found.volume("disks") == pytest.approx(math.pi / 4 * 2.5**2 * 10)


def test_widths_add_up_to_the_area():
    random = np.random.default_rng(0)
    mask = ellipse(20, 9, 33, size=60) | (random.random((60, 60)) < 0.01)
    found = measure_ventricle(mask, disks=7)
    assert sum(found.widths) * found.long_axis / 7 == pytest.approx(found.area)


def test_ejection_fraction_does_not_depend_on_the_pixel_size():
    big, small = ellipse(50, 25), ellipse(42, 17)
    fractions = [
        ejection_fraction_percent(*(measure_ventricle(mask, size).volume() for mask in (big, small)))
        for size in (1, 0.04)
    ]
    assert fractions[0] == pytest.approx(fractions[1])
    assert fractions[0] == pytest.approx(100 * (1 - 42 * 17**2 / (50 * 25**2)), abs=2)


def test_small_masks():
    nothing = measure_ventricle(np.zeros((5, 5), bool))
    assert (nothing.area, nothing.long_axis, nothing.volume(), nothing.volume("disks")) == (0, 0, 0, 0)
    pixel = np.zeros((5, 5), bool)
    pixel[2, 3] = True
    assert measure_ventricle(pixel).area == 1
    assert 1 <= measure_ventricle(pixel).long_axis <= math.sqrt(2)
    assert math.isnan(ejection_fraction_percent(0, 0))


def test_unknown_method():
    with pytest.raises(ValueError, match="area_length"):
        measure_ventricle(np.ones((2, 2))).volume("biplane")
