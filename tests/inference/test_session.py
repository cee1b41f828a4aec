import builtins
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from onnx import numpy_helper

from rnnspn.errors import MissingPackageError, ModelFileError, OutOfMemoryError, ProviderError
from rnnspn.inference import cuda, model_file, session
from rnnspn.inference.buffers import on_device
from rnnspn.inference.forks import Room
from rnnspn.inference.session import open_engine
from tests import handmade


@pytest.fixture
def model(model_path):
    return model_file.load(model_path)


def _runtime(
    monkeypatch,
    active: list[str],
    available: list[str],
    failure: Exception | None = None,
    records: bool = True,
    driver: str = "up to CUDA 13.0",
) -> list[dict[str, str]]:
    """Put a stand-in for ONNX Runtime in place, whose sessions run on the `active` providers.

    Returns:
        A list that grows: the options of each session on CUDA.
    """
    asked: list[dict[str, str]] = []

    class Session:
        def __init__(self, content, options, providers, enable_fallback):
            assert not enable_fallback  # it would print on stdout, and run on another provider than we say
            on_cuda = providers != ["CPUExecutionProvider"]
            if on_cuda:
                ((name, given),) = providers
                assert name == "CUDAExecutionProvider"
                asked.append(given)
                if failure or (given["enable_cuda_graph"] == "1" and not records):
                    raise failure or RuntimeError("not all nodes are on CUDA")
            self._providers = active if on_cuda else ["CPUExecutionProvider"]

        def get_providers(self):
            return self._providers

    options = SimpleNamespace(add_session_config_entry=lambda key, value: None)
    stand_in = SimpleNamespace(
        InferenceSession=Session,
        SessionOptions=lambda: options,
        get_available_providers=lambda: available,
        preload_dlls=lambda: print("Failed to load libcublas.so.13: no such file.\na wall of warnings"),
        set_default_logger_severity=lambda level: None,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)
    monkeypatch.setattr(session, "BufferedSession", lambda session, device: SimpleNamespace(run=_blank_outputs))
    monkeypatch.setattr(cuda, "driver", lambda: driver)
    return asked


def _blank_outputs(images: np.ndarray) -> dict[str, np.ndarray]:
    shapes = {"digits": (3,), "probabilities": (3, 10), "theta": (3, 2, 3)}
    outputs = {name: np.zeros((len(images), *shape), np.float32) for name, shape in shapes.items()}
    return outputs | {"digits": outputs["digits"].astype(np.int64)}


BOTH = ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_the_cpu_runs_as_asked_and_says_so(model):
    engine = open_engine(model, "cpu")
    outputs = engine.run(np.stack([handmade.picture_of("120"), handmade.picture_of("987")]))
    assert outputs.digits.tolist() == [[1, 2, 0], [9, 8, 7]]
    assert outputs.probabilities.shape == (2, 3, 10)
    assert outputs.theta.shape == (2, 3, 2, 3)
    assert engine.summary == "cpu (as asked)"


def test_sessions_are_made_only_when_they_are_needed(model, monkeypatch):
    made = []
    original = session.open_session
    monkeypatch.setattr(session, "open_session", lambda *arguments: made.append(1) or original(*arguments))
    engine = open_engine(model, "cpu")
    picture = handmade.picture_of("120")[None]
    for _ in range(5):
        engine.run(picture)
    assert len(made) == 1
    two = replace(engine, workers=2, _room=Room(2))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(two.run, [picture.repeat(50, 0)] * 40))
    assert len(made) <= 2


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "pictures",
    [np.zeros((2, 100, 100), np.float32), np.zeros((2, 1, 100), np.uint8), np.zeros((0, 100, 100), np.uint8)],
    ids=["floats", "another size", "none"],
)
def test_pictures_of_another_kind_are_refused_everywhere(model, monkeypatch, provider, pictures):
    _runtime(monkeypatch, BOTH, BOTH)
    with pytest.raises(ValueError, match=r"expected pictures, uint8 \(N, 100, 100\), one or more; got "):
        open_engine(model, provider).run(pictures)


@pytest.mark.parametrize("provider", ["auto", "cuda"])
def test_cuda_is_taken_where_the_session_says_it_is_active(model, monkeypatch, capsys, provider):
    _runtime(monkeypatch, BOTH, BOTH)
    assert open_engine(model, provider).provider == "cuda"
    assert capsys.readouterr().out == ""


def test_cuda_multiplies_in_tf32_only_when_asked(model, monkeypatch):
    for provider, expected in (("cuda", "0"), ("cuda-tf32", "1")):
        asked = _runtime(monkeypatch, BOTH, BOTH)
        assert open_engine(model, provider).provider == provider
        assert [options["use_tf32"] for options in asked] == [expected]


def test_cuda_records_its_kernels_where_it_can(model, monkeypatch):
    assert open_engine(model, "cpu").workers == session.available_cores()
    asked = _runtime(monkeypatch, BOTH, BOTH)
    engine = open_engine(model, "cuda")
    assert [options["enable_cuda_graph"] for options in asked] == ["1"]
    assert engine.workers == 3
    asked = _runtime(monkeypatch, BOTH, BOTH, records=False)
    assert open_engine(model, "cuda").provider == "cuda"
    assert [options["enable_cuda_graph"] for options in asked] == ["1", "0"]


