"""How wide an error's interval is when digits of one writer's hand are counted as one: MNIST's are shown several times.

The 30,000 digits of the authors' test set are 9,507 of MNIST's: what is misread once is likely to be misread again. New
test sets are drawn here by MNIST digit, with replacement, beside Wilson's interval, which takes all for independent.

Run: python benchmarks/clustered.py [MODEL.onnx] [--draws 10000]
"""

import argparse

import numpy as np
from machine import MODEL, describe

from rnnspn.data.authors_2015 import authors_2015_placement
from rnnspn.data.held_out import held_out
from rnnspn.evaluation import exported
from rnnspn.scores import Score, wilson_interval


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=str(MODEL), help="an .onnx file")
    parser.add_argument("--draws", type=int, default=10_000)
    options = parser.parse_args()
    subject = exported(options.model)
    examples = held_out("test", subject.data, subject.model)
    answers = subject.answer(examples.images)
    score = Score.of(answers.digits, examples.labels)
    wrong = (answers.digits != examples.labels).ravel()
    _, source = np.unique(authors_2015_placement("test").digit.ravel(), return_inverse=True)
    shown, misread = np.bincount(source), np.bincount(source, wrong)
    random = np.random.default_rng(0)
    errors = []
    for _ in range(options.draws):
        times = np.bincount(random.integers(len(shown), size=len(shown)), minlength=len(shown))
        errors.append(times @ misread / (times @ shown))
    low, high = np.percentile(errors, [2.5, 97.5])
    wilson = wilson_interval(score.wrong_digits, score.digits)
    print(describe())
    print(f"{score.digit_error:.2%} of {score.digits:,} digits, which are {len(shown):,} of MNIST's")
    print(f"as if all were independent: 95 % interval {wilson[0]:.2%} to {wilson[1]:.2%}")
    print(f"by MNIST digit: {low:.2%} to {high:.2%}, standard error {100 * np.std(errors):.3f} points")
    print(f"misread more than once: {int((misread > 1).sum())}, at most {int(misread.max())} times")


if __name__ == "__main__":
    main()
