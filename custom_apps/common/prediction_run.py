"""Prediction of a user's own files with a bundle: runs its ``inference.yaml`` and says what came out."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from custom_apps.common.checkpoint_files import set_aside
from custom_apps.common.config_literal import config_literal
from custom_apps.common.errors import DataError, data_error_of
from custom_apps.common.fold_run import configuration
from custom_apps.common.model_weights import describe_weights, require_weights
from custom_apps.common.progress import without_bars
from custom_apps.common.run_record import RunRecord
from custom_apps.common.sound_batches import leave_out_broken

Further = Callable[[ConfigParser, list[dict[str, Any]], Path], None]
RECORD = "run.json"
NO_SETTINGS = ("_meta_", "imports", "initialize", "run", "bundle_on_path")


class SettingError(ValueError):
    """A setting or a device that does not exist."""


@dataclass
class PredictionRun:
    """What a prediction did.

    Attributes:
        cases: that were predicted now, in order.
        broken: case that could not be read or prepared, to what was wrong with it.
        device: where the network ran.
        seconds: from the first file to the last.
        output_dir: where the results are.
        outputs: names of the files that were written, below that folder.
        items: case to its entry in the list of inputs (files and names).
        workflow: the bundle's workflow; its parser gives the parts by id.
    """

    cases: list[str]
    broken: dict[str, DataError]
    device: torch.device
    seconds: float
    output_dir: Path
    outputs: list[str]
    items: dict[str, dict[str, Any]] = field(repr=False)
    workflow: ConfigWorkflow = field(repr=False)


def predict(
    bundle: str | Path,
    source: str | Path,
    output_dir: str | Path,
    weights: str | Path | None = None,
    ckpt_dir: str | Path | None = None,
    device: str = "auto",
    overlays: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    existing: str = "error",
    quiet: bool = False,
    further: Further | None = None,
) -> PredictionRun:
    """Predicts files by the bundle's own inference configuration.

    Files that cannot be read or prepared are left out and listed in the result; ``run.json`` in the output folder
    tells what ran, on which files, with which weights, for how long.

    Args:
        bundle: folder of the bundle.
        source: what its ``dataset_dir`` takes: a file or a folder.
        output_dir: where results go, made when missing.
        weights: file of the weights; by default the configuration's name in ``ckpt_dir``.
        ckpt_dir: folder of the model; by default that of the weights, else the bundle's own.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda:0``, …
        overlays: configurations merged after ``inference.yaml``: names in the bundle's ``configs``, or paths.
        settings: id of the configuration to value.
        existing: what to do about earlier predictions: ``error``, ``skip`` or ``overwrite``.
        quiet: no progress bar and no log.
        further: called at the end with the configuration's parser, the items predicted and the folder, to write more.

    Raises:
        DataError: for what is not there or cannot be used, earlier results, and a model that is missing or of
            another network.
        SettingError: for settings and devices that do not exist.
    """
    bundle, source, output_dir = Path(bundle), Path(source), Path(output_dir)
    if not source.exists():
        raise DataError(source, "no such file or folder", "something to predict")
    if output_dir.exists() and not output_dir.is_dir():
        raise DataError(output_dir, "is a file", "a folder for the results")
    files = [configuration(bundle, name) for name in ("inference", *overlays)]
    overrides: dict[str, Any] = {
        "bundle_root": _path(bundle),
        "dataset_dir": _path(source),
        "output_dir": _path(output_dir),
        "existing": existing,
        "device": f"$torch.device({str(chosen_device(device))!r})",
    }
    if weights is not None:
        overrides |= {"ckpt_dir": _path(Path(weights).parent), "weights": config_literal(Path(weights).name)}
    if ckpt_dir is not None:
        overrides["ckpt_dir"] = _path(ckpt_dir)
    with _calm(quiet):
        workflow = ConfigWorkflow(
            config_file=[str(path) for path in files], logging_file=False, workflow_type="infer", **overrides
        )
        for name, value in (settings or {}).items():
            if name not in workflow.parser:
                known = ", ".join(key for key in workflow.parser.config if key not in NO_SETTINGS)
                raise SettingError(f"the configuration has no id {name!r}; it has {known}")
            workflow.parser[name] = value
        return _run(workflow, bundle, source, output_dir, quiet, further)


def _path(path: str | Path) -> str:
    return config_literal(os.path.abspath(path))


def chosen_device(name: str) -> torch.device:
    """A device by its name; ``auto`` is the first GPU or, without one, the CPU.

    Raises:
        SettingError: for a name that means nothing, or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingError(f"device is {name!r}, expected auto, cpu or cuda:0") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingError(f"device is {name!r}, but there are {torch.cuda.device_count()} GPUs that PyTorch can use")
    return device


