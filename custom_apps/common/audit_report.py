"""An audit for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple
from pathlib import Path

from custom_apps.common.audit import Audit
from custom_apps.common.table import printable, text_table


def print_audit(found: Audit, path: str | Path, as_json: bool = False, quiet: bool = False) -> int:
    """Prints targets, imports and expressions with how often each is there, then the findings.

    Args:
        found: the audit.
        path: what was audited.
        as_json: print one JSON object instead.
        quiet: leave out what is on the list.

    Returns:
        Exit status: 1 with findings, else 0.
    """
    listed = {"targets": found.targets, "imports": found.imports, "expressions": found.expressions}
    if as_json:
        content = {} if quiet else {name: dict(sorted(counts.items())) for name, counts in listed.items()}
        print(json.dumps(content | {"findings": [asdict(finding) for finding in found.findings]}, indent=2))
        return 1 if found.findings else 0
    for name, counts in {} if quiet else listed.items():
        print(f"{name}:")
        for text, count in sorted(counts.items()):
            print(f"{count:6d}  {printable(text)}")
    if found.findings:
        print(text_table([astuple(finding) for finding in found.findings], ["file", "key", "text", "not allowed"]))
    counts = ", ".join(f"{len(each)} {name}" for name, each in listed.items())
    print(f"{path}: {counts}; {len(found.findings)} findings")
    return 1 if found.findings else 0
