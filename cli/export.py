"""`rnnspn export`: write a model as one `.onnx` or `.ort` file that agrees with PyTorch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli import console
from cli.console import Quiet, say
from cli.vectors import vectors as write_vectors
from rnnspn.errors import ConfigError

if TYPE_CHECKING:
    from exporters.precision import Accuracy
    from exporters.to_onnx import Export

_FEW = 1000
"""Sequences, of which one is as much as the accuracy that fewer bits may cost."""
_HARDLY = 0.5
"""Share of the sequences; a model that reads no more has little accuracy to lose."""


def export(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The .onnx file to write, or an .ort file for reduced builds of ONNX Runtime."
        ),
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="A run's folder or checkpoint, an .onnx file that was exported in fp32, or 'bundled'.",
            show_default="the newest under runs/",
        ),
    ] = None,
    opset: Annotated[int, typer.Option(min=18, max=19, help="Version of the standard operators.")] = 18,
    precision: Annotated[
        Literal["fp32", "fp16", "int8", "w8a8"],
        typer.Option(help="How weights are stored; w8a8 computes with 8 bits too, the others in float32."),
    ] = "fp32",
    max_accuracy_drop: Annotated[
        float, typer.Option(min=0, help="Points of whole-sequence accuracy that fewer bits may cost.")
    ] = 0.1,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Allow --provider openvino-bfloat16, if that costs no more.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Where the run's folder of pictures is now; an exported file does not say where it was.",
            show_default="where it was",
        ),
    ] = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Write golden vectors beside the .onnx file, as rnnspn vectors does.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Export a model to one file, if that agrees with PyTorch; or an .onnx file to an .ort file, if both agree."""
    console.needs("train", "torch", "safetensors", "onnxscript")
    from exporters import to_onnx, to_ort
    from rnnspn.inference import model_file
    from rnnspn.results.output import expect_no_input
    from rnnspn.training.checkpoint import find_model, in_run

    if file.suffix not in (".onnx", to_ort.SUFFIX):
        raise ConfigError(f"expected a file to write that ends in .onnx or {to_ort.SUFFIX}, got {file}")
    if vectors and file.suffix == to_ort.SUFFIX:
        raise ConfigError(f"expected an .onnx file with --vectors, got {file}; its vectors hold for the .ort file too")
    exported = model_file.load(str(checkpoint)) if checkpoint and model_file.is_exported(checkpoint) else None
    if exported:
        expect_no_input([file, to_ort.operators_file(file)], [exported.path])
    if exported and file.suffix == to_ort.SUFFIX:
        console.expect_only(context, "an .onnx file is converted as it is", "file", "checkpoint", "quiet")
        written = to_ort.export_file(exported, file)
    else:
        source = exported.path if exported else in_run(checkpoint) if checkpoint else find_model()
        say(f"model: {source}" if exported else _about(source), quiet=quiet)
        write = to_ort.export if file.suffix == to_ort.SUFFIX else to_onnx.export
        written = write(source, file, to_onnx.ExportConfig(opset, precision, max_accuracy_drop, bfloat16, data))
    for line in _lines(written):
        say(line, quiet=quiet)
    if vectors:
        write_vectors(str(file), quiet=quiet)


def _about(source: Path) -> str:
    """Name a checkpoint, and say how far and how good it is."""
    from rnnspn.training.checkpoint import Checkpoint

    found = Checkpoint.load(source)
    said = f"checkpoint: {source}"
    if "epoch" in found.notes:
        said += f", epoch {found.notes['epoch'] + 1} of {found.config.train.epochs}"
    if "validation" in found.notes:
        said += f", validation error {found.notes['validation']['digit_error']:.2%} per digit"
    return said


def _cost(accuracy: "Accuracy") -> list[str]:
    """Say what fewer bits cost, and where too little is known to say it."""
    lines = [
        f"{accuracy.precision}: {accuracy.reduced:.2%} of {accuracy.sequences} sequences right, "
        f"float32 {accuracy.full:.2%}"
    ]
    if accuracy.sequences < _FEW:
        lines.append(f"that says little: it was judged on {accuracy.sequences} pictures; evaluate the file on more")
    elif accuracy.full < _HARDLY:
        lines.append("that says little: in float32 the model reads most of them wrongly")
    return lines


def _lines(written: "Export") -> list[str]:
    parity = written.parity
    differences = ", ".join(f"{name} {value:.1e}" for name, value in parity.max_difference.items())
    beside = "".join(f"; {path}" for path in written.beside)
    batches = ", ".join(map(str, parity.batches))
    return [
        f"agrees with {written.compared_with} on {parity.pictures} pictures at batch {batches}: "
        f"largest difference {differences} (allowed {parity.tolerance:g})",
        *(line for accuracy in written.costs.values() for line in _cost(accuracy)),
        f"wrote {written.path}: {written.size_bytes / 1e6:.1f} MB, {written.nodes} nodes{beside}",
    ]
