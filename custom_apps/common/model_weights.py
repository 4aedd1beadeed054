"""The files that the weights of a configured run come from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from custom_apps.common.errors import DataError

BLOCK_BYTES = 2**20


def sha256_of(path: str | Path) -> str:
    """SHA-256 digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def weight_files(parser: ConfigParser) -> list[Path]:
    """The files that the handlers of an inference configuration load, or the models of an ensemble are read from."""
    folders = parser.config.get("ckpt_dirs")
    if folders is not None:
        name = parser.get_parsed_content("weights")
        return [Path(folder) / name for folder in parser.get_parsed_content("ckpt_dirs")]
    if "load_pretrain" in parser.config and not parser.get_parsed_content("load_pretrain"):
        return []
    if "members" in parser.config:
        return [Path(path) for path in parser.get_parsed_content("members")]
    return [Path(parser.get_parsed_content("ckpt_dir")) / parser.get_parsed_content("weights")]


def require_weights(parser: ConfigParser, bundle: str | Path) -> list[Path]:
    """The files of :func:`weight_files`, all of which exist.

    Raises:
        DataError: naming the first that does not, and the ways to a model.
    """
    files = weight_files(parser)
    if missing := [path for path in files if not path.is_file()]:
        ways = (
            "a model: train one (python -m monai.bundle run --config_file "
            f"{Path(bundle) / 'configs' / 'train.yaml'} --dataset_dir DATASET), convert the authors' weights (python "
            "-m custom_apps convert SYSTEM CHECKPOINT FOLDER), or name yours with --weights FILE or --ckpt-dir FOLDER"
        )
        raise DataError(missing[0], "no trained weights", ways)
    return files


def describe_weights(files: list[Path]) -> list[dict[str, Any]]:
    """Path, size and SHA-256 digest of each file, for a record."""
    return [{"file": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in files]
