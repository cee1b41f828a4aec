"""The authors' own networks, run in Theano and Lasagne: their weights in our layout, and our gradients in theirs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnnspn.config import ModelConfig, family_config
from rnnspn.models.networks import Network

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {"rnn-spn": "rnn_spn_d3.npz", "ffn-spn": "ffn_spn_d2.npz"}
SAMPLED = 997
"""Of large matrices the files have every 997th element of the gradient."""

Array = NDArray[Any]
Turns = dict[str, Callable[[Array], Array]]

TURNS: Turns = {
    "convolution": lambda weight: weight[:, :, ::-1, ::-1],  # theirs is a true convolution
    "dense": lambda weight: weight.T,
    "bias": lambda bias: bias,
}
"""How a weight of theirs becomes one of ours; each is its own inverse."""

GATES = ("resetgate", "updategate", "hidden_update")


def config(family: str) -> ModelConfig:
    """Return the network that the reference was made with: 400 dense units, not the paper's 256."""
    downsample = {"rnn-spn": 3, "ffn-spn": 2}[family]
    return family_config(family, downsample=downsample, classifier_units=400)


@dataclass(frozen=True)
class Weight:
    """One weight of theirs and its place in ours.

    Attributes:
        theirs: Its Lasagne name.
        ours: Its name in the state dictionary.
        kind: Its key in `TURNS`.
        gate: Which third of our rows it is, for the weights of the GRU's gates.
    """

    theirs: str
    ours: str
    kind: str
    gate: int | None = None


def weights(family: str, gates: tuple[str, ...] = GATES) -> Iterator[Weight]:
    """List all weights of a family but the GRU's first state."""
    layers = {"l_A_net": ("localisation.affine", "dense"), "l_class1": ("classifier.hidden", "dense")}
    for k in range(3):
        layers[f"l_conv{k}_loc"] = (f"localisation.extract.conv{k + 1}", "convolution")
        layers[f"l_conv{k}_out"] = (f"classifier.conv{k + 1}", "convolution")
    if family == "rnn-spn":
        layers["l_lin_out"] = ("classifier.logits.0", "dense")
        for gate, name in enumerate(gates):
            yield Weight(f"l_gru.W_in_to_{name}", "localisation.gru.input.weight", "dense", gate)
            yield Weight(f"l_gru.W_hid_to_{name}", "localisation.gru.hidden.weight", "dense", gate)
            yield Weight(f"l_gru.b_{name}", "localisation.gru.input.bias", "bias", gate)
    else:
        layers["l_dense_loc"] = ("localisation.hidden", "dense")
        layers |= {f"l_lin_out{k + 1}": (f"classifier.logits.{k}", "dense") for k in range(3)}
    for theirs, (ours, kind) in layers.items():
        yield Weight(f"{theirs}.W", f"{ours}.weight", kind)
        yield Weight(f"{theirs}.b", f"{ours}.bias", "bias")


def to_ours(
    theirs: dict[str, Array], family: str, turns: Turns = TURNS, gates: tuple[str, ...] = GATES
) -> dict[str, Tensor]:
    """Turn their weights into a state dictionary of ours."""
    parts: dict[str, list[Array]] = {}
    for weight in weights(family, gates):  # gates come in the order of our rows
        parts.setdefault(weight.ours, []).append(turns[weight.kind](theirs[weight.theirs]))
    state = {name: torch.tensor(np.concatenate(part), dtype=torch.float32) for name, part in parts.items()}
    if family == "rnn-spn":
        state["localisation.gru.initial"] = torch.tensor(theirs["l_gru.hid_init"][0], dtype=torch.float32)
    return state


def to_theirs(ours: dict[str, Tensor], family: str) -> dict[str, Array]:
    """Turn tensors of ours, such as gradients by name of their weight, into their layout."""
    theirs = {}
    for weight in weights(family):
        tensor = ours[weight.ours]
        part = tensor if weight.gate is None else tensor.chunk(3)[weight.gate]
        theirs[weight.theirs] = TURNS[weight.kind](part.numpy())
    return theirs


@dataclass(frozen=True)
class Case:
    """Pictures, what their network made of them, and their weights.

    Attributes:
        family: Family of the network.
        arrays: All of the file, by name.
        noisy: The case for gradients: noisy pictures, glimpses inside the picture, its own affine layer.
    """

    family: str
    arrays: dict[str, Array]
    noisy: bool = False

    def __getitem__(self, name: str) -> Tensor:
        """Return an array of this case as a tensor."""
        return torch.tensor(self.arrays[f"nz/{name}" if self.noisy else name])

    @property
    def images(self) -> Tensor:
        """Pictures, float32 (8, 1, 100, 100)."""
        return self["x"].unsqueeze(1)

    @property
    def labels(self) -> Tensor:
        """Labels, int64 (8, 3)."""
        return torch.tensor(self.arrays["y"], dtype=torch.int64)

    @property
    def theirs(self) -> dict[str, Array]:
        """Their weights by Lasagne name."""
        prefixes = ("w/", "nz/w/") if self.noisy else ("w/",)
        return {
            name.removeprefix(p): array for p in prefixes for name, array in self.arrays.items() if name.startswith(p)
        }

    def network(self, turns: Turns = TURNS, gates: tuple[str, ...] = GATES) -> Network:
        """Return our network with their weights."""
        network = Network(config(self.family)).eval()
        network.load_state_dict(to_ours(self.theirs, self.family, turns, gates))
        return network

    def gradients(self) -> Iterator[tuple[str, Array]]:
        """Yield the gradient of each weight by Lasagne name; of large matrices every 997th element, flat."""
        for name, array in self.arrays.items():
            for prefix in ("nz/grad/", "nz/gradsub/"):
                if name.startswith(prefix):
                    yield name.removeprefix(prefix), array


@cache
def arrays(file: str) -> dict[str, Array]:
    """Return all arrays of a file."""
    with np.load(GOLDEN / file) as archive:
        return dict(archive)


def case(family: str, noisy: bool = False) -> Case:
    """Return a case of a family."""
    return Case(family, arrays(FILES[family]), noisy)
