"""What can be said of pinned memory without a GPU: a driver that gives and takes back."""

import ctypes
import gc
from collections import defaultdict

import numpy as np
import pytest

from rnnspn.inference import pinned


class Driver:
    """Gives ordinary memory, full of ones."""

    def __init__(self, result: int = 0) -> None:
        self.result = result
        self.given: dict[int, ctypes.Array] = {}

    def cuMemHostAlloc(self, pointer, size, flags) -> int:  # noqa: N802
        if not self.result:
            memory = (ctypes.c_uint8 * size.value)(*[1] * size.value)
            self.given[ctypes.addressof(memory)] = memory
            pointer._obj.value = ctypes.addressof(memory)
        return self.result


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch):
    monkeypatch.setattr(pinned, "_LEFT", defaultdict(list))


@pytest.mark.parametrize("result", [0, 2])
def test_an_array_of_zeros_comes_from_the_driver_or_from_elsewhere(monkeypatch, result):
    driver = Driver(result)
    monkeypatch.setattr(pinned, "driver", lambda: driver)
    array = pinned.pinned((2, 3, 4))
    assert array.shape == (2, 3, 4)
    assert array.dtype == np.uint8
    assert not array.any()
    array[1, 2, 3] = 7
    assert array[1, 2, 3] == 7
    assert ([array.ctypes.data] == list(driver.given)) == (result == 0)


def test_memory_is_given_out_again_when_no_array_uses_it(monkeypatch):
    driver = Driver()
    monkeypatch.setattr(pinned, "driver", lambda: driver)
    array = pinned.pinned((2, 3))
    array[:] = 9
    part = array[1:]
    del array
    gc.collect()
    other = pinned.pinned((3, 2))
    assert len(driver.given) == 2
    del part
    gc.collect()
    again = pinned.pinned((6,))
    assert len(driver.given) == 2
    assert {other.ctypes.data, again.ctypes.data} == set(driver.given)
    assert not again.any()


@pytest.mark.parametrize("driver", [None, object()])
def test_without_a_driver_memory_is_ordinary(monkeypatch, driver):
    monkeypatch.setattr(pinned, "driver", lambda: driver)
    assert pinned.pinned((2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
