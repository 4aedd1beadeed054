import pytest

from custom_apps.seg.label_maps import open_label_map
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.left_right import left_right_pairs
from custom_apps.seg.published_labels import published_description
from custom_apps.seg.toothfairy3 import NAMES


@pytest.mark.parametrize(("task", "heads", "pairs"), [("toothfairy3_task1", 47, 19), ("toothfairy3_task2", 3, 1)])
def test_names_that_share_an_id_become_the_labels_of_the_task(task, heads, pairs):
    table = open_label_map(task).table
    shared = {"background": 0, **{name: table[id_] for id_, name in NAMES.items()}}
    with pytest.raises(ValueError, match="share an id"):
        LabelManager(shared)
    description, found = published_description({"labels": shared, "channel_names": {"0": "CBCT"}})
    labels = LabelManager.from_dataset_json(description)
    assert labels.num_segmentation_heads == heads
    assert len(left_right_pairs(labels, found)) == pairs
    assert description["label_map"]["name"] == task
    assert description["channel_names"] == {"0": "CBCT"}


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "liver": 1, "spleen": 2},
        {"background": 0, "all": [1, 2], "core": 2},
        {"background": 0, "Lower Jawbone": 2, "Upper Jawbone": 1},
        {"background": 0, "Lower Jawbone": 1, "Upper Jawbone": 2},
    ],
)
def test_other_descriptions_stay(labels):
    assert published_description({"labels": labels}) == ({"labels": labels}, None)
