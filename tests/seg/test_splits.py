import json

import numpy as np
import pytest
from sklearn.model_selection import KFold

from custom_apps.common.errors import DataError
from custom_apps.seg.splits import make_splits, random_split, read_splits, select_fold

CASES = [f"case_{number:02d}" for number in range(13)]


def test_the_same_folds_everywhere():
    splits = make_splits(reversed(CASES))
    expected = KFold(5, shuffle=True, random_state=12345).split(CASES)
    assert [split["val"] for split in splits] == [[CASES[i] for i in val] for _, val in expected]
    assert sorted(name for split in splits for name in split["val"]) == CASES
    assert all(sorted(split["train"] + split["val"]) == CASES for split in splits)


def test_random_split_is_seeded_by_the_fold():
    split = random_split(CASES, 7)
    chosen = np.random.RandomState(12345 + 7).choice(13, 10, replace=False)
    assert split["train"] == sorted(CASES[i] for i in chosen)
    assert sorted(split["train"] + split["val"]) == CASES
    assert split == random_split(CASES, 7) != random_split(CASES, 8)


def test_selecting():
    splits = make_splits(CASES)
    assert select_fold(splits, CASES, 1) == select_fold(splits, CASES, "1") == tuple(splits[1].values())
    assert select_fold(splits, CASES, "all") == (CASES, CASES)
    assert select_fold(splits, CASES, 5) == tuple(random_split(CASES, 5).values())
    assert select_fold([], CASES, 0) == tuple(random_split(CASES, 0).values())
    for bad in (-1, "some", 1.5, True, None):
        with pytest.raises(ValueError, match="expected a number >= 0 or 'all'"):
            select_fold(splits, CASES, bad)


def test_too_few_cases():
    with pytest.raises(ValueError, match="at least 5"):
        make_splits(CASES[:4])
    with pytest.raises(ValueError, match="at least 2"):
        random_split(CASES[:1], 0)


def test_own_split_file(tmp_path):
    path = tmp_path / "splits_final.json"
    split = {"train": CASES[:3], "val": CASES[3:], "unlabeled": ["x"]}
    path.write_text(json.dumps([split]))
    assert read_splits(path, CASES) == [split]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("{}", "not a list of splits"),
        ('[{"train": []}]', "no list 'val'"),
        ('[{"train": ["nobody"], "val": []}]', "unknown case 'nobody' in 'train'"),
    ],
)
def test_broken_split_files(tmp_path, content, message):
    path = tmp_path / "splits_final.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_splits(path, CASES)
