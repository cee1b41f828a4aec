"""`rnnspn bench`: how fast a model runs here."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from cli import console
from cli.console import Quiet, say
from rnnspn.errors import ConfigError
from rnnspn.inference.providers import Provider

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from rnnspn.inference.timing import Timing

_PROVIDERS = get_args(Provider)


def _provider(name: str) -> str:
    if name not in _PROVIDERS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(_PROVIDERS)}")
    return name


def bench(
    model: Annotated[
        str | None,
        typer.Argument(help="An .onnx file, or 'bundled'.", show_default="./model.onnx if there is one, else bundled"),
    ] = None,
    provider: Annotated[
        list[str] | None,  # of Provider, of which Typer makes no lists
        typer.Option(
            parser=_provider,
            metavar=f"<{'|'.join(_PROVIDERS)}>",
            help="What runs the model; give it several times to compare.",
            show_default="auto",
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=4096,
            metavar="<int>",
            help="Pictures a call; give it several times.",
            show_default="1 and the best",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.05, max=600, help="How long each figure is measured.")] = 2.0,
    against: Annotated[
        Path | None, typer.Option(help="Time this run's model.safetensors in PyTorch, beside it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure latency and images/s on this machine.

    Latency is that of one call at a time, images/s are with all cores busy; with and without decoding PNG.
    """
    from rnnspn.inference import model_file, session, timing

    file = model_file.load(model or model_file.default())
    opened = [session.open_engine(file, name) for name in provider or ["auto"]]
    engines = {engine.provider: engine for engine in opened}
    say(f"model: {file.summary}", quiet=quiet)
    about = file.metadata
    if against is not None:
        other = _shape_of(against, (about.height, about.width))
        say(f"against: {against} in PyTorch ({other})", quiet=quiet)
    pictures = timing.sample_pictures(max([256, *(batch or [])]), about.height, about.width, about.alphabet)
    rows: list[tuple[str, Timing]] = []
    for name, engine in engines.items():
        say(f"provider: {engine.summary}", quiet=quiet)
        batches = sorted(set(batch or [1, engine.batch]))
        for decode in (False, True):
            for size in batches:
                rows.append((name, timing.measure(engine, pictures, size, decode=decode, seconds=seconds)))
    if against is not None:
        batches = sorted({row.batch for _, row in rows})
        rows += [("PyTorch", row) for row in _measure_pytorch(against, pictures, batches, seconds)]
    if as_json:
        timings = [{"provider": name} | row.to_dict() for name, row in rows]
        named = {} if against is None else {"against": str(against)}
        typer.echo(json.dumps({"model_sha256": file.sha256} | named | {"timings": timings}, indent=2))
        return
    names = [f"{name}, decoding" if row.decoding else name for name, row in rows]
    wide = max(map(len, names))
    typer.echo(f"{'':{wide}} {'batch':>5}  {'p50 ms':>8}  {'p95 ms':>8}  {'images/s':>9}")
    for name, (_, row) in zip(names, rows, strict=True):
        latency = f"{row.p50_ms:8.2f}  {row.p95_ms:8.2f}"
        typer.echo(f"{name:{wide}} {row.batch:5}  {latency}  {row.images_per_second:9,.0f}")


def _shape_of(run: Path, size: tuple[int, int]) -> str:
    """Name the network of a run that takes pictures of a size."""
    console.needs("train", "torch", "safetensors")
    from rnnspn.training.checkpoint import Checkpoint, in_run

    model = Checkpoint.load(in_run(run)).config.model
    if (model.height, model.width) != size:
        raise ConfigError(
            f"expected a run on pictures of {size[0]} x {size[1]}, as the model's; got {model.height} x {model.width}"
        )
    return model.family if model.downsample is None else f"{model.family}, d={model.downsample}"


def _measure_pytorch(
    run: Path, pictures: "NDArray[np.uint8]", batches: list[int], seconds: float
) -> "Iterator[Timing]":
    from rnnspn.inference import timing
    from rnnspn.training.evaluation import trained

    answer = trained(run).answer
    for batch in batches:
        yield timing.measure_calls(answer, timing.batches_of(pictures, batch), 1, seconds)
