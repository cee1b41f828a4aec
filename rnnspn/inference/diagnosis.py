"""What is installed, what of it works, and what to do about the rest."""

import ctypes
import hashlib
import platform
import re
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

import rnnspn
from rnnspn import contract
from rnnspn.contract import ModelMetadata
from rnnspn.errors import MissingPackageError, RnnspnError
from rnnspn.inference import cuda, session
from rnnspn.inference.cores import available_cores
from rnnspn.inference.model_file import ModelFile
from rnnspn.inference.openvino import NO_PROCESSOR
from rnnspn.inference.runtime import one_line, onnxruntime

_GPU_RUNTIME = "onnxruntime-gpu"
RUNTIMES = ("onnxruntime", _GPU_RUNTIME, "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn")
"""Packages that write the same files: two at once overwrite each other."""
PLUG_INS = ("onnxruntime-ep-openvino", "onnxruntime-ep-webgpu", "onnxruntime-ep-tensorrt-rtx")
"""Providers that stand beside a runtime."""

_BASE = ("numpy", "onnx", "pillow")
_TRAIN = ("torch", "onnxscript", "safetensors", "matplotlib")
_SIZE = 9
_RAMP = (np.arange(_SIZE)[None, :] + 10 * np.arange(_SIZE)[:, None]).astype(np.uint8)[None]  # (1, 9, 9): x + 10 y
_ANSWER = (0.3917411, 0.6082589)
"""Softmax of 0.13 and 0.57: the ramp's values at (3, 1) and (7, 5), divided by 100."""
_TOLERANCE = 1e-4

