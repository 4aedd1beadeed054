"""What a bundle would run: every ``_target_`` and every expression of its configurations, held against a list.

Nothing of the bundle is imported, evaluated or unpickled. The audit shows what differs from the manner of this
collection's bundles; it is no sandbox, and a bundle that passes is not thereby harmless.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_apps.common.audit_configs import Entry, read_entries
from custom_apps.common.audit_expressions import check_expression, imported_module
from custom_apps.common.audit_files import file_problem, walk
from custom_apps.common.audit_paths import leads_out
from custom_apps.common.audit_targets import target_problem
from custom_apps.common.errors import DataError
from custom_apps.common.safe_archive import unpack

CONFIGURATIONS = {".json", ".yaml", ".yml"}
LARGE_FILES = {"large_files.yml", "large_files.yaml", "large_files.json"}
RESULTS = frozenset({"data", "eval", "prepared"})
"""Folders in which a bundle's runs keep data and results; they are looked at in archives only."""

REFUSED_VALUES = {"allow_pickle": True, "weights_only": False, "trust_remote_code": True}
REFUSED_KEYS = {"_debug_", "workflow_name"}


@dataclass(frozen=True)
class Finding:
    """One thing that is not on the list.

    Attributes:
        file: path in the bundle.
        key: id of the value in a configuration, empty for a file as a whole.
        text: the target, expression or path.
        problem: what is wrong.
    """

    file: str
    key: str
    text: str
    problem: str


@dataclass
class Audit:
    """What was found.

    Attributes:
        targets: every ``_target_`` with how often it is named.
        expressions: every expression with how often it is there.
        imports: modules that the configurations import.
        findings: what is not on the list.
    """

    targets: Counter[str] = field(default_factory=Counter)
    expressions: Counter[str] = field(default_factory=Counter)
    imports: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def audit(path: str | Path) -> Audit:
    """Audits a bundle.

    Args:
        path: folder of a bundle, or a released archive, which is unpacked to a temporary folder first.

    Raises:
        DataError: if there is no such bundle; an unsafe archive is a finding.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "configs").is_dir():
            raise DataError(path, "has no folder 'configs'", "a bundle")
        return _audit_folder(path, path, RESULTS)
    if not path.is_file():
        raise DataError(path, "no such file or folder", "a bundle's folder or zip archive")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "unpacked"
        try:
            unpack(path, root)
        except DataError as error:
            return Audit(findings=[Finding(path.name, "", "", error.problem)])
        bundles = [folder for folder in sorted(root.iterdir()) if (folder / "configs").is_dir()]
        if len(bundles) != 1 or len(list(root.iterdir())) != 1:
            return Audit(findings=[Finding(path.name, "", "", "does not hold one bundle in a folder of its name")])
        return _audit_folder(bundles[0], root, frozenset())


def _audit_folder(bundle: Path, root: Path, left_out: frozenset[str]) -> Audit:
    found, contents = Audit(), {}
    for path in walk(bundle, left_out):
        name = path.relative_to(root).as_posix()
        problem = file_problem(path, bundle)
        if problem is None and path.suffix.lower() in CONFIGURATIONS:
            try:
                contents[name] = read_entries(path)
            except DataError as error:
                problem = error.problem
        if problem:
            found.findings.append(Finding(name, "", "", problem))
    components = _Components(contents)
    for name, entries in contents.items():
        if Path(name).name in LARGE_FILES:
            found.findings += _large_file_findings(name, entries)
        else:
            _audit_entries(name, entries, components, found)
    found.findings.sort(key=lambda finding: (finding.file, finding.key))
    return found


class _Components:
    """The values of every id in all configurations of a bundle, any of which may be merged with any other."""

    def __init__(self, contents: dict[str, list[Entry]]):
        self.values: dict[str, list[Any]] = defaultdict(list)
        for entries in contents.values():
            for entry in entries:
                self.values[entry.id].append(entry.value)

    def names_targets(self, id: str) -> bool:
        """Whether an id holds nothing but allowed targets, so that ``_target_: '@id'`` is one of them."""
        values = self.values.get(id, [])
        return bool(values) and all(isinstance(value, str) and target_problem(value) is None for value in values)

    def is_callable(self, id: str) -> bool:
        """Whether an id is a component that stands for its class or function itself: what ``@id(...)`` calls."""
        modes = self.values.get(f"{id}::_mode_", [])
        targets = self.values.get(f"{id}::_target_", [])
        containers = all(value is dict for value in self.values.get(id, []))
        return containers and bool(targets) and bool(modes) and set(modes) == {"callable"}


def _audit_entries(name: str, entries: list[Entry], components: _Components, found: Audit) -> None:
    def add(entry: Entry, problem: str) -> None:
        text = entry.value if isinstance(entry.value, str) else ""
        found.findings.append(Finding(name, entry.id, text, problem))

    for entry in entries:
        key, value = entry.id.rpartition("::")[2], entry.value
        if entry.twice:
            add(entry, "key is there twice")
        if key in REFUSED_KEYS or (key in REFUSED_VALUES and value in (REFUSED_VALUES[key], str(REFUSED_VALUES[key]))):
            add(entry, f"{key}: {value} is not allowed")
        elif key == "_mode_" and value not in ("callable", "default"):
            add(entry, "mode is not allowed")
        elif key == "_target_":
            found.targets[str(value)] += 1
            if problem := _target_problem(value, components):
                add(entry, problem)
        elif isinstance(value, str) and value.startswith("$"):
            _audit_expression(entry, components, found, add)
        elif isinstance(value, str) and value.startswith("%") and _names_file(value):
            add(entry, "takes values from another file")
        elif isinstance(value, str) and leads_out(value):
            add(entry, "path leads out of the bundle")


def _audit_expression(entry: Entry, components: _Components, found: Audit, add) -> None:
    module = imported_module(entry.value)
    if module:
        found.imports[module] += 1
    else:
        found.expressions[entry.value] += 1
    problems, called = check_expression(entry.value)
    for problem in problems:
        add(entry, problem)
    for id in sorted(called):
        if not components.is_callable(id):
            add(entry, f"calls @{id}, which is no component with '_mode_: callable'")


def _target_problem(value: Any, components: _Components) -> str | None:
    if not isinstance(value, str):
        return "target is no text"
    if value.startswith("@"):
        allowed = components.names_targets(value[1:].replace("#", "::"))
        return None if allowed else "target is a reference to something else than allowed targets"
    problem = target_problem(value)
    return f"target {problem}" if problem else None


def _names_file(value: str) -> bool:
    """Whether a macro (``%path::id``) reads a file."""
    return any(f"{ending}" in value for ending in CONFIGURATIONS)


def _large_file_findings(name: str, entries: list[Entry]) -> list[Finding]:
    """Files to download need a place in the bundle, an address with encryption and a digest."""
    texts = {entry.id: entry.value for entry in entries if isinstance(entry.value, str)}
    places = {id.rpartition("::")[0] for id in texts}
    found = []
    for place in sorted(places):
        path, url = texts.get(f"{place}::path", ""), texts.get(f"{place}::url", "")
        if not path or leads_out(path):
            found.append(Finding(name, f"{place}::path", path, "path leads out of the bundle"))
        if url and not url.startswith("https://"):
            found.append(Finding(name, f"{place}::url", url, "address is not https"))
        if url and not texts.get(f"{place}::hash_val"):
            found.append(Finding(name, f"{place}::hash_val", "", "no digest to check the download against"))
    return found
