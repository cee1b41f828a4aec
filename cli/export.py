"""`rnnspn export`: write a model as one `.onnx` file that agrees with PyTorch."""

from pathlib import Path
from typing import Annotated

import typer

from cli import console
from cli.console import Quiet, say


def export(
    file: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="A run's model.safetensors.", show_default="the newest under runs/")
    ] = None,
    opset: Annotated[int, typer.Option(min=18, max=19, help="Version of the standard operators.")] = 18,
    quiet: Quiet = False,
) -> None:
    """Export a model; the file is written only if it agrees with PyTorch."""
    console.needs("train", "torch", "safetensors", "onnxscript")
    from exporters import to_onnx
    from rnnspn.training.checkpoint import find_model

    source = checkpoint or find_model()
    if checkpoint is None:
        say(f"checkpoint: {source}", quiet=quiet)
    written = to_onnx.export(source, file, opset)
    parity = written.parity
    differences = ", ".join(f"{name} {value:.1e}" for name, value in parity.max_difference.items())
    say(
        f"agrees with PyTorch on {parity.pictures} pictures at batch {', '.join(map(str, parity.batches))}: "
        f"largest difference {differences} (allowed {parity.tolerance:g})",
        quiet=quiet,
    )
    say(f"wrote {file}: {written.size_bytes / 1e6:.1f} MB, {written.nodes} nodes", quiet=quiet)
