import json
import logging

import numpy as np
import pytest
import SimpleITK as sitk

from custom_apps.common.errors import DataError
from custom_apps.seg.clicks import (
    Click,
    check_clicks,
    clickable_labels,
    clicks_as_read,
    parse_clicks,
    prepared_points,
    read_clicks,
    write_clicks,
)
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.preprocessing import preprocess_case
from custom_apps.seg.volume_io import read_images
from tests.seg.model_phantom import model

NAMES = {"Left_IAC": 1, "Right_IAC": 2}


def test_files_are_read_as_they_were_written(tmp_path):
    clicks = [Click(2, (1.0, 2.5, 3.0)), Click(1, (0.0, 0.0, 0.0))]
    write_clicks(clicks, NAMES, tmp_path / "a.json")
    assert read_clicks(tmp_path / "a.json", NAMES) == clicks
    assert json.loads((tmp_path / "a.json").read_text())["points"][0] == {"name": "Right_IAC", "point": [1.0, 2.5, 3.0]}
    assert parse_clicks({"points": []}, NAMES, "x") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "no list 'points'"),
        ({"points": {"name": "Left_IAC"}}, "no list 'points'"),
        ({"points": ["Left_IAC"]}, "click 1 names None"),
        (
            {"points": [{"name": "Left_IAC", "point": [1, 2, 3]}, {"name": "Nerve", "point": [1, 2, 3]}]},
            "click 2 names",
        ),
        ({"points": [{"name": "background", "point": [1, 2, 3]}]}, "'background' .expected one of Left_IAC, Right_IAC"),
        ({"points": [{"name": ["Left_IAC"], "point": [1, 2, 3]}]}, "click 1 names"),
        ({"points": [{"name": "Left_IAC"}]}, "click 1 has the point None"),
        ({"points": [{"name": "Left_IAC", "point": [1, 2]}]}, "three finite numbers"),
        ({"points": [{"name": "Left_IAC", "point": [1, 2, "3"]}]}, "three finite numbers"),
        ({"points": [{"name": "Left_IAC", "point": [1, 2, True]}]}, "three finite numbers"),
        ({"points": [{"name": "Left_IAC", "point": [1, float("nan"), 3]}]}, "three finite numbers"),
        ({"points": [{"name": "Left_IAC", "point": [1, float("inf"), 3]}]}, "three finite numbers"),
    ],
)
def test_unusable_content_is_named(tmp_path, content, message):
    path = tmp_path / "case_clicks.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as error:
        read_clicks(path, NAMES)
    assert "case_clicks.json" in str(error.value)


def test_unusable_files_are_named(tmp_path):
    (tmp_path / "a.json").write_text('{"points": [')
    with pytest.raises(DataError, match=r"a.json: is not JSON"):
        read_clicks(tmp_path / "a.json", NAMES)
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"b.json: is not JSON"):
        read_clicks(tmp_path / "b.json", NAMES)
    with pytest.raises(DataError, match=r"c.json: cannot be read"):
        read_clicks(tmp_path / "c.json", NAMES)


def test_clicks_outside_the_image_are_refused():
    check_clicks([Click(1, (0, 0, 0)), Click(1, (4, 5.4, 6))], (5, 6, 7), "a.json", 10)
    for point in [(-1, 0, 0), (5, 0, 0), (0, 0, 6.6)]:
        with pytest.raises(DataError, match=r"a.json: click 1 at .* outside the image .expected .* 0..4 and 0..5 and"):
            check_clicks([Click(1, point)], (5, 6, 7), "a.json", 10)


def test_more_clicks_than_trained_for_are_logged(caplog):
    with caplog.at_level(logging.WARNING):
        check_clicks([Click(1, (0, 0, 0))] * 3 + [Click(2, (0, 0, 0))] * 2, (5, 6, 7), "a.json", 2)
    assert [record.getMessage() for record in caplog.records] == [
        "a.json: 3 clicks of label 1, the network was trained with at most 2"
    ]


def test_labels_that_can_be_clicked():
    assert clickable_labels(LabelManager({"background": 0, "b": 2, "a": 1, "ignore": 3})) == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="regions"):
        clickable_labels(LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2]))


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.0), (1.0, 1.7, 0.6)])
@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_a_clicked_voxel_is_found_in_the_prepared_image(spacing, transpose):
    """A bright block stays under the click through transposing, cropping and resampling."""
    random = np.random.default_rng(0)
    phantom = model(spacing=spacing, transpose=transpose)
    for _ in range(8):
        shape = random.integers(18, 26, 3)
        low, high = random.integers(1, 5, 3), shape - random.integers(1, 5, 3)
        image = np.zeros((1, *shape), np.float32)
        image[(0, *(slice(a, b) for a, b in zip(low, high, strict=True)))] = 10
        click = np.array([random.integers(a + 2, b - 2) for a, b in zip(low, high, strict=True)])
        image[(0, *(slice(c - 1, c + 2) for c in click))] = 900
        properties = {"spacing": [1.5, 1.0, 1.0]}
        prepared, _, done = preprocess_case(image, None, properties, phantom.plans, phantom.configuration)
        points, inside = prepared_points(click[None], done, phantom.plans.transpose_forward)
        assert inside.all()
        assert prepared[(0, *points[0])] > 0.6 * prepared.max()
        # Back by the inverse of the same mapping: within half a voxel of the coarser grid.
        old, new = (np.array(done[f"shape_after_{k}"]) for k in ("cropping_and_before_resampling", "resampling"))
        back = (points[0] + 0.5) * old / new - 0.5 + np.array(done["bbox_used_for_cropping"])[:, 0]
        back = back[np.argsort(transpose)]
        ratio = (old / new)[np.argsort(transpose)]
        assert (np.abs(back - click) <= 0.5 * np.maximum(ratio, 1) + 1e-9).all()


def test_clicks_in_the_zeros_around_the_image_have_no_voxel():
    done = {
        "bbox_used_for_cropping": [[2, 8], [0, 5], [1, 4]],
        "shape_after_cropping_and_before_resampling": [6, 5, 3],
        "shape_after_resampling": [12, 5, 2],
    }
    points, inside = prepared_points(np.array([[2, 0, 1], [7, 4, 3], [1, 0, 1], [3, 2, 4]]), done, (0, 1, 2))
    assert inside.tolist() == [True, True, False, False]
    assert points[:2].tolist() == [[1, 0, 0], [11, 4, 1]]
    assert prepared_points(np.zeros((0, 3)), done, (0, 1, 2))[0].shape == (0, 3)


@pytest.mark.parametrize("direction", [(-1, 0, 0, 0, 0, 1, 0, 1, 0), (0, 0, -1, 1, 0, 0, 0, -1, 0)])
def test_clicks_follow_a_reader_that_turns_images(tmp_path, direction):
    array = np.zeros((5, 7, 9), np.float32)
    array[1, 5, 3] = 700
    image = sitk.GetImageFromArray(array)
    image.SetDirection(direction)
    sitk.WriteImage(image, str(tmp_path / "a_0000.nii.gz"))
    for reader in (None, "NibabelIOWithReorient"):
        read, properties = read_images([tmp_path / "a_0000.nii.gz"], reader)
        turned = clicks_as_read([Click(1, (1.0, 5.0, 3.0))], properties, read.shape[1:])
        assert read[(0, *map(int, turned[0].point))] == 700