State = Literal["works", "absent", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: What it is.
        state: `works`; `absent`, which may be as it should be; `broken`, which has to be mended.
        detail: Version, reason or measured difference.
        mend: What to do, or empty.
    """

    what: str
    state: State
    detail: str
    mend: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the finding as a dictionary that JSON can hold."""
        return asdict(self)


def diagnose() -> list[Finding]:
    """Look at everything that reading pictures depends on, and run a tiny model on every provider."""
    needed = [*(_package(name) for name in _BASE), _runtimes(_installed(RUNTIMES))]
    findings = [
        Finding("rnnspn", "works", f"{rnnspn.__version__}, {available_cores()} cores"),
        Finding("python", "works", f"{platform.python_version()}, {sys.platform} {platform.machine()}"),
        *needed,
        *(Finding(f"plug-in {name}", "works", version) for name, version in _installed(PLUG_INS).items()),
        *(_package(name, "train") for name in _TRAIN),
        *_cuda(),
    ]
    if all(finding.state == "works" for finding in needed):
        model = tiny_model()
        findings += [_try(model, provider) for provider in ("cpu", "cuda", "openvino")]
        findings.append(_chosen(model))
    return findings


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _package(name: str, extra: str = "") -> Finding:
    version = _installed((name,)).get(name)
    if version:
        return Finding(name, "works", version)
    if extra:
        return Finding(name, "absent", "needed to train and export only", f"pip install 'rnnspn[{extra}]'")
    return Finding(name, "broken", "not installed", f"pip install {name}")


def _runtimes(found: dict[str, str]) -> Finding:
    named = ", ".join(f"{name} {version}" for name, version in found.items())
    if not found:
        mend = "pip install 'rnnspn[cpu]', or pip install 'rnnspn[gpu]' for an NVIDIA GPU"
        return Finding("ONNX Runtime", "broken", "not installed", mend)
    if len(found) > 1:
        extra = "gpu" if _GPU_RUNTIME in found else "cpu"
        mend = f"pip uninstall -y {' '.join(found)} && pip install 'rnnspn[{extra}]'"
        return Finding("ONNX Runtime", "broken", f"{named} overwrite each other", mend)
    try:
        onnxruntime()
    except MissingPackageError as error:
        reason, _, mend = str(error).partition("; ")
        return Finding("ONNX Runtime", "broken", f"{named}: {reason}", mend)
    return Finding("ONNX Runtime", "works", named)


def _cuda() -> list[Finding]:
    """Look for the driver and for the libraries that the runtime wants."""
    driver = cuda.driver()
    findings = [Finding("NVIDIA driver", "works" if driver else "absent", driver or "no CUDA driver on this machine")]
    if _GPU_RUNTIME in _installed(RUNTIMES):
        wanted = _wanted_cuda() or "unknown"
        cudnn = _wanted_cudnn(metadata.requires(_GPU_RUNTIME) or [])
        names = sorted(
            {name for found in metadata.distributions() if (name := found.metadata["Name"] or "").startswith("nvidia-")}
        )
        found = [f"{name} {version}" for name, version in _installed(tuple(names)).items()]
        if loaded := _loaded_cudnn(cudnn):
            found.append(f"cuDNN {loaded} loads")
        state: State = "works" if found else "absent"
        mend = "" if found else "pip install 'rnnspn[gpu]', or install CUDA and cuDNN on the system"
        detail = f"wanted: CUDA {wanted}, cuDNN {cudnn or 'unknown'}; found: {', '.join(found) or 'none'}"
        findings.append(Finding("CUDA libraries", state, detail, mend))
    return findings


def _wanted_cuda() -> str:
    """Return the version of CUDA that the runtime is for, or nothing where it does not load."""
    try:
        return getattr(onnxruntime(), "cuda_version", "")
    except MissingPackageError:
        return ""


def _wanted_cudnn(requirements: list[str]) -> str:
    """Return the major version of cuDNN in a package's requirements, or nothing."""
    found = (re.match(r"nvidia-cudnn\S*?[~=>]=(\d+)", requirement) for requirement in requirements)
    return next((match[1] for match in found if match), "")


def _loaded_cudnn(major: str) -> str:
    """Return the version of the cuDNN that this process can load, or nothing."""
    try:
        version = int(ctypes.CDLL(f"libcudnn.so.{major}").cudnnGetVersion())
    except (OSError, AttributeError):
        return ""
    return f"{version // 10_000}.{version // 100 % 100}.{version % 100}"


def _try(model: ModelFile, provider: str) -> Finding:
    """Run the tiny model on a provider and compare with the stored answer."""
    what = f"provider {provider}"
    try:
        outputs = session.open_engine(model, provider).run(_RAMP)
    except RnnspnError as error:
        reason, _, mend = str(error).partition("; ")
        return Finding(what, "broken" if _ought_to_work(provider, reason) else "absent", reason, mend)
    except Exception as error:  # nothing that is wrong with a machine may end the search for it
        return Finding(what, "broken", f"{type(error).__name__}: {one_line(error)}", "install ONNX Runtime again")
    difference = float(np.abs(outputs.probabilities.ravel() - _ANSWER).max())
    if difference > _TOLERANCE:
        detail = f"differs from the stored answer by {difference:.2g}"
        return Finding(what, "broken", detail, "install ONNX Runtime again, in another version")
    return Finding(what, "works", f"the stored answer, to {difference:.0e}")


def _ought_to_work(provider: str, reason: str) -> bool:
    """Tell whether a provider that does not run here should, by what is installed and why it does not."""
    if provider == "cuda":
        return bool(cuda.driver()) and _GPU_RUNTIME in _installed(RUNTIMES)
    if provider == "openvino":
        return PLUG_INS[0] in _installed(PLUG_INS) and reason != NO_PROCESSOR
    return True


def _chosen(model: ModelFile) -> Finding:
    try:
        return Finding("--provider auto", "works", session.open_engine(model, "auto").summary)
    except RnnspnError as error:
        return Finding("--provider auto", "broken", str(error))


def tiny_model() -> ModelFile:
    """Make a model of a few nodes that keeps the contract: one glimpse, two of its corner points, softmax."""
    content = _tiny_graph().SerializeToString()
    about = ModelMetadata(
        family="rnn-spn", downsample=3, steps=1, alphabet="01", height=_SIZE, width=_SIZE, training={}, test_error=None,
        checkpoint_sha256="", versions={}, parity={},
    )  # fmt: skip
    return ModelFile(Path("tiny.onnx"), content, about, hashlib.sha256(content).hexdigest())


def _tiny_graph() -> Any:
    from onnx import TensorProto, helper, numpy_helper

    # The glimpse covers x from 3 to 7 and y from 1 to 5 at 3 x 3 points.
    y, x = np.meshgrid([-0.75, -0.25, 0.25], [-0.25, 0.25, 0.75], indexing="ij")
    corners = np.zeros((2, 1, 3, 3), np.float32)
    corners[0, 0, 0, 0] = corners[1, 0, 2, 2] = 0.01
    constants = {
        "grid": np.stack([x, y], -1).astype(np.float32)[None],
        "corners": corners,
        "shape": np.array([-1, 1, 2]),
        "matrix": np.array([0.5, 0, 0.25, 0, 0.5, -0.25], np.float32).reshape(1, 1, 2, 3),
        "one": np.array([1]),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["float", "one"], ["levels"]),
        helper.make_node("GridSample", ["levels", "grid"], ["glimpse"], mode="bilinear", align_corners=1),
        helper.make_node("Conv", ["glimpse", "corners"], ["scores"]),
        helper.make_node("Reshape", ["scores", "shape"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [contract.PROBABILITIES], axis=-1),
        helper.make_node("ArgMax", ["logits"], [contract.DIGITS], axis=-1, keepdims=0),
        helper.make_node("Identity", ["matrix"], [contract.THETA]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(contract.IMAGES, TensorProto.UINT8, [1, _SIZE, _SIZE])],
        [
            helper.make_tensor_value_info(contract.DIGITS, TensorProto.INT64, [1, 1]),
            helper.make_tensor_value_info(contract.PROBABILITIES, TensorProto.FLOAT, [1, 1, 2]),
            helper.make_tensor_value_info(contract.THETA, TensorProto.FLOAT, [1, 1, 2, 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", contract.OPSET)], ir_version=10)
