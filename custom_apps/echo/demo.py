"""The demonstration of the echo bundle: phantom videos, pre-training, ejection fraction, evaluation, prediction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from custom_apps.common.demo_steps import report_steps
from custom_apps.echo.echonet import FILE_LIST, VIDEOS, echonet_records
from custom_apps.echo.phantom import NAME

CASES, TEST_CASES = 120, 16


def demo_commands(bundle: Path, output: Path) -> list[list[str]]:
    """Arguments of ``python`` for each step, to be run from the repository's root.

    Args:
        bundle: folder of the bundle.
        output: folder for data, models and results.
    """
    data = output / "data" / NAME
    phantom = ["-m", "custom_apps", "phantom", "echo_ef_mamba3d", str(data.parent)]
    phantom += ["--cases", str(CASES), "--test-cases", str(TEST_CASES)]

    def bundle_run(*names: str, **options: object) -> list[str]:
        configs = [str(bundle / "configs" / f"{name}.yaml") for name in names]
        given = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        return ["-m", "monai.bundle", "run", "--config_file", str(configs), *given]

    pretrained = output / "pretrained"
    places = {"dataset_dir": data, "ckpt_dir": output / "models", "output_dir": output / "eval"}
    return [
        *([] if (data / FILE_LIST).is_file() else [phantom]),
        ["-m", "custom_apps", "check", "echo_ef_mamba3d", str(data)],
        bundle_run(
            *("train", "pretrain", "demo", "demo_pretraining"),
            dataset_dir=data,
            ckpt_dir=pretrained / "models",
            output_dir=pretrained / "eval",
        ),
        bundle_run("train", "demo", **places, pretrained=pretrained / "models" / "model.pt"),
        bundle_run("train", "demo", "evaluate", **places, part="test"),
        bundle_run(
            *("inference", "demo"),
            dataset_dir=data / VIDEOS / "phantom_ts_000.avi",
            ckpt_dir=output / "models",
            output_dir=output / "predictions",
            existing="overwrite",
        ),
        *report_steps(bundle, output / "eval" / "test", output / "predictions"),
    ]


def demo_summary(output: Path) -> str:
    """What came out: error on the test videos beside the spread of their ejection fractions, and where the figures are.

    Args:
        output: folder of the demonstration.
    """
    test = output / "eval" / "test"
    results = json.loads((test / "results.json").read_text(encoding="utf-8"))
    protocol = results["protocols"]["all_clips"]
    reported = [record["ef_percent"] for record in echonet_records(output / "data" / NAME, "TEST")]
    return "\n".join(
        [
            f"ejection fraction of {len(reported)} phantom test videos: mean absolute error "
            f"{protocol['mae']['value']:.1f} points, standard deviation {np.std(reported):.1f}",
            f"scatter and agreement  {test / 'figures'}",
            f"training curves        {output / 'eval' / 'figures' / 'training_curves.png'}",
            f"table                  {test / 'results.md'}",
            f"prediction             {output / 'predictions' / 'ef.csv'}",
            f"reports                {test / 'report.html'}, {output / 'predictions' / 'report.html'}",
        ]
    )
