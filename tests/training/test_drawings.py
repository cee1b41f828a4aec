import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rnnspn.config import family_config
from rnnspn.models.networks import Network
from rnnspn.training import drawings
from rnnspn.training.drawings import Drawings

EPOCHS = [{"epoch": 0, "images": 100, "train_loss": 2.0, "train_digit_error": 0.8, "learning_rate": 1e-3}]
FAMILIES = {
    "rnn-spn": {"downsample": 5, "gru_units": 4, "classifier_units": 4},
    "ffn-spn": {"downsample": 5, "localisation_units": 4, "classifier_filters": 4, "classifier_units": 4},
    "conv": {"classifier_filters": 2, "classifier_units": 4},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_both_drawings_are_made_of_every_family(family: str, tmp_path: Path) -> None:
    network = Network(family_config(family, **FAMILIES[family])).eval()
    images = torch.randint(0, 256, (3, 100, 100), dtype=torch.uint8)
    Drawings(tmp_path).draw(network, images, EPOCHS)
    for name in ("curves.png", "attention.png"):
        with Image.open(tmp_path / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, f"{name} is empty"


def test_the_drawing_shows_where_the_network_looks(tmp_path: Path) -> None:
    network = Network(family_config("rnn-spn", **FAMILIES["rnn-spn"])).eval()
    assert network.localisation is not None
    images, seen = torch.full((1, 100, 100), 90, dtype=torch.uint8), []
    for scale in (0.2, 0.8):
        network.localisation.affine.start_at(scale)
        Drawings(tmp_path).draw(network, images, EPOCHS)
        seen.append((tmp_path / "attention.png").read_bytes())
    assert seen[0] != seen[1]


def test_drawings_are_due_at_first_and_then_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(drawings, "draw_curves", lambda *_: None)
    monkeypatch.setattr(Drawings, "_draw_attention", lambda *_: None)
    run = Drawings(tmp_path)
    assert run.due
    run.draw(Network(family_config("rnn-spn", gru_units=4)), torch.zeros(1, 100, 100), EPOCHS)
    assert not run.due
    now[0] += 29
    assert not run.due
    now[0] += 2
    assert run.due
