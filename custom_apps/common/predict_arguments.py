"""Arguments of the command ``predict``; nothing heavy is imported for them."""

from __future__ import annotations

import argparse
import ast
from typing import Any

EXIT_CODES = """exit codes:
  0  every case was predicted, or there was nothing left to do
  1  data, model or memory: nothing was predicted, or the run broke off (--existing skip goes on)
  2  the command line is wrong; nothing was done
  3  some cases were left out because their files cannot be read; the others were predicted
"""


def add_prediction_arguments(command: argparse.ArgumentParser) -> None:
    """Adds what ``predict`` takes besides the bundle's name."""
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = EXIT_CODES
    command.add_argument("input", help="a file or a folder; what a bundle reads is in its model card")
    command.add_argument("output", help="folder for the results, made when missing")
    command.add_argument("--weights", metavar="FILE", help="weights; their folder is that of the model")
    command.add_argument("--ckpt-dir", metavar="DIR", help="folder of the model; default: models in the bundle")
    command.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda:0")
    command.add_argument(
        *("--overlay", "-o"),
        action="append",
        default=[],
        metavar="NAME",
        help="configuration merged after inference.yaml, e.g. demo; may be given several times",
    )
    command.add_argument(
        "--set", type=setting, action="append", default=[], metavar="ID=VALUE", help="an id of the configuration"
    )
    command.add_argument(
        "--existing", choices=("error", "skip", "overwrite"), default="error", help="what to do about earlier results"
    )
    command.add_argument(
        "--dicom-seg",
        metavar="SERIES",
        help="folder of the DICOM series that an input of another format was made from: masks are written as DICOM SEG "
        "too, as they are for DICOM input",
    )
    command.add_argument("--report", action="store_true", help="also write report.html")
    command.add_argument("--bundle-dir", metavar="DIR", help="where the bundle is, if it is not found")
    command.add_argument("--quiet", action="store_true", help="print errors only")


def setting(text: str) -> tuple[str, Any]:
    """Id and value of ``ID=VALUE``; the value is a Python or YAML literal, or text."""
    name, found, value = text.partition("=")
    if not found or not name.replace("::", "_").replace("#", "_").isidentifier():
        raise argparse.ArgumentTypeError(f"must be ID=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, {"true": True, "false": False, "null": None}.get(value, value)
