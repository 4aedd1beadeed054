"""Handlers that other parts of a configuration use too."""

from __future__ import annotations

from typing import TypeVar

Handler = TypeVar("Handler")


def shared(handler: Handler) -> Handler:
    """The handler itself.

    MONAI's tools look for a ``_target_`` in every entry of a list of handlers, so that a mere reference to an object
    defined elsewhere in a bundle's configuration cannot stand there.
    """
    return handler
