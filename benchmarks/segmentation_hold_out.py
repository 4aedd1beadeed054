"""Held-out Dice of U-Mamba_Bot, U-Mamba_Enc and the same network without Mamba, on a data set in nnU-Net layout.

Every fifth case (by name) is held out of everything. The others train with ``train.yaml`` and ``cpu.yaml``, fold "all";
the final weights segment the held-out cases with ``evaluate.yaml``. Prints a Markdown table.

    python benchmarks/segmentation_hold_out.py --dataset_dir Dataset004_Hippocampus --output_dir runs
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

from custom_apps.common.partial_file import write_json
from custom_apps.common.table import markdown_table
from custom_apps.seg.raw_dataset import RawDataset

CONFIGS = Path(__file__).parents[1] / "bundles" / "umamba_seg" / "configs"
NETWORKS = {
    "U-Mamba_Bot": ["--network_name", "UMambaBot"],
    "U-Mamba_Enc": ["--network_name", "UMambaEnc"],
    "mixer: none": ["--network_name", "UMambaBot", "--mixer", "none"],
}
HELD_OUT = 5


def hold_out(dataset_dir: Path, folder: Path) -> Path:
    """A data set of links to the files of another, every fifth labeled case as a test case."""
    dataset = RawDataset(dataset_dir)
    target = folder / dataset.name
    if (target / "dataset.json").is_file():
        return target
    cases = dataset.training_cases
    for index, case in enumerate(cases):
        part = "Ts" if index % HELD_OUT == HELD_OUT - 1 else "Tr"
        for path, kind in [*((image, "images") for image in case.images), (case.label, "labels")]:
            link = target / f"{kind}{part}" / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    write_json(dataset.description | {"numTraining": len(cases) - len(cases) // HELD_OUT}, target / "dataset.json")
    return target


def run(data: Path, folder: Path, output: Path, options: list[str], configs: list[str]) -> None:
    """One ``monai.bundle run`` with folders of its own."""
    files = str([str(CONFIGS / f"{name}.yaml") for name in configs])
    places = ["--dataset_dir", data, "--prepared_dir", output / "prepared", "--ckpt_dir", folder]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", files, *places]
    command += ["--output_dir", folder / "eval", "--fold", "all", *options]
    subprocess.run([str(part) for part in command], check=True)


def rows(output: Path) -> tuple[list[str], list[list]]:
    """Structures, and what each finished run left: Dice with intervals, training time, memory, machine."""
    structures, found = [], []
    for name in NETWORKS:
        folder = output / name.replace(": ", "_")
        record = folder / "eval" / "run.json"
        table = folder / "eval" / "test" / "structures.csv"
        if not table.is_file():
            continue
        facts = json.loads(record.read_text(encoding="utf-8"))
        with open(table, encoding="utf-8") as file:
            dice = {row["label"]: row for row in csv.DictReader(file) if row["measure"] == "dice"}
        cells = [
            f"{float(d['mean']):.3f} ({float(d['95 % low']):.3f}–{float(d['95 % high']):.3f})" for d in dice.values()
        ]
        cases = next(iter(dice.values()))["cases"]
        minutes = f"{facts['cpu_seconds'] / 60:.0f}"
        found.append([name, *cells, cases, minutes, f"{facts['peak_memory_mib']['host']:.0f}", facts["machine"]])
        structures = list(dice)
    return structures, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--report_only", action="store_true", help="print the table of finished runs")
    arguments = parser.parse_args()
    output = arguments.output_dir
    if not arguments.report_only:
        data = hold_out(arguments.dataset_dir, output / "data")
        for name in arguments.networks:
            folder = output / name.replace(": ", "_")
            run(data, folder, output, NETWORKS[name], ["train", "cpu"])
            final = ["--part", "test", "--weights", "model_final.pt", *NETWORKS[name]]
            run(data, folder, output, final, ["train", "cpu", "evaluate"])
    structures, results = rows(output)
    headers = ["network", *(f"Dice {name} (95 %)" for name in structures), "cases", "CPU min", "peak MiB", "machine"]
    print(markdown_table(results, headers))


if __name__ == "__main__":
    main()
