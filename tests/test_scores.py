import json
import math

import numpy as np
import pytest

from rnnspn.scores import Answers, Score, Surest, are_clear, confusion, wilson_interval


@pytest.mark.parametrize(
    ("wrong", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (1, 20, 0.0089, 0.2361),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilsons_interval_has_its_published_values(wrong: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(wrong, total) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_holds_exactly_the_rates_that_the_count_does_not_reject() -> None:
    for end in wilson_interval(450, 30_000):
        assert abs(450 / 30_000 - end) / math.sqrt(end * (1 - end) / 30_000) == pytest.approx(1.959964)


def test_errors_are_counted_per_digit_sequence_and_position() -> None:
    read = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 0]])
    labels = np.array([[1, 2, 3], [4, 0, 0], [7, 8, 0], [0, 0, 0]])
    score = Score.of(read, labels)
    assert score == Score(
        digits=12,
        wrong_digits=3,
        sequences=4,
        wrong_sequences=2,
        wrong_by_position=(0, 1, 2),
        digits_by_position=(4, 4, 4),
    )
    assert score.digit_error == 0.25
    assert score.sequence_error == 0.5


def test_of_pictures_with_nothing_to_read_only_what_was_read_counts() -> None:
    blank = np.full((3, 2), 10)
    score = Score.of(blank, blank, blank=10)
    assert (score.digits, score.digit_error, score.sequence_error) == (0, 0.0, 0.0)
    assert json.loads(json.dumps(score.to_dict()))["digit_error_interval"] == [0.0, 1.0]
    score = Score.of(np.array([[10, 10], [4, 10], [10, 10]]), blank, blank=10)
    assert (score.digits, score.wrong_digits, score.wrong_sequences) == (1, 1, 1)


def test_at_each_position_what_is_after_the_end_counts_only_where_something_is_read() -> None:
    labels = np.array([[1, 10], [2, 10], [3, 10], [4, 5]])
    score = Score.of(np.array([[1, 10], [0, 10], [3, 7], [4, 5]]), labels, blank=10)
    assert score.wrong_by_position == (1, 1)
    assert score.digits_by_position == (4, 2)
    assert sum(score.digits_by_position) == score.digits


def test_a_score_is_json_with_counts_rates_and_intervals() -> None:
    score = Score.of(np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 5]])).to_dict()
    assert json.loads(json.dumps(score)) == score
    assert score["digit_error_interval"] == list(wilson_interval(1, 4))
    assert score["sequence_error_interval"] == list(wilson_interval(1, 2))
    assert (score["digit_error"], score["sequence_error"]) == (0.25, 0.5)


def test_confusion_has_a_row_for_what_is_written_and_a_column_for_what_is_read() -> None:
    counts = confusion(read=np.array([[0, 2], [2, 1]]), labels=np.array([[0, 2], [1, 1]]), classes=4)
    expected = np.zeros((4, 4), int)
    expected[0, 0] = expected[2, 2] = expected[1, 1] = 1
    expected[1, 2] = 1
    assert np.array_equal(counts, expected)


@pytest.mark.parametrize(
    ("share", "confidence", "wrong", "count"), [(1.0, 0.2, 2, 5), (0.8, 0.5, 1, 4), (0.4, 0.8, 0, 2), (0.01, 0.9, 0, 1)]
)
def test_the_surest_are_counted_by_themselves(share: float, confidence: float, wrong: int, count: int) -> None:
    labels = np.array([[1, 2], [3, 4], [5, 6], [7, 8], [9, 0]])
    read = np.array([[1, 2], [3, 0], [5, 6], [0, 0], [9, 0]])
    answers = Answers(read, np.array([0.9, 0.5, 0.8, 0.2, 0.6]), None)
    assert Surest.of(answers, labels, share) == (share, confidence, wrong, count)


def test_a_sequence_that_might_end_in_two_places_is_not_clear() -> None:
    ends = np.array([[[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]], [[0.9, 0.1], [0.4, 0.6], [0.1, 0.9]]], np.float32)
    assert are_clear(ends, None).all(axis=1).tolist() == [True, True]
    assert are_clear(ends, 1).all(axis=1).tolist() == [False, True]  # one character or three are as likely in the first


def test_a_score_comes_back_from_json_as_it_was() -> None:
    score = Score(5, 2, 3, 1, (1, 1), (3, 2))
    assert Score.from_dict(json.loads(json.dumps(score.to_dict()))) == score
    with pytest.raises(KeyError):
        Score.from_dict({})
