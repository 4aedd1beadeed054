"""Command line of the collection: ``python -m custom_apps``."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import inspect
import json
import logging
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from custom_apps.brain.room import ROOM as BRAIN
from custom_apps.common.errors import DataError
from custom_apps.common.export_arguments import add_export_arguments
from custom_apps.common.predict_arguments import add_prediction_arguments
from custom_apps.common.room import Room, imported
from custom_apps.echo.room import ROOM as ECHO
from custom_apps.seg.room import ROOM as SEG
from custom_apps.thyroid.room import ROOM as THYROID

ROOMS: dict[str, Room] = {room.bundle: room for room in (BRAIN, ECHO, SEG, THYROID)}


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def _positive_real(text: str) -> float:
    if not float(text) > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return float(text)


def _setting(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


PREPARATION: dict[str, dict[str, Any]] = {
    "labels": {"help": "table of labels, if it is not with the images"},
    "label_map": {"help": "name of a label map, or a JSON file: which source ids become which label"},
    "images": {"choices": ("link", "copy"), "help": "symbolic links to the images, or copies"},
    "size": {"type": _positive, "nargs": "+", "help": "voxels or pixels along every axis"},
    "spacing_mm": {"type": _positive_real, "help": "edge of a voxel"},
    "fit": {"choices": ("crop", "resize"), "help": "what to do with images of another size"},
    "resample": {"action": argparse.BooleanOptionalAction, "help": "accept contrasts on different grids"},
    "pictures": {"action": argparse.BooleanOptionalAction, "help": "a picture of every case"},
    "method": {
        "choices": ("gaussian", "mean", "median", "motion", "defocus", "srad"),
        "help": "blur of the copy that is written",
    },
    "sigma": {"type": _positive_real, "help": "of the Gaussian blur, pixels"},
    "seed": {"type": int, "help": "of what is drawn by lot"},
    "workers": {"type": _positive, "help": "cases at a time"},
}
"""Options of ``prepare``; those that the bundle's function has no parameter for are refused."""

OPTIONAL = ("mlflow", "triton", "mamba_ssm", "causal_conv1d", "onnx", "onnxruntime")


EXIT_CODES = """exit codes:
  0  done; check and audit found nothing
  1  data or files cannot be used, check or audit found something, or a training of demo or folds failed
  2  the command line is wrong; nothing was done
"""


class UsageError(SystemExit):
    """A command line that asks for something that is not there; ends the process with code 2."""

    code = 2


def info(arguments: argparse.Namespace) -> int:
    """Prints bundles with their tasks and configurations, versions and what is installed; imports none of it."""
    from custom_apps.common.bundle_facts import bundle_facts

    versions = {name: metadata.version(name) for name in ("torch", "monai", "pytorch-ignite", "numpy")}
    optional = {name: importlib.util.find_spec(name) is not None for name in OPTIONAL}
    facts = {
        "version": importlib.import_module("custom_networks").__version__,
        "packages": versions,
        "optional": optional,
        "bundles": {room.bundle: _room_facts(room) | bundle_facts(_folder(room)) for room in ROOMS.values()},
    }
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return 0
    print(f"mamba-bundles {facts['version']}")
    print("  " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    print("  optional: " + ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in optional.items()))
    for room in ROOMS.values():
        print(f"{room.bundle}: {room.title}")
        print(f"  published systems: {', '.join(room.systems)}; phantoms: {', '.join(room.phantoms)}")
        for name, config in facts["bundles"][room.bundle]["configs"].items():
            if config["runs"]:
                print(f"  configs/{name}.yaml: {config['title']}")
    return 0


def _room_facts(room: Room) -> dict[str, Any]:
    commands = {"check": room.check, "prepare": room.prepare, "demo": room.demo, "phantom": room.phantoms}
    commands["report"] = room.report
    return {
        "title": room.title,
        "systems": list(room.systems),
        "phantoms": sorted(room.phantoms),
        "commands": sorted(name for name, offered in commands.items() if offered),
        "folder": str(_folder(room)),
    }


def _folder(room: Room) -> Path:
    """The bundle's folder: below the working directory, else beside the packages."""
    here = Path("bundles") / room.bundle
    return here if here.is_dir() else Path(__file__).parents[1] / "bundles" / room.bundle


