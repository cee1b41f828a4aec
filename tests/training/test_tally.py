import pytest

from rnnspn.scores import Score
from rnnspn.training.tally import Tally


def judged(schedule: str, digits: int, *wrong: int | None) -> Tally:
    """Return the tally after epochs with so many wrong digits, None for nothing to validate on."""
    tally = Tally()
    for count in wrong:
        score = None if count is None else Score(digits, count, digits, count, (count,), (digits,))
        kept = tally.judge(score, schedule)
        assert kept == (tally.kept_epoch == len(tally.epochs))
        record = {} if score is None else {"validation_digit_error": score.digit_error}
        tally.epochs.append({"epoch": len(tally.epochs)} | record)
    return tally


@pytest.mark.parametrize(
    ("digits", "wrong", "best", "kept"),
    [
        (150, (90, 1, 1), 1, 2),
        (150, (90, 1, 2), 1, 2),
        (150, (90, 1, 3, 2, 3), 1, 3),
        (150, (90, 0, 1), 1, 1),
        (150, (90, 0, 0), 1, 2),
        (9_999, (900, 100, 110), 1, 2),
        (9_999, (900, 100, 111), 1, 1),
        (9_999, (900, 100, 110, 120), 1, 2),  # a standard error from the best, not from the one kept
        (10_000, (900, 100, 101), 1, 1),  # so many can tell
        (150, (150,), 0, 0),
    ],
)
def test_one_cycle_keeps_the_latest_weights_within_a_standard_error_of_the_best(
    digits: int, wrong: tuple[int, ...], best: int, kept: int
) -> None:
    tally = judged("one-cycle", digits, *wrong)
    assert (tally.best_epoch, tally.kept_epoch) == (best, kept)
    assert tally.best_error == min(wrong) / digits
    assert tally.kept == {"epoch": kept, "validation_digit_error": wrong[kept] / digits}


def test_the_papers_schedule_keeps_the_best_and_the_first_of_equals() -> None:
    tally = judged("paper", 30_000, 900, 300, 300, 301, 299, 300)
    assert (tally.best_epoch, tally.kept_epoch) == (4, 4)
    assert judged("paper", 30_000, 900, 300, 300).kept_epoch == 1


@pytest.mark.parametrize("schedule", ["paper", "one-cycle"])
def test_without_validation_the_latest_weights_are_kept(schedule: str) -> None:
    tally = judged(schedule, 1, None, None, None)
    assert (tally.best_epoch, tally.kept) == (2, {"epoch": 2})
