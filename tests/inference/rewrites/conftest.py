from collections.abc import Iterator

import pytest

from rnnspn.inference import cpu


@pytest.fixture(autouse=True)
def _rewritten_anew() -> Iterator[None]:
    cpu.rewritten.cache_clear()
    yield
    cpu.rewritten.cache_clear()
