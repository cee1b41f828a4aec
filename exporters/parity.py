"""The gate between PyTorch and a file: it opens only when both say the same.

Shapes: n pictures, T steps, G glimpses a picture, H x W pixels, K classes.
"""

import copy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exporters import pictures as standard_pictures
from rnnspn import contract
from rnnspn.config import ModelConfig
from rnnspn.contract import ModelMetadata
from rnnspn.errors import ParityError
from rnnspn.inference.runtime import onnxruntime
from rnnspn.models.networks import Network
from rnnspn.models.readout import read_out
from rnnspn.scores import are_clear

BATCHES = (1, 2, 3, 7, 64)
TOLERANCE = 1e-4
"""Largest difference allowed in a probability or an element of theta."""
ROUNDINGS = 10
"""Where PyTorch in float32 strays further from float64 than a tenth of that, as it does in networks with steep logits:
so many times as far is allowed."""
PICTURES = 256
_NOISE = 5


@dataclass(frozen=True)
class Parity:
    """What the gate measured.

    Attributes:
        pictures: Number of pictures compared at each batch size.
        batches: Batch sizes.
        tolerance: Largest difference allowed in any output.
        max_difference: Largest difference seen, by output.
        runtime: The runtime that was compared.
    """

    pictures: int
    batches: tuple[int, ...]
    tolerance: float
    max_difference: dict[str, float]
    runtime: str

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a dictionary that JSON can hold."""
        return asdict(self) | {"batches": list(self.batches)}


def parity_pictures(config: ModelConfig | ModelMetadata) -> NDArray[np.uint8]:
    """Return what the gate looks at: synthesised test pictures, all black, all white and noise; uint8 (n, H, W)."""
    synthesised = standard_pictures.synthesised(PICTURES, config.steps, config.height, config.width)
    return np.concatenate([synthesised, standard_pictures.extremes(_NOISE, config.height, config.width)])


def check_parity(
    model: bytes, network: Network, pictures: NDArray[np.uint8], batches: tuple[int, ...] = BATCHES
) -> Parity:
    """Compare an exported model with its network at several batch sizes.

    Args:
        model: The serialised file.
        network: In evaluation mode, on the CPU, float32.
        pictures: uint8 (n, H, W).
        batches: Batch sizes.

    Returns:
        The differences measured.

    Raises:
        ParityError: Something differs by more than the tolerance; it says what, by how much, at which batch size.
        MissingPackageError: ONNX Runtime is not installed.
    """
    expected = _read_with_torch(network, pictures)
    if not all(np.isfinite(values).all() for values in expected.values()):
        raise ParityError(
            "PyTorch's own answers are not all finite numbers; train the model again; no file was written"
        )
    session = plain_session(model)
    answers = {batch: read_with_onnxruntime(session, pictures, batch) for batch in batches}
    worst = {
        name: max(largest_difference(got[name], expected[name]) for got in answers.values())
        for name in expected
        if name != contract.DIGITS
    }
    allowed = dict.fromkeys(worst, TOLERANCE)
    if max(worst.values()) > TOLERANCE:
        exact = _read_with_torch(copy.deepcopy(network).double(), pictures)
        for name in allowed:
            allowed[name] = max(TOLERANCE, ROUNDINGS * largest_difference(expected[name], exact[name]))
    clear = are_clear(expected[contract.PROBABILITIES], network.config.blank)
    faults = []
    for batch, got in answers.items():
        for name in worst:
            difference = largest_difference(got[name], expected[name])
            if not difference <= allowed[name]:
                faults.append(f"{name} by {difference:.3g} at batch {batch}, allowed {allowed[name]:.1g}")
        wrong = int((clear & (got[contract.DIGITS] != expected[contract.DIGITS])).sum())
        if wrong:
            faults.append(f"{wrong} of {int(clear.sum())} clear digits at batch {batch}")
    if faults:
        raise ParityError(f"the exported model differs from PyTorch: {'; '.join(faults)}; no file was written")
    runtime = f"onnxruntime {onnxruntime().__version__}"
    return Parity(len(pictures), batches, max(allowed.values()), worst, runtime)


def largest_difference(got: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return how far two outputs are apart; infinitely where their shapes differ or one holds no number."""
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - expected).max())


@torch.no_grad()
def _read_with_torch(network: Network, pictures: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    kind = next(network.parameters()).dtype
    parts = [network(batch.unsqueeze(1).to(kind) / 255) for batch in torch.split(torch.from_numpy(pictures), 64)]
    probabilities = torch.cat([part.logits for part in parts]).softmax(-1)
    digits = read_out(probabilities, network.config.blank)
    expected = {contract.DIGITS: digits.numpy(), contract.PROBABILITIES: probabilities.numpy()}
    if network.config.glimpses:
        expected[contract.THETA] = torch.cat([part.theta for part in parts]).numpy()
    return expected


def read_with_onnxruntime(session: Any, pictures: NDArray[np.uint8], batch: int) -> dict[str, NDArray[Any]]:
    """Return every output of a session for pictures, uint8 (n, H, W), given in batches."""
    starts = range(0, len(pictures), batch)
    parts = [session.run(None, {contract.IMAGES: pictures[start : start + batch]}) for start in starts]
    names = [output.name for output in session.get_outputs()]
    return {name: np.concatenate(outputs) for name, outputs in zip(names, zip(*parts, strict=True), strict=True)}


def plain_session(model: bytes) -> Any:
    """Load a serialised model on the CPU as any other program would, with the runtime's own settings.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
    """
    return onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])
