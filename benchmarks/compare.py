"""Whether two models can be told apart: the digits of a test set that one of them misreads and the other does not.

McNemar's exact test: where both read equally well, as many are misread by the first alone as by the second alone, but
for chance. Digits of the same handwriting count as independent, as in Wilson's interval (see clustered.py).

Run: python benchmarks/compare.py FIRST.onnx SECOND.onnx [--split test]
"""

import argparse
import math

import numpy as np

from rnnspn.data.held_out import held_out
from rnnspn.errors import ConfigError
from rnnspn.evaluation import exported


def main() -> None:
    """Read the same pictures with both and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    options = parser.parse_args()
    first, second = exported(options.first), exported(options.second)
    if (first.model.steps, first.model.alphabet) != (second.model.steps, second.model.alphabet):
        raise ConfigError("expected two models of the same characters, as many of them")
    wrong = []
    for subject in (first, second):
        examples = held_out(options.split, subject.data, subject.model)
        wrong.append(subject.answer(examples.images).digits != examples.labels)
        print(f"{subject.name}: {int(wrong[-1].sum())} of {examples.labels.size:,} digits wrong")
    by_first, by_second = int((wrong[0] & ~wrong[1]).sum()), int((wrong[1] & ~wrong[0]).sum())
    print(
        f"by the first alone {by_first}, by the second alone {by_second}, by both {int(np.logical_and(*wrong).sum())}"
    )
    print(f"McNemar's exact test: p = {exact_p(by_first, by_second):.2g}")


def exact_p(one: int, other: int) -> float:
    """Return how likely it is that `one` and `other` differ as much or more where each case falls to either alike."""
    cases = one + other
    tail = sum(math.comb(cases, count) for count in range(min(one, other) + 1))
    return float(min(1, 2 * tail / 2**cases))


if __name__ == "__main__":
    main()
