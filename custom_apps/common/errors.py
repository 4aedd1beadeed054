"""Errors that name the file, what is wrong with it and what was expected."""

from __future__ import annotations

import sys
from os import PathLike
from types import TracebackType


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


def explain_data_errors() -> None:
    """Makes a process that ends with a `DataError` print its message alone, also below errors that it caused.

    MONAI wraps errors of configured components in others; what is wrong with the data would stand far above the end.
    To be called at the beginning of a bundle's run (``initialize``). Other errors print as before.
    """
    if getattr(sys.excepthook, "explains_data_errors", False):
        return
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, DataError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            previous(kind, error, trace)
        else:
            print(f"error: {cause}", file=sys.stderr)

    hook.explains_data_errors = True
    sys.excepthook = hook
