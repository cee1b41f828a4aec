"""Weights of one network for another, which reads more steps or other characters.

A recurrent network's weights are the same for any number of steps; only softmax layers have a row for each character.
"""

from dataclasses import fields, replace

from torch import Tensor

from rnnspn.errors import CheckpointError
from rnnspn.models.networks import Network
from rnnspn.training.checkpoint import Checkpoint

_SOFTMAX_LAYERS = "classifier.logits."


def transferred(weights: Checkpoint, network: Network) -> dict[str, Tensor]:
    """Return weights for a network: those of a finished run, and its own for characters that the run did not know.

    Args:
        weights: A finished run's.
        network: The other network; it is left as it is.

    Raises:
        CheckpointError: They are of a network of another shape, or damaged.
    """
    ours, theirs = network.config, weights.config.model
    steps = theirs.steps if ours.family == "rnn-spn" else ours.steps
    alike = replace(ours, steps=steps, alphabet=theirs.alphabet)
    if theirs != alike:
        other = [
            f"{field.name.replace('_', ' ')} {getattr(alike, field.name)} and not {getattr(theirs, field.name)}"
            for field in fields(alike)
            if getattr(alike, field.name) != getattr(theirs, field.name)
        ]
        raise CheckpointError(f"expected weights to start from of a network with {', '.join(other)}")
    shared = [character for character in ours.alphabet if character in theirs.alphabet]
    to, of = ([alphabet.index(character) for character in shared] for alphabet in (ours.alphabet, theirs.alphabet))
    tensors = dict(weights.network().state_dict())
    for name, fresh in network.state_dict().items():
        if name.startswith(_SOFTMAX_LAYERS):
            known, tensors[name] = tensors[name], fresh.clone()
            tensors[name][to] = known[of].to(fresh)
    return tensors
