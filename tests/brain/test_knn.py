import csv
import json

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from custom_apps.brain.knn import NeighborVotes, knn_scores, neighbor_votes
from custom_apps.brain.knn_evaluation import FeatureInferer, NeighborTable
from custom_networks.nets.vim_classifier import VimClassifier


def features(cases: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(cases) % 2)
    return random.normal(size=(cases, 7)) + shift * labels[:, None], labels


@pytest.mark.parametrize("neighbors", [1, 4, 5])
def test_votes_are_those_of_scikit_learn(neighbors):
    (known, labels), (new, _) = features(40, 0.7), features(17, 0.7, 1)
    theirs = KNeighborsClassifier(neighbors).fit(known, labels)
    ours = neighbor_votes(known, labels, new, neighbors)
    np.testing.assert_array_equal(ours.predicted, theirs.predict(new))
    np.testing.assert_allclose(ours.fraction, theirs.predict_proba(new)[:, 1])


def test_scores_of_decisions_and_of_fractions():
    votes = NeighborVotes(np.array([0, 0, 1, 1]), np.array([0.2, 0.4, 0.6, 1.0]))
    scores = knn_scores(votes, [0, 1, 0, 1])
    assert scores == {"knn_acc": 0.5, "knn_auc": 0.5, "knn_f1": 0.5, "knn_auc_fraction": 0.75}


def test_too_few_cases_and_unknown_labels_are_refused():
    known, labels = features(4, 0.0)
    with pytest.raises(ValueError, match="5 neighbors among 4"):
        neighbor_votes(known, labels, known)
    with pytest.raises(ValueError, match="0 or 1"):
        neighbor_votes(known, labels - 1, known, 2)


def table(shift: float) -> NeighborTable:
    values, labels = features(36, shift)
    return NeighborTable(
        [
            {"case": f"case{i:02d}", "fold": i % 3, "label": int(label), "features": value}
            for i, (value, label) in enumerate(zip(values, labels, strict=True))
        ]
    )


def test_neighbors_of_a_case_are_in_other_folds():
    values, labels = features(36, 0.0)
    # Every case has a twin of its own label in its own fold, which must not vote.
    rows = [
        {"case": f"{i}{twin}", "fold": i % 3, "label": int(labels[i]), "features": values[i]}
        for i in range(36)
        for twin in "ab"
    ]
    scores = NeighborTable(rows, neighbors=1).scores["mean over folds"]
    assert scores["knn_acc"] < 0.75
    assert table(3.0).scores["mean over folds"]["knn_acc"] > 0.9


def test_report(tmp_path):
    text = table(1.0).write(tmp_path, resamples=200)
    assert "n = 36" in text
    content = json.loads((tmp_path / "knn.json").read_text())
    assert content["all cases"]["auroc"]["low"] <= content["all cases"]["auroc"]["value"]
    assert set(content["published"]) == {"fold 0", "fold 1", "fold 2", "mean over folds"}
    with open(tmp_path / "knn.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 36
    stored = np.load(tmp_path / "features.npz", allow_pickle=False)
    assert stored["features"].shape == (36, 7)
    assert (tmp_path / "figures" / "features.png").stat().st_size > 5000


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_features_of_a_classifier(pooling):
    torch.manual_seed(0)
    network = VimClassifier(2, 4, (8, 8, 12), 4, 12, 2, pooling=pooling).eval()
    image = torch.randn(3, 4, 8, 8, 12)
    with torch.no_grad():
        found = FeatureInferer()(image, network)
        torch.testing.assert_close(found, network.tokens(image).mean(1))
