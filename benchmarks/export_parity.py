"""Every network as an exported program and as ONNX, against itself in Python: ``python -m benchmarks.export_parity``.

Prints a Markdown table. The networks are the small ones of the contract tests, with random weights.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from custom_apps.common.network_export import DYNAMIC, Exported, export_network, flat_tensors, run_exported
from custom_apps.common.network_export import largest_difference as difference
from tests.nets_contract.registry import ENTRIES, Entry

HEADER = """| network | `.pt2` | ONNX | ONNX nodes | loops | axes that may vary |
|---|---|---|---|---|---|"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export_parity", description=__doc__)
    parser.add_argument("networks", nargs="*", help="names in the registry of the contract tests; all if none is given")
    names = parser.parse_args().networks
    print(HEADER, flush=True)
    for entry in ENTRIES:
        if not names or entry.name in names:
            print(row(entry), flush=True)


def row(entry: Entry) -> str:
    """Differences are the largest of any output, in units of its largest number."""
    torch.manual_seed(0)
    network, inputs = entry.build().eval(), entry.inputs()
    with torch.no_grad():
        expected = flat_tensors(network(*inputs))
    cells, last = [], None
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("pt2", "onnx"):
            made = attempt(network, inputs, Path(folder), kind)
            if isinstance(made, Exported):
                cells.append(f"{difference(run_exported(made.path, inputs), expected):.0e}")
                last = made
            else:
                cells.append(made)
    if last is None or last.path.suffix != ".onnx":
        return f"| {entry.name} | {' | '.join(cells)} | | | |"
    return f"| {entry.name} | {' | '.join(cells)} | {last.nodes} | {last.scans} | {varying(last)} |"


def attempt(network: nn.Module, inputs: tuple, folder: Path, kind: str) -> Exported | str:
    """The export with as many varying axes as possible, or why there is none."""
    problem = ""
    for dynamic in DYNAMIC:
        try:
            return export_network(network, inputs, folder / f"{dynamic}.{kind}", dynamic)
        except Exception as error:  # whatever the exporter raises is what the table tells
            cause = error.__cause__ or error
            problem = f"{type(cause).__name__}: {str(cause).strip().splitlines()[0][:80]}"
    return problem.replace("|", "/")


def varying(exported: Exported) -> str:
    first = next(iter(exported.inputs.values()))
    axes = [axis for axis, side in enumerate(first) if isinstance(side, str)]
    names = {0: "batch"} | ({1: "channels"} if 1 in axes else {})
    spatial = [axis for axis in axes if axis > 1]
    found = [names[axis] for axis in axes if axis in names]
    if spatial:
        found.append("all spatial" if len(spatial) == len(first) - 2 else f"spatial {spatial}")
    return ", ".join(found) or "none"


if __name__ == "__main__":
    started = time.time()
    main()
    print(f"\n{time.time() - started:.0f} s; PyTorch {torch.__version__}")
