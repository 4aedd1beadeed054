"""The demonstration of the brain bundle: phantom gliomas, preparation, pre-training, folds, evaluation, a map."""

from __future__ import annotations

import json
from pathlib import Path

from custom_apps.brain.phantom import NAMES
from custom_apps.brain.prepare import RECORD
from custom_apps.common.demo_steps import report_steps

LAYOUT = "egd"
CASES, TEST_CASES, PHANTOM_SIZE, SIZE, SPACING_MM, FOLDS = 96, 2, 48, 40, 4.6, 3


def demo_commands(bundle: Path, output: Path) -> list[list[str]]:
    """Arguments of ``python`` for each step, to be run from the repository's root.

    Args:
        bundle: folder of the bundle.
        output: folder for data, models and results.
    """
    raw, prepared = output / "data" / NAMES[LAYOUT], output / "prepared" / NAMES[LAYOUT]
    phantom = ["-m", "custom_apps", "phantom", bundle.name, str(raw.parent), "--kind", LAYOUT]
    phantom += ["--cases", str(CASES), "--test-cases", str(TEST_CASES), "--size", str(PHANTOM_SIZE)]
    prepare = ["-m", "custom_apps", "prepare", bundle.name, str(raw), str(prepared)]
    prepare += ["--size", str(SIZE), "--spacing-mm", str(SPACING_MM), "--no-pictures"]
    places = [
        "--dataset_dir",
        str(prepared),
        "--ckpt_dir",
        str(output / "models"),
        "--output_dir",
        str(output / "eval"),
    ]

    def configs(*names: str) -> list[str]:
        return ["--config_file", str([str(bundle / "configs" / f"{name}.yaml") for name in names])]

    bundle_run = ["-m", "monai.bundle", "run"]
    return [
        *([] if raw.is_dir() else [phantom]),
        *([] if (prepared / RECORD).is_file() else [prepare]),
        ["-m", "custom_apps", "check", bundle.name, str(prepared)],
        [*bundle_run, *configs("train", "pretrain", "demo", "demo_pretraining"), *places],
        [
            *("-m", "custom_apps", "folds", bundle.name, "--folds", str(FOLDS), "--overlays", "demo", *places),
            *("--pretrained", str(output / "models" / "pretrained" / "model.pt")),
        ],
        [
            *bundle_run,
            *configs("inference", "demo", "ensemble"),
            *("--folds", str(FOLDS), "--spacing_mm", str(SPACING_MM)),
            *("--dataset_dir", str(raw) + "Test"),
            *("--ckpt_dir", str(output / "models")),
            *("--output_dir", str(output / "predictions")),
            *("--existing", "overwrite"),
        ],
        *report_steps(bundle, output / "eval" / "cross_validation", output / "predictions"),
    ]


def demo_summary(output: Path) -> str:
    """What came out: area under the curve over all folds, and where the figures are.

    Args:
        output: folder of the demonstration.
    """
    results = output / "eval" / "cross_validation"
    area = json.loads((results / "folds.json").read_text(encoding="utf-8"))["estimates"]["all cases"]
    value, low, high = (area["auroc"][key] for key in ("value", "low", "high"))
    return "\n".join(
        [
            f"AUROC of IDH status {value:.2f} (95 % interval {low:.2f} to {high:.2f}) on {area['cases']} phantom "
            "patients, each predicted by a model that has not seen them",
            f"curves            {results / 'figures'}",
            f"table             {results / 'folds.md'}",
            f"reconstructions   {output / 'eval' / 'pretrained' / 'figures' / 'reconstructions.png'}",
            f"maps of new ones  {output / 'predictions' / 'maps'}",
            f"reports           {results / 'report.html'}, {output / 'predictions' / 'report.html'}",
        ]
    )
