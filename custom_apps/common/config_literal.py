"""Text that a configuration takes as it is, whatever characters are in it."""

from __future__ import annotations

MEANINGFUL = "#@%$"
"""What MONAI's configurations give a meaning to: references, macros, expressions, and the former separator of ids."""


def config_literal(text: str) -> str:
    """A value for a configuration that comes out as ``text``.

    Configurations replace ``#`` by ``::`` and take references out of any text, names of files included. Text with such
    characters becomes an expression that spells them by their numbers.
    """
    if not any(character in text for character in MEANINGFUL):
        return text
    literal = repr(text)
    for character in MEANINGFUL:
        literal = literal.replace(character, f"\\x{ord(character):02x}")
    return f"${literal}"
