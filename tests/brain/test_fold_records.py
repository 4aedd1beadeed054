import pytest

from custom_apps.brain.fold_records import out_of_fold_records
from custom_apps.brain.folds import folds


def test_every_case_comes_once_with_the_fold_that_holds_it_out():
    records = [{"case": f"c{i:02d}", "patient": f"p{i // 2}", "label": i // 2 % 2} for i in range(24)]
    split = folds(records, 3, 1, 0.25)
    found = out_of_fold_records(split)
    assert sorted(record["case"] for record in found) == [record["case"] for record in records]
    assert [record["fold"] for record in found] == sorted(record["fold"] for record in found)
    for record in found:
        fold = split[record["fold"]]
        seen = {other["patient"] for other in fold.train + fold.validation}
        assert record["patient"] not in seen
    assert {record["fold"] for record in out_of_fold_records(split, [2])} == {2}
    with pytest.raises(ValueError, match="0 to 2"):
        out_of_fold_records(split, [3])
