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
        phantoms: phantom data set to the function ``(folder, seed) -> folder written``.
        check: function ``(folder) -> list of problems``.
        install_converted: function ``(network, report, checkpoint content, folder) -> None`` that writes a converted
            checkpoint as the bundle's model files.
        demo: function ``(python, bundle folder, output folder) -> list of commands``.
    """

    bundle: str
    title: str
    systems: tuple[str, ...] = ()
    phantoms: dict[str, str] = field(default_factory=dict)
    check: str | None = None
    install_converted: str | None = None
    demo: str | None = None
