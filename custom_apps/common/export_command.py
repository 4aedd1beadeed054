"""The command ``export``: a bundle's trained network as a file for other programs, checked against Python."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from custom_apps.common.bundle_folder import METADATA, find_bundle
from custom_apps.common.checkpoint_files import load_weights, read_checkpoint
from custom_apps.common.config_literal import config_literal
from custom_apps.common.errors import DataError
from custom_apps.common.fold_run import configuration
from custom_apps.common.model_weights import describe_weights, require_weights
from custom_apps.common.network_export import (
    FORMATS,
    Exported,
    export_network,
    flat_tensors,
    of_another_size,
    run_exported,
)
from custom_apps.common.network_export import largest_difference as difference
from custom_apps.common.partial_file import write_json
from custom_apps.common.room import Room, imported

LOADING = "import custom_networks.ops before torch.export.load"


@dataclass(frozen=True)
class NetworkFacts:
    """What a program that runs an exported network must know about its input and output.

    Attributes:
        input_shape: (C, *spatial), without the batch.
        spacing_mm: edge of a pixel or voxel along each spatial axis; None where the network was not made for one.
        labels: name of each output channel; None for a number.
        preprocessing: transforms in front of the network, in order.
    """

    input_shape: list[int]
    spacing_mm: list[float] | None
    labels: list[str] | None
    preprocessing: list[str]


def run_export(room: Room, arguments: argparse.Namespace) -> int:
    """Runs the command, prints what was written, and gives the exit code: 1 above the tolerance."""
    path = Path(arguments.output)
    if path.suffix[1:] not in FORMATS:
        path = path.with_name(f"{path.name}.{arguments.format or 'pt2'}")
    elif arguments.format not in (None, path.suffix[1:]):
        raise DataError(path, f"does not end as --format {arguments.format} says", f".{arguments.format}")
    record_path = path.with_name(f"{path.name}.json")
    for target in (path, record_path):
        if target.exists():
            raise DataError(target, "already there and not overwritten", "another name")
    bundle = find_bundle(room.bundle, arguments.bundle_dir)
    parser = inference_parser(bundle, arguments.overlay, dict(arguments.set), arguments.ckpt_dir)
    # What stands in while a bundle is inspected without a model must not describe weights that lack their plan.
    files = require_weights(parser, bundle)
    if len(files) > 1:
        raise DataError(files[0], "is one of several networks of an ensemble", "one network: export each by itself")
    facts = imported(room.network_facts)(parser) if room.network_facts else network_facts(parser)
    network = parser.get_parsed_content("network_def").cpu().eval()
    for file in files:
        load_weights(network, read_checkpoint(file), file)
    exported, apart = export_and_compare(network, facts.input_shape, path, arguments.dynamic, arguments.plain)
    good = apart <= arguments.tolerance
    record = {
        "bundle": bundle.name,
        "version": json.loads((bundle / METADATA).read_text(encoding="utf-8"))["version"],
        "weights": [{**entry, "file": Path(entry["file"]).name} for entry in describe_weights(files)],
        "format": path.suffix[1:],
        "loading": LOADING if path.suffix == ".pt2" and not arguments.plain else None,
        "inputs": exported.inputs,
        "outputs": exported.outputs,
        "network": asdict(facts),
        "largest_difference": apart,
        "tolerance": arguments.tolerance,
    }
    write_json(record, record_path)
    print(f"{path}: {exported.nodes} nodes, inputs {exported.inputs}, outputs {exported.outputs}")
    print(f"{record_path}")
    verdict = "within" if good else "ABOVE"
    print(f"largest difference from Python: {apart:.1e} of the largest output, {verdict} {arguments.tolerance:g}")
    return 0 if good else 1


def inference_parser(
    bundle: Path, overlays: Sequence[str] = (), settings: Mapping[str, Any] | None = None, ckpt_dir: str | None = None
) -> ConfigParser:
    """A bundle's inference configuration on the CPU, with its settings.

    Raises:
        DataError: for a configuration or an id that is not there.
    """
    parser = ConfigParser()
    files = [configuration(bundle, name) for name in ("inference", *overlays)]
    parser.read_config([str(file) for file in files])
    given: dict[str, Any] = {
        "bundle_root": config_literal(str(bundle.resolve())),
        "device": "$torch.device('cpu')",
        **({} if ckpt_dir is None else {"ckpt_dir": config_literal(str(Path(ckpt_dir).resolve()))}),
        **(settings or {}),
    }
    for name, value in given.items():
        if name not in parser:
            raise DataError(name, "no such id in the configuration", ", ".join(parser.config))
        parser[name] = value
    return parser


def network_facts(parser: ConfigParser) -> NetworkFacts:
    """Facts of a network whose configuration has ``encoder`` with ``in_channels`` and ``image_size``/``clip_size``."""
    encoder = parser.get_parsed_content("encoder")
    size = [int(side) for side in encoder.get("image_size") or encoder["clip_size"]]
    spacing_mm = parser.get_parsed_content("spacing_mm") if "spacing_mm" in parser else None
    names = parser.get_parsed_content("class_names") if "class_names" in parser else None
    return NetworkFacts(
        [int(encoder["in_channels"]), *size],
        None if spacing_mm is None else [float(spacing_mm)] * len(size),
        None if names is None else list(names),
        transform_names(parser),
    )


def transform_names(parser: ConfigParser) -> list[str]:
    """Names of the transforms of ``preprocessing``."""
    chain = parser.get_parsed_content("preprocessing")
    return [type(step).__name__ for step in getattr(chain, "transforms", [chain])]


def export_and_compare(
    network: torch.nn.Module, input_shape: Sequence[int], path: Path, dynamic: str = "batch", plain: bool = False
) -> tuple[Exported, float]:
    """Exports, and compares with Python on one random input, of another size where sizes may vary.

    Raises:
        DataError: if the network itself refuses another size.

    Returns:
        What was written, and the largest difference as :func:`custom_apps.common.network_export.largest_difference`.
    """
    generator = torch.Generator().manual_seed(0)
    # An axis of one sample would stay one sample.
    example = torch.randn(1 if dynamic == "none" else 2, *input_shape, generator=generator)
    exported = export_network(network, (example,), path, dynamic, plain)
    probe = of_another_size(example, next(iter(exported.inputs.values())))
    try:
        with torch.no_grad():
            expected = flat_tensors(network(probe))
    except (RuntimeError, ValueError) as error:
        # The exporter believes that an axis may vary where only this network's own check says no.
        path.unlink()
        raise DataError(path, f"the network takes no other size ({error})", "--dynamic batch") from error
    return exported, difference(run_exported(path, [probe]), expected)
