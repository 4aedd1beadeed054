"""Errors that name the file, what is wrong with it and what was expected."""

from __future__ import annotations

import sys
from os import PathLike
from types import TracebackType

from custom_apps.common.out_of_memory import out_of_memory


class DataError(ValueError):
    """Input data that cannot be used.

    Args:
        path: the file or folder at fault.
        problem: what is wrong, in a few words.
        expected: what would have been right.
    """

    def __init__(self, path: str | PathLike[str], problem: str, expected: str | None = None):
        self.path, self.problem, self.expected = str(path), problem, expected
        message = f"{self.path}: {problem}"
        super().__init__(f"{message} (expected {expected})" if expected else message)

    def __reduce__(self):
        return type(self), (self.path, self.problem, self.expected)


def data_error_of(error: BaseException) -> DataError | None:
    """The `DataError` that an error is or was caused by; None if there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DataError):
        cause = cause.__cause__ or cause.__context__
    return cause


def explanation(error: BaseException) -> str | None:
    """What to tell the user instead of a traceback: data that cannot be used, no memory, numbers that are not finite.

    Args:
        error: as it was caught; errors that caused it are looked at too.

    Returns:
        The message, or None for errors that only a traceback explains.
    """
    if (cause := data_error_of(error)) is not None:
        return str(cause)
    if (text := out_of_memory(error)) is not None:
        return text
    cause = error
    while cause is not None:
        if isinstance(cause, FloatingPointError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def explain_data_errors() -> None:
    """Makes a process that ends with a `DataError` print its message alone, also below errors that it caused.

    So do errors that mean a lack of memory, or numbers that are not finite, see :func:`explanation`.

    MONAI wraps errors of configured components in others; what is wrong with the data would stand far above the end.
    To be called at the beginning of a bundle's run (``initialize``). Other errors print as before.
    """
    if getattr(sys.excepthook, "explains_data_errors", False):
        return
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = explanation(error)
        if text is None:
            previous(kind, error, trace)
        else:
            print(f"error: {text}", file=sys.stderr)

    hook.explains_data_errors = True
    sys.excepthook = hook
