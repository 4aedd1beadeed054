"""What was run, as a report tells it: bundle, command, data set, weights, machine, limits."""

from __future__ import annotations

import ast
import hashlib
import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError
from custom_apps.common.report_files import read_object

RECORD = "run.json"
WEIGHTS = "model.pt"
MODULES = {"monai.bundle": ("monai", "bundle", "__main__.py"), "custom_apps": ("custom_apps", "__main__.py")}
SYNTHETIC = (
    "Synthetic data: the numbers show that the software learns and measures as it should. "
    "They say nothing about patients."
)
_LIMITS = re.compile(r"^##\s.*\blimits\b.*$", re.IGNORECASE | re.MULTILINE)
_SPECIAL = re.compile(r"[\"$`\\!]")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")


@dataclass(frozen=True)
class Run:
    """What ``run.json`` of a folder tells; empty without one.

    Attributes:
        record: its content.
        options: of the command line, name to value as text.
    """

    record: Mapping[str, Any]
    options: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path) -> Run:
        """Reads ``run.json`` of a folder of results."""
        record = read_object(folder / RECORD)
        command = record.get("command")
        return cls(record, options_of([str(part) for part in command] if isinstance(command, list) else []))

    def folder(self, name: str) -> Path | None:
        """A folder given on the command line."""
        return Path(self.options[name]) if self.options.get(name) else None

    @property
    def data(self) -> str:
        """What was evaluated or predicted, as it was given."""
        return str(self.record.get("input") or self.options.get("dataset_dir", ""))

    @property
    def left_out(self) -> list[str]:
        """Cases that could not be read, with the reason."""
        found = self.record.get("left_out")
        return [f"{case}: {reason}" for case, reason in found.items()] if isinstance(found, dict) else []

    @property
    def command(self) -> str:
        """The command as it can be typed."""
        parts = self.record.get("command")
        if not isinstance(parts, list) or not parts:
            return ""
        program = Path(str(parts[0]))
        start = next(
            (["python", "-m", name] for name, end in MODULES.items() if program.parts[-len(end) :] == end), None
        )
        if start is None:
            start = ["python", program.name] if program.suffix == ".py" else [program.name]
        return " ".join(_quoted(part) for part in [*start, *map(str, parts[1:])])

    @property
    def configurations(self) -> str:
        """Names of the configuration files."""
        text = self.options.get("config_file", "")
        try:
            files = ast.literal_eval(text) if text.startswith(("[", "(")) else [text]
        except (SyntaxError, ValueError):
            files = [text]
        return ", ".join(Path(str(file)).name for file in files if file)


def options_of(command: Sequence[str]) -> dict[str, str]:
    """``--name value`` and ``--name=value`` of a command line; the last of one name counts."""
    options: dict[str, str] = {}
    for part, following in itertools.zip_longest(command, command[1:], fillvalue=""):
        if part.startswith("--"):
            name, given, value = part[2:].partition("=")
            options[name.replace("-", "_")] = value if given else following
    return options


def run_facts(run: Run, bundle: Path, metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lines about the run, name and value."""
    facts = [("Bundle", f"{metadata.get('name', bundle.name)} {metadata.get('version', '')}".strip())]
    facts.append(("Task", str(metadata.get("task", ""))))
    facts.append(("Configurations", run.configurations))
    facts.append(("Data", run.data))
    facts.append(("Date", _day(run.record.get("started"))))
    if isinstance(run.record.get("seconds"), (int, float)):
        facts.append(("Duration", f"{run.record['seconds']:.0f} s"))
    return [(name, value) for name, value in [*facts, *_weights(run, bundle)] if value]


def notices(run: Run) -> list[str]:
    """What a reader must know first."""
    found = []
    if not run.record:
        found.append(f"There is no {RECORD} beside these results: with what they were made is not recorded.")
    elif (outcome := str(run.record.get("outcome"))) != "completed":
        found.append(f"The run did not end well, the results may be incomplete: {outcome}")
    if run.left_out:
        found.append(f"Left out, since their files cannot be read: {len(run.left_out)}. They are listed at the end.")
    if any("phantom" in part.lower() for part in Path(run.data).parts[-3:]):
        found.append(SYNTHETIC)
    return found


def environment_line(record: Mapping[str, Any]) -> str:
    """Machine and versions in one line."""
    versions = record.get("versions")
    parts = [f"{name} {version}" for name, version in versions.items() if version] if isinstance(versions, dict) else []
    commit = record.get("git_commit")
    ends = [str(record.get("machine") or ""), ", ".join(parts), f"commit {commit}" if commit else ""]
    return "; ".join(filter(None, ends)) or "The environment of the run is not recorded."


def bundle_metadata(bundle: Path) -> dict[str, Any]:
    """The bundle's ``metadata.json``.

    Raises:
        DataError: if it is missing.
    """
    path = bundle / "configs" / "metadata.json"
    if not path.is_file():
        raise DataError(path, "no such file", "the metadata of a bundle")
    return read_object(path)


def limits_of(bundle: Path) -> list[str | list[str]]:
    """The section on limits of a bundle's model card: paragraphs, and lists of points."""
    path = bundle / "docs" / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    heading = _LIMITS.search(text)
    if heading is None:
        return []
    body = re.split(r"^## ", text[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    blocks: list[str | list[str]] = []
    for block in re.split(r"\n\s*\n", re.sub(r"```.*?```", "", body, flags=re.DOTALL).strip()):
        if block.startswith("- "):
            blocks.append([_plain(point) for point in re.split(r"(?:^|\n)- ", block) if point.strip()])
        elif block and not block.startswith(("|", "#")):
            blocks.append(_plain(block))
    return blocks


def _sha256(path: Path) -> str:
    """Digest of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights(run: Run, bundle: Path) -> list[tuple[str, str]]:
    """Weights and their digests: as the run recorded them, else of the files that its command names."""
    recorded = run.record.get("weights")
    if isinstance(recorded, list) and recorded:
        files = [entry for entry in recorded if isinstance(entry, dict)]
        return [("Weights", f"{entry.get('file')}, SHA-256 {entry.get('sha256')}") for entry in files]
    if not run.record:
        return []
    folder, name = run.folder("ckpt_dir") or bundle / "models", run.options.get("weights") or WEIGHTS
    single = [folder / name] if (folder / name).is_file() else []
    return [
        ("Weights", f"{path}, {_changed(path, run.record)}SHA-256 {_sha256(path)}")
        for path in single or sorted(folder.glob(f"fold_*/{name}"))
    ]


def _changed(path: Path, record: Mapping[str, Any]) -> str:
    """A warning if a file is newer than the run."""
    try:
        ended = datetime.fromisoformat(str(record.get("ended") or record.get("started"))).timestamp()
    except ValueError:
        return ""
    return "changed after the run, now " if path.stat().st_mtime > ended + 1 else ""


def _quoted(part: str) -> str:
    """A word of a command; in double quotes where these are easier to read, as around lists of files."""
    return f'"{part}"' if "'" in part and not _SPECIAL.search(part) else shlex.quote(part)


def _day(moment: Any) -> str:
    try:
        return datetime.fromisoformat(str(moment)).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return ""


def _plain(markdown: str) -> str:
    """Markdown of a sentence as plain text."""
    return re.sub(r"\s+", " ", _LINK.sub(r"\1", markdown).replace("**", "").replace("`", "")).strip()