def _run(
    workflow: ConfigWorkflow, bundle: Path, source: Path, output_dir: Path, quiet: bool, further: Further | None
) -> PredictionRun:
    parser = workflow.parser
    try:
        workflow.initialize()
        files = require_weights(parser, bundle)
        if "model::default" in parser:
            # What stands in while a bundle is inspected without a model must not describe weights that lack their plan.
            parser["model::default"] = None
        evaluator = parser.get_parsed_content("evaluator")
        items = {str(item["case"]): dict(item) for item in parser.get_parsed_content("dataset").data}
        network = parser.get_parsed_content("network")
        sound = leave_out_broken(evaluator)
        output_dir.mkdir(parents=True, exist_ok=True)
        if parser["existing"] != "overwrite":
            set_aside(output_dir / RECORD)
        before = _times(output_dir)
        record = RunRecord(output_dir / RECORD, parser.config)
        record.content |= {
            "bundle": bundle.name,
            "weights": describe_weights(files),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "input": str(source),
            "cases": {case: item["image"] for case, item in items.items()},
        }
        device = next(network.parameters()).device
        if not quiet:
            print(f"{bundle.name}: {len(items)} to predict on {_described(device)}", flush=True)
        started = time.perf_counter()
        with record, _silent(evaluator.logger):
            if items:
                workflow.run()
            seconds = time.perf_counter() - started
            done = [case for case in items if case not in sound.broken]
            if further is not None:
                further(parser, [items[case] for case in done], output_dir)
            outputs = [name for name, time in _times(output_dir).items() if before.get(name) != time]
            record.content |= {
                "left_out": {case: str(error) for case, error in sound.broken.items()},
                "outputs": outputs,
            }
        workflow.finalize()
    except Exception as error:
        if (cause := data_error_of(error)) is None:
            raise
        raise DataError(cause.path, cause.problem, cause.expected) from error
    return PredictionRun(done, sound.broken, device, seconds, output_dir, outputs, items, workflow)


def _described(device: torch.device) -> str:
    """The device for people."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


def _times(folder: Path) -> dict[str, int]:
    """Files in a folder and below, with when they were written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Keeps a logger quiet: an engine prints the traceback of errors that are explained later."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@contextmanager
def _calm(quiet: bool) -> Iterator[None]:
    """Lets this collection's messages through, but not those of every step of MONAI; nothing at all when quiet."""
    level, own = logging.root.manager.disable, logging.getLogger("custom_apps")
    before = own.level, own.propagate
    # MONAI gives its loggers streams of their own.
    others = [logger for name in list(logging.root.manager.loggerDict) if (logger := logging.getLogger(name)).handlers]
    others = [logger for logger in others if logger.name.startswith("monai") and not logger.disabled]
    for logger in others:
        logger.disabled = True
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    own.addHandler(handler)
    own.setLevel(logging.INFO)
    own.propagate = False
    if quiet:
        logging.disable(logging.CRITICAL)
    try:
        with without_bars(quiet), warnings.catch_warnings():
            if quiet:
                warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        own.removeHandler(handler)
        own.setLevel(before[0])
        own.propagate = before[1]
        for logger in others:
            logger.disabled = False
