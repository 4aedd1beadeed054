"""Evaluation and inference of ``echo_ef_mamba3d`` on phantom data, with small untrained networks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from custom_apps.common.report_command import report_folder
from custom_apps.echo.phantom import write_echonet_phantom
from custom_apps.echo.phantom_buv import write_buv_phantom
from custom_apps.echo.phantom_camus import write_camus_phantom
from custom_apps.echo.room import ROOM
from custom_apps.echo.video_file import read_video
from tests.bundles.bundle_cli import ROOT, bundle_command, run, torchrun_command
from tests.common.report_page import checked
from tests.echo.test_dicom_video import write_dicom

BUNDLE = ROOT / "bundles" / "echo_ef_mamba3d"
SMALL = {
    "bundle_root": str(BUNDLE),
    "clip_length": 4,
    "frame_size": 16,
    "patch_size": 8,
    "embed_dim": 16,
    "num_macro_blocks": 1,
    "final_dim": 8,
    "num_workers": 0,
}


def config(*names: str) -> list[str]:
    return [str(BUNDLE / "configs" / f"{name}.yaml") for name in names]


def run_here(names: list[str], **options: object) -> None:
    """Runs merged configurations in this process, as ``monai.bundle run`` does."""
    settings = SMALL | {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    workflow = ConfigWorkflow(config_file=config(*names), logging_file=False, workflow_type=None, **settings)
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def weights(folder: Path, *names: str) -> Path:
    """``folder`` with the weights of an untrained network of these configurations."""
    parser = ConfigParser()
    parser.read_config(config(*names))
    parser.update(SMALL)
    torch.manual_seed(0)
    folder.mkdir()
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "model.pt")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def echonet(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("echonet")
    return write_echonet_phantom(folder, cases=5, test_cases=3, frames=(30, 45), size=32)


@pytest.fixture(scope="module")
def regressor(tmp_path_factory) -> Path:
    return weights(tmp_path_factory.mktemp("ef") / "models", "train")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory) -> Path:
    return weights(tmp_path_factory.mktemp("lv") / "models", "train", "segmentation")


def test_ejection_fraction_of_test_and_validation_videos(echonet, regressor, tmp_path):
    options = {"dataset_dir": echonet, "ckpt_dir": regressor, "output_dir": tmp_path, "stride": 5}
    run_here(["train", "evaluate"], **options)
    videos = rows(tmp_path / "test" / "videos.csv")
    assert [row["file_name"] for row in videos] == [f"phantom_ts_{number:03d}" for number in range(3)]
    reported = {row["FileName"]: float(row["EF"]) for row in rows(echonet / "FileList.csv")}
    assert all(float(row["ef_percent"]) == pytest.approx(reported[row["file_name"]], abs=1e-4) for row in videos)
    results = json.loads((tmp_path / "test" / "results.json").read_text())["protocols"]
    for protocol in ("one_clip", "several_clips", "all_clips"):
        errors = [abs(float(row[protocol]) - float(row["ef_percent"])) for row in videos]
        assert results[protocol]["mae"]["value"] == pytest.approx(np.mean(errors))
    assert (tmp_path / "test" / "figures" / "bland_altman.png").stat().st_size > 5000
    assert json.loads((tmp_path / "test" / "run.json").read_text())["outcome"] == "completed"
    page = checked(report_folder(ROOM, tmp_path / "test", BUNDLE))
    assert len(page.pictures) == 3 + 4, "worst videos, figures"

    run_here(["train", "evaluate"], **options, part="validation", clips=None)
    validation = rows(tmp_path / "validation" / "videos.csv")
    assert [row["file_name"] for row in validation] == ["phantom_tr_004"]
    assert "several_clips" not in validation[0]


def test_segmentation_and_what_it_gives_the_regressor(echonet, regressor, segmenter, tmp_path):
    places = {"dataset_dir": echonet, "output_dir": tmp_path}
    run_here(["train", "evaluate"], **places, ckpt_dir=regressor)
    names = ["train", "segmentation", "evaluate", "evaluate_segmentation"]
    run_here(names, **places, ckpt_dir=segmenter, regressed=tmp_path / "test" / "videos.csv", pictures=1)
    folder = tmp_path / "segmentation_test"
    assert len(rows(folder / "dice.csv")) == 3
    sizes = rows(folder / "videos" / "size.csv")
    frames = {
        name: len(read_video(echonet / "Videos" / f"{name}.avi").frames) for name in {r["Filename"] for r in sizes}
    }
    assert len(sizes) == sum(frames.values())
    assert sum(row["HumanSmall"] == "1" for row in sizes) == 3
    videos = rows(folder / "videos" / "videos.csv")
    regressed = {row["file_name"]: row["all_clips"] for row in rows(tmp_path / "test" / "videos.csv")}
    assert {row["file_name"]: row["ef_regressed"] for row in videos} == regressed
    assert len(list((folder / "videos" / "figures").glob("*_lv.avi"))) == 1

    # Beats of the segmentation choose clips of the regressor.
    for row in sizes:
        row["ComputerSmall"] = str(int(row["Frame"] in ("3", "20")))
    with open(tmp_path / "size.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(sizes[0]))
        writer.writeheader()
        writer.writerows(sizes)
    run_here(["train", "evaluate"], **places, ckpt_dir=regressor, systoles=tmp_path / "size.csv")
    for row in rows(tmp_path / "test" / "videos.csv"):
        assert float(row["beat_by_beat"]) == pytest.approx(float(row["one_clip"]), abs=1e-5)


def test_camus(regressor, tmp_path):
    data = write_camus_phantom(tmp_path, cases=4, test_cases=2, size=32)
    run_here(["train", "camus", "evaluate"], dataset_dir=data, ckpt_dir=regressor, output_dir=tmp_path / "eval")
    assert len(rows(tmp_path / "eval" / "test" / "videos.csv")) == 2


def test_lesions(tmp_path):
    data = write_buv_phantom(tmp_path, cases=4, test_cases=4, frames=(5, 9))
    places = {"dataset_dir": data, "ckpt_dir": weights(tmp_path / "models", "train", "classification", "buv")}
    names = ["train", "classification", "buv", "evaluate", "evaluate_classification"]
    run_here(names, **places, output_dir=tmp_path / "eval", frame_loss_weight=0.5)
    folder = tmp_path / "eval" / "test"
    assert {row["label"] for row in rows(folder / "cases.csv")} == {"0", "1"}
    assert "threshold 0.5" in json.loads((folder / "frame_results.json").read_text())["thresholds"]
    run_here(["inference", "inference_classification"], **places, output_dir=tmp_path / "predictions")
    probabilities = {
        Path(r["file_name"]).stem: float(r["probability"]) for r in rows(tmp_path / "predictions" / "lesions.csv")
    }
    assert len(probabilities) == 8
    for row in rows(folder / "cases.csv"):
        assert float(row["probability"]) == pytest.approx(probabilities[Path(row["case"]).stem], abs=1e-5)
    assert len(checked(report_folder(ROOM, folder, BUNDLE)).pictures) == 3 + 2, "worst videos, curves"
    predicted = checked(report_folder(ROOM, tmp_path / "predictions", BUNDLE)).text
    assert "Breast lesions: prediction" in predicted
    assert "There is no run.json" not in predicted


def test_pretraining(echonet, tmp_path):
    models = weights(tmp_path / "models", "train", "pretrain")
    places = {"dataset_dir": echonet, "ckpt_dir": models}
    run_here(["train", "pretrain", "evaluate", "evaluate_pretraining"], **places, output_dir=tmp_path / "eval")
    losses = rows(tmp_path / "eval" / "test" / "losses.csv")
    value = json.loads((tmp_path / "eval" / "test" / "losses.json").read_text())["value"]
    assert value == pytest.approx(np.mean([float(row["loss"]) for row in losses]))
    assert (tmp_path / "eval" / "test" / "figures" / "reconstructions.png").stat().st_size > 5000
    video = echonet / "Videos" / "phantom_ts_001.avi"
    options = {"dataset_dir": video, "ckpt_dir": models, "output_dir": tmp_path / "pictures"}
    run_here(["inference", "inference_reconstruction"], **options)
    assert sorted(path.suffix for path in (tmp_path / "pictures").iterdir()) == [".avi", ".json", ".png"]


def test_ejection_fraction_of_files_is_that_of_the_evaluation(echonet, regressor, tmp_path):
    run_here(["train", "evaluate"], dataset_dir=echonet, ckpt_dir=regressor, output_dir=tmp_path, stride=None)
    folder = tmp_path / "files"
    folder.mkdir()
    for row in rows(tmp_path / "test" / "videos.csv"):
        frames = read_video(echonet / "Videos" / f"{row['file_name']}.avi").frames
        write_dicom(folder / f"{row['file_name']}.dcm", frames, "RGB", FrameTime=20.0)
    run_here(["inference"], dataset_dir=folder, ckpt_dir=regressor, output_dir=tmp_path / "out")
    predicted = {Path(r["file_name"]).stem: float(r["ef_percent"]) for r in rows(tmp_path / "out" / "ef.csv")}
    for row in rows(tmp_path / "test" / "videos.csv"):
        assert predicted[row["file_name"]] == pytest.approx(float(row["several_clips"]), abs=1e-4)


def test_masks_of_one_file(echonet, segmenter, tmp_path):
    video = echonet / "Videos" / "phantom_tr_000.avi"
    run_here(["inference", "inference_segmentation"], dataset_dir=video, ckpt_dir=segmenter, output_dir=tmp_path)
    masks = nibabel.load(tmp_path / "phantom_tr_000_lv.nii.gz")
    assert masks.shape == (32, 32, len(read_video(video).frames))
    assert (tmp_path / "phantom_tr_000_lv.avi").is_file()


@pytest.mark.slow
def test_from_the_bundle_folder_and_earlier_results_are_safe(echonet, regressor, tmp_path):
    options = SMALL | {"dataset_dir": echonet, "ckpt_dir": regressor, "output_dir": tmp_path, "bundle_root": "."}
    command = bundle_command(["configs/inference.yaml"], **options)
    assert "8 cases in" in run(command, cwd=BUNDLE)
    content = (tmp_path / "ef.csv").read_bytes()
    output = run(command, cwd=BUNDLE, succeed=False)
    assert "error: " in output
    assert "holds earlier predictions" in output
    assert (tmp_path / "ef.csv").read_bytes() == content
    run([*command, "--existing", "skip"], cwd=BUNDLE)
    assert (tmp_path / "ef.csv").read_bytes() == content


@pytest.mark.slow
def test_two_processes_evaluate_and_predict_as_one(echonet, regressor, tmp_path):
    options = SMALL | {"dataset_dir": echonet, "ckpt_dir": regressor, "stride": 9}
    for folder, wrap, extra in (("one", lambda c: c, ()), ("two", lambda c: torchrun_command(2, c), ("multi_gpu",))):
        places = {"output_dir": tmp_path / folder}
        run(wrap(bundle_command(config("train", "evaluate", *extra), **options, **places)))
        run(wrap(bundle_command(config("inference", *extra), **options, **places)))
    for name in ("test/videos.csv", "ef.csv"):
        one, two = (rows(tmp_path / folder / name) for folder in ("one", "two"))
        assert [row["file_name"] for row in one] == [row["file_name"] for row in two]
        column = "all_clips" if "videos" in name else "ef_percent"
        np.testing.assert_allclose([float(r[column]) for r in one], [float(r[column]) for r in two], rtol=1e-6)
