from pathlib import Path

import pytest

from tests.torture.__main__ import PARTS, main


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", sorted(PARTS.keys() - {"corpora", "kills", "load"})
)  # one is fetched, two have their own tests
def test_a_small_selection_of_a_part_finds_no_failure(part: str, tmp_path: Path) -> None:
    assert main([part, "--quick", "--results", str(tmp_path / "results.json")]) == 0
    assert not (tmp_path / "reliability.md").exists()
