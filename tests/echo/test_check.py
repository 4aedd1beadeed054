import os
import shutil

import numpy as np
import pytest

from custom_apps.cli import main
from custom_apps.common.problems import errors_of
from custom_apps.echo.camus import ARRAYS, TABLE
from custom_apps.echo.check import check_dataset
from custom_apps.echo.video_writing import write_video


def change(path, old, new, count=-1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def found(folder, **options):
    return [(problem.severity, f"{problem.path}: {problem.problem}") for problem in check_dataset(folder, **options)]


def test_sound_data_sets(echonet_phantom, camus_phantom, buv_phantom):
    # Frames of 48×48 are worth a warning each, and so are short videos.
    assert not errors_of(check_dataset(echonet_phantom))
    assert not found(camus_phantom)
    assert not found(buv_phantom, clip_frames=4)
    assert any("8 of 8 videos are shorter than a clip" in text for _, text in found(echonet_phantom))


def video(root, name):
    return root / "Videos" / f"{name}.avi"


def truncated(root):
    path = video(root, "phantom_tr_001")
    os.truncate(path, path.stat().st_size // 2)


def missing(root):
    video(root, "phantom_tr_001").unlink()


def no_frame(root):
    video(root, "phantom_tr_001").write_bytes(b"")


def another_size(root):
    write_video(np.full((30, 40, 48), 9, np.uint8) + np.arange(48, dtype=np.uint8), video(root, "phantom_tr_001"), 50)


def ef_outside(root):
    text = (root / "FileList.csv").read_text().splitlines()
    text[2] = ",".join(["phantom_tr_001", "130", *text[2].split(",")[2:]])
    (root / "FileList.csv").write_text("\n".join(text))


def listed_twice(root):
    text = (root / "FileList.csv").read_text().splitlines()
    (root / "FileList.csv").write_text("\n".join([*text, text[2]]))


def unknown_split(root):
    change(root / "FileList.csv", "VAL", "phantom_tr_001")


def header_of_tracings(root):
    change(root / "VolumeTracings.csv", "X1,Y1,X2,Y2", "X0,Y0,X1,Y1")


def traced_frame_beyond_the_end(root):
    lines = (root / "VolumeTracings.csv").read_text().splitlines()
    lines = [line if "tr_001" not in line else ",".join([*line.split(",")[:5], "400"]) for line in lines]
    lines += [line.replace(",400", ",3") for line in lines if line.endswith(",400")]
    (root / "VolumeTracings.csv").write_text("\n".join(lines))


def broken_number(root):
    change(root / "VolumeTracings.csv", "phantom_tr_001.avi,", "phantom_tr_001.avi,x", 1)


def missing_column(root):
    change(root / "FileList.csv", "EF,", "phantom_tr_001,")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (truncated, "phantom_tr_001.avi"),
        (missing, "phantom_tr_001.avi"),
        (no_frame, "phantom_tr_001.avi"),
        (another_size, "FrameHeight is 40"),
        (ef_outside, "EF of phantom_tr_001 is '130'"),
        (listed_twice, "phantom_tr_001 is listed 2 times"),
        (unknown_split, "is of split 'phantom_tr_001'"),
        (header_of_tracings, "header is 'FileName,X0,Y0,X1,Y1,Frame'"),
        (traced_frame_beyond_the_end, "phantom_tr_001, frame 400: no such frame"),
        (broken_number, "tracing of phantom_tr_001.avi"),
        (missing_column, "column EF missing"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_errors_are_found_and_named(echonet_copy, capsys, damage, named):
    damage(echonet_copy)
    problems = found(echonet_copy)
    assert any(severity == "error" and named in text for severity, text in problems), problems
    assert main(["check", "echo_ef_mamba3d", str(echonet_copy)]) == 1
    assert named in capsys.readouterr().out


def test_warnings(echonet_copy):
    path = echonet_copy / "VolumeTracings.csv"
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("phantom_tr_000"))
    cells = lines[first + 9].split(",")
    lines[first + 9] = ",".join([cells[0], cells[3], cells[4], cells[1], cells[2], cells[5]])
    cells = lines[first + 5].split(",")
    lines[first + 5] = ",".join([cells[0], cells[1], cells[2], "77", cells[4], cells[5]])
    lines = [line for line in lines if not line.startswith("phantom_tr_002")]
    path.write_text("\n".join(lines))
    write_video(np.arange(3 * 48 * 48, dtype=np.uint8).reshape(3, 48, 48), video(echonet_copy, "unlisted"), 50)
    write_video(np.full((45, 48, 48), 9, np.uint8), video(echonet_copy, "phantom_tr_003"), 50)
    problems = found(echonet_copy)
    assert {severity for severity, _ in problems} == {"warning"}
    texts = "\n".join(text for _, text in problems)
    for expected in (
        "the outline crosses itself",
        "the outline leaves the frame",
        "phantom_tr_002 has 0 traced frames",
        "unlisted.avi: in no list",
        "phantom_tr_003.avi: every pixel has the same value",
        "phantom_tr_003.avi: NumberOfFrames is 45",
        "frames of 48×48 pixels",
    ):
        assert expected in texts


def test_data_set_without_tracings(echonet_copy):
    (echonet_copy / "VolumeTracings.csv").unlink()
    assert not errors_of(check_dataset(echonet_copy))


def test_larger_first_frame(echonet_copy):
    path = echonet_copy / "VolumeTracings.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *lines[21:42], *lines[:21], *lines[42:]]))
    assert any("the first traced frame is the larger" in text for _, text in found(echonet_copy))


def test_camus_problems(camus_phantom, tmp_path):
    root = shutil.copytree(camus_phantom, tmp_path / "camus")
    np.save(root / ARRAYS / "patient0001.npy", np.full((64, 1, 112, 112), 7, np.float32))
    np.save(root / ARRAYS / "patient0002.npy", np.zeros((8, 1, 112, 112), np.float32))
    (root / ARRAYS / "patient0003.npy").unlink()
    change(root / TABLE, ",val\n", ",valid\n")
    problems = found(root)
    for severity, expected in (
        ("error", "patient0001.npy: values from 7 to 7"),
        ("warning", "patient0002.npy: frames, height and width are (8, 112, 112)"),
        ("error", "patient0003.npy: no such file"),
        ("error", "Split of patient0004 is 'valid'"),
    ):
        assert any(found == severity and expected in text for found, text in problems), problems


def test_buv_problems(buv_phantom, tmp_path):
    root = shutil.copytree(buv_phantom, tmp_path / "buv")
    with open(root / "testlist01.txt", "a") as file:
        file.write("benign/phantom_000.mp4 0\n")
    path = root / "mp4_224_224" / "malignant" / "phantom_001.mp4"
    os.truncate(path, path.stat().st_size // 2)
    problems = found(root, clip_frames=4)
    assert all(severity == "error" for severity, _ in problems)
    texts = "\n".join(text for _, text in problems)
    assert "benign/phantom_000 is in both lists" in texts
    assert "phantom_001.mp4" in texts


def test_unknown_layouts(tmp_path):
    assert "unknown layout" in found(tmp_path)[0][1]
    assert "no such folder" in found(tmp_path / "absent")[0][1]
