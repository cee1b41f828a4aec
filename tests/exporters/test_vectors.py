import base64
import json
from pathlib import Path

import numpy as np
import pytest

from exporters.vectors import write_vectors
from rnnspn.inference import model_file
from rnnspn.inference.session import open_engine


def test_the_bundled_vectors_are_of_the_bundled_model_and_hold() -> None:
    bundled = model_file.load(model_file.BUNDLED)
    golden = json.loads(bundled.path.with_suffix(".vectors.json").read_text())
    assert golden["model_sha256"] == bundled.sha256, "make them again: rnnspn vectors assets/models/rnn-spn-d3.onnx"
    size = (golden["height"], golden["width"])
    images = [np.frombuffer(base64.b64decode(vector["image"]), np.uint8).reshape(size) for vector in golden["vectors"]]
    outputs = open_engine(bundled, "cpu").run(np.stack(images))
    assert outputs.digits.tolist() == [vector["digits"] for vector in golden["vectors"]]
    for name in ("probabilities", "theta"):
        expected = np.array([vector[name] for vector in golden["vectors"]])
        np.testing.assert_allclose(getattr(outputs, name), expected, atol=1e-5, rtol=0)


def test_vectors_of_another_model_are_of_its_size(model_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "vectors.json"
    model = model_file.load(model_path)
    assert write_vectors(model, target) == 8
    golden = json.loads(target.read_text())
    assert golden["model_sha256"] == model.sha256
    for vector in golden["vectors"]:
        assert len(base64.b64decode(vector["image"])) == model.metadata.height * model.metadata.width
        assert np.array(vector["theta"]).shape == (3, 2, 3)
        assert np.array(vector["probabilities"]).sum(axis=-1) == pytest.approx([1, 1, 1], abs=1e-4)
