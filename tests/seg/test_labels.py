import numpy as np
import pytest
import torch

from custom_apps.common.errors import DataError
from custom_apps.seg.labels import LabelManager

REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def test_plain_labels():
    labels = LabelManager({"background": 0, "b": 2, "a": 1})
    assert labels.all_labels == [0, 1, 2]
    assert labels.foreground_labels == [1, 2]
    assert labels.names == ["background", "a", "b"]
    assert labels.num_segmentation_heads == 3
    assert not labels.has_regions
    assert labels.ignore_label is None


def test_ignore_label_has_no_head():
    labels = LabelManager({"background": 0, "a": 1, "ignore": 2})
    assert labels.ignore_label == 2
    assert labels.num_segmentation_heads == 2
    assert labels.all_labels == [0, 1]


def test_regions():
    labels = LabelManager(REGIONS, [1, 2, 3])
    assert labels.has_regions
    assert labels.foreground_regions == [(1, 2, 3), (2, 3), (3,)]
    assert labels.names == ["whole", "core", "enhancing"]
    assert labels.num_segmentation_heads == 3


def test_argmax_of_logits():
    labels = LabelManager({"background": 0, "a": 1, "b": 2})
    logits = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype(np.float32)
    result = labels.logits_to_segmentation(logits)
    assert result.dtype == np.int16
    np.testing.assert_array_equal(result, logits.argmax(0))
    assert torch.equal(labels.logits_to_segmentation(torch.from_numpy(logits)), torch.from_numpy(result))


def test_regions_are_painted_in_order():
    labels = LabelManager(REGIONS, [1, 2, 3])
    logits = np.array([[5, 5, 5, -5, 0.0], [-5, 5, 5, -5, 0.0], [-5, -5, 5, 5, 0.0]])
    np.testing.assert_array_equal(labels.logits_to_segmentation(logits), [1, 2, 3, 3, 0])


def test_probabilities():
    plain, regions = LabelManager({"background": 0, "a": 1, "b": 2}), LabelManager(REGIONS, [1, 2, 3])
    logits = torch.tensor([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]])
    assert torch.allclose(plain.logits_to_probabilities(logits), logits.softmax(0))
    assert torch.allclose(regions.logits_to_probabilities(logits), logits.sigmoid())
    with pytest.raises(ValueError, match="2 heads, expected 3"):
        plain.probabilities_to_segmentation(logits[:2])


@pytest.mark.parametrize(
    ("labels", "order", "message"),
    [
        ({"background": 0, "a": 2}, None, "consecutive"),
        ({"background": 1, "a": 0}, None, "'background' is 1"),
        ({"a": 1}, None, "'background' is None"),
        ({"background": 0}, None, "no foreground"),
        ({"background": 0, "ignore": 1, "a": 2}, None, "highest"),
        ({"background": 0, "a": 1, "b": 1}, None, "share an id"),
        ({"background": 0, "a": "1"}, None, "'a' is '1'"),
        ({"background": 0, "a": True}, None, "'a' is True"),
        ({"background": 0, "a": []}, None, "list of ids"),
        ({"background": 0, "a": [1, 2], "b": 2}, None, "regions_class_order"),
        ({"background": 0, "a": [1, 2], "b": 2}, [1], "regions_class_order"),
        ({"background": 0, "a": [1, 2], "b": 2}, [1, 7], "undeclared"),
    ],
)
def test_wrong_declarations_are_refused(labels, order, message):
    with pytest.raises(ValueError, match=message):
        LabelManager(labels, order)
    with pytest.raises(DataError, match=r"data/dataset\.json"):
        LabelManager.from_dataset_json({"labels": labels, "regions_class_order": order}, "data/dataset.json")


def test_labels_must_be_there():
    with pytest.raises(DataError, match="no map 'labels'"):
        LabelManager.from_dataset_json({})
