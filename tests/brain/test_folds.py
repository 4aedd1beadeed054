import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from custom_apps.brain.folds import folds


def records(count=53, examinations=1, positive=0.3, seed=0):
    random = np.random.default_rng(seed)
    labels = random.uniform(size=count) < positive
    return [
        {"case": f"P{n:03d}-{e}", "patient": f"P{n:03d}", "label": int(label)}
        for n, label in enumerate(labels)
        for e in range(1 + (n % examinations))
    ]


def cases(part):
    return {record["case"] for record in part}


def persons(part):
    return {record["patient"] for record in part}


@pytest.mark.parametrize("k", [2, 3, 5])
def test_every_record_is_tested_once_and_persons_stay_together(k):
    everything = records(examinations=3)
    result = folds(everything, k)
    assert sorted(case for fold in result for case in cases(fold.test)) == sorted(cases(everything))
    for fold in result:
        assert cases(fold.train) | cases(fold.validation) | cases(fold.test) == cases(everything)
        parts = [persons(part) for part in (fold.train, fold.validation, fold.test)]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts))


def test_classes_are_spread_evenly():
    everything = records(100, positive=0.3)
    share = np.mean([record["label"] for record in everything])
    for fold in folds(everything, 5):
        for part in (fold.train, fold.validation, fold.test):
            assert abs(np.mean([record["label"] for record in part]) - share) < 0.12


def test_part_for_validation():
    for fold in folds(records(100), 5, validation=0.2):
        assert len(fold.validation) == pytest.approx(16, abs=2)
    assert all(not fold.validation for fold in folds(records(), validation=0))


def test_seed_decides():
    def tests(seed):
        return [sorted(cases(fold.test)) for fold in folds(records(), 4, seed)]

    assert tests(1) == tests(1)
    assert tests(1) != tests(2)


def test_published_folds_are_those_of_scikit_learn():
    everything = records()
    labels = [record["label"] for record in everything]
    splitter = StratifiedKFold(n_splits=5, shuffle=True, random_state=42)
    expected = [test for _, test in splitter.split(np.zeros(len(labels)), labels)]
    result = folds(everything, published=True)
    assert [[everything[i]["case"] for i in test] for test in expected] == [
        [record["case"] for record in fold.test] for fold in result
    ]
    assert not any(fold.validation for fold in result)


def test_few_records_of_a_class():
    few = [{"case": str(n), "patient": str(n), "label": int(n < 3)} for n in range(20)]
    result = folds(few, 3)
    assert all({record["label"] for record in fold.validation} == {0, 1} for fold in result)
    with pytest.raises(ValueError, match="3 persons of the rarer class"):
        folds(few, 5)
    with pytest.raises(ValueError, match="same label"):
        folds([record | {"label": 0} for record in few], 2)
    with pytest.raises(ValueError, match="at least two folds"):
        folds(few, 1)
