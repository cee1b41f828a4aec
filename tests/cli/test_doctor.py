import json
from pathlib import Path

from tests.cli.program import rnnspn


def test_the_doctor_finds_a_provider_that_works(tmp_path: Path) -> None:
    code, out, err = rnnspn(tmp_path, "doctor")
    assert (code, err) == (0, "")
    assert any(line.startswith("ok  provider cpu") for line in out.splitlines())


def test_programs_get_the_findings_as_json(tmp_path: Path) -> None:
    code, out, _ = rnnspn(tmp_path, "doctor", "--json")
    assert code == 0
    assert {"what", "state", "detail", "mend"} == set(json.loads(out)[0])
