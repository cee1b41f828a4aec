"""`rnnspn bench`: how fast a model runs here."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console
from cli.console import Quiet, say
from rnnspn.inference.providers import Provider

if TYPE_CHECKING:
    from rnnspn.inference.session import Engine
    from rnnspn.inference.timing import Timing


def bench(
    model: Annotated[
        str | None,
        typer.Argument(help="An .onnx file, or 'bundled'.", show_default="./model.onnx if there is one, else bundled"),
    ] = None,
    provider: Annotated[Provider, typer.Option(help="What runs the model.")] = "auto",
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
    from rnnspn.inference import model_file, session

    engine = session.open_engine(model_file.load(model or model_file.default()), provider)
    say(f"model: {engine.model.summary}", quiet=quiet)
    say(f"provider: {engine.summary}", quiet=quiet)
    rows = _measure(engine, sorted(set(batch or [1, engine.batch])), seconds, against)
    if as_json:
        about = {"model_sha256": engine.model.sha256, "provider": engine.provider}
        typer.echo(json.dumps(about | {"timings": [{"what": what} | row.to_dict() for what, row in rows]}, indent=2))
        return
    typer.echo(f"{'':16} {'batch':>5}  {'p50 ms':>8}  {'p95 ms':>8}  {'images/s':>9}")
    for what, row in rows:
        latency = f"{row.p50_ms:8.2f}  {row.p95_ms:8.2f}"
        typer.echo(f"{what:16} {row.batch:5}  {latency}  {row.images_per_second:9,.0f}")


def _measure(engine: "Engine", batches: list[int], seconds: float, against: Path | None) -> "list[tuple[str, Timing]]":
    from rnnspn.inference import timing

    about = engine.model.metadata
    pictures = timing.sample_pictures(max(256, *batches), about.height, about.width, about.alphabet)
    rows = [
        (what, timing.measure(engine, pictures, batch, decode=decode, seconds=seconds))
        for what, decode in ((engine.provider, False), (f"{engine.provider}, decoding", True))
        for batch in batches
    ]
    if against is not None:
        console.needs("train", "torch", "safetensors")
        from rnnspn.evaluation import trained

        answer = trained(against).answer
        parts = [timing.batches_of(pictures, batch) for batch in batches]
        rows += [("PyTorch", timing.measure_calls(answer, part, 1, seconds)) for part in parts]
    return rows
