"""The demonstration of the segmentation bundle: phantom CT, training, evaluation on held-out cases, prediction."""

from __future__ import annotations

import json
from pathlib import Path

from custom_apps.common.demo_steps import report_steps
from custom_apps.seg.phantom_ct import NAME


def demo_commands(bundle: Path, output: Path) -> list[list[str]]:
    """Arguments of ``python`` for each step, to be run from the repository's root.

    Args:
        bundle: folder of the bundle.
        output: folder for data, model and results.
    """
    data = output / "data" / NAME
    configs = {name: str(bundle / "configs" / f"{name}.yaml") for name in ("train", "demo", "evaluate", "inference")}
    places = [
        *("--dataset_dir", str(data)),
        *("--prepared_dir", str(output / "prepared")),
        *("--ckpt_dir", str(output / "models")),
        *("--output_dir", str(output / "eval")),
    ]
    bundle_run = ["-m", "monai.bundle", "run", "--config_file"]
    return [
        *(
            []
            if (data / "dataset.json").is_file()
            else [["-m", "custom_apps", "phantom", "umamba_seg", str(data.parent)]]
        ),
        ["-m", "custom_apps", "check", "umamba_seg", str(data)],
        [*bundle_run, str([configs["train"], configs["demo"]]), *places],
        [*bundle_run, str([configs["train"], configs["demo"], configs["evaluate"]]), *places, "--part", "test"],
        [
            *bundle_run,
            configs["inference"],
            *("--dataset_dir", str(data / "imagesTs")),
            *("--ckpt_dir", str(output / "models")),
            *("--output_dir", str(output / "predictions")),
            *("--existing", "overwrite"),
        ],
        *report_steps(bundle, output / "eval" / "test", output / "predictions"),
    ]


def demo_summary(output: Path) -> str:
    """What came out: mean Dice on the test cases and where the pictures are.

    Args:
        output: folder of the demonstration.
    """
    test = output / "eval" / "test"
    summary = json.loads((test / "summary.json").read_text(encoding="utf-8"))
    return "\n".join(
        [
            f"mean foreground Dice {summary['foreground_mean']['Dice']:.3f} on "
            f"{len(summary['metric_per_case'])} phantom test cases",
            f"overlay          {test / 'figures' / 'overlays.png'}",
            f"training curves  {output / 'eval' / 'figures' / 'training_curves.png'}",
            f"table            {test / 'structures.md'}",
            f"predictions      {output / 'predictions'}",
            f"reports          {test / 'report.html'}, {output / 'predictions' / 'report.html'}",
        ]
    )
