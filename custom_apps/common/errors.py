"""Errors that name the file, what is wrong with it and what was expected."""

from __future__ import annotations

from os import PathLike


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
