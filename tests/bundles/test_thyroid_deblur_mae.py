"""``thyroid_deblur_mae`` end to end on phantom images, run as a user types it."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from custom_apps.common.report_command import report_folder
from custom_apps.thyroid.phantom import write_thyroid_phantom
from custom_apps.thyroid.room import ROOM
from tests.bundles.bundle_cli import ROOT, bundle_command, run, start, torchrun_command
from tests.common.report_page import checked

BUNDLE = ROOT / "bundles" / "thyroid_deblur_mae"
CONFIGS = BUNDLE / "configs"
NETWORK = {
    "image_size": 64,
    "embed_dims": [8, 12, 16],
    "depths": [1, 1, 4],
    "num_heads": 2,
    "head_channels": 8,
    "auxiliary_channels": 4,
}
TOKENS = {"embed_dim": 16, "depth": 4, "taps": [0, 1, 2, 3]}
SMALL = NETWORK | {"limits": [80, 64], "steps_per_epoch": 2, "batch_size": 2, "val_interval": 1}
DECODER = {"decoder_dim": 16, "decoder_num_heads": 2}
SEGMENTATION = ("train", "demo")
PRETRAINING = ("train", "pretrain", "demo", "demo_pretraining")
CLASSIFICATION = ("train", "train_classification", "demo", "demo_classification")


def config(*names: str) -> list[Path]:
    return [CONFIGS / f"{name}.yaml" for name in names]


def places(folder: Path, data: Path) -> dict[str, Path]:
    return {"dataset_dir": data, "ckpt_dir": folder / "models", "output_dir": folder / "eval"}


def log_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "eval" / "metrics.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weights(folder: Path, name: str = "model.pt") -> dict[str, torch.Tensor]:
    return torch.load(folder / "models" / name, weights_only=True)


@pytest.fixture(scope="module")
def nodules(tmp_path_factory) -> Path:
    return write_thyroid_phantom(tmp_path_factory.mktemp("data"), 10, 3, layout="tn3k", size=72)


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Path:
    return write_thyroid_phantom(tmp_path_factory.mktemp("data"), 10, 4, size=72)


@pytest.fixture(scope="module")
def pretrained(nodules, tmp_path_factory) -> Path:
    """A folder with an autoencoder of two short epochs."""
    folder = tmp_path_factory.mktemp("pretrained")
    run(bundle_command(config(*PRETRAINING), **places(folder, nodules), **SMALL, **DECODER, epochs=2))
    return folder


@pytest.fixture(scope="module")
def segmented(nodules, pretrained, tmp_path_factory) -> Path:
    """A folder with a segmentation network of three short epochs, trained without interruption."""
    folder = tmp_path_factory.mktemp("segmented")
    start_from = pretrained / "models" / "model.pt"
    options = places(folder, nodules) | SMALL
    output = run(bundle_command(config(*SEGMENTATION), **options, epochs=3, warmup_steps=1, pretrained=start_from))
    assert "pre-trained weights of" in output
    return folder


@pytest.fixture(scope="module")
def classified(classes, pretrained, tmp_path_factory) -> Path:
    """A folder with a classifier of two short epochs."""
    folder = tmp_path_factory.mktemp("classified")
    start_from = pretrained / "models" / "model.pt"
    options = places(folder, classes) | SMALL
    run(bundle_command(config(*CLASSIFICATION), **options, epochs=2, warmup_epochs=1, pretrained=start_from))
    return folder


def test_pretraining_leaves_model_setting_log_and_pictures(pretrained):
    assert [row["epoch"] for row in log_rows(pretrained)] == ["1", "2"]
    assert json.loads((pretrained / "models" / "blur.json").read_text()) == {"blur": "gaussian 1.1"}
    assert (pretrained / "eval" / "figures" / "reconstructions.png").stat().st_size > 5000
    assert json.loads((pretrained / "eval" / "run.json").read_text())["outcome"] == "completed"


def test_pretraining_is_scored_image_by_image(pretrained, nodules):
    options = places(pretrained, nodules) | SMALL | DECODER
    run(bundle_command(config(*PRETRAINING, "evaluate_pretraining"), **options))
    content = json.loads((pretrained / "eval" / "val" / "losses.json").read_text())
    assert content["cases"] == 1
    assert content["value"] > 0


def test_plain_autoencoder_looks_at_sharp_images(nodules, tmp_path):
    options = places(tmp_path, nodules) | SMALL | DECODER | TOKENS
    run(bundle_command(config(*PRETRAINING, "vit", "vanilla"), **options, epochs=2))
    assert json.loads((tmp_path / "models" / "blur.json").read_text()) == {"blur": "none"}
    assert "class_token" in weights(tmp_path)


def test_training_leaves_model_log_figures_and_record(segmented):
    rows = log_rows(segmented)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert {"val_mean_dice", "val_nodule_iou", "lr"} <= set(rows[0])
    assert (segmented / "eval" / "figures" / "training_curves.png").stat().st_size > 5000
    assert json.loads((segmented / "models" / "blur.json").read_text()) == {"blur": "gaussian 1.1"}
    assert json.loads((segmented / "eval" / "run.json").read_text())["outcome"] == "completed"


def test_killed_training_goes_on_with_the_same_numbers(segmented, pretrained, nodules, tmp_path):
    options = places(tmp_path, nodules) | SMALL
    start_from = pretrained / "models" / "model.pt"
    command = bundle_command(config(*SEGMENTATION), **options, epochs=3, warmup_steps=1, pretrained=start_from)
    process, state = start(command), tmp_path / "models" / "last.pt"
    deadline = time.monotonic() + 300
    while not state.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert state.is_file(), "no checkpoint before the kill"
    assert not (tmp_path / "models" / "model_final.pt").exists(), "the run was over before the kill"

    assert "resumed" in run(command)
    ours, theirs = log_rows(tmp_path), log_rows(segmented)
    for column in ("epoch", "train_loss", "lr", "val_mean_dice"):
        assert [row[column] for row in ours] == [row[column] for row in theirs], column
    one, other = (weights(folder, "model_final.pt") for folder in (tmp_path, segmented))
    assert all(torch.equal(one[key], other[key]) for key in other)


def test_other_blur_is_refused_and_can_be_allowed(segmented, nodules, tmp_path):
    options = places(segmented, nodules) | SMALL | {"output_dir": tmp_path, "blur": "none"}
    command = bundle_command(config(*SEGMENTATION, "evaluate"), **options)
    output = run(command, succeed=False)
    assert "trained on images of blur 'gaussian 1.1', now used with 'none'" in output
    run([*command, "--allow_other_blur", "True"])


def test_evaluation_on_test_images(segmented, nodules):
    options = places(segmented, nodules) | SMALL
    run(bundle_command(config(*SEGMENTATION, "evaluate"), **options, published_edge=256, resamples=100))
    results = segmented / "eval" / "test"
    content = json.loads((results / "results.json").read_text())
    assert content["images"] == 3
    assert set(content) >= {"pooled", "per_image", "published_per_image"}
    assert (results / "figures" / "overlays.png").stat().st_size > 5000
    page = checked(report_folder(ROOM, results, BUNDLE, overwrite=True))
    assert len(page.pictures) == 3 + 1 + 1, "worst images, overlays, training"
    assert "as published for the U-Nets" in page.text


def test_masks_of_any_folder_at_their_own_size_from_the_bundle_folder(segmented, nodules, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(nodules / "test-image", images / "study")
    with Image.open(next((images / "study").iterdir())) as image:
        image.resize((61, 29)).save(images / "wide.bmp")
    options = {"dataset_dir": images, "ckpt_dir": segmented / "models", "output_dir": tmp_path / "out"}
    options |= NETWORK | {"limits": [80, 64]}
    command = bundle_command(["configs/inference.yaml"], **options, mlp_ratios=[2.0, 2.0, 2.0])
    run(command, cwd=BUNDLE)
    with open(tmp_path / "out" / "nodules.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows] == [*(f"study/{i:04d}.jpg" for i in range(3)), "wide.bmp"]
    mask = np.array(Image.open(tmp_path / "out" / "wide_mask.png"))
    assert mask.shape == (29, 61)
    assert set(np.unique(mask)) <= {0, 255}
    assert (mask > 0).sum() == int(rows[-1]["nodule_pixels"])
    assert "was predicted before" in run(command, cwd=BUNDLE, succeed=False)


def test_classification_is_evaluated_and_predicts(classified, classes, tmp_path):
    options = places(classified, classes) | SMALL
    output = run(bundle_command(config(*CLASSIFICATION, "evaluate_classification"), **options, resamples=100))
    results = classified / "eval" / "test"
    content = json.loads((results / "results.json").read_text())
    assert (content["cases"], content["positive"]) == (4, 2)
    assert "published_sigmoid_auroc" in output
    assert (results / "figures" / "classification.png").stat().st_size > 5000

    options = {"dataset_dir": classes / "test", "ckpt_dir": classified / "models", "output_dir": tmp_path}
    files = config("inference", "inference_classification", "demo")
    run(bundle_command(files, **options, **NETWORK))
    with open(tmp_path / "classes.csv") as file, open(results / "cases.csv") as other:
        ours = {row["file_name"].removesuffix(".png"): row for row in csv.DictReader(file)}
        theirs = {row["case"]: row for row in csv.DictReader(other)}
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert float(ours[name]["probability"]) == pytest.approx(float(theirs[name]["probability"]), abs=1e-6)
    page = checked(report_folder(ROOM, results, BUNDLE, overwrite=True))
    assert len(page.pictures) == 3 + 1 + 1, "worst images, curves, training"
    assert "inference_classification.yaml" in checked(report_folder(ROOM, tmp_path, BUNDLE)).text


@pytest.mark.parametrize("overlays", [("mamba",), ("conv_mamba",), ("unetpp",), ("unetpp", "vit")], ids="-".join)
def test_other_encoders_and_decoders_train_and_score(nodules, overlays, tmp_path):
    options = places(tmp_path, nodules) | SMALL | {"decoder_channels": [8, 8, 4, 4]}
    options |= TOKENS if {"vit", "mamba"} & set(overlays) else {}
    files = config("train", *overlays, "demo")
    run(bundle_command(files, **options, epochs=1, warmup_steps=0))
    run(bundle_command([*files, *config("evaluate")], **options, resamples=100))
    assert json.loads((tmp_path / "eval" / "test" / "results.json").read_text())["images"] == 3


def test_two_processes_train_a_classifier_as_one(classes, tmp_path):
    options = SMALL | {"epochs": 2, "warmup_epochs": 1, "drop_path": 0.0}
    alone, together = tmp_path / "alone", tmp_path / "together"
    run(bundle_command(config(*CLASSIFICATION), **places(alone, classes), **options | {"batch_size": 4}))
    command = bundle_command(config(*CLASSIFICATION, "multi_gpu"), **places(together, classes), **options)
    run(torchrun_command(2, command))
    for ours, theirs in zip(log_rows(together), log_rows(alone), strict=True):
        for column in ("train_loss", "val_loss", "val_auroc", "lr"):
            assert float(ours[column]) == pytest.approx(float(theirs[column]), rel=2e-4), column


def test_two_processes_train_and_score_as_one(segmented, nodules, tmp_path):
    options = places(tmp_path, nodules) | SMALL
    files = config(*SEGMENTATION, "multi_gpu")
    run(torchrun_command(2, bundle_command(files, **options, epochs=1, warmup_steps=0)))
    assert weights(tmp_path, "model_final.pt").keys() == weights(segmented, "model_final.pt").keys()
    assert not any(key.startswith("module.") for key in weights(tmp_path))

    evaluate = places(segmented, nodules) | SMALL | {"resamples": 100}
    for name, command in (
        ("two", torchrun_command(2, bundle_command(config(*SEGMENTATION, "evaluate", "multi_gpu"), **evaluate))),
        ("one", bundle_command(config(*SEGMENTATION, "evaluate"), **evaluate)),
    ):
        run([*command, "--results_dir", str(tmp_path / name)])
    two, one = ((tmp_path / name / "cases.csv").read_text() for name in ("two", "one"))
    assert two == one


def test_unusable_data_end_in_one_line_that_names_the_file(nodules, tmp_path):
    data = shutil.copytree(nodules, tmp_path / "data")
    with Image.open(data / "trainval-mask" / "0003.jpg") as mask:
        mask.resize((30, 30)).save(data / "trainval-mask" / "0003.jpg")
    output = run(bundle_command(config(*SEGMENTATION), **places(tmp_path, data), **SMALL, epochs=1), succeed=False)
    message = output[output.rindex("error: ") :]
    assert "0003.jpg" in message
    assert "Traceback" not in output


def test_checkpoint_of_another_network_is_refused_and_kept(segmented, nodules):
    before = {path.name: path.read_bytes() for path in (segmented / "models").iterdir()}
    options = places(segmented, nodules) | SMALL | {"head_channels": 12}
    output = run(bundle_command(config(*SEGMENTATION), **options, epochs=4, warmup_steps=1), succeed=False)
    assert "belongs to another network" in output
    assert {path.name: path.read_bytes() for path in (segmented / "models").iterdir()} == before


def test_mlflow_keeps_parameters_metrics_and_figures(classes, tmp_path):
    from mlflow import MlflowClient

    options = places(tmp_path, classes) | SMALL
    run(
        bundle_command(
            config(*CLASSIFICATION), **options, epochs=2, warmup_epochs=1, tracking=CONFIGS / "tracking.yaml"
        ),
        cwd=tmp_path,
    )
    client = MlflowClient(f"sqlite:///{tmp_path}/eval/mlruns.db")
    runs = client.search_runs([client.get_experiment_by_name("thyroid_deblur_mae").experiment_id])
    assert len(runs) == 1
    assert runs[0].info.status == "FINISHED"
    assert runs[0].data.params["blur"] == "gaussian 1.1"
    assert len(client.get_metric_history(runs[0].info.run_id, "auroc")) == 2
    files = {item.path for item in client.list_artifacts(runs[0].info.run_id)}
    assert {"training_curves.png", "metrics.csv", "model.pt"} <= files
