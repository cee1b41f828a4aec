import pytest

from rnnspn.inference.runtime import one_line

SOURCE = "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const A&)"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"[ONNXRuntimeError] : 1 : FAIL : {SOURCE} Unsupported model", "Unsupported model"),
        (f"[ONNXRuntimeError] : 1 : FAIL : {SOURCE} const\nUnsupported  model", "Unsupported model"),
        ("[ONNXRuntimeError] : 10 : INVALID_GRAPH : In Node, (a) -> (b)", "In Node, (a) -> (b)"),
        ("see model.cc:256 Model(a) for it", "see model.cc:256 Model(a) for it"),
        ("x" * 400, "x" * 300),
        ("", "ValueError"),
    ],
)
def test_what_the_runtime_says_is_shown_without_where_it_says_it(said: str, shown: str) -> None:
    assert one_line(ValueError(said)) == shown
