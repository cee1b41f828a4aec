"""Sessions on ONNX Runtime's own provider for CPUs, and what becomes of a model for them."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rnnspn.errors import is_want_of_memory
from rnnspn.inference.rewrites.blocks import bring_to_blocks, channel_block
from rnnspn.inference.rewrites.pooling import pool_by_differences
from rnnspn.inference.rewrites.sampling import sample_by_gathers

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

NAME = "CPUExecutionProvider"


def on_cpu(runtime: Any, model: bytes, options: "SessionOptions") -> "InferenceSession":
    """Open a session, of a model that is rewritten for this processor.

    One that cannot be rewritten, which `rnnspn export` has not made, is opened as it is: so it is the runtime that
    judges it.

    Args:
        runtime: The module `onnxruntime`.
        model: The serialised model.
        options: The session's.
    """

    def open_session(content: bytes) -> "InferenceSession":
        return runtime.InferenceSession(content, options, providers=[NAME], enable_fallback=False)

    try:
        return open_session(rewritten(model))
    except Exception as error:
        if is_want_of_memory(error):
            raise
        return open_session(model)


@lru_cache(maxsize=1)  # one thread after the other opens a session of the same model
def rewritten(model: bytes) -> bytes:
    """Return a model, serialised, as it runs fastest on this processor; it says the same."""
    import onnx

    proto, block = onnx.load_from_string(model), channel_block()
    sample_by_gathers(proto)
    bring_to_blocks(proto, block)
    if block > 1:
        pool_by_differences(proto)
    content: bytes = proto.SerializeToString()
    return content
