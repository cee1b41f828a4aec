import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rnnspn.errors import ConfigError
from rnnspn.models.networks import Output
from rnnspn.training import loop
from rnnspn.training.batches import UNNAMED, Pictures
from rnnspn.training.checkpoint import STATE_FILE, Checkpoint
from rnnspn.training.loop import Trainer
from rnnspn.training.optimisation import loss_of
from rnnspn.training.processes import Processes
from rnnspn.training.recipes import BEST, PAPER
from tests.training.test_loop import CPU, few_pictures, small_run, stop_after

ROOT = Path(__file__).parents[2]
RUN = small_run("paper", dropout=0.0)
SCRIPT = """
import sys, torch
from pathlib import Path
from rnnspn.training import loop
from rnnspn.training.processes import Processes
from tests.training.test_loop import few_pictures, small_run, stop_after
loop.held_out_pictures = few_pictures
cpu = torch.device("cpu")
def main():
    trainer = loop.Trainer(Path(sys.argv[1]), small_run("paper", dropout=0.0), cpu, processes=Processes.join(cpu))
    if (trainer.folder / "checkpoint.safetensors").exists():
        trainer.restore()
    if len(sys.argv) > 2:
        trainer.observer = stop_after(int(sys.argv[2]))
    assert trainer.run() == (len(sys.argv) == 2)
main()
"""

THAT_DIFFER = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from torch import distributed
from rnnspn.errors import TrainingError
from rnnspn.training import learner, loop
from rnnspn.training.processes import Processes
from tests.training.test_loop import few_pictures, small_run
loop.held_out_pictures = few_pictures
cpu = torch.device("cpu")
def main():
    processes = Processes.join(cpu)
    trainer = loop.Trainer(Path(sys.argv[1]), small_run("paper", dropout=0.0), cpu, processes=processes)
    if sys.argv[2] == "scores" and processes.rank == 1:
        score = loop.score_network
        loop.score_network = lambda *given: replace(score(*given), wrong_digits=0)
    if sys.argv[2] == "losses" and processes.rank == 1:
        loss_of = learner.loss_of
        learner.loss_of = lambda *given: [part * float("nan") for part in loss_of(*given)]
    try:
        end = [trainer.run(), trainer.tally.epochs, trainer.tally.best_epoch]
    except TrainingError as error:
        end = str(error)
    ends = [None, None]
    distributed.all_gather_object(ends, end)
    assert ends[0] == ends[1], ends
    if processes.writes:
        Path(sys.argv[1] + ".end").write_text(str(end))
main()
"""

THAT_END_AT_ONCE = """
import time, torch
from torch import distributed, nn
from rnnspn.training.processes import Processes
class Slow(torch.Tensor):
    def __del__(self):
        time.sleep(0.05)
def main():
    network = Processes.join(torch.device("cpu")).parallel(nn.Linear(1, 1))
    network(torch.ones(1, 1)).sum().backward()
    in_a_circle = [network]
    in_a_circle.append(in_a_circle)
    for _ in range(6):
        last = distributed.all_reduce(torch.ones(1).as_subclass(Slow), async_op=True)
    last.wait()
