from custom_apps.common.gathering import each_once, gather_rows


def test_one_process_keeps_its_rows():
    rows = [{"case": "b"}, {"case": "a"}]
    assert gather_rows(rows) == rows
    assert gather_rows(rows) is not rows


def test_each_case_counts_once_in_order():
    rows = [{"case": "b", "x": 1}, {"case": "a", "x": 2}, {"case": "b", "x": 3}]
    assert each_once(rows) == [{"case": "a", "x": 2}, {"case": "b", "x": 1}]
    assert each_once(rows, key="x") == [rows[0], rows[1], rows[2]]
