"""`rnnspn inspect`: what an exported model says about itself."""

import json
from typing import Annotated, Any

import typer

from rnnspn.alphabet import described
from rnnspn.config import DataConfig, from_dict
from rnnspn.errors import ModelFileError


def inspect(
    model: Annotated[
        str | None,
        typer.Argument(help="An .onnx file, or 'bundled'.", show_default="./model.onnx if there is one, else bundled"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what an exported model says about itself.

    These are its tensors, operators, size, errors and agreement with PyTorch.
    """
    from rnnspn.inference import inspection, model_file

    file = model_file.load(model or model_file.default())
    facts = inspection.inspect(file)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    try:
        lines = _lines(facts)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{file.path}: its metadata is not what rnnspn export writes ({error})") from None
    for name, value in lines:
        typer.echo(f"{name:18} {value}")


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    about = facts["metadata"]
    tested, training = about["test_error"], about["training"]
    bits = ", in float32" if about["parity"].get("stored_weights") else ""
    validation = _error(training.get("validation"), bits)
    data = from_dict(DataConfig, training.get("data", {}))
    if not data.validation:
        validation = "none: those pictures were learned from too"
    elif data.seen:
        validation = "none: the weights that it began with had learned from those pictures"
    return [
        ("file", facts["path"]),
        ("sha256", facts["sha256"]),
        ("size", f"{facts['size_bytes']:,} bytes, {facts['weights']:,} weights and constants"),
        ("graph", f"{facts['nodes']} nodes, opset {facts['opset']}, IR version {facts['ir_version']}"),
        ("operators", ", ".join(f"{name} {count}" for name, count in facts["operators"].items())),
        *((f"in {name}", shape) for name, shape in facts["inputs"].items()),
        *((f"out {name}", shape) for name, shape in facts["outputs"].items()),
        (
            "model",
            f"{about['family']}, d = {about['downsample'] or 'none'}, {described(about['steps'], about['alphabet'])}",
        ),
        ("pictures", f"{about['resize_policy']}, {about['polarity']}, {about['normalisation']}"),
        ("training", f"recipe {training.get('recipe', 'unknown')}, seed {training.get('seed', 'unknown')}"),
        ("validation", validation),
        ("test", _error(tested, bits)),
        ("parity", _parity(about["parity"])),
        ("precision", _cost(about["parity"].get("stored_weights"), "fp32")),
        ("bfloat16", _cost(about["parity"].get("bfloat16"), "not allowed")),
        ("made with", ", ".join(f"{name} {version}" for name, version in about["versions"].items())),
    ]


def _error(score: dict[str, Any] | None, bits: str) -> str:
    if not score or "digit_error" not in score:
        return "not measured"
    low, high = score["digit_error_interval"]
    where = f" on {score['data']}" if "data" in score else ""
    return (
        f"{score['digit_error']:.2%} per digit (n = {score['digits']:,}, 95 % interval {low:.2%} to {high:.2%}), "
        f"{score['sequence_error']:.2%} per sequence{where}{bits}"
    )


def _parity(record: dict[str, Any]) -> str:
    if "max_difference" not in record:
        return "not recorded"
    differences = ", ".join(f"{name} {value:.1e}" for name, value in record["max_difference"].items())
    return f"largest differences from PyTorch: {differences} ({record['pictures']} pictures, {record['runtime']})"


def _cost(found: dict[str, Any] | None, otherwise: str) -> str:
    if found is None:
        return otherwise
    return (
        f"{found['precision']}: {found['reduced']:.2%} of {found['sequences']} sequences right, float32 "
        f"{found['full']:.2%}"
    )
