import csv
import io
import json
import os
from pathlib import Path

import pytest

from rnnspn.errors import InputError
from rnnspn.inference.records import Failure, Reading, Record, Step
from rnnspn.results import writers

QUAD = ((0.001, 0.0), (9.0, 0.0), (9.0, 9.006), (0.0, 9.0))
READING = Reading(
    "-1",
    0.72,
    (Step("-", 0.9, QUAD, (1, 0, 0, 0, 1, 0)), Step("1", 0.8, None, None)),
    "cpu",
    "ab" * 32,
    "auto",
)
FAILED = Failure("damaged", "the picture is damaged: =x")
ODD = [
    b"caf\xe9.png",
    b"new\nline.png",
    b"a\r=1+1.png",
    b"\n=1+1.png",
    "\uff1d1+1.png".encode(),
    b"=1+1.png",
    b"'quoted.png",
    b"tab\t,comma.png",
    b"back\\slash.png",
    b"@x",
    b"-y",
]


def _written(form: str, records: list[Record], complain=lambda _: None) -> bytes:
    stream = io.BytesIO()
    writer = writers.make_writer(form, stream, complain)
    for record in records:
        writer.write([record])
    return stream.getvalue()


def test_jsonl_holds_what_the_specification_names():
    lines = _written("jsonl", [Record("a.png", READING), Record("b.png", FAILED)]).splitlines()
    assert json.loads(lines[0]) == {
        "path": "a.png",
        "digits": "-1",
        "confidence": 0.72,
        "steps": [
            {"digit": "-", "probability": 0.9, "quad": [[0.0, 0.0], [9.0, 0.0], [9.0, 9.01], [0.0, 9.0]]},
            {"digit": "1", "probability": 0.8, "quad": None},
        ],
        "provider": "cpu",
        "model_sha256": "ab" * 32,
        "polarity": "auto",
    }
    assert json.loads(lines[1]) == {"path": "b.png", "error": {"code": "damaged", "message": FAILED.message}}


@pytest.mark.parametrize("name", ODD)
def test_odd_names_round_trip_through_jsonl(name):
    data = _written("jsonl", [Record(os.fsdecode(name), READING)])
    data.decode("utf-8")
    assert data.count(b"\n") == 1
    assert os.fsencode(json.loads(data)["path"]) == name


@pytest.mark.parametrize("name", ODD)
def test_odd_names_round_trip_through_csv_and_no_field_is_a_formula(name):
    text = _written("csv", [Record(os.fsdecode(name), READING)]).decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 1
    field = rows[0]["path"]
    assert not field.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))
    assert os.fsencode(field.removeprefix("'")) == name


def test_csv_has_one_header_and_neutral_fields():
    rows = list(csv.reader(io.StringIO(_written("csv", [Record("a.png", READING), Record("b.png", FAILED)]).decode())))
    assert rows[0] == list(writers.CSV_HEADER)
    assert rows[1] == ["a.png", "'-1", "0.720000", "0.900000 0.800000", "cpu", "ab" * 32, "auto", "", ""]
    assert rows[2] == ["b.png", *[""] * 6, "damaged", FAILED.message]


@pytest.mark.parametrize("name", ODD)
def test_text_keeps_a_record_on_one_line(name):
    data = _written("text", [Record(os.fsdecode(name), READING)])
    assert data.endswith(b"\t-1\t0.7200\n")
    assert data.count(b"\n") == 1
    assert data.count(b"\t") == 2


def test_text_leaves_failures_to_the_complaints():
    said = []
    assert _written("text", [Record("new\nline\x1b.png", FAILED)], said.append) == b""
    assert said == ["new\\nline\\x1b.png: the picture is damaged: =x"]


def test_the_table_keeps_its_columns_from_batch_to_batch():
    lines = _written("table", [Record("a.png", READING), Record("b.png", READING)]).decode().splitlines()
    assert [word in lines[0] for word in ("picture", "reading", "confidence", "each digit")] == [True] * 4
    assert lines[-1].replace("b.png", "a.png") == lines[-2]


def test_the_table_says_so_where_nothing_was_read():
    empty = Reading("", 0.9, (), "cpu", "0" * 64, "auto")
    assert "(nothing)" in _written("table", [Record("a.png", empty)]).decode()
    assert _written("text", [Record("a.png", empty)]) == b"a.png\t\t0.9000\n"


def test_the_table_shows_why_a_picture_failed():
    assert "the picture is damaged" in _written("table", [Record("odd\udce9\x1b.png", FAILED)]).decode()


@pytest.mark.parametrize(
    ("output", "terminal", "form"),
    [
        (None, True, "table"),
        (None, False, "text"),
        (Path("a.jsonl"), True, "jsonl"),
        (Path("a.CSV"), True, "csv"),
        (Path("a.txt"), True, "text"),
        (Path("a"), True, "text"),
    ],
)
def test_the_format_follows_the_place(output, terminal, form):
    assert writers.default_format(output, terminal) == form


@pytest.mark.parametrize("name", ["a.xlsx", "a.json", "a.jsonl.gz"])
def test_a_place_for_something_else_is_refused(name):
    with pytest.raises(InputError, match=f"expected --output to end in .*{name}$"):
        writers.default_format(Path(name), terminal=False)
