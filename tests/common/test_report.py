"""Reports: everything in one file, whatever the cases are called."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from custom_apps.common.errors import DataError
from custom_apps.common.report import write_report
from custom_apps.common.report_command import report_folder
from custom_apps.common.report_files import picture_of, read_object, read_table, reported, worst_cases
from custom_apps.common.report_parts import (
    EVALUATION,
    PREDICTION,
    Case,
    Number,
    Picture,
    ReportParts,
    Section,
    Table,
    brief,
    estimate_number,
    limited,
)
from custom_apps.common.report_pictures import LONGEST_EDGE, inline
from custom_apps.common.report_run import Run, environment_line, limits_of, options_of
from custom_apps.common.room import Room
from custom_apps.common.worst_cases import WorstCase, write_worst_cases
from tests.common.report_page import HOSTILE, assert_fits, checked, needs_browser, screenshot, shown

BUNDLES = Path(__file__).parents[2] / "bundles"
BUNDLE = BUNDLES / "umamba_seg"
RUN = {
    "outcome": "completed",
    "command": ["/x/monai/bundle/__main__.py", "run", "--config_file", "['a/train.yaml', 'b/evaluate.yaml']"],
    "versions": {"python": "3.11", "torch": "2.13", "scipy": None},
    "git_commit": "abc",
    "machine": "Linux, 2 cores",
    "started": "2026-11-21T10:00:00+00:00",
    "ended": "2026-11-21T10:01:00+00:00",
    "seconds": 60.2,
}


def picture(path: Path, size=(300, 200), seed=0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def parts_of(folder: Path, name: str = "case_1") -> ReportParts:
    """A report with a name in every place that a name can have."""
    wide, small = picture(folder / "wide.png", (1400, 300)), picture(folder / "small.png")
    table = Table([name, "Dice"], [[name, 0.25], ["other", float("nan")]], f"Table of {name}", f"Note on {name}")
    many = Table([f"column {n}" for n in range(20)], [[f"{name}{n}" for n in range(20)]] * 3)
    case = Case(name, f"Dice of {name}", [Picture(small, f"Caption of {name}", f"Alt of {name}")])
    sections = [
        Section(f"Worst, {name}", [f"Text on {name}"], [case, case], [table, many]),
        Section("Wide", pictures=[Picture(wide, "A wide figure", "Wide")], wide=True),
        Section("Empty"),
    ]
    number = Number(f"Dice of {name}", "0.250", "95 % interval 0.1 to 0.4", f"2 cases of {name}")
    return ReportParts(EVALUATION, f"Segmentation {name}", [number], f"Note {name}", sections, {name: name})


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    (folder / "run.json").write_text(json.dumps(RUN))
    return write_report(parts_of(folder), folder, BUNDLE, folder / "report.html")


def test_everything_is_in_one_file(plain):
    page = checked(plain)
    assert [p.size for p in page.pictures] == [(300, 200), (300, 200), (1400, 300)]
    for text in (
        *("Segmentation case_1: evaluation", "umamba_seg 0.1.0", "train.yaml, evaluate.yaml", "2026-11-21 10:00 UTC"),
        *("python -m monai.bundle run --config_file \"['a/train.yaml', 'b/evaluate.yaml']\"", "60 s"),
        *("0.250 95 % interval 0.1 to 0.4", "2 cases of case_1", "python 3.11, torch 2.13", "commit abc"),
        *("Research only. Not a medical device; not for diagnosis.", "run only those you trust"),
    ):
        assert text in page.text, text
    assert "Empty" not in page.text
    assert "scipy" not in page.text
    assert page.text.index("What was run") < page.text.index("Results at a glance") < page.text.index("Worst, case_1")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    record = RUN | {
        "command": [HOSTILE, "run", "--dataset_dir", f"/data/{HOSTILE}", "--weights", HOSTILE],
        "machine": HOSTILE,
        "git_commit": HOSTILE,
        "versions": {HOSTILE: HOSTILE},
        "outcome": HOSTILE,
        "left_out": {HOSTILE: HOSTILE},
        "weights": [{"file": HOSTILE, "sha256": HOSTILE}],
    }
    (folder / "run.json").write_text(json.dumps(record))
    return write_report(parts_of(folder, HOSTILE), folder, BUNDLE, folder / "report.html")


def test_names_that_are_markup_stay_names(hostile):
    page = checked(hostile)
    assert page.tags.count("img") == 3
    assert page.text.count("<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;") > 20
    alts = [value for tag, name, value in page.attributes if name == "alt"]
    assert alts[:2] == [f"Alt of {HOSTILE}"] * 2
    assert "<title>Segmentation &lt;script&gt;" in page.source


def test_invisible_characters_are_shown(tmp_path):
    name = "benign\u202egnp.exe\u200b\x00\x1b[31m\ud800"
    page = checked(write_report(parts_of(tmp_path, name), tmp_path, BUNDLE, tmp_path / "report.html"))
    assert "benign�gnp.exe���[31m�" in page.text
    assert not re.search("[\u202e\u200b\x00\x1b]", page.source)


def test_template_language_in_names_is_text(tmp_path):
    name = "{{ 7 * 7 }}{% for x in y %}"
    assert name in checked(write_report(parts_of(tmp_path, name), tmp_path, BUNDLE, tmp_path / "report.html")).text


@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_without_cutting_anything(plain, tmp_path, width):
    measured = shown(plain, tmp_path, width)
    assert_fits(measured)
    assert measured["pictures"][2][0] == 1400
    screen = np.asarray(screenshot(plain, tmp_path, width, 1800))
    assert screen.shape[1] == width
    assert screen.std() > 10, "something is drawn"
    margin = screen[:, -8:].reshape(-1, 3)
    assert (margin == margin[0]).all(), "nothing runs into the right edge"


@needs_browser
def test_a_browser_runs_nothing_of_hostile_names(hostile, tmp_path):
    measured = shown(hostile, tmp_path, 390)
    assert_fits(measured)
    assert len(measured["pictures"]) == 3


def test_existing_reports_stay_unless_told_otherwise(plain, tmp_path):
    copy = Path(shutil.copy(plain, tmp_path / "report.html"))
    parts = ReportParts(PREDICTION, "Other")
    with pytest.raises(DataError, match=r"report.html: already there and not overwritten"):
        write_report(parts, tmp_path, BUNDLE, copy)
    assert copy.read_bytes() == plain.read_bytes()
    assert "Other: prediction" in checked(write_report(parts, tmp_path, BUNDLE, copy, overwrite=True)).text
    with pytest.raises(DataError, match="is a folder"):
        write_report(parts, tmp_path, BUNDLE, tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html"]


def test_broken_and_missing_pictures_are_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    pictures = [Picture(tmp_path / name, "", "a") for name in ("broken.png", "absent.png")]
    parts = ReportParts(EVALUATION, "S", sections=[Section("Figures", pictures=pictures)])
    page = checked(write_report(parts, tmp_path, BUNDLE, tmp_path / "report.html"))
    assert not page.pictures
    assert "broken.png: the picture cannot be read" in page.text
    assert "absent.png" in page.text


def test_pictures_are_made_small_and_white(tmp_path):
    large = inline(Picture(picture(tmp_path / "large.png", (2400, 1200)), "c", "a"))
    assert (large.width, large.height) == (LONGEST_EDGE, LONGEST_EDGE // 2)
    assert large.uri.startswith("data:image/jpeg"), "noise is smaller as JPEG"
    lines = Image.new("RGBA", (200, 100), (0, 0, 0, 0))
    lines.putpixel((5, 5), (0, 0, 0, 255))
    lines.save(tmp_path / "lines.png")
    clear = inline(Picture(tmp_path / "lines.png", "c", "a"))
    assert clear.uri.startswith("data:image/png")
    narrow = inline(Picture(picture(tmp_path / "strip.png", (1600, 100)), "c", "a"))
    assert 500 < narrow.readable_width <= 820, "strips are scrolled on a phone, not made unreadable"


def test_what_a_reader_must_know_first(tmp_path):
    def first(record: dict | None) -> str:
        (tmp_path / "run.json").unlink(missing_ok=True)
        if record is not None:
            (tmp_path / "run.json").write_text(json.dumps(record))
        path = write_report(ReportParts(EVALUATION, "S"), tmp_path, BUNDLE, tmp_path / "r.html", overwrite=True)
        return checked(path).text.split("What was run")[0]

    assert "with what they were made is not recorded" in first(None)
    assert "The run did not end well" in first(RUN | {"outcome": "failed: ValueError: x"})
    assert "Synthetic data" in first(RUN | {"command": ["a", "--dataset_dir", "data/Dataset901_PhantomCT"]})
    assert "Left out, since their files cannot be read: 2." in first(RUN | {"left_out": {"a": "bad", "b": "bad"}})
    clean = first(RUN)
    assert not any(text in clean for text in ("Synthetic", "did not end well", "not recorded", "Left out"))


def test_weights_are_told_by_their_digest(tmp_path):
    (tmp_path / "models").mkdir()
    weights = tmp_path / "models" / "model.pt"
    weights.write_bytes(b"abc")
    os.utime(weights, (0, 0))
    command = ["run", "--ckpt_dir", str(weights.parent)]
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    def text(record: dict) -> str:
        (tmp_path / "run.json").write_text(json.dumps(record))
        return checked(write_report(ReportParts(EVALUATION, "S"), tmp_path, BUNDLE, tmp_path / "r.html", True)).text

    assert f"model.pt, SHA-256 {digest}" in text(RUN | {"command": command})
    assert "SHA-256" not in text(RUN | {"command": [*command, "--weights=model_final.pt"]})
    recorded = RUN | {"command": command, "weights": [{"file": "w.pt", "bytes": 3, "sha256": "00ff"}]}
    assert "w.pt, SHA-256 00ff" in text(recorded)
    os.utime(weights)
    assert f"changed after the run, now SHA-256 {digest}" in text(RUN | {"command": command})


def test_command_lines():
    options = options_of(["run", "--a", "1", "--b=2", "--ckpt-dir", "m", "--a", "3", "--last"])
    assert options == {"a": "3", "b": "2", "ckpt_dir": "m", "last": ""}
    assert Run({}, {}).command == ""
    assert Run({}, {"config_file": "x/inference.yaml"}).configurations == "inference.yaml"
    assert Run({"command": ["/p/custom_apps/__main__.py", "folds", "a b"]}, {}).command == (
        "python -m custom_apps folds 'a b'"
    )
    assert Run({"command": ["/bin/mamba-bundles", "folds"]}, {}).command == "mamba-bundles folds"
    assert Run({"command": ["/x/own.py", "--a=\"'$"]}, {}).command == "python own.py '--a=\"'\"'\"'$'"
    assert environment_line({}) == "The environment of the run is not recorded."


@pytest.mark.parametrize("bundle", sorted(path.name for path in BUNDLES.iterdir()))
def test_every_bundle_states_its_limits(bundle):
    text = " ".join(b if isinstance(b, str) else " ".join(b) for b in limits_of(BUNDLES / bundle))
    assert "Configurations are code" in text
    assert not any(mark in text for mark in ("`", "**", "](", "##"))


def test_results_of_nobody_are_refused(tmp_path):
    def reader(folder):
        return ReportParts(EVALUATION, folder.name)

    readers, markers = {"a": reader}, {"a": ["scores-*.csv"]}
    with pytest.raises(DataError, match="no such folder"):
        reported(tmp_path / "absent", readers, markers)
    with pytest.raises(DataError, match=r"has no results \(expected one of scores-\*\.csv\)"):
        reported(tmp_path, readers, markers)
    (tmp_path / "eval" / "test").mkdir(parents=True)
    (tmp_path / "eval" / "test" / "scores-1.csv").touch()
    with pytest.raises(DataError, match=r"there are some in .*eval/test"):
        reported(tmp_path, readers, markers)
    assert reported(tmp_path / "eval" / "test", readers, markers).subject == "test"
    with pytest.raises(DataError, match="has no reports"):
        report_folder(Room("b", "t"), tmp_path, BUNDLE)


def test_broken_files_are_named(tmp_path):
    for content, problem in ((b"\xff\xfe", "cannot be read"), (b"a,b\n1,2,3\n", "longer than the first")):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(DataError, match=f"t.csv: .*{problem}"):
            read_table(tmp_path / "t.csv")
    for content in ("{", "[1]"):
        (tmp_path / "o.json").write_text(content)
        with pytest.raises(DataError, match=r"o\.json: "):
            read_object(tmp_path / "o.json")
    assert read_table(tmp_path / "absent.csv") == []
    assert read_object(tmp_path / "absent.json") == {}


def test_pictures_of_cases_never_lie_outside(tmp_path):
    for name in ("../../secret", "/etc/secret", "a/../../b.avi", ".."):
        assert picture_of(tmp_path, name, "_map.png").resolve().parent == tmp_path.resolve()
    assert picture_of(tmp_path, "study/0001.jpg", "_overlay.png").name == "study_0001_overlay.png"


def test_worst_cases_go_through_files(tmp_path):
    def draw(path):
        picture(path)

    (tmp_path / "worst_9.png").touch()
    write_worst_cases(
        [WorstCase(f"../{HOSTILE}", "Dice 0.1", "lines", draw), WorstCase("b", "0.2", "", draw)], tmp_path
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["worst.json", "worst_1.png", "worst_2.png"]
    first, second = worst_cases(tmp_path)
    assert (first.name, first.note, first.pictures[0].path.name) == (f"../{HOSTILE}", "Dice 0.1", "worst_1.png")
    (tmp_path / "worst_2.png").unlink()
    assert worst_cases(tmp_path)[1].pictures == []
    assert second.pictures
    assert worst_cases(tmp_path / "absent") == []


def test_numbers_and_tables():
    number = estimate_number("MAE", {"value": 4.123, "low": 3.0, "high": 5.0}, "9 videos", 0.9, 1, " points")
    assert (number.value, number.interval) == ("4.1 points", "90 % interval 3.0 to 5.0")
    empty = estimate_number("MAE", {"value": None, "low": None, "high": None}, "0 videos", unit=" points")
    assert (empty.value, empty.interval) == ("–", "")
    assert brief({"value": 1, "low": 0.5, "high": 2}) == "1.000 (0.500 to 2.000)"
    assert brief(None) == "–"
    table = Table(["a", "b"], [["x", 0.5], ["y", None], ["z", float("inf")]], digits=1)
    assert table.cells == [["x", "0.5"], ["y", "–"], ["z", "infinite"]]
    assert table.numeric == [False, True]
    short = limited(["a"], [[n] for n in range(9)], "", "cases.csv", 4, note="Sorted.")
    assert len(short.rows) == 4
    assert short.note == "Sorted. 4 of 9 rows; all are in cases.csv."
