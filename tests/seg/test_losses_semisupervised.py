import math

import pytest
import torch

from custom_apps.seg.deep_supervision import DeepSupervisionLoss
from custom_apps.seg.losses_semisupervised import ConsistencyLoss, consistency_weight, pseudo_labels


def logits(seed):
    return torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def test_only_the_student_learns_from_consistency():
    student, teacher = logits(0), logits(1)
    loss = ConsistencyLoss()(student, teacher)
    loss.backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    assert float(ConsistencyLoss()(student, student + 3.0)) == pytest.approx(0, abs=1e-12)


def test_consistency_under_deep_supervision():
    pairs = [(logits(i), logits(i + 5)) for i in range(2)]
    students, teachers = zip(*pairs, strict=True)
    value = DeepSupervisionLoss(ConsistencyLoss(), [0.25, 0.75])(list(students), list(teachers))
    single = [float(ConsistencyLoss()(*pair)) for pair in pairs]
    assert float(value) == pytest.approx(0.25 * single[0] + 0.75 * single[1], abs=1e-7)


def test_ramp():
    assert consistency_weight(0, 100) == pytest.approx(50 * math.exp(-5))
    assert consistency_weight(50, 100) == pytest.approx(50 * math.exp(-5 / 4))
    assert consistency_weight(100, 100) == consistency_weight(900, 100) == 50
    assert consistency_weight(0, 0, maximum=7) == 7


def test_only_confident_labels_are_kept():
    sure = torch.tensor([[[0.05, 0.1], [0.15, 0.15], [0.8, 0.75]]]).log()
    unsure = torch.tensor([[[0.1, 0.9], [0.16, 0.05], [0.74, 0.05]]]).log()
    assert pseudo_labels(sure, 0.75 - 1e-6).tolist() == [[[2, 2]]]
    assert pseudo_labels(unsure).tolist() == [[[0, 0]]]
    assert not pseudo_labels(logits(0)).requires_grad
