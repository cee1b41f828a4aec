import hashlib
import json

import onnx
import pytest
from onnx import TensorProto, helper

from rnnspn.contract import METADATA_KEY
from rnnspn.errors import ModelFileError
from rnnspn.inference import model_file
from tests import handmade


def _refusal(path) -> str:
    with pytest.raises(ModelFileError) as refused:
        model_file.load(path)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2
    return str(refused.value)


def _saved(model: onnx.ModelProto, tmp_path):
    path = tmp_path / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("facts", [{}, {"family": "ffn-spn"}, {"family": "conv", "downsample": None}, {"steps": 5}])
def test_a_good_model_is_loaded_with_its_very_bytes(tmp_path, facts):
    path = _saved(handmade.build(handmade.metadata(**facts)), tmp_path)
    loaded = model_file.load(path)
    assert loaded.content == path.read_bytes()
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.metadata == handmade.metadata(**facts)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"junk" * 99, "not an ONNX model"), (b"\x08\x07", "empty")]
)
def test_what_is_no_model_is_refused(tmp_path, content, reason):
    (tmp_path / "a.onnx").write_bytes(content)
    assert reason in _refusal(tmp_path / "a.onnx")


def test_missing_files_and_folders_are_refused(tmp_path):
    assert "there is no model" in _refusal(tmp_path / "none.onnx")
    assert "folder" in _refusal(tmp_path)


def test_every_truncation_is_refused(model_path, tmp_path):
    content = model_path.read_bytes()
    for length in [*range(0, 400, 7), *range(400, len(content), len(content) // 50)]:
        (tmp_path / "short.onnx").write_bytes(content[:length])
        _refusal(tmp_path / "short.onnx")


def test_a_custom_domain_is_refused_in_the_imports_and_in_a_nested_graph(tmp_path):
    model = handmade.build()
    model.opset_import.append(helper.make_opsetid("com.evil", 1))
    assert "com.evil" in _refusal(_saved(model, tmp_path))
    model = handmade.build()
    inner = helper.make_graph([helper.make_node("Run", [], ["x"], domain="com.evil")], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=inner, else_branch=inner))
    assert "com.evil" in _refusal(_saved(model, tmp_path))


def test_local_functions_are_refused(tmp_path):
    model = handmade.build()
    model.functions.append(helper.make_function("", "Twice", ["x"], ["y"], [], []))
    assert "local functions" in _refusal(_saved(model, tmp_path))


def test_external_data_is_refused_wherever_it_hides(tmp_path):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model = handmade.build()
    model.graph.initializer.append(tensor)
    assert "external data" in _refusal(_saved(model, tmp_path))
    model = handmade.build()
    model.graph.node.append(helper.make_node("Constant", [], ["w"], value=tensor))
    assert "external data" in _refusal(_saved(model, tmp_path))
    inner = helper.make_graph([helper.make_node("Constant", [], ["w"], value=tensor)], "inner", [], [])
    model = handmade.build()
    model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=inner, else_branch=inner))
    assert "external data" in _refusal(_saved(model, tmp_path))


def test_an_old_opset_is_refused(tmp_path):
    model = handmade.build()
    model.opset_import[0].version = 17
    assert "opset" in _refusal(_saved(model, tmp_path))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 99}, "schema 99"),
        ({"steps": 4}, "digits"),
        ({"alphabet": "01"}, "probabilities"),
        ({"height": 99}, "images"),
        ({"family": "conv", "downsample": None}, "outputs"),
        ({"family": "ffn-spn"}, "theta"),
        ({"polarity": "sideways"}, "polarity"),
        ({"family": "transformer"}, "transformer"),
        ({"family": ["rnn-spn"]}, "family"),
        ({"downsample": 0}, "downsample"),
        ({"downsample": None}, "downsample"),
        ({"alphabet": "012345678\x1b"}, "alphabet"),
        ({"training": []}, "training"),
        ({"versions": None}, "versions"),
    ],
)
def test_metadata_that_is_unknown_or_disagrees_with_the_tensors_is_refused(tmp_path, change, reason):
    model = handmade.build()
    document = json.loads(model.metadata_props[0].value) | change
    helper.set_model_props(model, {METADATA_KEY: json.dumps(document)})
    assert reason in _refusal(_saved(model, tmp_path))


def test_missing_metadata_is_refused(tmp_path):
    model = handmade.build()
    del model.metadata_props[:]
    assert "metadata is missing" in _refusal(_saved(model, tmp_path))


def test_a_tensor_of_another_type_or_a_fixed_batch_is_refused(tmp_path):
    model = handmade.build()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    assert "images" in _refusal(_saved(model, tmp_path))
    model = handmade.build()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    assert "images" in _refusal(_saved(model, tmp_path))


@pytest.mark.parametrize("name", [b"Softmax", b"probabilities", b"images"])
def test_names_that_are_no_text_are_refused(tmp_path, name):
    content = handmade.build().SerializeToString()
    (tmp_path / "damaged.onnx").write_bytes(content.replace(name, b"\xb2" + name[1:]))
    assert "no text" in _refusal(tmp_path / "damaged.onnx")


def test_a_split_that_contradicts_itself_is_refused(tmp_path):
    model = handmade.build()
    model.graph.node.append(helper.make_node("Split", ["logits"], ["a", "b", "c"], axis=1, num_outputs=1))
    assert "Split" in _refusal(_saved(model, tmp_path))


def test_a_second_input_is_refused(tmp_path):
    model = handmade.build()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N"]))
    assert "inputs" in _refusal(_saved(model, tmp_path))


def test_a_huge_file_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(model_file, "MAX_BYTES", 2**20)
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(2**20 + 1)
    assert "MiB" in _refusal(tmp_path / "huge.onnx")


def test_the_bundled_model_is_sought_in_the_package_before_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(model_file, "_PACKAGE", tmp_path / "rnnspn")
    assert "bundled" in _refusal("bundled")
    for folder in ("assets/models", "rnnspn/assets/models"):
        place = tmp_path / folder / model_file.BUNDLED_FILE
        place.parent.mkdir(parents=True)
        place.touch()
        assert model_file.bundled() == place


def test_the_default_is_the_working_folders_model_if_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_file, "bundled", lambda: "the bundled one")
    assert model_file.default() == "the bundled one"
    (tmp_path / "model.onnx").touch()
    assert str(model_file.default()) == "model.onnx"


def test_a_model_that_the_runtime_would_take_for_ort_format_is_refused(model_path, tmp_path):
    disguised = tmp_path / "disguised.onnx"
    unknown_field = b"\x7a\x06\x00\x00ORTM"  # protobuf skips it; the mark comes to lie where the runtime looks for it
    disguised.write_bytes(unknown_field + model_path.read_bytes())
    assert onnx.load(disguised).graph == onnx.load(model_path).graph
    assert "ORT format" in _refusal(disguised)
