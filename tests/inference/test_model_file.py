import hashlib
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rnnspn.contract import METADATA_KEY
from rnnspn.errors import ModelFileError
from rnnspn.inference import model_file
from rnnspn.inference.session import open_engine
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


@pytest.mark.parametrize("kind", ["Loop", "If", "Scan"])
def test_loops_and_branches_are_refused(tmp_path, kind):
    # ONNX Runtime runs a loop of any length, and nothing can end it.
    model = handmade.build()
    inner = helper.make_graph([], "inner", [], [])
    bodies = {"then_branch": inner, "else_branch": inner} if kind == "If" else {"body": inner}
    model.graph.node.append(helper.make_node(kind, ["a", "b"], ["x"], **bodies))
    assert f"no loops and no branches, got {kind}" in _refusal(_saved(model, tmp_path))


def test_what_is_for_training_and_a_second_set_of_operators_are_refused(tmp_path):
    model = handmade.build()
    model.training_info.add()
    assert "nothing for training" in _refusal(_saved(model, tmp_path))
    model = handmade.build()
    model.opset_import.append(helper.make_opsetid("ai.onnx", 17))
    assert "one set of operators" in _refusal(_saved(model, tmp_path))


@pytest.mark.parametrize("value", [{"value_float": np.nan}, {"value_floats": [0.0, np.inf]}])
def test_attributes_that_are_no_numbers_are_refused(tmp_path, value):
    model = handmade.build()
    model.graph.node.append(helper.make_node("Constant", [], ["w"], **value))
    assert "finite" in _refusal(_saved(model, tmp_path))


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


@pytest.mark.parametrize("says", ["location only", "entries only"])
@pytest.mark.parametrize("where", ["values", "indices", "values of an attribute", "indices of one of many"])
def test_external_data_is_refused_in_sparse_tensors(tmp_path, where, says):
    model = handmade.build()
    node = model.graph.node.add(op_type="Constant", output=["w"])
    attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    sparse = {
        "values": model.graph.sparse_initializer.add,
        "indices": model.graph.sparse_initializer.add,
        "values of an attribute": lambda: attribute.sparse_tensor,
        "indices of one of many": attribute.sparse_tensors.add,
    }[where]()
    tensor = sparse.values if "values" in where else sparse.indices
    if says == "location only":
        tensor.data_location = TensorProto.EXTERNAL
    else:
        tensor.external_data.add(key="location", value="/etc/passwd")
    assert "external data" in _refusal(_saved(model, tmp_path))


def test_opsets_are_those_that_the_contract_and_the_installed_onnx_know(tmp_path):
    model, newest = handmade.build(), onnx.defs.onnx_opset_version()
    for version in (-1, 0, 17, newest + 1, 300):
        model.opset_import[0].version = version
        assert f"expected opset 18 to {newest}, got {version}" in _refusal(_saved(model, tmp_path))
    for version in (18, 19, newest):
        model.opset_import[0].version = version
        assert model_file.load(_saved(model, tmp_path)).metadata == handmade.METADATA
    model.opset_import[0].version = 17
    del model.metadata_props[:]
    assert "not a model made by rnnspn export" in _refusal(_saved(model, tmp_path))
    model = handmade.build()
    del model.opset_import[:]
    assert f"expected opset 18 to {newest}, got 0" in _refusal(_saved(model, tmp_path))


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


@pytest.mark.parametrize("name", [b"Softmax", b"probabilities", b"images", b"digits", b"theta", b"axis"])
def test_a_name_that_is_no_text_is_refused_wherever_it_stands(tmp_path, name):
    content, at, refused = handmade.build().SerializeToString(), -1, 0
    while (at := content.find(name, at + 1)) >= 0:
        (tmp_path / "damaged.onnx").write_bytes(content[:at] + b"\xb2" + content[at + 1 :])
        refused += "no text" in _refusal(tmp_path / "damaged.onnx")
    assert refused == content.count(name)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_split_that_contradicts_itself_is_refused(tmp_path, number):
    model = handmade.build()
    model.graph.node.append(helper.make_node("Split", ["logits"], ["a", "b", "c"], axis=1, num_outputs=number))
    assert "Split" in _refusal(_saved(model, tmp_path))


