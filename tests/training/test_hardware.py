import subprocess
import sys

import pytest
import torch

from rnnspn.training import hardware, runs
from rnnspn.training.learner import Learner
from rnnspn.training.processes import Processes

CPU = torch.device("cpu")

COUNT_FAULTS = """
import resource, sys, torch
from rnnspn.training.hardware import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def step():
    for _ in range(4):
        torch.zeros(16 * 2**20)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize(("instructions", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_fast_training_uses_bfloat16_only_where_a_cpu_has_instructions_for_it(
    instructions: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert hardware.is_fast_in_bfloat16(CPU) == instructions
    assert Learner(runs.new_config("rnn-spn", "best"), CPU, Processes()).precision == precision


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_precision_that_was_asked_for_is_used(precision: str) -> None:
    config = runs.new_config("rnn-spn", "best", precision=precision)
    assert Learner(config, CPU, Processes()).precision == precision


@pytest.mark.skipif(sys.platform != "linux", reason="it is about glibc")
def test_freed_memory_is_not_asked_for_again_page_by_page() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", COUNT_FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < faults("as it is") / 3
