"""From class indices to text: the alphabet of a model, and the blank that is read after the end of a sequence."""

from collections.abc import Iterable

DIGITS = "0123456789"

BLANK = "\u2423"
"""What is read after the end, by models of sequences of different lengths: the last character of their alphabet."""


def described(steps: int, alphabet: str) -> str:
    """Say for people what a model of T steps reads."""
    if BLANK in alphabet:
        return f"up to {steps} characters of {alphabet.replace(BLANK, '')}"
    return f"{steps} characters of {alphabet}"


def spelled(classes: Iterable[int], alphabet: str) -> str:
    """Return the text of a sequence of class indices; blanks after the last character are no part of it."""
    return "".join(alphabet[index] for index in classes).rstrip(BLANK)
