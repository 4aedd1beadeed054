import numpy as np
import pytest
import torch

from custom_apps.seg.windows import gaussian_importance, padding_to, window_starts, windows


@pytest.mark.parametrize(
    ("size", "patch", "ratio", "expected"),
    [
        (10, 10, 0.5, [0]),
        (11, 10, 0.5, [0, 1]),
        (20, 10, 0.5, [0, 5, 10]),
        (21, 10, 0.5, [0, 4, 7, 11]),
        (20, 10, 1.0, [0, 10]),
        (7, 3, 1.0, [0, 2, 4]),
    ],
)
def test_starts_are_equally_spaced_and_reach_both_ends(size, patch, ratio, expected):
    assert window_starts([size], [patch], ratio) == [expected]


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.9])
def test_every_voxel_is_covered_and_no_step_is_longer_than_asked(ratio):
    for size in range(8, 60):
        starts = window_starts([size], [8], ratio)[0]
        covered = np.zeros(size, bool)
        for start in starts:
            covered[start : start + 8] = True
        assert covered.all()
        assert starts[-1] + 8 == size
        assert max(np.diff(starts), default=0) <= 8 * ratio + 1


@pytest.mark.parametrize(
    ("size", "patch", "ratio"), [([7], [8], 0.5), ([8, 8], [8], 0.5), ([8], [8], 0), ([8], [8], 1.5)]
)
def test_impossible_windows_are_refused(size, patch, ratio):
    with pytest.raises(ValueError, match=r"windows of|step_ratio"):
        window_starts(size, patch, ratio)


def test_windows_come_with_the_first_axis_slowest():
    corners = [tuple(part.start for part in window) for window in windows([[0, 2], [0, 3, 6]], [4, 5])]
    assert corners == [(0, 0), (0, 3), (0, 6), (2, 0), (2, 3), (2, 6)]


def test_importance_peaks_in_the_middle_and_is_never_zero():
    importance = gaussian_importance([5, 64, 9])
    assert importance.dtype == torch.float32
    assert importance[2, 32, 4] == importance.max() == 10
    assert (importance > 0).all()
    half = gaussian_importance([5, 64, 9], dtype=torch.float16)
    assert half.dtype == torch.float16
    assert (half > 0).all(), "weights that vanish in half precision would leave voxels without a mean"


def test_padding_puts_the_odd_voxel_behind():
    assert padding_to([5, 8, 12], [8, 8, 8]) == [(1, 2), (0, 0), (0, 0)]
