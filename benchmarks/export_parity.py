"""Every network as an exported program and as ONNX, against itself in Python: ``python -m benchmarks.export_parity``.

Prints a Markdown table. The networks are the small ones of the contract tests, with random weights. What may vary is
compared at another size: one sample, and twice the length of each spatial axis.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils._pytree import tree_map

from custom_apps.common.network_export import (
    DYNAMIC,
    Exported,
    export_network,
    flat_tensors,
    of_another_size,
    run_exported,
)
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
    with tempfile.TemporaryDirectory() as folder:
        made = [attempt(network, inputs, Path(folder), kind) for kind in ("pt2", "onnx")]
    cells = [outcome if isinstance(outcome, str) else f"{outcome[1]:.0e}" for outcome in made]
    if isinstance(made[1], str):
        return f"| {entry.name} | {' | '.join(cells)} | | | |"
    last = made[1][0]
    return f"| {entry.name} | {' | '.join(cells)} | {last.nodes} | {last.scans} | {varying(last)} |"


def attempt(network: nn.Module, inputs: tuple, folder: Path, kind: str) -> tuple[Exported, float] | str:
    """The export with as many varying axes as possible and its difference at other sizes, or why there is none."""
    problem = ""
    for dynamic in DYNAMIC:
        try:
            made = export_network(network, inputs, folder / f"{dynamic}.{kind}", dynamic)
            probe = others(inputs, made)
            with torch.no_grad():
                expected = flat_tensors(network(*probe))
            return made, difference(run_exported(made.path, probe), expected)
        except Exception as error:  # whatever the exporter raises is what the table tells
            cause = error.__cause__ or error
            problem = type(cause).__name__
    return problem


def others(inputs: tuple, made: Exported) -> tuple:
    """Inputs of other sizes; those of networks with several inputs have only other numbers of samples."""
    shapes = list(made.inputs.values())
    if len(inputs) == 1:
        return (of_another_size(inputs[0], shapes[0]),)
    return tree_map(lambda x: x[:1], inputs) if isinstance(shapes[0][0], str) else inputs


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