def phantom(arguments: argparse.Namespace) -> int:
    """Writes a synthetic data set in the layout of the public one."""
    room = ROOMS[arguments.bundle]
    kind = arguments.kind or next(iter(room.phantoms))
    if kind not in room.phantoms:
        raise UsageError(f"{room.bundle} has the phantoms {', '.join(room.phantoms)}, not {kind!r}")
    function = imported(room.phantoms[kind])
    options = {name: getattr(arguments, name) for name in ("cases", "test_cases", "seed", "size")}
    given = {key: value for key, value in options.items() if value is not None}
    if foreign := sorted(given.keys() - inspect.signature(function).parameters.keys()):
        raise UsageError(f"the phantom {kind} of {room.bundle} has no option {', '.join(foreign)}")
    print(function(arguments.folder, **given))
    return 0


def prepare(arguments: argparse.Namespace) -> int:
    """Makes of a raw data set what a bundle reads."""
    from custom_apps.common.problems import print_problems

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    target = ROOMS[arguments.bundle].prepare
    if target is None:
        raise UsageError(f"{arguments.bundle} reads its data sets as they are")
    function = imported(target)
    known = inspect.signature(function).parameters
    given = {name: getattr(arguments, name) for name in PREPARATION if getattr(arguments, name) is not None}
    if foreign := sorted(given.keys() - known.keys()):
        usable = ", ".join(f"--{name.replace('_', '-')}" for name in PREPARATION if name in known)
        raise UsageError(f"{arguments.bundle} has no option {', '.join(foreign)}; it has {usable or 'none'}")
    if len(given.get("size", ())) == 1:
        given["size"] = given["size"][0]
    problems = function(arguments.raw, arguments.output, **given)
    return print_problems(problems if isinstance(problems, list) else [], arguments.output)


def check(arguments: argparse.Namespace) -> int:
    """Reads a data set and prints a table of its problems."""
    from custom_apps.common.problems import print_problems

    return print_problems(imported(ROOMS[arguments.bundle].check)(arguments.folder), arguments.folder)


def convert(arguments: argparse.Namespace) -> int:
    """Turns the authors' checkpoint into model files of a bundle."""
    from custom_apps.common.checkpoint_files import install_weights
    from custom_apps.common.safe_archive import check_size
    from custom_networks.published import load, read_checkpoint

    room = next(room for room in ROOMS.values() if arguments.system in room.systems)
    if zipfile.is_zipfile(arguments.checkpoint):
        check_size(arguments.checkpoint)
    content = read_checkpoint(arguments.checkpoint)
    try:
        network, report = load(arguments.system, content, **dict(arguments.set))
    except TypeError as error:
        raise UsageError(f"--set: {error}") from error
    print(f"{arguments.checkpoint}: {report}")
    install = imported(room.install_converted) if room.install_converted else install_weights
    for path in install(network, content, arguments.output):
        print(path)
    return 0


def audit(arguments: argparse.Namespace) -> int:
    """Lists what the configurations of a bundle would run, without running it; fails on what is not on the list."""
    from custom_apps.common.audit import audit
    from custom_apps.common.audit_report import print_audit

    return print_audit(audit(arguments.path), arguments.path, as_json=arguments.json, quiet=arguments.quiet)


def predict(arguments: argparse.Namespace) -> int:
    """Predicts your own files with a trained model: runs the bundle's inference.yaml from any folder."""
    from custom_apps.common.predict_command import run_prediction

    return run_prediction(ROOMS[arguments.bundle], arguments)


def report(arguments: argparse.Namespace) -> int:
    """Shows the results of an evaluation or a prediction in one HTML file."""
    from custom_apps.common.bundle_folder import find_bundle
    from custom_apps.common.report_command import report_folder

    room = ROOMS[arguments.bundle]
    bundle = find_bundle(room.bundle, arguments.bundle_dir)
    print(report_folder(room, arguments.folder, bundle, arguments.output, arguments.overwrite))
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Writes a bundle's trained network for other programs, as .pt2 or ONNX, and compares it with Python."""
    from custom_apps.common.export_command import run_export

    return run_export(ROOMS[arguments.bundle], arguments)


def folds(arguments: argparse.Namespace) -> int:
    """Trains all folds of a cross-validation and evaluates them together; more options as of 'monai.bundle run'."""
    import fire

    from custom_apps.common.fold_run import run_folds

    command = [str(Path("bundles") / arguments.bundle), *arguments.options]
    fire.Fire(run_folds, command=command, name="python -m custom_apps folds")
    return 0