def test_a_gpu_that_fails_at_its_first_picture_is_not_taken_by_auto(model, monkeypatch):
    def failing(images: np.ndarray) -> dict[str, np.ndarray]:
        raise RuntimeError("no kernel image is available")

    _runtime(monkeypatch, BOTH, BOTH)
    monkeypatch.setattr(session, "BufferedSession", lambda session, device: SimpleNamespace(run=failing))
    with pytest.raises(ProviderError, match="failed while running on cuda: no kernel image"):
        open_engine(model, "cuda")
    assert open_engine(model, "auto").provider == "cpu"


@pytest.mark.parametrize(
    ("active", "available", "failure", "mend"),
    [
        (["CPUExecutionProvider"], ["CPUExecutionProvider"], None, "pip uninstall onnxruntime"),
        (["CPUExecutionProvider"], BOTH, None, r"here; .*up to CUDA 13.0; .*libcublas.*no such file; pip .*nvidia-smi"),
        (BOTH, BOTH, RuntimeError("CUDA failure 100:\n no device"), "no device; .*libcublas.*; pip install"),
    ],
)
def test_cuda_that_is_not_really_active_is_refused_and_auto_falls_back(
    model, monkeypatch, active, available, failure, mend
):
    _runtime(monkeypatch, active, available, failure)
    with pytest.raises(ProviderError, match=mend) as refused:
        open_engine(model, "cuda")
    assert "\n" not in str(refused.value)
    assert str(refused.value).count("does not start here") <= 1
    assert refused.value.exit_code == 4
    engine = open_engine(model, "auto")
    assert engine.provider == "cpu"
    assert engine.reason.startswith("auto: ")


def test_without_a_driver_no_library_is_blamed(model, monkeypatch):
    asked = _runtime(monkeypatch, BOTH, BOTH, driver="")
    with pytest.raises(ProviderError, match="no NVIDIA driver"):
        open_engine(model, "cuda")
    assert asked == []
    assert open_engine(model, "auto").summary == "cpu (auto: no NVIDIA driver runs on this machine)"


@pytest.mark.parametrize("provider", ["auto", "cuda"])
def test_a_gpu_that_computes_nonsense_is_not_the_files_fault(model, monkeypatch, provider):
    def nonsense(images: np.ndarray) -> dict[str, np.ndarray]:
        return _blank_outputs(images) | {"probabilities": np.full((len(images), 3, 10), np.nan, np.float32)}

    _runtime(monkeypatch, BOTH, BOTH)
    monkeypatch.setattr(session, "BufferedSession", lambda session, device: SimpleNamespace(run=nonsense))
    if provider == "auto":
        assert open_engine(model, provider).provider == "cpu"
    else:
        with pytest.raises(ProviderError, match="on cuda: its outputs break the contract"):
            open_engine(model, provider)


def test_a_session_on_cuda_is_opened_where_all_that_uses_the_device_runs(model, monkeypatch):
    _runtime(monkeypatch, BOTH, BOTH)
    threads, original = [], session.open_session
    monkeypatch.setattr(
        session, "open_session", lambda *given: threads.append(threading.get_ident()) or original(*given)
    )
    open_engine(model, "cuda")
    open_engine(model, "cpu")
    assert threads == [on_device(threading.get_ident), threading.get_ident()]


def test_threads_share_one_session_on_cuda(model, monkeypatch):
    asked = _runtime(monkeypatch, BOTH, BOTH)
    engine = open_engine(model, "cuda")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(engine.run, [handmade.picture_of("120")[None]] * 40))
    assert len(asked) == 1


def test_an_unknown_provider_is_refused(model):
    with pytest.raises(ProviderError, match="expected the provider"):
        open_engine(model, "tpu")


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"), "is not installed"),
        (ImportError("libstdc++.so.6: version `GLIBCXX_3.4.32' not found"), "does not load .*GLIBCXX"),
        (ModuleNotFoundError("No module named 'flatbuffers'", name="flatbuffers"), "does not load .*flatbuffers"),
    ],
)
def test_without_onnxruntime_the_mend_is_one_line(model, monkeypatch, failure, told):
    original = builtins.__import__

    def missing(name, *arguments, **options):
        if name == "onnxruntime":
            raise failure
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    for provider in ("auto", "cpu", "cuda"):
        with pytest.raises(MissingPackageError, match=told + r".*pip install 'rnnspn\[cpu\]'"):
            open_engine(model, provider)


