"""One HTML file that shows the results of an evaluation or a prediction, with everything in it.

The page has no script and loads nothing: pictures are part of it, and a content security policy forbids the rest. All
text is escaped, since names of cases and files come from outside.
"""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from custom_apps.common.errors import DataError
from custom_apps.common.partial_file import write_text
from custom_apps.common.report_parts import EVALUATION, Case, Picture, ReportParts, Section
from custom_apps.common.report_pictures import InlinePicture, inline, readable
from custom_apps.common.report_run import (
    Run,
    bundle_metadata,
    environment_line,
    limits_of,
    notices,
    run_facts,
)

FILE_NAME = "report.html"
TEMPLATE = "report_template.html.jinja"
KINDS = {EVALUATION: "Evaluation"}
# Controls, marks that turn the direction of text, halves of characters: invisible, or able to disguise a name.
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def write_report(
    parts: ReportParts, folder: str | Path, bundle: str | Path, output: str | Path, overwrite: bool = False
) -> Path:
    """Writes the report of a folder of results.

    Args:
        parts: what the room found in it.
        folder: of the results, with the ``run.json`` of the run.
        bundle: folder of the bundle, for its version, intended use and limits.
        output: the file.
        overwrite: replace an existing one.

    Returns:
        The file.

    Raises:
        DataError: if the file is there already, or the bundle has no metadata.
        RuntimeError: when Jinja is not installed.
    """
    output = Path(output)
    if output.is_dir():
        raise DataError(output, "is a folder", "the name of a file")
    if output.exists() and not overwrite:
        raise DataError(output, "already there and not overwritten", "another name, or --overwrite")
    write_text(report_html(parts, Path(folder), Path(bundle)), output)
    return output


def report_html(parts: ReportParts, folder: Path, bundle: Path) -> str:
    """The page as text; see :func:`write_report`."""
    if find_spec("jinja2") is None:
        raise RuntimeError("reports need Jinja: pip install 'mamba-bundles[report]'")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("custom_apps.common"), autoescape=True, undefined=StrictUndefined, finalize=_visible
    )
    run, metadata, unread = Run.of(folder), bundle_metadata(bundle), []
    kind, name = KINDS.get(parts.kind, "Prediction"), str(metadata.get("name", bundle.name))
    facts = [*run_facts(run, bundle, metadata), *parts.facts.items()]
    sections = [_with_pictures(section, unread) for section in parts.sections if section]
    return environment.get_template(TEMPLATE).render(
        title=f"{parts.subject}: {kind.lower()}",
        lead=" · ".join(filter(None, [name, str(metadata.get("version", "")), *_data_and_day(facts)])),
        notices=notices(run),
        facts=facts,
        command=run.command,
        numbers=parts.numbers,
        numbers_note=parts.numbers_note,
        sections=sections,
        intended_use=str(metadata.get("intended_use") or "Research only. Not a medical device; not for diagnosis."),
        limits=limits_of(bundle),
        missing=[*run.left_out, *(f"{path}: the picture cannot be read" for path in unread)],
        environment=environment_line(run.record),
        made=f"{kind} of {folder}; report of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. This page holds all it shows.",
    )


def _with_pictures(section: Section, unread: list[str]) -> Section:
    """The section with pictures read; those that cannot be are named in ``unread``."""
    cases = [Case(case.name, case.note, _inlined(case.pictures, unread)) for case in section.cases]
    return dataclasses.replace(section, cases=cases, pictures=_inlined(section.pictures, unread))


def _inlined(pictures: Any, unread: list[str]) -> list[InlinePicture]:
    read: list[tuple[Picture, InlinePicture | None]] = [(picture, inline(picture)) for picture in pictures]
    unread += [readable(picture.path) for picture, found in read if found is None]
    return [found for _, found in read if found is not None]


def _data_and_day(facts: list[tuple[str, str]]) -> list[str]:
    known = dict(facts)
    return [Path(known.get("Data", "")).name, known.get("Date", "")]


def _visible(value: Any) -> Any:
    """Text without characters that cannot be seen."""
    return _INVISIBLE.sub("�", value) if type(value) is str else value
