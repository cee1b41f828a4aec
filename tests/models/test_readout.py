import itertools

import pytest
import torch

from rnnspn.models.readout import read_out


def best_by_trying_all(probabilities: torch.Tensor, blank: int) -> list[int]:
    """Return the most probable of all sequences that have blanks only at the end, of (T, K)."""
    steps, classes = probabilities.shape
    others = [label for label in range(classes) if label != blank]
    ended = (
        [*characters, *[blank] * (steps - length)]
        for length in range(steps + 1)
        for characters in itertools.product(others, repeat=length)
    )
    return max(ended, key=lambda labels: float(probabilities.double()[range(steps), labels].prod()))


@pytest.mark.parametrize("blank", [3, 1])
def test_the_most_probable_sequence_that_ends_once_is_read(blank: int) -> None:
    torch.manual_seed(0)
    probabilities = (2 * torch.randn(200, 4, 4)).softmax(-1)
    read = read_out(probabilities, blank)
    assert read.tolist() == [best_by_trying_all(one, blank) for one in probabilities]
    assert (read != probabilities.argmax(-1)).any()


def test_certainty_is_no_obstacle() -> None:
    sure = torch.zeros(1, 3, 4)
    sure[0, range(3), [2, 0, 3]] = 1
    assert read_out(sure, 3).tolist() == [[2, 0, 3]]


def test_without_a_blank_each_step_is_read_by_itself() -> None:
    probabilities = torch.rand(5, 3, 10)
    assert torch.equal(read_out(probabilities, None), probabilities.argmax(-1))
