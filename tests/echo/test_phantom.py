import numpy as np
import pytest

from custom_apps.common.errors import DataError
from custom_apps.echo.buv import buv_records
from custom_apps.echo.echonet import echonet_records
from custom_apps.echo.phantom import echo_case, spread_ef, write_echonet_phantom
from custom_apps.echo.phantom_buv import write_buv_phantom
from custom_apps.echo.phantom_ventricle import Beat, beating_ventricle
from custom_apps.echo.tracings import lv_area, lv_mask
from custom_apps.echo.video_file import read_video


def discs(rows):
    """Volume in cubic pixels by the method of discs: what a reader computes from the tracing alone."""
    axis, chords = rows[0].astype(float), rows[1:].astype(float)
    diameters = np.hypot(chords[:, 2] - chords[:, 0], chords[:, 3] - chords[:, 1])
    length = np.hypot(axis[2] - axis[0], axis[3] - axis[1])
    return np.pi / 4 * (diameters**2).mean() * length


def test_listed_ef_follows_from_the_tracings(echonet_phantom):
    records = echonet_records(echonet_phantom, "all", "segmentation")
    assert len(records) == 8
    for record in records:
        pair = record["tracings"]
        full, empty = discs(pair.end_diastole.rows), discs(pair.end_systole.rows)
        assert 100 * (full - empty) / full == pytest.approx(record["ef_percent"], abs=0.05)
        assert 100 * (1 - record["esv_ml"] / record["edv_ml"]) == pytest.approx(record["ef_percent"], abs=0.01)
        assert 40 < record["edv_ml"] < 260
        assert pair.end_diastole.rows.shape == (21, 4)
        assert lv_area(pair.end_systole.rows) < lv_area(pair.end_diastole.rows)
        # The area-length volume 8 A² / (3 π L) of such a shape is close to that of the discs.
        rows = pair.end_diastole.rows
        length = np.hypot(*(rows[0, 2:] - rows[0, :2]).astype(float))
        assert 8 * lv_area(rows) ** 2 / (3 * np.pi * length) == pytest.approx(full, rel=0.12)


def test_cavity_is_dark_inside_a_brighter_wall(echonet_phantom):
    for record in echonet_records(echonet_phantom, "all", "segmentation"):
        frames = read_video(record["image"], gray=True).frames
        for tracing in record["tracings"]:
            mask = lv_mask(tracing.rows, frames.shape[1:]).astype(bool)
            center = tracing.rows[:, [0, 2]].mean(), tracing.rows[:, [1, 3]].mean()
            larger = (tracing.rows.reshape(-1, 2) - center) * 1.25 + center
            ring = lv_mask(larger.reshape(-1, 4), frames.shape[1:]).astype(bool) & ~mask
            assert frames[tracing.frame][mask].mean() < 0.65 * frames[tracing.frame][ring].mean()


def test_gray_values_are_like_those_of_echocardiograms():
    videos = [echo_case(np.random.default_rng(seed), 55, 8, 50, 112)[1] for seed in range(6)]
    pixels = np.concatenate([video.ravel() for video in videos])
    # EchoNet-Dynamic: mean 33, standard deviation 50.
    assert 22 < pixels.mean() < 55
    assert 35 < pixels.std() < 65
    assert all((video[:, -1, :5] == 0).all() for video in videos)


def test_traced_frames_are_of_one_beat():
    for seed in range(10):
        ventricle = beating_ventricle(np.random.default_rng(seed), 55, 150, 50, 112)
        pair = ventricle.traced_pair()
        # The slowest heart takes 58 frames a beat; ejection is a third of it, filling the rest.
        assert abs(pair.end_diastole.frame - pair.end_systole.frame) <= 40
        assert ventricle.volume_ml(pair.end_systole.frame) <= 1.05 * min(map(ventricle.volume_ml, range(150)))


def test_the_ventricle_beats_and_speckle_moves():
    ventricle, video = echo_case(np.random.default_rng(1), 60, 60, 50, 64)
    volumes = [ventricle.volume_ml(frame) for frame in range(60)]
    assert max(volumes) / min(volumes) == pytest.approx(1 / (1 - 0.6), rel=0.05)
    neighbors = np.abs(np.diff(video.astype(float), axis=0)).mean()
    strangers = np.abs(video[:30].astype(float) - video[30:]).mean()
    assert 0 < neighbors < strangers


def test_wall_keeps_its_area_and_the_valve_its_timing():
    ventricle = beating_ventricle(np.random.default_rng(0), 50, 100, 50, 112)
    wall = (ventricle.outer_half_width**2 - ventricle.half_width**2) * ventricle.length
    assert np.allclose(wall, wall[0])
    beat = Beat()
    assert beat.filling(np.array([0, beat.systole, 1])).tolist() == pytest.approx([1, 0, 1])
    assert beat.valve_opening(np.linspace(0, beat.systole, 9)).max() == 0
    assert beat.valve_opening(np.array(beat.systole + 0.12)) == 1


def test_spread_covers_the_range():
    values = np.sort(spread_ef(np.random.default_rng(0), 11))
    assert (np.floor((values - 20) / 5) == np.arange(11)).all()


def test_same_seed_same_data_and_nothing_is_overwritten(tmp_path):
    options = {"cases": 2, "test_cases": 1, "frames": (5, 8), "size": 32}
    first = write_echonet_phantom(tmp_path / "a", seed=3, **options)
    second = write_echonet_phantom(tmp_path / "b", seed=3, **options)
    other = write_echonet_phantom(tmp_path / "c", seed=4, **options)
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(names) == 5
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    assert all((first / name).read_bytes() != (other / name).read_bytes() for name in names)
    assert [record["split"] for record in echonet_records(first, "all")] == ["TRAIN", "VAL", "TEST"]
    with pytest.raises(DataError, match="not overwritten"):
        write_echonet_phantom(tmp_path / "a", **options)
    with pytest.raises(ValueError, match="at least two"):
        write_echonet_phantom(tmp_path / "d", cases=1)


def test_breast_lesions(buv_phantom, tmp_path):
    records = buv_records(buv_phantom, "trainlist01.txt") + buv_records(buv_phantom, "testlist01.txt")
    assert [record["label"] for record in records] == [0, 1] * 3
    behind = []
    for record in records:
        frames = read_video(record["image"], gray=True).frames
        assert frames.shape[1:] == (224, 224)
        lesion = frames[0, 100:125, 90:135].mean()
        assert lesion < 0.8 * frames[0].mean()
        behind.append(frames[0, 160:200, 100:125].mean())
    # Malignant lesions cast shadows.
    assert max(behind[1::2]) < min(behind[::2])
    with pytest.raises(DataError, match="not overwritten"):
        write_buv_phantom(buv_phantom.parent)
