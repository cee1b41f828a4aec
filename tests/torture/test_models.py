import sys

import onnx

from rnnspn.inference import model_file
from tests import handmade
from tests.torture import mutation
from tests.torture.models import try_models
from tests.torture.record import Outcome

STUB = r"""
import os, sys, time
for path in sys.stdin:
    what = open(path.strip()).read()
    if what == "crash":
        os.abort()
    if what == "hang":
        time.sleep(60)
    print({"sound": "read soundly", "bad": "refused"}.get(what, "raised KeyError: 'x'"), flush=True)
"""


def _tried(*contents: str, must_fail: bool = False) -> Outcome:
    outcome = Outcome()
    mutants = [(f"{index} {content}", content.encode()) for index, content in enumerate(contents)]
    try_models("stub", mutants, outcome, must_fail=must_fail, command=[sys.executable, "-c", STUB], limit_s=1)
    return outcome


def test_what_is_refused_or_read_is_counted():
    outcome = _tried("sound", "bad", "bad")
    assert outcome.tried == {"models stub": 3, "stub, refused": 2, "stub, read": 1}
    assert outcome.failures == []


def test_a_crash_a_hang_and_an_odd_error_are_each_laid_to_the_model_that_did_it():
    outcome = _tried("sound", "crash", "bad", "hang", "odd", "sound")
    assert [failure.split(": ")[1] for failure in outcome.failures] == ["1 crash", "3 hang", "4 odd"]
    assert "died with -6" in outcome.failures[0]
    assert "hung" in outcome.failures[1]
    assert "KeyError" in outcome.failures[2]
    assert outcome.tried["stub, read"] == 2


def test_a_broken_model_that_reads_is_a_failure():
    assert len(_tried("bad", "sound", must_fail=True).failures) == 1


def test_a_model_that_is_good_after_all_is_caught_by_the_real_process(tmp_path):
    outcome = Outcome()
    good = model_file.bundled().read_bytes()
    try_models("good", [("the bundled model", good), ("junk", b"junk")], outcome, must_fail=True)
    assert outcome.failures == ["good: the bundled model: read soundly"]


def test_every_mutation_changes_the_model():
    good = handmade.build().SerializeToString()
    changed = dict(mutation.broken(good))
    assert len(changed) > 50
    assert all(content != onnx.ModelProto.FromString(good).SerializeToString() for content in changed.values())
