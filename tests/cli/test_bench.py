import json
from dataclasses import replace
from pathlib import Path

import pytest

from rnnspn.config import family_config
from rnnspn.inference import session
from rnnspn.inference.model_file import ModelFile
from rnnspn.inference.providers import Provider
from rnnspn.inference.session import Engine
from rnnspn.models.networks import Network
from tests.cli.program import rnnspn, rnnspn_here
from tests.exporters.conftest import save_checkpoint


def test_every_batch_is_timed_with_and_without_decoding(tmp_path: Path) -> None:
    code, out, err = rnnspn(
        tmp_path, "bench", "bundled", "--provider", "cpu", "--batch", "1", "--batch", "4", "--seconds", "0.1", "--json"
    )
    assert code == 0, err
    rows = json.loads(out)["timings"]
    assert [(row["provider"], row["decoding"], row["batch"]) for row in rows] == [
        ("cpu", False, 1), ("cpu", False, 4), ("cpu", True, 1), ("cpu", True, 4),
    ]  # fmt: skip
    for row in rows:
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        # a worker cannot finish more calls a second than its fastest calls allow, give or take the noise of 0.1 s
        assert 0 < row["images_per_second"] < 10 * row["workers"] * row["batch"] / (row["p50_ms"] / 1e3)


def test_people_get_a_table_and_pytorch_beside_it(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(Network(family_config("rnn-spn", gru_units=16)), tmp_path / "model.safetensors")
    code, out, err = rnnspn(
        tmp_path, "bench", "bundled", "--provider", "cpu", "--batch", "2", "--seconds", "0.05",
        "--against", str(checkpoint),
    )  # fmt: skip
    assert code == 0, err
    assert f"against: {checkpoint} in PyTorch (rnn-spn, d=3)\n" in err
    assert [line.split("  ")[0].strip() for line in out.splitlines()[1:]] == ["cpu", "cpu, decoding", "PyTorch"]


def test_pytorch_of_another_size_is_refused_beforehand(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(
        Network(family_config("rnn-spn", gru_units=16, height=64)), tmp_path / "model.safetensors"
    )
    code, out, err = rnnspn_here(tmp_path, "bench", "bundled", "-q", "--against", str(checkpoint))
    assert (code, out) == (2, "")
    assert "expected a run on pictures of 100 x 100, as the model's; got 64 x 100" in err


def test_providers_stand_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = session.open_engine

    def on_the_cpu(file: ModelFile, provider: Provider) -> Engine:
        return replace(opened(file, "cpu"), provider="cuda" if provider == "auto" else provider)

    monkeypatch.setattr(session, "open_engine", on_the_cpu)
    options = ("--provider", "cpu", "--provider", "auto", "--provider", "cuda", "--batch", "2", "--seconds", "0.05")
    code, out, err = rnnspn_here(tmp_path, "bench", "bundled", *options, "--json")
    assert code == 0, err
    assert [line.split()[:2] for line in err.splitlines()[1:]] == [["provider:", "cpu"], ["provider:", "cuda"]]
    assert [row["provider"] for row in json.loads(out)["timings"]] == ["cpu", "cpu", "cuda", "cuda"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--batch", "0"), 2),
        (("none.onnx",), 2),
        (("--provider", "tpu"), 2),
        (("bundled", "--provider", "cpu", "--provider", "cuda"), 4),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    got, out, err = rnnspn(tmp_path, "bench", *arguments)
    assert (got, out, len(err.splitlines())) == (code, "", 1)
