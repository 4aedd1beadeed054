"""All folds of a cross-validation in one command: each is trained in turn, then all are evaluated together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_apps.common.distributed import is_main_process
from custom_apps.common.errors import DataError, explain_data_errors

PARTS = ("train", "evaluate")


def run_folds(
    bundle: str | Path,
    folds: int = 5,
    overlays: str | Sequence[str] = (),
    only: int | Sequence[int] | None = None,
    parts: str | Sequence[str] = PARTS,
    evaluation: str = "evaluate",
    tracking: str | None = None,
    **overrides: Any,
) -> None:
    """Trains and evaluates the folds of a bundle, in this process.

    The bundle's ``train.yaml`` needs the ids ``fold`` and ``folds``, and folders of their own for each fold. A run that
    was broken off goes on where it was, when it is started again, if its configuration says ``resume: auto``. Under
    ``torchrun`` every process calls this function.

    Args:
        bundle: folder of the bundle.
        folds: number of folds.
        overlays: configurations merged after ``train.yaml``: names in the bundle's ``configs``, or paths.
        only: folds to train, of ``0`` … ``folds - 1``; None for all. All are evaluated.
        parts: ``train`` and ``evaluate``, or one of them.
        evaluation: configuration merged last to evaluate, a name or a path.
        tracking: settings of experiment tracking for the trainings, as of ``monai.bundle run``: a name in the bundle's
            ``configs``, a path, or ``mlflow``. The evaluation uses ``<name>_evaluate`` where the bundle has it. The
            settings may take the id ``run_group``, a name that all runs of this command share.
        **overrides: further ids of the configuration.

    Raises:
        DataError: for a configuration that does not exist.
        ValueError: for parts or folds that do not exist, or nothing to do.
    """
    from monai.bundle import ConfigWorkflow

    explain_data_errors()
    bundle = Path(bundle)
    overlays = [overlays] if isinstance(overlays, str) else list(overlays)
    parts = [parts] if isinstance(parts, str) else list(parts)
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"parts must be of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    chosen = range(folds) if only is None else [only] if isinstance(only, int) else list(only)
    if lost := [fold for fold in chosen if fold not in range(folds)]:
        raise ValueError(f"there are {folds} folds, from 0 to {folds - 1}; not {lost}")
    group = {"run_group": time.strftime("cross_validation-%Y%m%d-%H%M%S")} if tracking else {}
    training = [configuration(bundle, name) for name in ("train", *overlays)]
    runs = [
        (f"fold {fold}", training, {"fold": int(fold), "tracking": _settings(bundle, tracking)} | group)
        for fold in chosen
        if "train" in parts
    ]
    if "evaluate" in parts:
        own = {"tracking": _settings(bundle, tracking, "_evaluate")} | group
        runs.append(("all folds together", [*training, configuration(bundle, evaluation)], own))
    if not runs:
        raise ValueError("nothing to do: no fold to train and no evaluation")
    for title, files, own in runs:
        started = time.monotonic()
        workflow = ConfigWorkflow(
            config_file=[str(path) for path in files],
            meta_file=str(bundle / "configs" / "metadata.json"),
            logging_file=str(bundle / "configs" / "logging.conf"),
            workflow_type="train",
            folds=folds,
            **overrides,
            **own,
        )
        workflow.initialize()
        workflow.run()
        if is_main_process():
            print(f"{title}: {time.monotonic() - started:.0f} s", flush=True)
    # Only once: it closes the process group of a distributed run, which cannot be opened again.
    workflow.finalize()


def configuration(bundle: Path, name: str) -> Path:
    """File of a configuration: a path as it is, a bare name in the bundle's ``configs``.

    Raises:
        DataError: if there is none.
    """
    for path in (bundle / "configs" / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    known = sorted(path.stem for path in (bundle / "configs").glob("*.yaml"))
    raise DataError(name, "no such configuration", f"a YAML file, or one of {', '.join(known)}")


def _settings(bundle: Path, tracking: str | None, ending: str = "") -> str | None:
    """What ``tracking`` of ``monai.bundle run`` takes."""
    if tracking in (None, "mlflow"):
        return tracking
    known = (bundle / "configs" / f"{tracking}{ending}.yaml").is_file()
    return str(configuration(bundle, f"{tracking}{ending}" if known else tracking))
