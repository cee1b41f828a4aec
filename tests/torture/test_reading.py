import sys
from pathlib import Path

import pytest

from tests.torture import reading

STUB = r"""
import json, os, sys, time
step = {"digit": "1", "probability": 1.0, "quad": [[0, 0]] * 4}
for path in sys.stdin.buffer.read().split(b"\0")[:-1]:
    what = open(path).read()
    if what == "crash":
        os.abort()
    if what == "hang":
        time.sleep(60)
    if what == "warning":
        print("UserWarning: odd", file=sys.stderr)
    record = {"path": path.decode(), "digits": "111", "confidence": 1.0, "steps": [step] * 3}
    if what == "traceback":
        record = {"path": path.decode(), "error": {"code": "damaged", "message": "Traceback\n  File"}}
    if what == "unknown":
        record = {"path": path.decode(), "error": {"code": "who-knows", "message": "what"}}
    if what == "junk":
        record = "junk"
    if what != "skipped":
        print(json.dumps(record), flush=True)
sys.exit(what in ("traceback", "unknown"))
"""


def _files(folder: Path, *contents: str) -> list[Path]:
    files = [folder / f"{index}.png" for index in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_text(content)
    return files


def _faults(files: list[Path]) -> list[str]:
    return reading.read_all(files, [sys.executable, "-c", STUB], limit_s=1).faults


def test_a_program_that_keeps_its_word_has_no_faults(tmp_path):
    assert _faults(_files(tmp_path, *["fine"] * 40)) == []


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("crash", "-6"),
        ("hang", "in time"),
        ("warning", "UserWarning"),
        ("traceback", "unsound"),
        ("unknown", "unsound"),
    ],
)
def test_whatever_goes_wrong_with_a_file_is_laid_to_that_file(tmp_path, content, word):
    contents = ["fine"] * 3 + [content]
    files = _files(tmp_path, *contents)
    faults = _faults(files)
    assert any(str(files[3]) in fault and word in fault for fault in faults), faults
    assert not any(str(file) in fault for fault in faults for file in files[:3])


@pytest.mark.parametrize("content", ["junk", "skipped"])
def test_a_record_that_is_missing_or_no_record_is_a_fault(tmp_path, content):
    assert _faults(_files(tmp_path, "fine", content, "fine"))


def test_the_files_after_a_crash_are_still_read(tmp_path):
    files = _files(tmp_path, *["fine"] * 20, "crash", *["fine"] * 40)
    report = reading.read_all(files, [sys.executable, "-c", STUB], limit_s=5)
    assert len(report.records) == 60
    assert [fault.startswith(str(files[20])) for fault in report.faults] == [True]
