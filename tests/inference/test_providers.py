import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from rnnspn.data.mnist import load_mnist
from rnnspn.data.sequences import Sequences
from rnnspn.errors import ProviderError
from rnnspn.inference import model_file
from rnnspn.inference.providers import PROVIDERS, Provider, open_session
from rnnspn.inference.session import open_engine
from tests import handmade
from tests.openvino import needs_openvino


def test_a_session_has_one_thread_and_says_nothing(model_path):
    options = open_session(Path(model_path).read_bytes(), "cpu", Path(model_path)).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level) == (1, 1, 4)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.fixture(scope="module")
def pictures():
    return Sequences(load_mnist(), "test", seed=3).pictures(np.arange(130))[0]


@needs_openvino
def test_openvino_in_float32_agrees_with_the_cpu_at_every_batch_size(pictures):
    bundled = model_file.load(model_file.BUNDLED)
    on_cpu, on_openvino = open_engine(bundled, "cpu"), open_engine(bundled, "openvino")
    assert on_openvino.summary == "openvino (as asked)"
    expected = on_cpu.run(pictures)
    for batch in (1, 7, 64):
        starts = range(0, len(pictures), batch)
        got = [on_openvino.run(pictures[start : start + batch]) for start in starts]
        assert (np.concatenate([part.digits for part in got]) == expected.digits).all()
        for name in ("probabilities", "theta"):
            values = np.concatenate([getattr(part, name) for part in got])
            np.testing.assert_allclose(values, getattr(expected, name), atol=1e-4, rtol=0)


@needs_openvino
def test_threads_that_share_a_session_on_openvino_get_their_own_answers(model_path):
    engine = open_engine(model_file.load(model_path), "openvino")
    texts = [f"{number:03}" for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(engine.run, [handmade.picture_of(text)[None] for text in texts]))
    assert ["".join(map(str, output.digits[0])) for output in outputs] == texts


@needs_openvino
def test_bfloat16_moves_probabilities_but_few_digits(pictures):
    bundled = model_file.bundled()
    sessions = [open_session(bundled.read_bytes(), provider, bundled) for provider in ("cpu", "openvino-bfloat16")]
    full, reduced = (session.run(["digits", "probabilities"], {"images": pictures}) for session in sessions)
    assert np.abs(full[1] - reduced[1]).max() > 1e-3  # else it is float32 that runs
    assert (full[0] != reduced[0]).mean() < 0.02


def test_bfloat16_needs_a_file_that_has_passed_its_gate(model_path):
    with pytest.raises(ProviderError, match="export it with --bfloat16") as refused:
        open_engine(model_file.load(model_path), "openvino-bfloat16")
    assert refused.value.exit_code == 4


def test_without_the_plug_in_the_mend_is_one_line(model_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
    with pytest.raises(ProviderError, match=r"pip install 'rnnspn\[openvino\]'$"):
        open_engine(model_file.load(model_path), "openvino")


@pytest.mark.parametrize("fault", ["not active", "does not load"])
def test_openvino_that_does_not_run_the_model_is_refused(monkeypatch, fault):
    def register(name, path):
        if fault == "does not load":
            raise RuntimeError("libhwloc.so.15: cannot open\nshared object file")

    options = SimpleNamespace(
        add_session_config_entry=lambda key, value: None, add_provider_for_devices=lambda devices, options: None
    )
    device = SimpleNamespace(ep_name="OpenVINOExecutionProvider", device=SimpleNamespace(type="cpu"))
    stand_in = SimpleNamespace(
        SessionOptions=lambda: options,
        InferenceSession=lambda *_: SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"]),
        OrtHardwareDeviceType=SimpleNamespace(CPU="cpu"),
        get_ep_devices=lambda: [device],
        register_execution_provider_library=register,
        set_default_logger_severity=lambda level: None,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", SimpleNamespace(get_library_path=lambda: "library"))
    with pytest.raises(ProviderError, match=r"does not start here.*pip install --upgrade") as refused:
        open_session(b"", "openvino", Path("model.onnx"))
    assert "\n" not in str(refused.value)


def test_openvino_on_a_processor_that_is_not_intels_is_one_line_each_time(monkeypatch):
    told = []
    stand_in = SimpleNamespace(
        SessionOptions=lambda: SimpleNamespace(add_session_config_entry=lambda key, value: None),
        OrtHardwareDeviceType=SimpleNamespace(CPU="cpu"),
        get_ep_devices=lambda: [SimpleNamespace(ep_name="CPUExecutionProvider", device=SimpleNamespace(type="cpu"))],
        register_execution_provider_library=lambda name, path: told.append(path),
        set_default_logger_severity=lambda level: None,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", SimpleNamespace(get_library_path=lambda: "library"))
    for _ in range(2):
        with pytest.raises(ProviderError, match=r"Intel's; --provider cpu runs here, without bfloat16$"):
            open_session(b"", "openvino", Path("model.onnx"))
    assert told == ["library"]


def test_every_provider_that_can_be_asked_for_is_known() -> None:
    assert PROVIDERS.keys() == {*get_args(Provider)} - {"auto"}
