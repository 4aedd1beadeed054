import csv

import pytest

from custom_apps.common.spreadsheet_cell import plain_cell, safe_cell
from custom_apps.common.table import read_csv, write_csv

FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@x", "=HYPERLINK(A1)"]
PLAIN = ["case_001", "a=b", "", "-", "-1.5", "+3e-4", "-inf", "1-2", "'quoted'", "'", "it's", "''", "'-1.5"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_text_and_comes_back(text):
    assert safe_cell(text) == f"'{text}"
    assert plain_cell(safe_cell(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_comes_back_too(text):
    assert plain_cell(safe_cell(text)) == text
    if not text.startswith("'-"):
        assert safe_cell(text) == text


def test_numbers_stay_numbers():
    for value in (-1, -0.5, None, True):
        assert safe_cell(value) is value


def test_tables_are_written_safely(tmp_path):
    write_csv([{"case": "=1+1", "loss": -0.5}], tmp_path / "cases.csv")
    with open(tmp_path / "cases.csv", newline="", encoding="utf-8") as file:
        assert list(csv.reader(file))[1] == ["'=1+1", "-0.5"]
    assert read_csv(tmp_path / "cases.csv") == [{"case": "=1+1", "loss": "-0.5"}]
