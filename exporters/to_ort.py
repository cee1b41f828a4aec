"""From a checkpoint or an exported file to an `.ort` file, for reduced builds of ONNX Runtime, and its operator list.

ONNX Runtime's own converter does the work, in a process of its own: it changes logging and the module path of the one
that imports it. The file holds the graph as it will run: a reduced build has no optimisers.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from exporters import to_onnx
from exporters.parity import (
    BATCHES,
    TOLERANCE,
    Parity,
    check_parity,
    largest_difference,
    parity_pictures,
    plain_session,
    read_with_onnxruntime,
)
from exporters.precision import Precision
from exporters.to_onnx import PLAIN, STORED_WEIGHTS, Export, ExportConfig
from rnnspn.errors import ConfigError, ModelFileError, ParityError
from rnnspn.files import write_bytes, write_text
from rnnspn.inference.model_file import ModelFile
from rnnspn.inference.runtime import onnxruntime

SUFFIX = ".ort"
_PRECISIONS = ("fp32", "w8a8")
_CONVERTER = "onnxruntime.tools.convert_onnx_models_to_ort"
_LEVEL = "extended"
"""How far the graph is optimised; what comes after it suits the memory layout of one kind of processor."""


def operators_file(target: Path) -> Path:
    """Return where the operator list of an `.ort` file lies, as the converter would name it."""
    return target.with_suffix(".required_operators.config")


def export(checkpoint_path: Path, target: Path, config: ExportConfig = PLAIN) -> Export:
    """Export a checkpoint's network to ORT format, and write the file only if it agrees with PyTorch itself.

    One that computes with integers has to answer as the `.onnx` file does, which passed the accuracy gate.

    Args:
        checkpoint_path: A run's model, or an `.onnx` file that was exported with float32 weights.
        target: The `.ort` file to make or replace; its operator list comes to lie beside it.
        config: What kind of file; its precision `fp32` or `w8a8`, without bfloat16, which is for OpenVINO, a reader of
            `.onnx` files. The converter widens weights that are only stored in fewer bits; when it is kept from that,
            the runtime does it for every picture, which takes ten times as long.

    Returns:
        What was written.

    Raises:
        ConfigError: Another precision was asked for.
        ModelFileError: The converter failed.
        ParityError: The graph, before or after the conversion, disagrees with PyTorch; no file was written.
        CheckpointError, DataError, MissingPackageError, OutputError: As for `to_onnx.export`.
    """
    if config.precision not in _PRECISIONS or config.bfloat16:
        asked = "--bfloat16" if config.bfloat16 else f"--precision {config.precision}"
        raise ConfigError(f"expected fp32 or w8a8 for an .ort file, got {asked}; export an .onnx file with it instead")
    made = to_onnx.make(checkpoint_path, target, config)
    content, operators = convert(made.content)
    pictures, parity = parity_pictures(made.network.config), made.parity
    if config.precision == "fp32":
        parity = check_parity(content, made.network, pictures)
    else:
        _same_answers(content, made.content, pictures)
    _write(target, content, operators)
    return Export(target, len(content), made.nodes, parity, made.costs, (operators_file(target),))


def export_file(model: ModelFile, target: Path) -> Export:
    """Turn an exported `.onnx` file into an `.ort` file, and write it only if both give the same answers.

    Args:
        model: A checked model, with float32 weights or one that computes with integers.
        target: The `.ort` file to make or replace; its operator list comes to lie beside it.

    Returns:
        What was written, with its agreement with the `.onnx` file.

    Raises:
        ConfigError: The model's weights are only stored in fewer bits.
        MissingPackageError: ONNX Runtime is not installed.
        ModelFileError: The converter failed, or the metadata are not what `to_onnx.export` writes.
        ParityError: The answers differ; no file was written.
        OutputError: The file cannot be written.
    """
    stored = model.metadata.parity.get(STORED_WEIGHTS, {"precision": "fp32"})
    precision = stored.get("precision") if isinstance(stored, dict) else None
    if precision not in get_args(Precision):
        raise ModelFileError(f"{model.path}: its metadata is not what rnnspn export writes (precision {precision!r})")
    if precision not in _PRECISIONS:
        raise ConfigError(f"expected {model.path} in fp32 or w8a8, got {precision}: the weights would be widened")
    content, operators = convert(model.content)
    pictures = parity_pictures(model.metadata)
    parity = _same_answers(content, model.content, pictures)
    _write(target, content, operators)
    nodes = len(onnx.load_from_string(model.content).graph.node)
    return Export(target, len(content), nodes, parity, {}, (operators_file(target),), compared_with=model.path.name)


def _write(target: Path, content: bytes, operators: str) -> None:
    write_bytes(target, content)
    write_text(operators_file(target), f"# The operators of {target.name}, for --include_ops_by_config.\n{operators}")


def _same_answers(converted: bytes, model: bytes, pictures: NDArray[np.uint8]) -> Parity:
    got, expected = (read_with_onnxruntime(plain_session(one), pictures, BATCHES[-1]) for one in (converted, model))
    worst = {name: largest_difference(got[name], answers) for name, answers in expected.items()}
    for name, difference in worst.items():
        if difference > TOLERANCE:
            raise ParityError(f"ONNX Runtime's converter changed {name} by {difference:.3g}; no file was written")
    return Parity(len(pictures), BATCHES[-1:], TOLERANCE, worst, f"onnxruntime {onnxruntime().__version__}")


def convert(model: bytes) -> tuple[bytes, str]:
    """Convert a serialised model to ORT format, its metadata included.

    Returns:
        The file, and the operators in it, in the form that ONNX Runtime's build takes.

    Raises:
        ModelFileError: The converter failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.onnx")
        source.write_bytes(model)
        done = subprocess.run(
            [sys.executable, "-P", "-m", _CONVERTER, source, "--optimization_style", "Fixed"],
            env=os.environ | {"ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL": _LEVEL},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
            raise ModelFileError(f"ONNX Runtime's converter failed: {reason}; use the versions of constraints.txt")
        content = source.with_suffix(f".{_LEVEL}.ort").read_bytes()
        lines = source.with_suffix(f".required_operators.{_LEVEL}.config").read_text().splitlines()
    return content, "".join(f"{line}\n" for line in lines if not line.startswith("#"))  # comments name the folder