def pack(arguments: argparse.Namespace) -> int:
    """Writes release archives of bundles, and beside them model_info.json and SHA256SUMS."""
    from custom_apps.common import packing
    from custom_apps.common.release_index import write_release_index

    archives = {}
    for bundle in sorted(ROOMS) if arguments.bundle == "all" else [arguments.bundle]:
        path, digest = packing.pack(Path("bundles") / bundle, arguments.output, models=arguments.models)
        archives[path] = digest
        print(f"{digest}  {path}")
    write_release_index(archives, arguments.output, arguments.url)
    return 0


def demo(arguments: argparse.Namespace) -> int:
    """Runs a bundle on phantom data, printing every command so that it can be repeated by hand."""
    room, recipe = ROOMS[arguments.bundle], arguments.recipe
    if recipe is not None and recipe not in room.recipes:
        raise SystemExit(f"{room.bundle} has the recipes {', '.join(room.recipes) or 'none'}, not {recipe!r}")
    commands, summary = (room.demo, room.demo_summary) if recipe is None else room.recipes[recipe]
    for command in imported(commands)(Path("bundles") / room.bundle, Path(arguments.output)):
        print("\n$ " + shlex.join(["python", *command]), flush=True)
        code = subprocess.run([sys.executable, *command], check=False).returncode
        if code:
            return code
    print("\n" + imported(summary)(Path(arguments.output)))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    top = argparse.ArgumentParser(
        prog="python -m custom_apps",
        description=__doc__,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(function, *, bundle: bool = True) -> argparse.ArgumentParser:
        text = function.__doc__
        command = commands.add_parser(function.__name__, help=text, description=text)
        command.set_defaults(run=function)
        if bundle:
            command.add_argument("bundle", choices=sorted(ROOMS))
        return command

    add(info, bundle=False).add_argument("--json", action="store_true", help="machine-readable")

    command = add(phantom)
    command.add_argument("folder", help="where to write; the data set's own folder is made in it")
    command.add_argument("--kind", help="which phantom, if the bundle has several")
    command.add_argument("--cases", type=int, help="number of labeled cases")
    command.add_argument("--test-cases", type=int, help="number of held-out cases")
    command.add_argument("--seed", type=int)
    command.add_argument("--size", type=_positive, help="voxels or pixels from side to side")

    command = add(prepare)
    command.add_argument("raw", help="the data set as it is distributed")
    command.add_argument("output", help="folder to write to")
    for name, options in PREPARATION.items():
        command.add_argument(f"--{name.replace('_', '-')}", **options)

    add(check).add_argument("folder", help="the data set")

    command = add(audit, bundle=False)
    command.add_argument("path", help="folder of a bundle, or a released archive")
    command.add_argument("--json", action="store_true", help="machine-readable")
    command.add_argument("--quiet", action="store_true", help="only what is not on the list")

    command = add(convert, bundle=False)
    command.add_argument("system", choices=sorted(s for room in ROOMS.values() for s in room.systems))
    command.add_argument("checkpoint", help="the authors' file")
    command.add_argument("output", help="folder for the model files; must not hold a model")
    command.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what the file does not tell: network=NAME, or an argument of the network",
    )

    add_prediction_arguments(add(predict))
    add_export_arguments(add(export))

    command = add(report)
    command.add_argument("folder", help="of the results")
    command.add_argument("--output", metavar="FILE", help="default: report.html in the folder")
    command.add_argument("--overwrite", action="store_true", help="replace an existing report")
    command.add_argument("--bundle-dir", metavar="DIR", help="where the bundle is, if it is not found")

    command = add(folds)
    command.add_argument(
        "options",
        nargs=argparse.REMAINDER,
        help="--folds, --overlays, --only, --parts, and any id of the configuration; see custom_apps.common.fold_run",
    )

    command = add(pack, bundle=False)
    command.add_argument("bundle", choices=[*sorted(ROOMS), "all"])
    command.add_argument("--output", default="dist", help="folder for the archives")
    command.add_argument("--models", action="store_true", help="also the weights that lie in the bundle's models")
    command.add_argument("--url", help="address of the folder that the archives will be published in")

    command = add(demo)
    command.add_argument("--output", required=True, help="folder for data, models and figures")
    command.add_argument("--recipe", help="a demonstration other than the bundle's usual one, such as interactive")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; problems with data or files end it with a message and code 1, wrong arguments with 2."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        raise
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
    except ValueError as error:
        if type(error).__name__ != "CheckpointError":
            raise
        print(f"error: {error}", file=sys.stderr)
    return 1