def test_a_sound_split_is_taken_and_so_is_another_node_with_its_attributes(tmp_path):
    model = handmade.build()
    model.graph.node.extend([
        helper.make_node("Split", ["logits"], ["a", "b", "c"], axis=1, num_outputs=3, about=0, zone=0),
        helper.make_node("Split", ["logits", "sizes"], ["d", "e"], axis=1),
        helper.make_node("Tile", ["logits"], ["f"], num_outputs=7),
        helper.make_node("Relu", ["logits"], ["g"], num_outputs=7),
    ])  # fmt: skip
    assert model_file.load(_saved(model, tmp_path)).metadata == handmade.METADATA


def test_names_are_shown_in_one_line(tmp_path):
    model = handmade.build()
    model.graph.input[0].name = "odd\n\x1b[31m"
    assert r"expected the inputs images, got odd\n\x1b[31m; export" in _refusal(_saved(model, tmp_path))


def test_a_second_input_is_refused(tmp_path):
    model = handmade.build()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N"]))
    assert "expected the inputs images, got images, more" in _refusal(_saved(model, tmp_path))


@pytest.mark.parametrize("name", ["a", "zzz", None])
@pytest.mark.parametrize(("kind", "at"), [("input", 0), ("output", 0), ("output", 1), ("output", 2)])
def test_an_input_or_output_of_another_name_or_none_is_refused(tmp_path, kind, at, name):
    model = handmade.build()
    values = getattr(model.graph, kind)
    if name is None:
        del values[at]
    else:
        values[at].name = name
    assert f"expected the {kind}s" in _refusal(_saved(model, tmp_path))


@pytest.mark.parametrize(
    ("element", "name"),
    [(TensorProto.FLOAT, "FLOAT"), (TensorProto.INT32, "INT32"), (99, "type 99"), (TensorProto.UNDEFINED, "UNDEFINED")],
)
def test_the_type_of_a_wrong_tensor_is_told_by_name(tmp_path, element, name):
    model = handmade.build()
    model.graph.input[0].type.tensor_type.elem_type = element
    reason = f"expected images to be UINT8 (N, 100, 100), got {name} (N, 100, 100)"
    assert reason in _refusal(_saved(model, tmp_path))


def test_metadata_of_other_programs_is_left_alone_and_our_own_stands_once(tmp_path):
    model = handmade.build()
    for key in ("author", "zoo"):
        model.metadata_props.add(key=key, value="somebody")
    assert model_file.load(_saved(model, tmp_path)).metadata == handmade.METADATA
    model.metadata_props.add(key=METADATA_KEY, value=model.metadata_props[0].value)
    assert "metadata" in _refusal(_saved(model, tmp_path))


def test_a_file_of_512_mib_is_the_largest_that_is_read(tmp_path, monkeypatch):
    path = tmp_path / "huge.onnx"
    for size, got in ((512 * 1024 * 1024 + 1, 512), (900 * 1024 * 1024, 900)):
        with path.open("wb") as file:
            file.truncate(size)
        assert _refusal(path) == f"{path}: expected at most 512 MiB, got {got} MiB"
    with path.open("wb") as file:
        file.truncate(512 * 1024 * 1024)
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"")
    assert "an empty one" in _refusal(path)


@pytest.mark.parametrize(
    ("error", "reason"), [(PermissionError(13, "Not allowed"), "Not allowed"), (OSError("odd"), "odd")]
)
def test_a_file_that_cannot_be_read_is_told_with_the_reason(model_path, monkeypatch, error, reason):
    def fail(_):
        raise error

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert f"cannot read the model {model_path}: {reason};" in _refusal(model_path)


