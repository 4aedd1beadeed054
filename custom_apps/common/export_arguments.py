"""Arguments of the command ``export``; nothing heavy is imported for them."""

from __future__ import annotations

import argparse

from custom_apps.common.predict_arguments import setting

EXIT_CODES = """exit codes:
  0  written, and equal to Python within the tolerance
  1  no trained weights, a file that is there already, or a difference above the tolerance
  2  the command line is wrong; nothing was done
"""


def add_export_arguments(command: argparse.ArgumentParser) -> None:
    """Adds what ``export`` takes besides the bundle's name."""
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = EXIT_CODES
    command.add_argument("output", help="file to write; beside it a JSON file says what goes in and what comes out")
    command.add_argument("--format", choices=("pt2", "onnx"), help="by default as the file ends, else pt2")
    command.add_argument("--ckpt-dir", metavar="DIR", help="folder of the model; default: models in the bundle")
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
        "--dynamic",
        choices=("batch", "all", "none"),
        default="batch",
        help="axes that may have other sizes: of the batch, all that the network allows, or none",
    )
    command.add_argument(
        "--plain", action="store_true", help="of pt2: only PyTorch's own operators; loads anywhere, scans step by step"
    )
    command.add_argument(
        "--tolerance", type=float, default=1e-4, help="largest difference in units of the largest output"
    )
    command.add_argument("--bundle-dir", metavar="DIR", help="where the bundle is, if it is not found")
