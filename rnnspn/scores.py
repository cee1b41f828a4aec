"""Error rates with their n and interval, counted the same way for checkpoints and exported files.

Shapes: n sequences, T digits each.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CLEAR_MARGIN = 1e-3
"""Further apart than this are the two best classes of a clear digit, and, in logarithms of their likelihoods, the two
best lengths of its sequence."""
_LEAST = 1e-30


def wilson_interval(wrong: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the interval of an error rate; the default z gives 95 %.

    Args:
        wrong: Errors counted.
        total: Trials; of none, nothing is known.
        z: Standard normal quantile.

    Returns:
        Lower and upper end, each from 0 to 1.

    Source: Wilson 1927.
    """
    if not total:
        return 0.0, 1.0
    rate, spread = wrong / total, z * z / total
    centre = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(rate * (1 - rate) / total + spread / (4 * total))
    return max(0.0, centre - half), min(1.0, centre + half)


class Answers(NamedTuple):
    """What a model reads in n pictures.

    Attributes:
        digits: int (n, T), class indices.
        confidence: float (n,), the product of a sequence's probabilities.
        theta: float (n, G, 2, 3), the affine matrix of each glimpse; None for `conv`.
    """

    digits: NDArray[Any]
    confidence: NDArray[Any]
    theta: NDArray[Any] | None


class Surest(NamedTuple):
    """How often a model is wrong where it is surest of itself: what leaving the rest to people would leave.

    Attributes:
        share: Share of the sequences, from 0 to 1, the most confident ones.
        confidence: The lowest confidence among them.
        wrong_sequences: Sequences among them with a wrong digit.
        sequences: How many they are.
    """

    share: float
    confidence: float
    wrong_sequences: int
    sequences: int

    @classmethod
    def of(cls, answers: Answers, labels: NDArray[Any], share: float) -> "Surest":
        """Count, given int (n, T) labels, n at least 1."""
        count = max(1, round(share * len(labels)))
        surest = np.argsort(-answers.confidence, kind="stable")[:count]
        wrong = (answers.digits[surest] != labels[surest]).any(axis=1)
        return cls(share, float(answers.confidence[surest[-1]]), int(wrong.sum()), count)


def margin(values: NDArray[Any]) -> NDArray[Any]:
    """Return how far the two largest values along the last axis, of two or more, are apart."""
    two = np.sort(values, axis=-1)[..., -2:]
    difference: NDArray[Any] = two[..., 1] - two[..., 0]
    return difference


def are_clear(probabilities: NDArray[np.floating[Any]], blank: int | None) -> NDArray[np.bool_]:
    """Return which digits, bool (n, T), no rounding reads otherwise; with a blank, where a sequence ends counts too.

    Args:
        probabilities: float (n, T, K).
        blank: The class of what is after the end, None where all sequences have T characters.
    """
    clear: NDArray[np.bool_] = margin(probabilities) > CLEAR_MARGIN
    if blank is not None:
        logs = np.log(np.maximum(probabilities.astype(np.float64), _LEAST))
        character, end = np.delete(logs, blank, axis=-1).max(axis=-1), logs[..., blank]
        steps = character.shape[1]
        lengths = [character[:, :length].sum(1) + end[:, length:].sum(1) for length in range(steps + 1)]
        clear &= (margin(np.stack(lengths, axis=1)) > CLEAR_MARGIN)[:, None]
    return clear


def confusion(read: NDArray[Any], labels: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count how often each class was read as each.

    Args:
        read: int (n, T), class indices read.
        labels: int (n, T), class indices written.
        classes: Number of classes K.

    Returns:
        int64 (K, K): a row for each class written, a column for each class read.
    """
    counts = np.bincount(np.ravel(labels) * classes + np.ravel(read), minlength=classes**2)
    return counts.astype(np.int64).reshape(classes, classes)


@dataclass(frozen=True)
class Score:
    """How often a model was wrong.

    Attributes:
        digits: Digits read, without those after the end where nothing was read either.
        wrong_digits: Digits read wrongly.
        sequences: Sequences read.
        wrong_sequences: Sequences with at least one wrong digit.
        wrong_by_position: Wrong digits at each of the T positions.
        digits_by_position: Digits read at each of them, counted as `digits` are.
    """

    digits: int
    wrong_digits: int
    sequences: int
    wrong_sequences: int
    wrong_by_position: tuple[int, ...]
    digits_by_position: tuple[int, ...]

    @classmethod
    def of(cls, read: NDArray[Any], labels: NDArray[Any], blank: int | None = None) -> "Score":
        """Count the errors of readings, (n, T), against labels, (n, T); after the end, both have the class `blank`."""
        wrong = np.asarray(read) != np.asarray(labels)
        counted = np.ones_like(wrong) if blank is None else wrong | (np.asarray(labels) != blank)
        return cls(
            digits=int(counted.sum()),
            wrong_digits=int(wrong.sum()),
            sequences=len(wrong),
            wrong_sequences=int(wrong.any(axis=1).sum()),
            wrong_by_position=tuple(wrong.sum(axis=0).tolist()),
            digits_by_position=tuple(counted.sum(axis=0).tolist()),
        )

    @property
    def digit_error(self) -> float:
        """Share of digits read wrongly, from 0 to 1; 0 where there are none, and none was read."""
        return self.wrong_digits / max(self.digits, 1)

    @property
    def sequence_error(self) -> float:
        """Share of sequences with a wrong digit, from 0 to 1."""
        return self.wrong_sequences / self.sequences

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Score":
        """Rebuild the counts from what `to_dict` gave.

        Raises:
            KeyError: One is missing.
            TypeError: One is of another kind.
        """
        counts = {name: values[name] for name in ("digits", "wrong_digits", "sequences", "wrong_sequences")}
        wrong, digits = tuple(values["wrong_by_position"]), tuple(values["digits_by_position"])
        return cls(**counts, wrong_by_position=wrong, digits_by_position=digits)

    def to_dict(self) -> dict[str, Any]:
        """Return counts, rates and 95 % intervals as a dictionary that JSON can hold."""
        return {
            "digits": self.digits,
            "wrong_digits": self.wrong_digits,
            "digit_error": self.digit_error,
            "digit_error_interval": list(wilson_interval(self.wrong_digits, self.digits)),
            "sequences": self.sequences,
            "wrong_sequences": self.wrong_sequences,
            "sequence_error": self.sequence_error,
            "sequence_error_interval": list(wilson_interval(self.wrong_sequences, self.sequences)),
            "wrong_by_position": list(self.wrong_by_position),
            "digits_by_position": list(self.digits_by_position),
        }
