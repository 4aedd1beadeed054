from types import SimpleNamespace

import pytest
import torch

from custom_apps.seg.label_maps import open_label_map
from custom_apps.seg.label_options import class_weights_of, related_labels_of
from custom_apps.seg.labels import LabelManager
from custom_apps.seg.losses import DiceCrossEntropyLoss, loss_for
from custom_apps.seg.losses_soft_targets import (
    SoftTargetDiceCrossEntropyLoss,
    toothfairy3_class_weights,
    toothfairy3_relations,
)

CANALS = LabelManager({"background": 0, "canal": 1, "nerve": 2, "jaw": 3})
TASK1 = LabelManager(open_label_map("toothfairy3_task1").labels)


def prepared(labels):
    return SimpleNamespace(labels=labels, configuration=SimpleNamespace(batch_dice=True))


def test_values_by_name_id_or_list():
    assert class_weights_of(CANALS, {"canal": 10, 3: 2}) == [1, 10, 1, 2]
    assert class_weights_of(CANALS, [1, 2, 3, 4]) == [1, 2, 3, 4]
    assert related_labels_of(CANALS, {"canal": ["nerve", 3]}) == {1: [2, 3]}
    assert class_weights_of(CANALS, None) is None
    assert related_labels_of(CANALS, None) is None


def test_published_values_are_for_their_47_classes():
    assert class_weights_of(TASK1, "toothfairy3") == toothfairy3_class_weights()
    assert related_labels_of(TASK1, "toothfairy3") == toothfairy3_relations()
    by_name = {"Left Mandibular Incisive Canal": 10, "Right Mandibular Incisive Canal": 10, "Lingual Canal": 10}
    assert class_weights_of(TASK1, by_name) == toothfairy3_class_weights()
    for option, function in (("class_weights", class_weights_of), ("related_labels", related_labels_of)):
        with pytest.raises(ValueError, match=f"{option}: toothfairy3 is for the 47 classes.*this data set has 4"):
            function(CANALS, "toothfairy3")
        with pytest.raises(ValueError, match=f"{option} is 'tooth'"):
            function(CANALS, "tooth")


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 class_weights, expected one for each of 4"):
        class_weights_of(CANALS, [1, 2])
    with pytest.raises(ValueError, match="label 'tooth' is not declared"):
        class_weights_of(CANALS, {"tooth": 2})
    with pytest.raises(ValueError, match="label 7 is not declared"):
        related_labels_of(CANALS, {"canal": [7]})


def test_the_loss_takes_them():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 5, 6, 7), torch.randint(0, 4, (2, 1, 5, 6, 7))
    soft = loss_for(prepared(CANALS), 0.0, related_labels={"canal": ["nerve"]}, class_weights={"canal": 10})
    same = SoftTargetDiceCrossEntropyLoss(4, {1: [2]}, 0.1, [1, 10, 1, 1], True, 0.0)
    assert soft(logits, target) == same(logits, target)
    weighted = loss_for(prepared(CANALS), class_weights={"canal": 10})
    assert weighted(logits, target) == DiceCrossEntropyLoss(True, class_weights=[1, 10, 1, 1])(logits, target)
    assert soft(logits, target) != loss_for(prepared(CANALS), 0.0)(logits, target)


def test_soft_targets_need_plain_labels():
    regions = LabelManager({"background": 0, "all": [1, 2], "core": 2}, [1, 2])
    with pytest.raises(ValueError, match="without regions"):
        loss_for(prepared(regions), class_weights={"core": 2})
    ignored = LabelManager({"background": 0, "canal": 1, "ignore": 2})
    with pytest.raises(ValueError, match="without an ignore label"):
        loss_for(prepared(ignored), related_labels={"canal": [0]})
