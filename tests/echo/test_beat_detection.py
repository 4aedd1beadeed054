import math

import numpy as np
import pytest

from custom_apps.echo.beat_detection import Beat, ejection_fraction_of_beats, find_beats, find_systoles


def heart(frames: int, beat_frames: float = 40, phase: float = 0.0) -> np.ndarray:
    """Area that is largest at phase 0 and smallest half a beat later."""
    return 1000 + 300 * np.cos(2 * np.pi * (np.arange(frames) / beat_frames + phase))


def test_systoles_are_the_minima():
    assert find_systoles(heart(130)) == [20, 60, 100]
    noisy = heart(130) + np.random.default_rng(0).normal(0, 25, 130)
    assert find_systoles(noisy) == pytest.approx([20, 60, 100], abs=5)


def test_ends_of_the_video_are_no_systole():
    assert find_systoles(heart(81, phase=0.5)) == [40]


def test_shallow_minima_do_not_count():
    area = heart(160)
    area[np.arange(160) % 40 < 8] -= 100
    # Dips in diastole of a third of the range.
    assert find_systoles(area) == [20, 60, 100, 140]


def test_an_outlier_does_not_hide_the_beats():
    area = heart(200)
    area[[3, 50, 90, 91]] = 6000
    # With the whole range instead of the trimmed one no minimum would be deep enough.
    assert find_systoles(area) == [20, 60, 100, 140, 180]


def test_beats_closer_than_the_shortest_are_one():
    assert len(find_systoles(heart(120, beat_frames=15))) < 120 // 15
    assert len(find_systoles(heart(120, beat_frames=15), shortest_beat_frames=8)) == 8


@pytest.mark.parametrize("area", [[], [1.0], [5.0] * 50, np.zeros(10), [1, 2]])
def test_no_beat(area):
    assert find_systoles(np.asarray(area)) == []
    assert find_beats(np.asarray(area)) == []
    assert math.isnan(ejection_fraction_of_beats(np.asarray(area), []))


def test_diastoles_come_before_their_systoles():
    assert find_beats(heart(130, phase=-0.1)) == [Beat(4, 24), Beat(44, 64), Beat(84, 104)]


def test_a_video_that_begins_while_the_ventricle_empties():
    # The first beat lacks its diastole.
    assert find_beats(heart(110, phase=0.25)) == [Beat(30, 50), Beat(70, 90)]
    # With one systole only, the later filling has to do.
    assert find_beats(heart(45, phase=0.25)) == [Beat(30, 10)]
    # Nearly full is full enough.
    assert find_beats(heart(100, phase=0.06))[0] == Beat(0, 18)


def test_ejection_fraction_is_the_mean_over_beats():
    volume = np.array([100.0, 40, 80, 20])
    assert ejection_fraction_of_beats(volume, [Beat(0, 1), Beat(2, 3)]) == pytest.approx((60 + 75) / 2)
