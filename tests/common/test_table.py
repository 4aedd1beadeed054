import csv

import pytest

from custom_apps.common.table import markdown_table, text_table, write_csv

ROWS = [["liver", 20, 0.91234, float("nan")], ["left|kidney", 3, 12.5, None]]
HEADERS = ["label", "n", "dice", "hd95"]


def test_text_is_aligned():
    lines = text_table(ROWS, HEADERS).split("\n")
    assert lines == [
        "label         n    dice  hd95",
        "-----------  --  ------  ----",
        "liver        20   0.912     -",
        "left|kidney   3  12.500     -",
    ]


def test_markdown_is_aligned_and_escaped():
    lines = markdown_table(ROWS, HEADERS, digits=1).split("\n")
    assert lines == [
        "| label        |   n | dice | hd95 |",
        "| ------------ | --: | ---: | ---: |",
        "| liver        |  20 |  0.9 |    - |",
        "| left\\|kidney |   3 | 12.5 |    - |",
    ]


def test_an_empty_table_has_its_headers():
    assert text_table([], ["a", "long name"]).split("\n") == ["a  long name", "-  ---------"]
    assert markdown_table([], ["a"]).count("\n") == 1


def test_rows_must_fit():
    with pytest.raises(ValueError, match="4 columns, but a row has 2 cells"):
        text_table([["liver", 1]], HEADERS)


def test_csv_keeps_every_digit_and_leaves_gaps(tmp_path):
    write_csv([{"case": "a,b", "dice": 0.1 + 0.2}, {"case": "c", "dice": float("nan"), "extra": 1}], tmp_path / "t.csv")
    with open(tmp_path / "t.csv", newline="") as file:
        assert list(csv.reader(file)) == [["case", "dice"], ["a,b", "0.30000000000000004"], ["c", ""]]
    write_csv([], tmp_path / "e.csv", ["case"])
    assert (tmp_path / "e.csv").read_text() == "case\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.csv", "t.csv"]


def test_names_that_steer_a_terminal_or_break_a_line_are_spelled_out():
    name = "case\x1b[2J\n1 \u202e é"
    for table in (text_table([[name]], ["file"]), markdown_table([[name]], ["file"])):
        assert "case\\x1b[2J\\n1 \\u202e é" in table
