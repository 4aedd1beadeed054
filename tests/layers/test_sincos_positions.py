"""Sine-cosine tables against the formula token by token, and tables moved to other grids."""

import math

import pytest
import torch

from custom_networks.layers.sincos_positions import resample_table, sincos_table


def encoded(index: int, width: int) -> list[float]:
    angles = [index * 10000 ** (-j / (width // 2)) for j in range(width // 2)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]


@pytest.mark.parametrize(("width", "parts"), [(40, (14, 14, 12)), (12, (4, 4, 4)), (170, (56, 56, 58))])
def test_three_unequal_axes(width, parts):
    grid = (2, 3, 4)
    table = sincos_table(grid, width)
    for token, (i, j, k) in enumerate((i, j, k) for i in range(2) for j in range(3) for k in range(4)):
        expected = encoded(j, parts[0]) + encoded(i, parts[1]) + encoded(k, parts[2])
        torch.testing.assert_close(table[0, token], torch.tensor(expected), rtol=0, atol=1e-6)


def test_two_axes_begin_with_the_column():
    table = sincos_table((3, 5), 8, prefix_tokens=1)
    assert table.shape == (1, 16, 8)
    assert not table[0, 0].any()
    torch.testing.assert_close(table[0, 1 + 2 * 5 + 3], torch.tensor(encoded(3, 4) + encoded(2, 4)), rtol=0, atol=1e-6)


def test_widths_that_cannot_be_divided_are_refused():
    for width in (7, 4, 9):
        with pytest.raises(ValueError, match="even width"):
            sincos_table((2, 2, 2), width)


def test_moving_a_table_keeps_linear_fields_and_class_rows():
    old, new = (4, 3, 2), (8, 6, 4)
    position = torch.stack(torch.meshgrid(*[(torch.arange(n) + 0.5) / n for n in old], indexing="ij"), -1)
    table = torch.cat([torch.full((1, 1, 3), 7.0), position.reshape(1, -1, 3)], dim=1)
    moved = resample_table(table, old, new)
    assert moved.shape == (1, 1 + 8 * 6 * 4, 3)
    assert (moved[0, 0] == 7).all()
    volume = moved[0, 1:].reshape(*new, 3)
    # Away from the border, where values are held constant, interpolation reproduces the field.
    for axis, n in enumerate(new):
        centre = (torch.arange(n) + 0.5) / n
        line = volume.movedim(axis, 0)[:, 2, 2, axis]
        torch.testing.assert_close(line[1:-1], centre[1:-1])
    assert resample_table(table, old, old) is table
    with pytest.raises(ValueError, match="does not go"):
        resample_table(table, (9, 9, 9), new)