@pytest.mark.parametrize(
    ("facts", "named"), [({"downsample": 2}, "rnn-spn, d=2"), ({"family": "conv", "downsample": None}, "conv")]
)
def test_a_model_is_summed_up_in_one_line_and_shown_without_its_content(tmp_path, facts, named):
    loaded = model_file.load(_saved(handmade.build(handmade.metadata(**facts)), tmp_path))
    assert (
        loaded.summary
        == f"{tmp_path / 'changed.onnx'} ({named}, reads 3 characters of 0123456789, sha256 {loaded.sha256[:12]})"
    )
    assert len(repr(loaded)) < 2000


def test_the_bundled_model_of_a_checkout_is_found_and_sound():
    assert model_file.load("bundled").path == model_file.bundled()
    assert model_file.bundled().parts[-3:] == ("assets", "models", "rnn-spn-d3.onnx")


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
    (tmp_path / "model.onnx").symlink_to(tmp_path / "mounted.onnx")  # which is missing: no other model takes its place
    assert str(model_file.default()) == "model.onnx"
    (tmp_path / "mounted.onnx").touch()
    assert str(model_file.default()) == "model.onnx"


def test_a_model_that_the_runtime_would_take_for_ort_format_is_refused(model_path, tmp_path):
    disguised = tmp_path / "disguised.onnx"
    unknown_field = b"\x7a\x06\x00\x00ORTM"  # protobuf skips it; the mark comes to lie where the runtime looks for it
    disguised.write_bytes(unknown_field + model_path.read_bytes())
    assert onnx.load(disguised).graph == onnx.load(model_path).graph
    assert "ORT format" in _refusal(disguised)


def test_the_runtime_is_not_given_a_model_in_ort_format_by_its_makers_name(tmp_path):
    named = onnx.load(model_file.bundled())
    named.producer_name = "ORTM then more"  # at byte 4 once the model is written again, with its channels filled
    plain, behind = onnx.ModelProto(), onnx.ModelProto()
    plain.CopyFrom(named)
    plain.ClearField("producer_name")
    behind.producer_name = named.producer_name
    disguised = tmp_path / "disguised.onnx"
    disguised.write_bytes(plain.SerializeToString() + behind.SerializeToString())
    engine = open_engine(model_file.load(disguised), "cpu")
    assert engine.run(np.zeros((1, 100, 100), np.uint8)).digits.shape == (1, 3)


def _with_weight(values: np.ndarray, where: str) -> onnx.ModelProto:
    """Return a sound model that holds one more constant, in its graph or in a node."""
    built = handmade.build()
    tensor = numpy_helper.from_array(values, "one_more")
    if where == "graph":
        built.graph.initializer.append(tensor)
    else:
        built.graph.node.insert(0, helper.make_node("Constant", [], ["one_more"], value=tensor))
    return built


@pytest.mark.parametrize("where", ["graph", "node"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_finite_numbers_are_refused(tmp_path, where, kind, wrong):
    path = tmp_path / "model.onnx"
    values = np.array([0, -1e4, 6e4], kind)
    onnx.save(_with_weight(values, where), path)
    assert model_file.load(path).metadata.steps == 3
    values[1] = wrong
    onnx.save(_with_weight(values, where), path)
    with pytest.raises(ModelFileError, match="finite numbers, got others in one_more"):
        model_file.load(path)


def test_a_weight_that_signals_is_refused_without_a_warning(tmp_path):
    values = np.array([0, 0x7F800001], np.uint32).view(
        np.float32
    )  # a kind of NaN that NumPy warns of when it is widened
    onnx.save(_with_weight(values, "graph"), tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match="finite numbers, got others in one_more"):
        model_file.load(tmp_path / "model.onnx")


def test_weights_cut_short_are_refused(tmp_path):
    built = _with_weight(np.ones(4, np.float32), "graph")
    built.graph.initializer[-1].raw_data = bytes(7)
    onnx.save(built, tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match="weights cut short"):
        model_file.load(tmp_path / "model.onnx")
