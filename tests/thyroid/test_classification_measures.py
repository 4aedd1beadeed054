import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from custom_apps.thyroid.classification_measures import micro_f1, sigmoid_auroc, top1_accuracy, weighted_f1


@pytest.fixture
def cases():
    random = np.random.default_rng(3)
    return random.integers(0, 2, 40), random.normal(size=(40, 2))


def test_against_scikit_learn(cases):
    labels, logits = cases
    called = logits.argmax(1)
    assert top1_accuracy(labels, logits) == pytest.approx(accuracy_score(labels, called))
    assert micro_f1(labels, logits) == pytest.approx(f1_score(labels, called, average="micro"))
    assert weighted_f1(labels, logits) == pytest.approx(f1_score(labels, called, average="weighted"))
    assert sigmoid_auroc(labels, logits) == pytest.approx(roc_auc_score(labels, logits[:, 1]))


def test_sigmoid_ranks_otherwise_than_soft_max():
    labels, logits = np.array([0, 1]), np.array([[5.0, 2.0], [0.0, 1.0]])
    assert sigmoid_auroc(labels, logits) == 0.0
    assert roc_auc_score(labels, logits[:, 1] - logits[:, 0]) == 1.0
