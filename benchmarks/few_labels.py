"""Held-out Dice of U-Mamba_Bot with few labeled cases: from scratch, after pre-training, and semi-supervised.

Every fifth case (by name) is held out of everything. Of the others a few, evenly spread over the names, keep their
labels; the images of the rest are ``unlabeledTr``. One autoencoder is trained on all training images with
``pretrain.yaml``. Then each method trains with every seed, ``cpu.yaml`` and the same number of iterations (of which the
semi-supervised one spends a growing share, up to a half, on images without labels); the final weights segment the
held-out cases. Writes ``few_labels.json`` and prints Markdown: the Dice of a case is the mean over the seeds, intervals
are over cases. The labeled cases are the same for all seeds.

    python -m benchmarks.few_labels --dataset_dir Dataset004_Hippocampus --output_dir runs
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.segmentation_hold_out import HELD_OUT, run
from custom_apps.common.partial_file import write_json
from custom_apps.common.statistics import bootstrap_mean, paired_difference
from custom_apps.common.table import markdown_table
from custom_apps.seg.raw_dataset import Case, RawDataset

SCRATCH, PRETRAINED, SEMI = "from scratch", "pre-trained", "pre-trained, semi-supervised"
CONFIGS = {SCRATCH: ["train", "cpu"], PRETRAINED: ["train", "cpu"], SEMI: ["train", "semi_supervised", "cpu"]}
EPOCH = 25
"""Iterations of an epoch in ``cpu.yaml``."""


def link(case: Case, target: Path, images: str, labels: str | None) -> None:
    """Links the files of a case into folders of another data set."""
    files = [(path, images) for path in case.images] + ([(case.label, labels)] if labels else [])
    for path, folder in files:
        (target / folder).mkdir(parents=True, exist_ok=True)
        (target / folder / path.name).symlink_to(path.resolve())


def few_labels(dataset_dir: Path, folder: Path, labeled: int) -> Path:
    """A data set of links: ``labeled`` training cases, other images without labels, every fifth case for testing."""
    dataset = RawDataset(dataset_dir)
    target = folder / dataset.name
    if (target / "dataset.json").is_file():
        return target
    cases = dataset.training_cases
    training = [case for index, case in enumerate(cases) if index % HELD_OUT != HELD_OUT - 1]
    chosen = set(np.linspace(0, len(training) - 1, labeled).round().astype(int).tolist())
    for index, case in enumerate(training):
        link(case, target, *(("imagesTr", "labelsTr") if index in chosen else ("unlabeledTr", None)))
    for case in cases[HELD_OUT - 1 :: HELD_OUT]:
        link(case, target, "imagesTs", "labelsTs")
    write_json(dataset.description | {"numTraining": labeled}, target / "dataset.json")
    return target


def folder_of(output: Path, method: str, seed: int) -> Path:
    """Where the run of a method and a seed is."""
    return output / f"{method.replace(', ', '_').replace(' ', '_')}_{seed}"


def case_scores(folder: Path) -> dict[str, dict[str, float]] | None:
    """Structure to case to Dice, of a finished run."""
    table = folder / "eval" / "test" / "cases.csv"
    if not table.is_file():
        return None
    with open(table, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith("dice ")]
    return {name.removeprefix("dice "): {row["case"]: float(row[name]) for row in rows} for name in names}


def summary(output: Path, seeds: list[int]) -> dict[str, Any]:
    """What the finished runs left: for each method the seeds, and Dice with intervals of each structure."""
    methods: dict[str, Any] = {}
    of_cases: dict[str, np.ndarray] = {}
    for method in CONFIGS:
        found = {seed: scores for seed in seeds if (scores := case_scores(folder_of(output, method, seed)))}
        if not found:
            continue
        structures = list(next(iter(found.values())))
        table = {
            name: np.array([list(scores[name].values()) for scores in found.values()]).mean(axis=0)
            for name in structures
        }
        of_cases[method] = table["mean"]
        methods[method] = {
            "seeds": list(found),
            "cases": len(table["mean"]),
            "dice": {name: vars(bootstrap_mean(values)) for name, values in table.items()},
            "mean_of_each_seed": [float(np.mean(list(scores["mean"].values()))) for scores in found.values()],
            "text": {name: bootstrap_mean(values).brief() for name, values in table.items()},
        }
        if method != SCRATCH and SCRATCH in methods and methods[SCRATCH]["seeds"] == list(found):
            methods[method]["gain"] = paired_difference(of_cases[method], of_cases[SCRATCH]).brief()
    return methods


def markdown(methods: dict[str, Any]) -> str:
    """The table."""
    if not methods:
        return "no finished run"
    structures = list(next(iter(methods.values()))["text"])
    rows = [
        [
            method,
            *(facts["text"][name] for name in structures),
            facts.get("gain", "-"),
            ", ".join(f"{value:.3f}" for value in facts["mean_of_each_seed"]),
            facts["cases"],
        ]
        for method, facts in methods.items()
    ]
    headers = ["training", *(f"Dice {name} (95 %)" for name in structures), "gain over scratch (95 %)", "each seed"]
    return markdown_table(rows, [*headers, "cases"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--labeled", type=int, default=10, help="cases that keep their labels")
    parser.add_argument("--iterations", type=int, default=200, help="of each training, a multiple of 25")
    parser.add_argument("--pretraining_iterations", type=int, default=400, help="a multiple of 25")
    parser.add_argument("--pretraining_rate", type=float, default=1e-3, help="learning rate for so short a run")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="*", choices=list(CONFIGS), default=list(CONFIGS))
    parser.add_argument("--report_only", action="store_true", help="print the table of finished runs")
    arguments = parser.parse_args()
    output = arguments.output_dir
    settings = {key: value for key, value in vars(arguments).items() if key not in ("output_dir", "report_only")}
    settings["dataset_dir"] = arguments.dataset_dir.name

    def report() -> str:
        methods = summary(output, arguments.seeds)
        write_json({"settings": settings, "methods": methods}, output / "few_labels.json")
        return markdown(methods)

    if not arguments.report_only:
        data = few_labels(arguments.dataset_dir, output / "data", arguments.labeled)
        autoencoder = output / "autoencoder"
        epochs = arguments.pretraining_iterations // EPOCH
        if not (autoencoder / "model_final.pt").is_file():
            options = ["--epochs", epochs, "--learning_rate", arguments.pretraining_rate, "--warmup_epochs", 1]
            options += ["--val_interval", 4]
            run(data, autoencoder, output, options, ["train", "pretrain", "cpu"])
        epochs = arguments.iterations // EPOCH
        # Seeds that all methods have finished make a table before the last one ends.
        for seed in arguments.seeds:
            for method in arguments.methods:
                folder = folder_of(output, method, seed)
                if case_scores(folder):
                    continue
                options = ["--epochs", epochs, "--val_interval", epochs, "--seed", seed]
                options += [] if method == SCRATCH else ["--pretrained", autoencoder / "model.pt"]
                run(data, folder, output, options, CONFIGS[method])
                final = ["--part", "test", "--weights", "model_final.pt"]
                run(data, folder, output, final, ["train", "cpu", "evaluate"])
                print(report(), flush=True)
    print(report())


if __name__ == "__main__":
    main()
