"""What runs a model: the providers, and a session of ONNX Runtime on the one that was asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rnnspn.errors import ModelFileError, is_want_of_memory
from rnnspn.inference.cpu import on_cpu
from rnnspn.inference.cuda import on_cuda
from rnnspn.inference.openvino import on_openvino
from rnnspn.inference.runtime import one_line, onnxruntime, session_options, want_of_memory

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Provider = Literal["auto", "cpu", "cuda", "cuda-tf32", "openvino", "openvino-bfloat16"]
"""What runs a model. `auto` takes `cuda` where it works, else `cpu`."""


@dataclass(frozen=True)
class Traits:
    """What is known of a provider before it runs.

    Attributes:
        kind: `cpu`, `cuda` or `openvino`.
        multiplies_in: `float32`, with 23 bits after the point, `tf32` with 10 or `bfloat16` with 7; what a file has in
            integers, those with `float32` multiply in integers.
        batch: Pictures a call for the best throughput: on a CPU, more leave the cache of a core.
    """

    kind: Literal["cpu", "cuda", "openvino"]
    multiplies_in: Literal["float32", "tf32", "bfloat16"]
    batch: int


PROVIDERS = {
    "cpu": Traits("cpu", "float32", batch=16),
    "cuda": Traits("cuda", "float32", batch=256),
    "cuda-tf32": Traits("cuda", "tf32", batch=256),
    "openvino": Traits("openvino", "float32", batch=32),
    "openvino-bfloat16": Traits("openvino", "bfloat16", batch=32),
}


def open_session(model: bytes, provider: str, path: Path) -> "InferenceSession":
    """Open a session that runs on exactly one provider.

    On the CPU it has one thread, as one session for each thread that calls beats one session of many threads.

    Args:
        model: The serialised model.
        provider: One of `PROVIDERS`.
        path: Where the model came from, for messages.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
        ModelFileError: ONNX Runtime refuses the model.
        OutOfMemoryError: There is too little memory for the model.
        ProviderError: The provider cannot run here; the message says what to do.
    """
    runtime, traits = onnxruntime(), PROVIDERS[provider]
    if traits.kind == "cuda":
        return on_cuda(runtime, model, session_options(), tf32=traits.multiplies_in == "tf32")
    if traits.kind == "openvino":
        return on_openvino(runtime, model, session_options(), bfloat16=traits.multiplies_in == "bfloat16")
    try:
        return on_cpu(runtime, model, session_options())
    except Exception as error:
        if is_want_of_memory(error):
            raise want_of_memory(path, error) from error
        raise ModelFileError(f"{path}: ONNX Runtime refuses it: {one_line(error)}; export it again") from error
