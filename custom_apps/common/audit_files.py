"""Files of a bundle that carry code, or lead out of its folder."""

from __future__ import annotations

import ast
import configparser
import os
import pickletools
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from custom_apps.common.audit_targets import OWN_PACKAGES

CODE = {
    *(".bat", ".cmd", ".cpp", ".cu", ".dll", ".dylib", ".exe", ".h", ".ipynb", ".jar", ".js", ".ps1", ".py", ".pyc"),
    *(".pyd", ".pyw", ".pyx", ".sh", ".so", ".whl", ".egg"),
}
PICKLES = {".joblib", ".pickle", ".pkl"}
CHECKPOINTS = {".bin", ".ckpt", ".pt", ".pth"}
TORCHSCRIPT = {".ts", ".torchscript"}
ARRAYS = {".npy", ".npz"}
ARCHIVES = {".7z", ".rar", ".tar", ".tgz", ".zip"}

_TENSOR_PARTS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch(\.storage)? \w+Storage|torch Size"
    r"|torch (b?float\w*|u?int\d+|bool|complex\d+|device)|torch\.serialization _get_layout"
    r"|numpy(\._?core\.multiarray)? (scalar|dtype)|numpy\.dtypes \w+DType|_codecs encode"
)
"""What the pickle in a checkpoint of tensors and plain values may name."""

_LOG_HANDLERS = {"StreamHandler", "logging.StreamHandler", "NullHandler"}
_LOG_STREAMS = {"(sys.stdout,)", "(sys.stderr,)", "()", ""}


def walk(folder: Path, left_out: frozenset[str] = frozenset()) -> Iterator[Path]:
    """All files and links below a folder in order, without following links.

    Args:
        folder: the bundle.
        left_out: names of folders directly in it that are not looked into.
    """
    for where, folders, files in os.walk(folder, followlinks=False):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        folders[:] = sorted(set(folders) - set(links) - (left_out if Path(where) == folder else frozenset()))
        for name in sorted([*files, *links]):
            yield Path(where) / name


def file_problem(path: Path, bundle: Path) -> str | None:
    """Why a file does not belong into a bundle; None if nothing is wrong.

    Code is allowed only as copies, byte for byte, of the packages at work, as in a released archive; checkpoints only
    of tensors and plain values.
    """
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"is a link to {os.readlink(path)}"
    if not stat.S_ISREG(mode):
        return "is no regular file"
    suffix = path.suffix.lower()
    relative = path.relative_to(bundle)
    if relative.parts[0] in OWN_PACKAGES:
        own = Path(__file__).parents[2] / relative
        return None if own.is_file() and _same(own, path) else "is not as in the packages at work"
    if suffix in CODE:
        return "is code"
    if suffix in PICKLES:
        return "is a pickle, which runs code when it is read"
    if suffix in TORCHSCRIPT:
        return "is TorchScript, which is code"
    if suffix in ARCHIVES:
        return "is an archive, which is not looked into"
    if suffix in CHECKPOINTS:
        return _checkpoint_problem(path)
    if suffix in ARRAYS:
        return _array_problem(path)
    if suffix == ".conf":
        return _logging_problem(path)
    with open(path, "rb") as file:
        start = file.read(4)
    if start[:2] == b"#!" or start == b"\x7fELF" or start[:2] == b"MZ":
        return "is a program"
    return "is a pickle under another name" if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" else None


def _same(first: Path, second: Path) -> bool:
    return first.stat().st_size == second.stat().st_size and first.read_bytes() == second.read_bytes()


def _checkpoint_problem(path: Path) -> str | None:
    if not zipfile.is_zipfile(path):
        return "is no checkpoint in PyTorch's zip format; a bare pickle runs code when it is read"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any("/code/" in name for name in names):
                return "is TorchScript, which is code"
            pickles = [name for name in names if name.endswith(".pkl")]
            if not pickles:
                return "holds no checkpoint"
            for name in pickles:
                with archive.open(name) as file:
                    if foreign := _foreign_names(file):
                        return f"its pickle names {', '.join(sorted(foreign))}"
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        return f"cannot be read ({error})"
    return None


def _foreign_names(file: IO[bytes]) -> set[str]:
    """What a pickle names besides the parts of tensors; read without running it."""
    found = set()
    for code, argument, _ in pickletools.genops(file):
        if code.name == "GLOBAL" and not _TENSOR_PARTS.fullmatch(str(argument)):
            found.add(str(argument).replace(" ", "."))
        elif code.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            found.add(f"something by {code.name}")
    return found


def _array_problem(path: Path) -> str | None:
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                headers = [file.read(512)]
        else:
            with zipfile.ZipFile(path) as archive:
                headers = [archive.open(name).read(512) for name in archive.namelist()]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        return f"cannot be read ({error})"
    return "holds Python objects, which are a pickle" if any(b"|O" in header for header in headers) else None


def _logging_problem(path: Path) -> str | None:
    """Python evaluates ``class`` and ``args`` of a logging configuration."""
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        return f"cannot be read ({' '.join(str(error).split())})"
    for section in parser.sections():
        entries = dict(parser.items(section))
        kind = entries.get("class", "")
        if kind and not (section.startswith("handler_") and kind in _LOG_HANDLERS):
            return f"[{section}] class = {kind} is not allowed"
        if entries.get("args", "").replace(" ", "") not in _LOG_STREAMS and not _is_literal(entries["args"]):
            return f"[{section}] args = {entries['args']} is not allowed"
        if "kwargs" in entries and not _is_literal(entries["kwargs"]):
            return f"[{section}] kwargs = {entries['kwargs']} is not allowed"
    return None


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return False
    return True
