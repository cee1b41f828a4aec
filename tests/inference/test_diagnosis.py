import sys
from importlib import metadata
from types import ModuleType

import numpy as np
import pytest

from rnnspn.errors import ProviderError
from rnnspn.inference import cuda, diagnosis, session
from rnnspn.inference.model_file import ModelFile
from rnnspn.inference.openvino import NO_PROCESSOR
from rnnspn.inference.session import Engine, Outputs


def found(what: str) -> diagnosis.Finding:
    return next(finding for finding in diagnosis.diagnose() if finding.what == what)


def test_here_everything_that_reading_needs_works() -> None:
    findings = diagnosis.diagnose()
    assert [finding for finding in findings if finding.state == "broken"] == []
    assert found("provider cpu").state == "works"
    assert found("--provider auto").detail.startswith(("cpu", "cuda"))


def test_two_runtimes_are_told_apart_with_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "1.0" if name in diagnosis.RUNTIMES[:2] else real(name))
    monkeypatch.setattr(diagnosis, "_cuda", list)
    finding = found("ONNX Runtime")
    assert finding.state == "broken"
    assert finding.mend == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'rnnspn[gpu]'"


def test_no_runtime_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    finding = found("ONNX Runtime")
    assert finding.state == "broken"
    assert "rnnspn[cpu]" in finding.mend


def test_a_runtime_that_does_not_load_is_broken_and_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    real, gpu = metadata.version, diagnosis.RUNTIMES[1]
    monkeypatch.setattr(metadata, "version", lambda name: "1.0" if name == gpu else real(name))
    monkeypatch.setattr(diagnosis, "RUNTIMES", (gpu,))  # with which CUDA's libraries are looked for
    monkeypatch.setattr(metadata, "requires", lambda name: [])
    finding = found("ONNX Runtime")
    assert finding.state == "broken"
    assert finding.detail.startswith("onnxruntime-gpu 1.0: ONNX Runtime is installed but does not load")
    assert "pip uninstall" in finding.mend
    assert "unknown" in found("CUDA libraries").detail
    assert not [one for one in diagnosis.diagnose() if one.what.startswith("provider")]


def test_whatever_a_provider_fails_with_the_others_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Engine, images: np.ndarray) -> Outputs:
        raise ZeroDivisionError("by a\nbroken driver")

    monkeypatch.setattr(Engine, "run", fail)
    finding = found("provider cpu")
    assert (finding.state, finding.detail) == ("broken", "ZeroDivisionError: by a broken driver")


def test_a_provider_that_computes_wrongly_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Engine.run

    def wrong(engine: Engine, images: np.ndarray) -> Outputs:
        return real(engine, images)._replace(probabilities=np.array([[[0.5, 0.5]]], np.float32))

    monkeypatch.setattr(Engine, "run", wrong)
    finding = found("provider cpu")
    assert finding.state == "broken"
    assert "differs from the stored answer by 0.11" in finding.detail


def test_a_package_that_is_missing_is_told_and_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "onnx":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(diagnosis, "tiny_model", None)
    assert found("onnx").state == "broken"


@pytest.mark.parametrize(("says", "state"), [("it does not start here", "broken"), (NO_PROCESSOR, "absent")])
def test_openvino_that_is_installed_ought_to_work(monkeypatch: pytest.MonkeyPatch, says: str, state: str) -> None:
    def refuse(model: ModelFile, provider: str) -> Engine:
        raise ProviderError(f"{says}; mend")

    monkeypatch.setattr(session, "open_engine", refuse)
    monkeypatch.setattr(diagnosis, "_installed", lambda names: dict.fromkeys(names[:1], "1.0"))
    monkeypatch.setattr(diagnosis, "_package", lambda name, extra="": diagnosis.Finding(name, "works", ""))
    assert found("provider openvino").state == state


def test_the_tiny_model_runs_as_any_model_does() -> None:
    engine = session.open_engine(diagnosis.tiny_model(), "cpu")
    outputs = engine.run(np.full((1, 9, 9), 7, np.uint8))
    assert outputs.probabilities.ravel() == pytest.approx([0.5, 0.5])


def test_a_gpu_that_ought_to_work_and_does_not_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    if found("provider cuda").state == "works":
        pytest.skip("CUDA works here")
    assert found("provider cuda").state == "absent"
    monkeypatch.setattr(cuda, "driver", lambda: "up to CUDA 13.0")
    monkeypatch.setattr(diagnosis, "_cuda", list)
    monkeypatch.setattr(diagnosis, "_installed", lambda names: {"onnxruntime-gpu": "1.0"})
    monkeypatch.setattr(diagnosis, "_package", lambda name, extra="": diagnosis.Finding(name, "works", ""))
    assert found("provider cuda").state == "broken"


def test_the_cudnn_that_a_package_wants_is_read_from_its_requirements() -> None:
    assert diagnosis._wanted_cudnn(["numpy>=1.21", 'nvidia-cudnn-cu13~=9.0; extra == "cudnn"']) == "9"
    assert diagnosis._wanted_cudnn(["numpy>=1.21"]) == ""
