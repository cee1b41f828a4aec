"""`rnnspn bench`: how fast a model runs here."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from cli import console
from cli.console import Quiet, say
from rnnspn.inference.providers import Provider

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rnnspn.inference.session import Engine
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
            metavar=f"[{'|'.join(_PROVIDERS)}]",
            help="What runs the model; give it several times to compare.",
            show_default="auto",
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, max=4096, help="Pictures a call; give it several times.", show_default="1 and the best"),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.05, max=600, help="How long each figure is measured.")] = 2.0,
    against: Annotated[
        Path | None, typer.Option(help="Time this run's model.safetensors in PyTorch, beside it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure latency (one call at a time) and images/s (all cores busy), with and without decoding PNG."""
    from rnnspn.inference import model_file, session, timing

    file = model_file.load(model or model_file.default())
    engines = [session.open_engine(file, cast("Provider", name)) for name in dict.fromkeys(provider or ["auto"])]
    say(f"model: {file.summary}", quiet=quiet)
    about = file.metadata
    pictures = timing.sample_pictures(max([256, *(batch or [])]), about.height, about.width, about.alphabet)
    rows: list[tuple[str, Timing]] = []
    for engine in engines:
        say(f"provider: {engine.summary}", quiet=quiet)
        rows += _measure(engine, pictures, sorted(set(batch or [1, engine.batch])), seconds)
    if against is not None:
        rows += _measure_pytorch(against, pictures, sorted({row.batch for _, row in rows}), seconds)
    if as_json:
        timings = [{"what": what} | row.to_dict() for what, row in rows]
        typer.echo(json.dumps({"model_sha256": file.sha256, "timings": timings}, indent=2))
        return
    wide = max(len(what) for what, _ in rows)
    typer.echo(f"{'':{wide}} {'batch':>5}  {'p50 ms':>8}  {'p95 ms':>8}  {'images/s':>9}")
    for what, row in rows:
        latency = f"{row.p50_ms:8.2f}  {row.p95_ms:8.2f}"
        typer.echo(f"{what:{wide}} {row.batch:5}  {latency}  {row.images_per_second:9,.0f}")


def _measure(
    engine: "Engine", pictures: "NDArray[np.uint8]", batches: list[int], seconds: float
) -> "list[tuple[str, Timing]]":
    from rnnspn.inference import timing

    return [
        (what, timing.measure(engine, pictures, batch, decode=decode, seconds=seconds))
        for what, decode in ((engine.provider, False), (f"{engine.provider}, decoding", True))
        for batch in batches
    ]


def _measure_pytorch(
    run: Path, pictures: "NDArray[np.uint8]", batches: list[int], seconds: float
) -> "list[tuple[str, Timing]]":
    console.needs("train", "torch", "safetensors")
    from rnnspn.evaluation import trained
    from rnnspn.inference import timing

    answer = trained(run).answer
    parts = [timing.batches_of(pictures, batch) for batch in batches]
    return [("PyTorch", timing.measure_calls(answer, part, 1, seconds)) for part in parts]
