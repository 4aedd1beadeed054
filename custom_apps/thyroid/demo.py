"""The demonstration of the thyroid bundle: pre-training on phantom images, both fine-tunings, scores, masks."""

from __future__ import annotations

import json
from pathlib import Path

from custom_apps.common.demo_steps import report_steps
from custom_apps.thyroid.phantom import NAMES

NODULE_CASES, CLASS_CASES, TEST_CASES = 60, 240, 48


def demo_commands(bundle: Path, output: Path) -> list[list[str]]:
    """Arguments of ``python`` for each step, to be run from the repository's root.

    Args:
        bundle: folder of the bundle.
        output: folder for data, models and results.
    """
    nodules, classes = output / "data" / NAMES["tn3k"], output / "data" / NAMES["classes"]
    pretrained = ["--pretrained", str(output / "models" / "pretrained" / "model.pt")]

    def step(configs: str, task: str, *more: str) -> list[str]:
        files = [str(bundle / "configs" / f"{name}.yaml") for name in configs.split()]
        folders = ["--ckpt_dir", str(output / "models" / task), "--output_dir", str(output / "eval" / task)]
        return ["-m", "monai.bundle", "run", "--config_file", str(files), *folders, *more]

    def phantom(kind: str, folder: Path, cases: int) -> list[list[str]]:
        counts = ["--cases", str(cases), "--test-cases", str(TEST_CASES)]
        command = ["-m", "custom_apps", "phantom", bundle.name, str(folder.parent), "--kind", kind, *counts]
        return [] if folder.is_dir() else [command]

    on_nodules, on_classes = ["--dataset_dir", str(nodules)], ["--dataset_dir", str(classes)]
    classification = "train train_classification demo demo_classification"
    return [
        *phantom("tn3k", nodules, NODULE_CASES),
        *phantom("classes", classes, CLASS_CASES),
        ["-m", "custom_apps", "check", bundle.name, str(nodules)],
        step("train pretrain demo demo_pretraining", "pretrained", *on_nodules),
        step("train demo", "segmentation", *on_nodules, *pretrained),
        step("train demo evaluate", "segmentation", *on_nodules),
        step(classification, "classification", *on_classes, *pretrained),
        step(f"{classification} evaluate_classification", "classification", *on_classes),
        [
            *("-m", "monai.bundle", "run", "--config_file"),
            str([str(bundle / "configs" / f"{name}.yaml") for name in ("inference", "demo")]),
            *("--dataset_dir", str(nodules / "test-image"), "--ckpt_dir", str(output / "models" / "segmentation")),
            *("--output_dir", str(output / "predictions"), "--existing", "overwrite"),
        ],
        *report_steps(
            bundle,
            *(output / "eval" / task / "test" for task in ("segmentation", "classification")),
            output / "predictions",
        ),
    ]


def demo_summary(output: Path) -> str:
    """What came out: nodule IoU, area under the curve, and where the pictures are.

    Args:
        output: folder of the demonstration.
    """
    folders = {task: output / "eval" / task / "test" for task in ("segmentation", "classification")}
    results = {
        task: json.loads((folder / "results.json").read_text(encoding="utf-8")) for task, folder in folders.items()
    }
    iou = results["segmentation"]["pooled"]["iou"]
    area = results["classification"]["thresholds"]["threshold 0.5"]["auroc"]

    def brief(value: dict[str, float]) -> str:
        return f"{value['value']:.3f} (95 % interval {value['low']:.3f} to {value['high']:.3f})"

    return "\n".join(
        [
            f"nodule IoU       {brief(iou)}, all pixels of {results['segmentation']['images']} phantom test images",
            f"AUROC            {brief(area)}, malignant, {results['classification']['cases']} phantom test images",
            f"restored images  {output / 'eval' / 'pretrained' / 'figures' / 'reconstructions.png'}",
            f"outlines         {folders['segmentation'] / 'figures' / 'overlays.png'}",
            f"curves           {folders['classification'] / 'figures' / 'classification.png'}",
            f"tables           {folders['segmentation'] / 'results.md'}, {folders['classification'] / 'results.md'}",
            f"predictions      {output / 'predictions'}",
            *(f"report           {folder / 'report.html'}" for folder in (*folders.values(), output / "predictions")),
        ]
    )