def test_what_another_package_left_of_onnxruntime_is_told(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(MissingPackageError, match="does not load"):
        open_engine(model, "cpu")


def test_a_graph_that_the_runtime_refuses_is_one_line(tmp_path):
    broken = handmade.build()
    broken.graph.node[4].op_type = "NoSuchOperator"
    path = tmp_path / "broken.onnx"
    path.write_bytes(broken.SerializeToString())
    with pytest.raises(ModelFileError, match="refuses") as refused:
        open_engine(model_file.load(path), "cpu")
    assert "\n" not in str(refused.value)


def test_outputs_that_are_no_numbers_are_refused(model):
    broken = handmade.build()
    offsets = next(weight for weight in broken.graph.initializer if weight.name == "offsets")
    offsets.CopyFrom(numpy_helper.from_array(np.full(30, np.nan, np.float32), "offsets"))
    unchecked = replace(model, content=broken.SerializeToString())
    with pytest.raises(ModelFileError, match="contract"):
        open_engine(unchecked, "cpu").run(handmade.picture_of("120")[None])


class _Small:
    """A runner with room for so many pictures."""

    def __init__(self, runner, room: int, said: str) -> None:
        self._runner, self._room, self._said = runner, room, said
        self.batches: list[int] = []

    def __call__(self, images):
        self.batches.append(len(images))
        if self.batches[-1] > self._room:
            raise RuntimeError(self._said)
        return self._runner(images)


TOO_MUCH = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 12345"


def test_a_batch_that_does_not_fit_into_memory_is_run_in_halves(model):
    engine = open_engine(model, "cpu")
    pictures = np.stack([handmade.picture_of(f"{number:03}") for number in range(7)])
    expected = engine.run(pictures)
    small = _Small(engine._idle.pop(), 2, TOO_MUCH)
    engine._idle.append(small)
    got = engine.run(pictures)
    for values, others in zip(got, expected, strict=True):
        np.testing.assert_array_equal(values, others)
    assert max(small.batches[1:]) < 7
    assert {batch for batch in small.batches if batch <= 2}


@pytest.mark.parametrize(
    ("room", "said", "error", "match"),
    [
        (0, TOO_MUCH, OutOfMemoryError, "there is too little memory for "),
        (2, "Non-zero status code returned while running Conv", ModelFileError, "failed while running on cpu"),
        (2, "", ModelFileError, "failed while running on cpu: RuntimeError"),
    ],
)
def test_a_picture_that_does_not_fit_or_another_failure_ends_the_run(model, room, said, error, match):
    engine = open_engine(model, "cpu")
    small = _Small(engine._idle.pop(), room, said)
    engine._idle.append(small)
    with pytest.raises(error, match=match):
        engine.run(np.stack([handmade.picture_of("120")] * 5))


def test_a_further_session_that_does_not_fit_is_done_without(model, monkeypatch):
    engine = replace(open_engine(model, "cpu"), workers=3, _room=Room(3))
    picture = handmade.picture_of("120")[None]
    (only,) = engine._idle
    tried = []

    def refusing(*_: object, **__: object) -> None:
        tried.append(1)
        raise RuntimeError("std::bad_alloc")

    monkeypatch.setattr(sys.modules["onnxruntime"], "InferenceSession", refusing)
    with ThreadPoolExecutor(6) as pool:
        for outputs in pool.map(engine.run, [picture.repeat(20, 0)] * 30):
            assert outputs.digits[0].tolist() == [1, 2, 0]
    assert list(engine._idle) == [only]
    assert len(tried) <= 2
    engine._idle.clear()
    for _ in range(4):  # the last place is given back each time
        with pytest.raises(OutOfMemoryError, match="there is too little memory for "):
            engine.run(picture)


def test_a_session_that_cannot_be_opened_leaves_its_place(model, monkeypatch):
    engine = open_engine(model, "cpu")
    picture = handmade.picture_of("120")[None]
    sessions = list(engine._idle)
    engine._idle.clear()
    monkeypatch.setattr(session, "open_session", lambda *_: (_ for _ in ()).throw(ModelFileError("refused")))
    for _ in range(engine.workers + 1):
        with pytest.raises(ModelFileError, match="refused"):
            engine.run(picture)
    engine._idle.extend(sessions)
    assert engine.run(picture).digits.tolist() == [[1, 2, 0]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"digits": np.full((1, 3), -1)},
        {"digits": np.full((1, 3), 10)},
        {"digits": np.zeros((1, 2), np.int64)},
        {"probabilities": np.full((1, 3, 10), np.nan, np.float32)},
        {"probabilities": np.zeros((1, 3, 9), np.float32)},
        {"theta": np.full((1, 3, 2, 3), np.inf, np.float32)},
        {"theta": np.zeros((2, 3, 2, 3), np.float32)},
    ],
    ids=lambda wrong: ", ".join(f"{name} {value.flat[0]} {value.shape}" for name, value in wrong.items()),
)
def test_outputs_that_break_the_contract_are_refused(model, wrong):
    engine = open_engine(model, "cpu")
    right = engine._idle.pop()
    engine._idle.append(lambda images: right(images) | wrong)
    with pytest.raises(ModelFileError, match="its outputs break the contract"):
        engine.run(handmade.picture_of("120")[None])


@pytest.mark.parametrize("pictures", [None, [np.zeros((100, 100), np.uint8)]], ids=["nothing", "a list"])
def test_what_is_no_array_is_refused(model, pictures):
    with pytest.raises(ValueError, match=r"expected pictures, uint8 \(N, 100, 100\), one or more; got "):
        open_engine(model, "cpu").run(pictures)
