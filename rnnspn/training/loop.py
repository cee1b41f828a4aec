"""The training loop: resumable at any step, and on the CPU to the last bit."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rnnspn.errors import CheckpointError, OutputError
from rnnspn.files import exists, remove_unfinished, reserved, write_text
from rnnspn.training.batches import Batches, Pictures, ahead
from rnnspn.training.checkpoint import (
    CONFIG_FILE,
    LOCK_FILE,
    METRICS_FILE,
    MODEL_FILE,
    STATE_FILE,
    Checkpoint,
    RunConfig,
)
from rnnspn.training.drawings import Drawings
from rnnspn.training.evaluation import score_network
from rnnspn.training.learner import Learner, expect_finite
from rnnspn.training.optimisation import learning_rate
from rnnspn.training.processes import Processes
from rnnspn.training.sources import held_out_pictures, training_batches
from rnnspn.training.tally import Observer, Progress, Tally

_REPORT_STEPS = 20
_FIRST_REPORT = 6
_WARM_UP_STEPS = 2
_TICK_S = 1e-3  # some clocks stand still for longer
_SECONDS_APART = 5.0
"""Least time between two checkpoints at the ends of epochs, which on a GPU take half a second."""


class Trainer:
    """One run: its learner, data and tally.

    Args:
        folder: The run folder.
        config: The three configurations.
        device: Where to train.
        observer: Told of progress, asked whether to stop.
        checkpoint_seconds: Longest stretch of work that a kill can cost.
        processes: Who else trains the same run.

    Raises:
        ConfigError: The batches cannot be shared equally.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        device: torch.device,
        observer: Observer | None = None,
        checkpoint_seconds: float = 30.0,
        processes: Processes | None = None,
    ) -> None:
        self.folder = folder
        self.config = config
        self.device = device
        self.observer = observer or Observer()
        self.checkpoint_seconds = checkpoint_seconds
        self.processes = processes or Processes()
        self.processes.check(config.train)
        self.learner = Learner(config, device, self.processes)
        self.tally = Tally()
        self.drawings = Drawings(folder)
        self._saved = time.monotonic()
        self._restored: tuple[int, int] | None = None

    def run(self) -> bool:
        """Train to the end, or until asked to stop.

        Returns:
            True when the run is finished, False when it was stopped; its checkpoint then knows where to go on.

        Raises:
            ConfigError: The data do not fit the model.
            DataError: The data are missing.
            OutputError: The run folder cannot be written, or another process trains there, or has since `restore`.
            TrainingError: The loss is no finite number any more.
        """
        if self.finished:
            return True
        config = self.config
        batches = training_batches(config.data, config.model, config.train, self.device, self.processes.share)
        validation = None
        if config.data.validation:
            validation = held_out_pictures("validation", config.data, config.model, self.device)
        if not self.processes.writes:
            return self._train(batches, validation)
        with reserved(self.folder / LOCK_FILE):  # data that cannot be had leave no folder behind
            remove_unfinished(self.folder)
            if self.tally.step == 0 and not self._restored and exists(self.folder / STATE_FILE):
                raise OutputError(f"another run has begun in {self.folder} meanwhile; choose another --out")
            if self._restored and self._restored != _version(self.folder / STATE_FILE):
                raise OutputError(f"another run has gone on in {self.folder} meanwhile; give the command again")
            if self.tally.step == 0:
                self.save()  # a run can be gone on with from its first moment
            write_text(self.folder / CONFIG_FILE, json.dumps(config.to_dict(), indent=2) + "\n")
            return self._train(batches, validation)

    def _train(self, batches: Batches, validation: Pictures | None) -> bool:
        """Train epoch by epoch; False when asked to stop."""
        while not self.finished:
            if not self._train_epoch(batches):
                self.save()
                self.processes.agree(lambda: None)  # the first that ends, ends all: not while one still writes
                return False
            self._save_after(_SECONDS_APART)  # validating takes its time
            if self._close_epoch(validation):
                self.save()
            if self.processes.writes and (self.finished or self.drawings.due):
                images = (validation or batches.at(self.tally.step - 1)).images[:3]
                self.drawings.draw(self.learner.averaged(), images, self.tally.epochs)
            self._save_after(0.0 if self.finished else _SECONDS_APART)
        return True

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done or patience has run out."""
        done = len(self.tally.epochs)
        return done >= self.config.train.epochs or done - 1 - self.tally.best_epoch >= self.config.train.patience

    def _train_epoch(self, batches: Batches) -> bool:
        """Train what is left of an epoch; False when asked to stop."""
        config, tally = self.config.train, self.tally
        self.learner.network.train()
        reported = time.monotonic()
        first = since = tally.step
        totals = torch.tensor([tally.loss_sum, tally.wrong], dtype=torch.float64, device=self.device)
        totals *= self.processes.writes  # what was counted before a resume counts once
        end = (len(tally.epochs) + 1) * config.steps_per_epoch
        for pictures in ahead(batches, range(tally.step, end), self.device):
            totals += self.learner.take_step(tally.step, pictures)
            tally.step += 1
            due = tally.step % _REPORT_STEPS == 0 or tally.step - first == _FIRST_REPORT or tally.step == end
            stop, save = self._wishes(due, time.monotonic() - self._saved >= self.checkpoint_seconds)
            if due or stop or save:
                tally.loss_sum, tally.wrong = self.processes.total(totals).tolist()
                expect_finite(tally.loss_sum, config.learning_rate)
                self.learner.expect_finite()
                now = time.monotonic()
                self._report((tally.step - since) * config.batch / max(now - reported, _TICK_S))
                since, reported = tally.step, now
            elif tally.step - first == _WARM_UP_STEPS:  # the first steps choose kernels and allocate
                since, reported = tally.step, time.monotonic()
            if stop:
                return False
            if save:
                self.save()
        return True

    def _wishes(self, due: bool, save: bool) -> tuple[bool, bool]:
        """Return whether to stop and whether to save; several processes agree on it, on CUDA at each report."""
        stop = self.observer.should_stop()
        if self.processes.size == 1:
            return stop, save
        if not due and self.device.type != "cpu":  # they would wait for the device
            return False, False
        wishes = self.processes.total(torch.tensor([stop, save], dtype=torch.float32, device=self.device))
        return bool(wishes[0]), bool(wishes[1])

    def _report(self, images_per_second: float) -> None:
        if not self.processes.writes:
            return
        config, tally = self.config.train, self.tally
        done = tally.step - len(tally.epochs) * config.steps_per_epoch
        error = tally.wrong / (done * config.labelled_per_batch * self.config.model.steps)
        steps = config.epochs * config.steps_per_epoch
        self.observer.on_progress(
            Progress(tally.step, steps, config.batch, tally.loss_sum / done, error, images_per_second)
        )

    def _close_epoch(self, validation: Pictures | None) -> bool:
        """Validate, keep the weights unless earlier ones were better, and write the epoch's record.

        Returns:
            Whether the weights were kept; the state has to know it at once.
        """
        config, tally = self.config.train, self.tally
        epoch = len(tally.epochs)
        record = {
            "epoch": epoch,
            "images": tally.step * config.batch,
            "learning_rate": learning_rate(config, tally.step - 1),
            "train_loss": tally.loss_sum / config.steps_per_epoch,
            "train_digit_error": tally.wrong
            / (config.steps_per_epoch * config.labelled_per_batch * self.config.model.steps),
        }
        notes: dict[str, Any] = {"epoch": epoch}
        score = None
        if validation is not None:  # processes that round otherwise would stop at other epochs
            score = self.processes.agree(lambda: score_network(self.learner.averaged(), validation))
            record["validation_digit_error"] = score.digit_error
            record["validation_sequence_error"] = score.sequence_error
            notes["validation"] = score.to_dict()
        kept = tally.judge(score, config.schedule)
        if kept and self.processes.writes:
            Checkpoint(self.config, notes, self.learner.average.weights).save(self.folder / MODEL_FILE)
        tally.epochs.append(record)
        tally.loss_sum, tally.wrong = 0.0, 0.0
        if not self.processes.writes:
            return kept
        write_text(self.folder / METRICS_FILE, "".join(json.dumps(epoch) + "\n" for epoch in tally.epochs))
        self.observer.on_epoch(record)
        return kept

    def _save_after(self, seconds: float) -> None:
        """Save if the last time is so many seconds ago, or as many as a kill may cost."""
        if time.monotonic() - self._saved >= min(seconds, self.checkpoint_seconds):
            self.save()

    def save(self) -> None:
        """Write the whole state, atomically.

        Raises:
            OutputError: The run folder cannot be written.
        """
        self._saved = time.monotonic()
        if not self.processes.writes:
            return
        notes = {"tally": self.tally.__dict__}
        Checkpoint(self.config, notes, self.learner.state()).save(self.folder / STATE_FILE)

    def restore(self) -> None:
        """Go back to where the run folder's checkpoint stands.

        Raises:
            CheckpointError: There is none, it is damaged, it belongs to another configuration, or what it led to is
                gone.
        """
        path = self.folder / STATE_FILE
        self._restored = _version(path)
        checkpoint = Checkpoint.load(path)
        known, data = checkpoint.config, self.config.data
        if known.data.is_own and data.is_own:  # a folder may have moved
            known = replace(known, data=replace(known.data, source=data.source))
        if known != self.config:
            raise CheckpointError(f"{path} belongs to another configuration; choose another --out")
        try:
            self.tally = Tally(**checkpoint.notes["tally"])
            started = self.tally.step > 0
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{path} lacks part of the state ({error}); train again") from None
        if self.finished and not (self.folder / MODEL_FILE).exists():
            raise CheckpointError(
                f"the run in {self.folder} is finished and its {MODEL_FILE} is gone; remove the folder to begin anew"
            )
        try:
            self.learner.restore(checkpoint.tensors, started=started)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None


def _version(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from the one that replaces it; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
