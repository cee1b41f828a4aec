import signal
from pathlib import Path

import onnx
import pytest
from PIL import Image

from rnnspn.inference.predictor import Predictor
from tests import handmade

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job in the background, whose children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "handmade.onnx"
    onnx.save(handmade.build(), path)
    return path


@pytest.fixture(scope="session")
def predictor(model_path: Path) -> Predictor:
    return Predictor.load(model_path, provider="cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with one good picture and three bad ones."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(handmade.picture_of("120")).save(folder / "good.png")
    (folder / "text.png").write_text("this is no picture\n")
    (folder / "truncated.png").write_bytes((folder / "good.png").read_bytes()[:80])
    (folder / "empty.png").touch()
    return folder
