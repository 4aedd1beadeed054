"""Interactive segmentation of ``umamba_seg`` end to end on phantom data, run as a user types it."""

from __future__ import annotations

import csv
import json
import textwrap
from itertools import takewhile

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import create_workflow

from custom_apps.seg.click_inferer import ClickInferer
from custom_apps.seg.click_training import prepare_click_batch
from custom_apps.seg.clicks import read_clicks
from custom_apps.seg.interactive_session import InteractiveSession
from custom_apps.seg.phantom_clicks import write_click_phantom
from tests.bundles.bundle_cli import ROOT, bundle_command, run

CONFIGS = ROOT / "bundles" / "umamba_seg" / "configs"
TRAINING = ("train", "interactive", "demo_interactive")
SMALL = {
    "plan_overrides": {"batch_size": 2, "patch_size": [8, 16, 16], "first_features": 4, "max_stages": 3},
    "epochs": 2,
    "iterations": 3,
    "val_iterations": 2,
    "val_interval": 1,
}


def config(*names):
    return [CONFIGS / f"{name}.yaml" for name in names]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_click_phantom(
        tmp_path_factory.mktemp("data"), cases=5, test_cases=2, size=20, canals=("Left_IAC", "Right_IAC")
    )


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run(bundle_command(config(*TRAINING), **places(folder, data), **SMALL))
    return folder


def places(folder, data):
    return {
        "dataset_dir": data,
        "prepared_dir": folder / "prepared",
        "ckpt_dir": folder / "models",
        "output_dir": folder / "eval",
    }


def test_the_trained_model_takes_clicks(trained, data):
    model = json.loads((trained / "models" / "plans.json").read_text())["configurations"]["3d_fullres"]["architecture"]
    assert model["arch_kwargs"]["bottleneck"] == "mamba2_cross_click2"
    with open(trained / "eval" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    weights = torch.load(trained / "models" / "model.pt", weights_only=True)
    assert sum("label_embeddings" in key for key in weights) == 2
    session = InteractiveSession(trained / "models", data / "imagesTs" / "jaw_ts_000_0000.nii.gz")
    before = session.predict()
    session.add_click("Left_IAC", (5, 10, 12))
    assert session.predict().shape == before.shape == nibabel.load(session_image(data)).shape[::-1]


def session_image(data):
    return data / "imagesTs" / "jaw_ts_000_0000.nii.gz"


def test_the_model_card_shows_a_session_that_works(trained, data):
    card = (CONFIGS.parent / "docs" / "README.md").read_text(encoding="utf-8")
    lines = card[card.index("    from custom_apps.seg.interactive_session") :].splitlines()
    program = textwrap.dedent("\n".join(takewhile(lambda line: not line or line.startswith("    "), lines)))
    for printed, real in (
        ("bundles/umamba_seg/models", trained / "models"),
        ("case_0000.nii.gz", session_image(data)),
        ("[10, 52, 31]", [4, 12, 11]),
    ):
        assert printed in program
        program = program.replace(printed, str(real))
    names = {}
    exec(program, names)
    assert names["labels"].dtype == np.int16
    assert names["session"].clicks == []


def test_evaluation_with_clicks_and_over_their_number(trained, data):
    files = config(*TRAINING, "evaluate", "evaluate_interactive")
    output = run(bundle_command(files, **places(trained, data), part="test", click_counts=[0, 2]))
    assert "dice over clicks in each structure" in output
    results = trained / "eval" / "test"
    with open(results / "click_curve.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["clicks"], row["label"], row["cases"]) for row in rows] == [
        (n, label, "2") for n in "02" for label in ("Left_IAC", "Right_IAC", "mean")
    ]
    assert (results / "figures" / "click_curve.png").stat().st_size > 5000
    assert len(json.loads((results / "summary.json").read_text())["metric_per_case"]) == 2


def test_predictions_follow_the_files_of_clicks(trained, data, tmp_path):
    options = {"dataset_dir": data / "imagesTs", "ckpt_dir": trained / "models", "output_dir": tmp_path}
    run(bundle_command(config("inference", "inference_interactive"), **options, clicks_dir=data / "clicksTs"))
    image = nibabel.load(session_image(data))
    written = nibabel.load(tmp_path / "jaw_ts_000.nii.gz")
    assert written.shape == image.shape
    np.testing.assert_allclose(written.affine, image.affine, atol=1e-5)
    session = InteractiveSession(trained / "models", session_image(data))
    session.set_clicks(read_clicks(data / "clicksTs" / "jaw_ts_000_clicks.json", {"Left_IAC": 1, "Right_IAC": 2}))
    assert len(session.clicks) == 2
    assert np.array_equal(np.asarray(written.dataobj).T, session.predict())


def test_labelling_servers_find_what_they_read(trained, data, tmp_path):
    """MONAI Label runs a bundle by these ids of its inference configuration."""
    workflow = create_workflow(
        config_file=[str(path) for path in config("inference", "inference_interactive")],
        workflow_type="infer",
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        bundle_root=str(CONFIGS.parent),
        dataset_dir=str(data / "imagesTs"),
        ckpt_dir=str(trained / "models"),
        output_dir=str(tmp_path),
    )
    assert workflow.check_properties() == []
    assert workflow.network_def.takes_clicks
    assert str(workflow.bundle_root) == str(CONFIGS.parent)
    assert workflow.device == torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    assert isinstance(workflow.inferer, ClickInferer)
    names = [type(transform).__name__ for transform in workflow.preprocessing.transforms]
    assert names == ["LoadImageCased", "PreprocessCased", "PrepareClicksd"]
    names = [type(transform).__name__ for transform in workflow.postprocessing.transforms]
    assert names == ["RestoreSegmentationd", "PaintClicksd", "SaveImageCased"]
    assert len(workflow.dataset) == 2
    assert workflow.evaluator.prepare_batch is prepare_click_batch
    # A server hands over an item of its own and stores the result itself.
    item = workflow.dataset.data[0] | {"clicks": {"points": [{"name": "Left_IAC", "point": [5, 10, 12]}]}}
    prepared = workflow.preprocessing(item)
    clicks = prepared["click_points"], prepared["click_labels"]
    with torch.no_grad():
        prepared["pred"] = workflow.inferer(prepared["image"][None], workflow.network_def.eval(), clicks=clicks)[0]
        without = workflow.inferer(prepared["image"][None], workflow.network_def)[0]
    assert (prepared["pred"] - without).abs().max() > 1e-4
    for transform in workflow.postprocessing.transforms[:2]:
        prepared = transform(prepared)
    assert prepared["pred"].shape == (1, *nibabel.load(session_image(data)).shape[::-1])
    with pytest.raises(RuntimeError) as error:
        workflow.preprocessing(item | {"clicks": {"points": [{"name": "Nerve", "point": [5, 10, 12]}]}})
    assert "jaw_ts_000_0000.nii.gz: click 1 names 'Nerve'" in str(error.value.__cause__)
    workflow.finalize()
