"""Networks as files that other programs run: PyTorch's exported programs (``.pt2``) and ONNX (``.onnx``)."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import partial_file
from custom_networks.ops import using_backend

FORMATS = ("pt2", "onnx")
DYNAMIC = ("all", "batch", "none")
OPSET = 20
LARGEST_SINGLE_FILE = 1_900_000_000
"""Bytes of weights up to which they are inside an ONNX file, whose format ends at 2 GiB."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        inputs: name of each input to its shape, a name where the size may vary.
        outputs: the same of the outputs, which are called ``pred``, ``pred_1``, …
        nodes: of the graph; loops count once.
        scans: loops over time, in ONNX nodes ``Scan``.
    """

    path: Path
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]
    nodes: int
    scans: int


def export_network(
    network: nn.Module,
    inputs: Sequence[torch.Tensor],
    path: str | Path,
    dynamic: str = "batch",
    plain: bool = False,
) -> Exported:
    """Writes a network in the format of the path's ending.

    Args:
        network: in evaluation mode meanwhile.
        inputs: an example of each input, (B, ...). An axis of size 1 never varies.
        path: ``.pt2`` or ``.onnx``.
        dynamic: which axes may have other sizes later: ``none``; the first (``batch``); or ``all`` that the network
            allows. An axis that the network fixes stays fixed.
        plain: of ``.pt2``: written out in PyTorch's own operators, which needs nothing else to be loaded, and is slow
            where loops over time run step by step. Otherwise ``custom_networks.ops`` must be imported before.

    Raises:
        DataError: the file is there already, or its ending is another one.
        RuntimeError: the exporter does not get through this network.
    """
    path = Path(path)
    kind = path.suffix[1:]
    if kind not in FORMATS:
        raise DataError(path, "unknown file ending", " or ".join(f".{name}" for name in FORMATS))
    if path.exists():
        raise DataError(path, "already there and not overwritten", "another name")
    if dynamic not in DYNAMIC:
        raise ValueError(f"dynamic must be one of {', '.join(DYNAMIC)}, got {dynamic!r}")
    inputs, was_training = tuple(inputs), network.training
    try:
        # The implementations for every machine: what is compiled for this one may be missing on another.
        backend = "reference" if plain or kind == "onnx" else "torch"
        with torch.no_grad(), using_backend(backend), _quiet():
            program = torch.export.export(network.eval(), inputs, dynamic_shapes=_varying(inputs, dynamic))
            nodes, scans = (_write_onnx if kind == "onnx" else _write_pt2)(program, path)
    finally:
        network.train(was_training)
    return Exported(path, *_sizes(program), nodes, scans)


def run_exported(path: str | Path, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Outputs of an exported network on the CPU.

    Raises:
        DataError: if the file is missing or its ending is another one.
    """
    path = Path(path)
    if not path.is_file() or path.suffix[1:] not in FORMATS:
        raise DataError(path, "is no exported network", "a .pt2 or .onnx file")
    if path.suffix == ".pt2":
        with torch.no_grad(), _quiet():
            return flat_tensors(torch.export.load(path).module()(*inputs))
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    # A constant of the network that no output depends on is no input of the graph.
    names = [node.name for node in session.get_inputs()]
    given = {name: x.numpy() for name, x in zip(names, flat_tensors(list(inputs)), strict=True)}
    return [torch.from_numpy(y) for y in session.run(None, given)]


def of_another_size(example: torch.Tensor, shape: Sequence[int | str]) -> torch.Tensor:
    """The first sample of (B, C, *spatial), repeated along each spatial axis, where ``shape`` says that sizes may vary.

    Args:
        example: an input.
        shape: of this input, as in :class:`Exported`.
    """
    probe = example[:1] if isinstance(shape[0], str) else example
    factors = [2 if axis > 1 and isinstance(side, str) else 1 for axis, side in enumerate(shape)]
    return probe.repeat(*factors)


def largest_difference(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Largest difference of any number, in units of the largest number of its output; infinite for other shapes."""
    if [x.shape for x in found] != [x.shape for x in expected]:
        return float("inf")
    apart = [
        float((x.double() - y.double()).abs().max() / y.double().abs().max().clamp_min(1e-12))
        for x, y in zip(found, expected, strict=True)
    ]
    return max(apart, default=0.0)


def flat_tensors(values: Any) -> list[torch.Tensor]:
    """The tensors of nested lists, tuples and dictionaries, in order."""
    from torch.utils._pytree import tree_leaves

    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def _varying(inputs: tuple, dynamic: str) -> tuple | None:
    from torch.export import Dim
    from torch.utils._pytree import tree_map

    if dynamic == "none":
        return None
    return tree_map(lambda x: dict.fromkeys(range(x.ndim if dynamic == "all" else 1), Dim.AUTO), inputs)


def _write_pt2(program: torch.export.ExportedProgram, path: Path) -> tuple[int, int]:
    with partial_file(path) as temporary:
        torch.export.save(program, temporary)
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    return len(called), sum("scan" in target for target in called)


def _write_onnx(program: torch.export.ExportedProgram, path: Path) -> tuple[int, int]:
    size = sum(x.numel() * x.element_size() for x in program.state_dict.values())
    if size > LARGEST_SINGLE_FILE:
        raise RuntimeError(f"the weights take {size} bytes, more than fit into one ONNX file")
    exported = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
    graph = exported.model.graph
    for value in [*graph.inputs, *graph.outputs]:
        value.shape = type(value.shape)(_shape(value))
    for value, name in zip(graph.outputs, _output_names(program), strict=True):
        value.name = name
    with partial_file(path) as temporary:
        exported.save(temporary, external_data=False)
    return len(graph), sum(node.op_type == "Scan" for node in graph)


def _sizes(program: torch.export.ExportedProgram) -> tuple[dict[str, list[int | str]], dict[str, list[int | str]]]:
    """Shapes of inputs and outputs by name, with readable names of the sizes that may vary."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    signature = program.graph_signature
    given = {name: _shape(values[name]) for name in signature.user_inputs if hasattr(values.get(name), "shape")}
    made = dict(zip(_output_names(program), (_shape(values[name]) for name in signature.user_outputs), strict=True))
    names: dict[str, str] = {}
    for shape in given.values():
        for axis, side in enumerate(shape):
            if isinstance(side, str):
                names.setdefault(side, "batch" if axis == 0 else f"size_{axis}")
    for shape in (*given.values(), *made.values()):
        for axis, side in enumerate(shape):
            if isinstance(side, str):
                shape[axis] = re.sub(r"\w+", lambda found: names.get(found[0], found[0]), side)
    return given, made


def _output_names(program: torch.export.ExportedProgram) -> list[str]:
    """``pred``, and ``pred_1`` and so on for further ones."""
    return ["pred" if i == 0 else f"pred_{i}" for i in range(len(program.graph_signature.user_outputs))]


def _shape(value: Any) -> list[int | str]:
    """Sides of a tensor; a side that was allowed to vary and does not is a symbol with a number for a name."""
    return [int(str(side)) if str(side).isdigit() else str(side) for side in value.shape]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' notes on packages that nobody asked for."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch._export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
