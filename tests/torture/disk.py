"""A disk that fails, and a process that ends, at every call that writes: the old file or the new one stays, whole."""

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from rnnspn import files
from tests.torture.injector import HOWS, How, Strike, strike
from tests.torture.record import ROOT, Options, Outcome

if TYPE_CHECKING:
    import onnx

_PICTURES = 40
_OLD = b"the old file\n"


@dataclass(frozen=True)
class Victim:
    """Something that replaces a file.

    Attributes:
        name: What it is called.
        write: Replaces the file; returns 0, or an exit code, or raises.
        load: Raises when the file is not sound.
        refused: The error or result that a failing disk has to end in.
        leaves: Ending of the file beside the target in which it may leave what it has.
    """

    name: str
    write: Callable[[Path], object]
    load: Callable[[Path], object]
    refused: str
    leaves: str = ""


def torture_disk(options: Options) -> Outcome:
    """Strike every writing call of a checkpoint, an export and `predict --output`."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        torment(writing(), place / "bytes", HOWS, outcome)
        if not options.quick:
            for victim in trained(place):
                torment(victim, place / victim.name, HOWS, outcome)
        torment(predicting(place), place / "predict", ("error",) if options.quick else HOWS, outcome)
    return outcome


def torment(victim: Victim, folder: Path, hows: Sequence[How], outcome: Outcome) -> None:
    """Strike one victim at every call in every way, over an old file and over none."""
    new = _undisturbed(victim, folder / "undisturbed")
    for how in hows:
        for old in (_OLD, None):
            for at in count(1):
                place = folder / f"{how}-{'over' if old else 'new'}-{at}"
                struck = _struck(victim, place, at, how, old)
                where = f"{victim.name}, {how} at {struck.call or 'the end'}, {'over an old file' if old else 'new'}"
                outcome.failures += (f"{where}: {fault}" for fault in _faults(victim, place, struck, how, old, new))
                shutil.rmtree(place)
                if not struck.call:
                    break
                _count(outcome, f"{victim.name}: faults, {how}")


def _undisturbed(victim: Victim, place: Path) -> bytes:
    target = place / "some" / "file"
    victim.write(target)
    victim.load(target)
    return target.read_bytes()


def _struck(victim: Victim, place: Path, at: int, how: How, old: bytes | None) -> Strike:
    target = place / "some" / "file"
    place.mkdir(parents=True)
    if old is not None:
        target.parent.mkdir()
        target.write_bytes(old)
    return strike(lambda: victim.write(target), place, at, how)


def _faults(victim: Victim, place: Path, struck: Strike, how: How, old: bytes | None, new: bytes) -> Iterator[str]:
    target = place / "some" / "file"
    found = target.read_bytes() if target.exists() else None
    if found not in (old, new):
        yield f"neither the old nor the new file, but {'nothing' if found is None else f'{len(found)} bytes'}"
    if struck.call and how in ("kill", "power"):
        if struck.signal != signal.SIGKILL:
            yield f"ended with signal {struck.signal}, not killed"
    else:
        yield from _ending(victim, struck, found, new)
        expected = {target.name, f"{target.name}{victim.leaves}"}
        strays = {path.name for path in target.parent.glob("*")} - expected if target.parent.exists() else set()
        if strays and how != "gone" and not struck.call.startswith("unlink"):
            yield f"left {', '.join(sorted(strays))}"
    again = strike(lambda: victim.write(target), place, -1, "error")
    if again.error or again.signal or again.result or target.read_bytes() != new:
        yield f"the next run does not mend it: {again.error or again.result or again.signal}"


def _ending(victim: Victim, struck: Strike, found: bytes | None, new: bytes) -> Iterator[str]:
    if struck.signal:
        yield f"died of signal {struck.signal}"
    elif struck.error or struck.result:
        ended = struck.error or f"exit {struck.result}"
        if not ended.startswith(victim.refused) or "\n" in ended:
            yield f"ended with {ended}, expected {victim.refused}"
        if struck.result and (len(struck.said.splitlines()) != 1 or not struck.said.startswith("error: ")):
            yield f"said {struck.said!r}, expected one line"
    elif found != new:
        yield "all well, it said, and the new file is not there"


def writing() -> Victim:
    """Return the function that everything else writes its files with."""
    data = bytes(100_000)

    def check(target: Path) -> None:
        assert target.read_bytes() == data

    return Victim("write_bytes", lambda target: files.write_bytes(target, data), check, "OutputError")


def predicting(folder: Path) -> Victim:
    """Return `predict --output` on a folder of pictures."""
    from cli import console
    from cli.main import app

    pictures = folder / "pictures"
    pictures.mkdir()
    samples = sorted((ROOT / "assets" / "images").glob("*.png"))
    for index in range(_PICTURES):
        shutil.copyfile(samples[index % len(samples)], pictures / f"{index:03}.png")
    arguments = ["predict", str(pictures), "--model", "bundled", "--provider", "cpu", "--format", "jsonl", "-q"]

    def check(target: Path) -> None:
        assert len(target.read_bytes().splitlines()) == _PICTURES

    def predict(target: Path) -> int:
        return console.run(app, [*arguments, "--output", str(target)])

    return Victim("predict", predict, check, "exit 5", leaves=".partial")


def trained(folder: Path) -> list[Victim]:
    """Return saving a checkpoint and writing an export."""
    import torch

    from exporters import to_onnx
    from rnnspn.config import DataConfig, family_config
    from rnnspn.contract import OPSET
    from rnnspn.inference import model_file
    from rnnspn.models.networks import Network
    from rnnspn.training.checkpoint import Checkpoint, RunConfig
    from rnnspn.training.recipes import train_config

    torch.set_num_threads(1)  # the threads of a pool do not survive a fork
    torch.manual_seed(0)
    network = Network(family_config("rnn-spn")).eval()
    config = RunConfig(network.config, DataConfig(), train_config("best", network.config))
    checkpoint = Checkpoint(config, {"epoch": 0}, network.state_dict())
    source = folder / "model.safetensors"
    checkpoint.save(source)
    graph = to_onnx.build_graph(network, OPSET)  # made once: the writing is what is on trial
    parity = to_onnx.check_parity(graph.SerializeToString(), network, to_onnx.parity_pictures(network.config))

    def export(target: Path) -> None:
        with (
            mock.patch.object(to_onnx, "build_graph", return_value=_copy(graph)),
            mock.patch.object(to_onnx, "check_parity", return_value=parity),
        ):
            to_onnx.export(source, target)

    return [
        Victim("checkpoint", checkpoint.save, Checkpoint.load, "OutputError"),
        Victim("export", export, model_file.load, "OutputError"),
    ]


def _copy(model: "onnx.ModelProto") -> "onnx.ModelProto":
    copied = type(model)()
    copied.CopyFrom(model)
    return copied


def _count(outcome: Outcome, what: str) -> None:
    outcome.tried[what] = outcome.tried.get(what, 0) + 1  # type: ignore[operator]
