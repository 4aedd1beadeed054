"""What a room (the code around one bundle) offers to the command line and to the demo."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


def imported(target: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` names, imported now."""
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Room:
    """One bundle's entry in the registry; functions are named, not imported, so that listing costs nothing.

    Attributes:
        bundle: folder name under ``bundles/``.
        title: one line for people.
        systems: names of the published systems whose checkpoints `custom_networks.published` reads.
        phantoms: phantom to the function ``(folder, cases, test_cases, seed) -> folder written``.
        prepare: function ``(raw folder, output folder, **options)`` that makes of a raw data set what the networks
            read; gives a list of problems, or nothing of interest. Its parameters decide which options there are.
        check: function ``(folder) -> list of problems``.
        install_converted: function ``(network, checkpoint content, folder) -> files`` that writes a converted
            checkpoint as the bundle's model files; None writes ``model.pt`` alone.
        dicom_masks: function ``(parser of an inference, item predicted, output folder, folder of a series or None)``
            that gives a :class:`custom_apps.common.dicom_segmentation.DicomMask`, or None for no mask of DICOM files.
        report: function ``(folder of results) ->`` :class:`custom_apps.common.report_parts.ReportParts`.
        network_facts: function ``(parser of an inference) ->``
            :class:`custom_apps.common.export_command.NetworkFacts`; None reads them off the configuration's
            ``encoder``.
        demo: function ``(bundle folder, output folder) -> list of argument lists of python``.
        demo_summary: function ``(output folder) -> text`` about what came out.
        recipes: further demonstrations by name, each the two functions as in ``demo`` and ``demo_summary``.
    """

    bundle: str
    title: str
    systems: tuple[str, ...] = ()
    phantoms: dict[str, str] = field(default_factory=dict)
    prepare: str | None = None
    check: str | None = None
    install_converted: str | None = None
    dicom_masks: str | None = None
    report: str | None = None
    network_facts: str | None = None
    demo: str | None = None
    demo_summary: str | None = None
    recipes: dict[str, tuple[str, str]] = field(default_factory=dict)
