import json

import numpy as np
import pytest

from custom_apps.common.errors import DataError
from custom_apps.seg.label_maps import LABEL_MAPS, LabelMap, open_label_map
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.toothfairy3 import CHALLENGE_IDS, COMPONENT_VOXELS, NAMES

CLASSES = {
    "full": 77,
    "no_canals": 72,
    "task1": 46,
    "no_pulp": 45,
    "no_sides": 27,
    "teeth_pulp": 33,
    "jaw_canal": 7,
    "task2": 2,
    "iac_lower_jaw": 3,
    "iac_jaw_incisive": 5,
    "challenge": 46,
}


def test_source_ids_are_those_of_the_data_set():
    assert len(NAMES) == 77
    assert NAMES[11] == "Upper Right Central Incisor"
    assert NAMES[38] == "Lower Left Third Molar (Wisdom Tooth)"
    assert NAMES[143] == "Lower Right Canine Pulp"
    assert set(COMPONENT_VOXELS) == set(CHALLENGE_IDS.values()) - {1, 10, 50, 53}


@pytest.mark.parametrize(("name", "classes"), CLASSES.items())
def test_every_source_id_is_covered_once(name, classes):
    label_map = open_label_map(f"toothfairy3_{name}")
    table = label_map.table
    assert set(table) == {0, *NAMES}
    assert len(set(table.values())) == classes + 1
    if name != "challenge":
        assert LabelManager(label_map.labels).all_labels == list(range(classes + 1))


def test_all_named_maps_are_listed():
    assert set(LABEL_MAPS) == {f"toothfairy3_{name}" for name in CLASSES}


def test_task1_is_the_published_mapping_and_its_way_back():
    label_map = open_label_map("toothfairy3_task1")
    published = {i: i for i in range(1, 19)}
    for first_source, first in ((21, 19), (31, 27), (41, 35)):
        published |= {first_source + i: first + i for i in range(8)}
    published |= {103: 43, 104: 44, 105: 45} | {100 + 10 * q + i: 46 for q in range(1, 5) for i in range(1, 9)}
    assert {source: label for source, label in label_map.table.items() if source} == published
    # Back: every label returns to its source, but the pulps and small canals to the ids of a submission.
    for source, label in published.items():
        assert label_map.output_ids.get(label, label) == CHALLENGE_IDS[source]
    assert label_map.output_ids[46] == 50
    assert label_map.output_ids[43] == 51


def test_challenge_ids_are_what_task1_gives_back():
    ids = np.array(list(NAMES))
    challenge = open_label_map("toothfairy3_challenge").apply(ids, "a")
    task1 = open_label_map("toothfairy3_task1")
    back = [task1.output_ids.get(label, label) for label in task1.apply(ids, "a").tolist()]
    assert challenge.tolist() == back


def test_full_map_is_invertible_and_others_merge():
    labels = open_label_map("toothfairy3_full").table
    assert len(set(labels.values())) == len(labels)
    no_sides = open_label_map("toothfairy3_no_sides").table
    assert no_sides[3] == no_sides[4]
    assert no_sides[11] == no_sides[21] != no_sides[31] == no_sides[41]
    assert open_label_map("toothfairy3_task2").labels == {"background": 0, "Left_IAC": 1, "Right_IAC": 2}


def test_mistaken_ids_are_corrected_in_their_case_only():
    label_map = open_label_map("toothfairy3_full")
    array = np.array([[0, 60], [160, 38]], np.int16)
    corrected = label_map.apply(array, "a.nii.gz", "ToothFairy3S_0048")
    assert corrected[0, 1] == corrected[1, 1] == label_map.table[38]
    assert corrected[1, 0] == label_map.table[138]
    assert corrected.dtype == np.int16
    with pytest.raises(DataError, match=r"other\.nii\.gz: has the ids \[60, 160\], which are not mapped .*0-18, 21-28"):
        label_map.apply(array, "other.nii.gz", "other")


def test_user_defined_map(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"labels": {"canal": [3, 4], "jaw": 1}, "background": [7], "output_ids": {"1": 3}}))
    label_map = open_label_map(path)
    assert label_map.labels == {"background": 0, "canal": 1, "jaw": 2}
    assert label_map.output_ids == {1: 3}
    assert label_map.apply(np.array([0, 1, 3, 4, 7]), "a").tolist() == [0, 2, 1, 1, 0]
    with pytest.raises(DataError, match=r"b: has the ids \[2\]"):
        label_map.apply(np.array([2]), "b")
    path.write_text(json.dumps({"labels": {"canal": [3]}, "background": "rest"}))
    assert open_label_map(path).apply(np.array([0, 200, 3]), "a").tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"labels": {"a": [1], "b": [1]}}', r"source ids \[1\] have two targets"),
        ('{"labels": {"a": [1]}, "background": [1]}', r"source ids \[1\] have two targets"),
        ('{"labels": {"a": []}}', "'a' has no source id"),
        ('{"labels": {"a": [0]}}', "source id 0 has a target"),
        ('{"labels": {"a": [1.5]}}', "whole numbers"),
        ('{"labels": {}}', "whole numbers"),
        ('{"labels": [1]}', "is no label map"),
        ("[]", "is no label map"),
        ("{", "is no label map"),
    ],
)
def test_broken_maps_are_refused(tmp_path, content, message):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(DataError, match=f"broken.json.*{message}"):
        open_label_map(path)


def test_unknown_maps_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"toothfairy: is no label map .*toothfairy3_task1"):
        open_label_map("toothfairy")
    with pytest.raises(DataError, match=r"missing\.json: is no label map"):
        open_label_map(tmp_path / "missing.json")


def test_record_names_what_inference_needs():
    record = LabelMap("m", {"a": (5, 6)}, output_ids={1: 5}).record()
    assert json.loads(json.dumps(record)) == {"name": "m", "sources": {"a": [5, 6]}, "output_ids": {"1": 5}}
