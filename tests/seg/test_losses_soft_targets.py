import pytest
import torch

from custom_apps.seg.losses import DiceCrossEntropyLoss
from custom_apps.seg.losses_soft_targets import (
    SoftTargetDiceCrossEntropyLoss,
    soft_target_matrix,
    toothfairy3_class_weights,
    toothfairy3_relations,
)


def batch(classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 4, 3, 5, generator=generator)
    return logits, torch.randint(0, classes, (2, 1, 4, 3, 5), generator=generator, dtype=torch.int16)


def test_rows_share_what_is_given_away():
    matrix = soft_target_matrix(5, {1: [2, 3], 4: [1], 2: []}, related_share=0.2)
    expected = torch.eye(5)
    expected[1] = torch.tensor([0, 0.8, 0.1, 0.1, 0])
    expected[4] = torch.tensor([0, 0.2, 0, 0, 0.8])
    torch.testing.assert_close(matrix, expected)


@pytest.mark.parametrize("related", [{1: [1]}, {1: [5]}, {7: [1]}, {1: [-1]}])
def test_wrong_relations(related):
    with pytest.raises(ValueError, match="related classes"):
        soft_target_matrix(5, related)


def test_published_relations():
    related = toothfairy3_relations()
    assert related[11] == [19, 12, 46]
    assert related[18] == [17, 46]
    assert related[35] == [27, 36, 46]
    assert 0 not in related
    assert 46 not in related
    matrix = soft_target_matrix(47, related)
    torch.testing.assert_close(matrix.sum(1), torch.ones(47))
    assert [k for k, w in enumerate(toothfairy3_class_weights()) if w == 10] == [43, 44, 45]


def test_without_relations_it_is_the_hard_loss():
    logits, target = batch()
    soft = SoftTargetDiceCrossEntropyLoss(4, {}, batch_dice=True, smooth=1e-5)(logits, target)
    assert float(soft) == pytest.approx(float(DiceCrossEntropyLoss(True)(logits, target)), abs=1e-5)


def test_keys_may_be_text_as_in_json_and_names_are_checked():
    logits, target = batch()
    text = SoftTargetDiceCrossEntropyLoss(4, {"1": [2]})(logits, target)
    assert text == SoftTargetDiceCrossEntropyLoss(4, {1: [2]})(logits, target)
    published = SoftTargetDiceCrossEntropyLoss(47, "toothfairy3", class_weights="toothfairy3")
    assert torch.isfinite(published(*batch(47)))
    with pytest.raises(ValueError, match="toothfairy3"):
        SoftTargetDiceCrossEntropyLoss(47, "toothfairy2")
    with pytest.raises(ValueError, match="3 class weights"):
        SoftTargetDiceCrossEntropyLoss(4, {}, class_weights=[1, 1, 1])
