import logging

import pytest

from custom_apps.seg.case_pool import processes_for, run_cases


def half(number: int) -> float:
    if number == 3:
        raise ValueError("three")
    return number / 2


@pytest.mark.parametrize("processes", [1, 2])
def test_results_in_order_and_errors(processes, caplog):
    caplog.set_level(logging.INFO)
    assert run_cases(half, [(n,) for n in (8, 6, 4)], processes, "halving") == [4, 3, 2]
    assert "halving: 3 of 3 cases" in caplog.text
    with pytest.raises(ValueError, match="three"):
        run_cases(half, [(n,) for n in (1, 3, 5)], processes, "halving")
    assert run_cases(half, [], processes, "halving") == []


def test_small_data_sets_stay_in_this_process():
    assert processes_for(10**6, None) == 1
    assert processes_for(10**12, None) >= 1
    assert processes_for(10**6, 3) == 3
    with pytest.raises(ValueError, match="num_processes is 0"):
        processes_for(10**6, 0)
