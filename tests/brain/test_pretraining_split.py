import pytest

from custom_apps.brain.pretraining_split import pretraining_split


def records(patients: int) -> list[dict]:
    return [
        {"case": f"p{number:02d}-{visit}", "patient": f"p{number:02d}"}
        for number in range(patients)
        for visit in range(1 + number % 2)
    ]


def test_patients_are_on_one_side_only():
    everything = records(23)
    split = pretraining_split(everything, 0.2, seed=4)
    sides = [{record["patient"] for record in side} for side in (split.train, split.held_out)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 5
    assert len(split.train) + len(split.held_out) == len(everything)
    assert pretraining_split(everything[::-1], 0.2, seed=4).held_out == split.held_out[::-1]
    assert pretraining_split(everything, 0.2, seed=5).held_out != split.held_out


def test_published_split_trains_on_all_and_watches_some():
    split = pretraining_split(records(23), 0.0)
    assert len(split.train) == len(records(23))
    assert 0 < len(split.held_out) < 4
    assert all(record in split.train for record in split.held_out)


def test_shares_and_patients_that_do_not_fit():
    with pytest.raises(ValueError, match="held_out_share"):
        pretraining_split(records(3), 1.0)
    with pytest.raises(ValueError, match="too few"):
        pretraining_split(records(1), 0.1)
