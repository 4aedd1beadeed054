import pytest
import torch
from torch.nn import functional as F

from custom_apps.echo.losses import AnnotatedFramesLoss, EjectionFractionLoss, LesionLoss, annotated_frames


def test_tolerated_errors_are_free_and_others_keep_their_size():
    prediction, target = torch.tensor([[50.0], [52.0], [56.0]]), torch.tensor([[51.0], [50.0], [50.0]])
    assert EjectionFractionLoss("mse", tolerance=2)(prediction, target) == pytest.approx(36 / 3)
    assert EjectionFractionLoss("l1", tolerance=2)(prediction, target) == pytest.approx(6 / 3)
    assert EjectionFractionLoss("l1")(prediction, target) == pytest.approx(9 / 3)
    assert EjectionFractionLoss("smooth_l1", beta=4)(prediction, target) == pytest.approx((0.125 + 0.5 + 4) / 3)


def test_labels_serve_all_predictions_of_a_case():
    prediction = torch.tensor([[50.0, 54.0], [60.0, 60.0]])
    assert EjectionFractionLoss("l1")(prediction, torch.tensor([[52.0], [61.0]])) == pytest.approx((2 + 2 + 1 + 1) / 4)


def test_unknown_regression():
    with pytest.raises(ValueError, match="mse, l1, smooth_l1"):
        EjectionFractionLoss("huber")


def case(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 2, 5, 6, 7, generator=generator)
    label = torch.randint(0, 2, (3, 2, 6, 7), generator=generator)
    frames = torch.tensor([[0, 4], [4, 0], [2, 3]])
    return logits, {"label": label, "label_frame": frames}


def test_frames_are_picked_for_each_sample():
    logits, targets = case()
    picked = annotated_frames(logits, targets["label_frame"][:, 1])
    assert torch.equal(picked[1], logits[1, :, 0])
    assert torch.equal(picked[2], logits[2, :, 3])


def test_loss_of_annotated_frames_by_hand():
    logits, targets = case()
    expected = 0.0
    for i in range(2):
        picked = torch.stack([logits[b, :, targets["label_frame"][b, i]] for b in range(3)])
        label, foreground = targets["label"][:, i], picked.softmax(1)[:, 1]
        overlap = 2 * (foreground * label).sum((1, 2))
        dice = (overlap + 1e-5) / (foreground.sum((1, 2)) + label.sum((1, 2)) + 1e-5)
        expected += F.cross_entropy(picked, label) - dice.mean()
    assert AnnotatedFramesLoss()(logits, targets) == pytest.approx(float(expected), rel=1e-5)


def test_only_annotated_frames_learn():
    logits, targets = case()
    logits.requires_grad_()
    AnnotatedFramesLoss()(logits, targets).backward()
    learned = logits.grad.abs().sum((1, 3, 4)) > 0
    assert learned.nonzero().tolist() == [[0, 0], [0, 4], [1, 0], [1, 4], [2, 2], [2, 3]]


def test_perfect_segmentation_of_one_frame_has_loss_minus_one():
    _, targets = case()
    label = targets["label"][:, 0]
    logits = 100 * torch.stack([1 - label, label], 1).float()
    loss, dice = AnnotatedFramesLoss().of_frame(logits, label)
    assert loss == pytest.approx(-1, abs=1e-5)
    assert dice == pytest.approx(1, abs=1e-5)


def test_lesion_loss_weighs_classes_and_frames():
    video, frames = torch.tensor([[0.3], [-1.2]]), torch.randn(2, 4, 1, generator=torch.Generator().manual_seed(1))
    label = torch.tensor([[1.0], [0.0]])
    by_hand = (0.5 * F.softplus(-video[0]) + F.softplus(video[1])) / 2
    assert LesionLoss(positive_weight=0.5)(video, label) == pytest.approx(by_hand.item(), rel=1e-6)
    assert LesionLoss(positive_weight=0.5)((video, frames), label.flatten()) == pytest.approx(by_hand.item(), rel=1e-6)
    of_frames = (F.softplus(-frames[0]).mean() + F.softplus(frames[1]).mean()) / 2
    plain = F.binary_cross_entropy_with_logits(video, label)
    both = LesionLoss(positive_weight=None, frame_weight=0.25)((video, frames), label)
    assert both == pytest.approx((plain + 0.25 * of_frames).item(), rel=1e-6)
