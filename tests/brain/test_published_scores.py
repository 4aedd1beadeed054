import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score

from custom_apps.brain.published_scores import mean_over_folds, published_scores


@pytest.fixture
def cases() -> tuple[np.ndarray, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 2, (31,), generator=generator)
    return labels.numpy(), torch.randn(31, 2, generator=generator)


def test_scores_are_those_of_scikit_learn(cases):
    labels, logits = cases
    ours = published_scores(labels, logits)
    decided = logits.argmax(1).numpy()
    assert ours["acc1"] == pytest.approx(100 * (decided == labels).mean())
    assert ours["roc_auc_score"] == pytest.approx(roc_auc_score(labels, logits.softmax(1)[:, 1]))
    assert ours["f1_score"] == pytest.approx(f1_score(labels, decided))
    assert ours["sensitivity"] == pytest.approx(decided[labels == 1].mean())
    assert ours["specificity"] == pytest.approx(1 - decided[labels == 0].mean())


def test_loss_weighs_batches_alike(cases):
    labels, logits = cases
    each = torch.nn.functional.cross_entropy(logits.double(), torch.from_numpy(labels), reduction="none")
    expected = torch.stack([each[:10].mean(), each[10:20].mean(), each[20:30].mean(), each[30]]).mean()
    assert published_scores(labels, logits, 10)["loss"] == pytest.approx(float(expected))
    assert published_scores(labels, logits)["loss"] == pytest.approx(float(each.mean()))


def test_a_class_without_cases_gives_nan_and_no_error():
    scores = published_scores([0, 0, 0], torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    assert np.isnan(scores["roc_auc_score"])
    assert np.isnan(scores["sensitivity"])
    assert scores["specificity"] == pytest.approx(2 / 3)
    assert np.isnan(mean_over_folds([scores, published_scores([0, 1], torch.eye(2))])["roc_auc_score"])
