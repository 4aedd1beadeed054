"""The demonstration of interactive segmentation: jaws in which only clicks tell the canal from decoys."""

from __future__ import annotations

import csv
from pathlib import Path

from custom_apps.common.demo_steps import report_steps
from custom_apps.common.errors import DataError
from custom_apps.seg.phantom_clicks import NAME

SHOWN_CLICKS = (0, 1, 3, 5)


def demo_commands(bundle: Path, output: Path) -> list[list[str]]:
    """Arguments of ``python`` for each step, to be run from the repository's root.

    Args:
        bundle: folder of the bundle.
        output: folder for data, model and results.
    """
    data = output / "data" / NAME

    def configs(*names: str) -> list[str]:
        return ["-m", "monai.bundle", "run", "--config_file", str([f"{bundle}/configs/{name}.yaml" for name in names])]

    training = ("train", "interactive", "demo_interactive")
    places = [
        *("--dataset_dir", str(data)),
        *("--prepared_dir", str(output / "prepared")),
        *("--ckpt_dir", str(output / "models")),
        *("--output_dir", str(output / "eval")),
    ]
    phantom = ["-m", "custom_apps", "phantom", "umamba_seg", str(data.parent), "--kind", "clicks"]
    return [
        *([] if (data / "dataset.json").is_file() else [phantom]),
        ["-m", "custom_apps", "check", "umamba_seg", str(data)],
        [*configs(*training), *places],
        [
            *configs(*training, "evaluate", "evaluate_interactive"),
            *places,
            *("--part", "test", "--click_counts", str(list(SHOWN_CLICKS))),
        ],
        [
            *configs("inference", "inference_interactive"),
            *("--dataset_dir", str(data / "imagesTs")),
            *("--clicks_dir", str(data / "clicksTs")),
            *("--ckpt_dir", str(output / "models")),
            *("--output_dir", str(output / "predictions")),
            *("--existing", "overwrite"),
        ],
        *report_steps(bundle, output / "eval" / "test", output / "predictions"),
    ]


def demo_summary(output: Path) -> str:
    """What came out: Dice over the number of clicks, and where the pictures are.

    Args:
        output: folder of the demonstration.

    Raises:
        DataError: if the curve has not been written.
    """
    test = output / "eval" / "test"
    path = test / "click_curve.csv"
    if not path.is_file():
        raise DataError(path, "is missing", "the curve that the demonstration writes")
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] == "mean"]
    lines = [
        f"Dice {float(row['mean']):.3f} (95 % interval {float(row['95 % low']):.3f} to {float(row['95 % high']):.3f}, "
        f"{row['cases']} phantom test cases) with {row['clicks']} clicks in the canal"
        for row in rows
    ]
    return "\n".join(
        [
            *lines,
            f"curve            {test / 'figures' / 'click_curve.png'}",
            f"overlay          {test / 'figures' / 'overlays.png'}",
            f"training curves  {output / 'eval' / 'figures' / 'training_curves.png'}",
            f"predictions      {output / 'predictions'}",
            f"reports          {test / 'report.html'}, {output / 'predictions' / 'report.html'}",
        ]
    )