main()
"""


def torchrun(processes: int, *arguments: str, cwd: Path = ROOT) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def train_on(processes: int, folder: Path, *arguments: int | str, source: str = SCRIPT) -> None:
    script = folder.parent / f"{folder.name}.py"
    script.write_text(source)
    process = torchrun(processes, str(script), str(folder), *map(str, arguments))
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "FutureWarning" not in err


def records(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def short_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "held_out_pictures", few_pictures)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Round as the processes that torchrun starts do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def alone(tmp_path: Path, short_validation: None, one_thread: None) -> Path:
    """Return the folder of a run of one process."""
    Trainer(tmp_path / "alone", RUN, CPU).run()
    return tmp_path / "alone"


def same_curve(folder: Path, other: Path) -> None:
    for one, two in zip(records(folder), records(other), strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-4)
        assert one["train_digit_error"] == pytest.approx(two["train_digit_error"], abs=0.004)
    ends = [Checkpoint.load(run / STATE_FILE).tensors for run in (folder, other)]  # rounding may decide which are kept
    weights = [name for name in ends[0] if name.startswith("weights/")]
    assert len(weights) > 20
    for name in weights:
        np.testing.assert_allclose(ends[0][name], ends[1][name], atol=2e-3)


def test_two_processes_learn_what_one_does(alone: Path, tmp_path: Path) -> None:
    train_on(2, tmp_path / "together")
    same_curve(tmp_path / "together", alone)


def test_a_run_of_one_process_goes_on_with_two(alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "resumed"
    assert not Trainer(folder, RUN, CPU, stop_after(4)).run()
    train_on(2, folder)
    same_curve(folder, alone)


def test_a_run_of_two_processes_goes_on_with_one(alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "resumed"
    train_on(2, folder, 4)  # between two reports
    trainer = Trainer(folder, RUN, CPU)
    trainer.restore()
    assert trainer.tally.step == 4
    assert trainer.run()
    same_curve(folder, alone)


def test_processes_end_well_while_what_they_sent_is_let_go(tmp_path: Path) -> None:
    train_on(2, tmp_path / "run", source=THAT_END_AT_ONCE)


@pytest.mark.parametrize(("what", "end"), [("scores", "[True, [{"), ("losses", "the loss is no finite number")])
def test_processes_that_find_different_scores_or_losses_end_alike(tmp_path: Path, what: str, end: str) -> None:
    train_on(2, tmp_path / what, what, source=THAT_DIFFER)
    assert (tmp_path / f"{what}.end").read_text().startswith(end)


def test_a_process_whose_first_one_fails_does_not_call_it_a_fault_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no folder")
    process = torchrun(2, "-m", "cli.main", "train", "--epochs", "1", "--limit", "128", "--out", "run", cwd=tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "error: " in err
    assert "unforeseen" not in err


def test_the_comparison_notices_shares_that_overlap(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = Processes(0, 2)
    monkeypatch.setattr(Processes, "parallel", lambda self, network: network)
    monkeypatch.setattr(Processes, "total", lambda self, values: values)
    monkeypatch.setattr(Processes, "agree", lambda self, choose: choose())
    Trainer(tmp_path / "half", RUN, CPU, processes=half).run()
    with pytest.raises(AssertionError):
        same_curve(tmp_path / "half", alone)


def test_shares_cover_a_batch_once() -> None:
    batch = torch.arange(12)
    shares = [batch[Processes(rank, 3).share] for rank in range(3)]
    assert sorted(torch.cat(shares).tolist()) == batch.tolist()
    assert {len(share) for share in shares} == {4}


def test_the_mean_of_the_shares_losses_is_the_batchs() -> None:
    chance = torch.Generator().manual_seed(1)
    config = replace(BEST, batch=8, companions=0.5)
    output = Output(torch.randn(8, 3, 10, generator=chance), torch.randn(8, 3, 2, 3, generator=chance))
    labels = torch.randint(0, 10, (8, 3), generator=chance)
    centres, zooms = torch.rand(8, 3, 2, generator=chance), torch.rand(8, 2, generator=chance)
    labels[config.labelled_per_batch :] = UNNAMED
    centres[:2], zooms[1:3] = math.nan, math.nan
    losses = []
    for share in (slice(None), *(Processes(rank, 4).share for rank in range(4))):
        pictures = Pictures(torch.empty(8), labels[share], centres[share], zooms[share])
        assert output.theta is not None
        losses.append(loss_of(Output(output.logits[share], output.theta[share]), pictures, config)[0])
    assert losses[0].item() == pytest.approx(torch.stack(losses[1:]).mean().item())


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 3"):
        Processes(0, 3).check(PAPER)
    Processes(0, 4).check(replace(PAPER, batch=12))
    with pytest.raises(ConfigError, match="multiple of 4 pictures beside companions for 4 processes, got 6"):
        Processes(0, 4).check(replace(PAPER, batch=12, log_epsilon=0.0, companions=0.5))


def test_under_torchrun_one_process_talks_and_writes_and_all_stop_together(tmp_path: Path) -> None:
    options = ["train", "--epochs", "4", "--limit", "1280", "--out", "run", "-d", "4", "--set", "distortion=0"]
    process = torchrun(2, "-m", "cli.main", *options, cwd=tmp_path)
    assert process.stderr is not None
    while "to go at" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert err.count("interrupted; go on with") == 1
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
