import json
from dataclasses import replace

import pytest

from rnnspn import contract
from rnnspn.contract import ModelMetadata
from rnnspn.errors import ModelFileError
from tests import handmade

SCHEMA_1 = {
    "alphabet": "0123456789", "checkpoint_sha256": "0f", "downsample": 3, "family": "rnn-spn", "height": 100,
    "normalisation": "x/255 in the graph", "parity": {"pictures": 259}, "polarity": "light-on-dark",
    "resize_policy": "fit", "schema_version": 1, "steps": 3, "test_error": {"digit_error": 0.0111},
    "training": {"recipe": "best"}, "versions": {"onnx": "1.20"}, "width": 100,
}  # fmt: skip
"""What the first release writes: files in the world hold it, so every later release has to read it."""


def read(**changes: object) -> ModelMetadata:
    return ModelMetadata.from_json(json.dumps(SCHEMA_1 | changes))


def refusal(text: str) -> str:
    with pytest.raises(ModelFileError) as refused:
        ModelMetadata.from_json(text)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_metadata_of_schema_1_is_read_and_written_back_to_the_letter() -> None:
    metadata = read()
    assert metadata.steps == 3
    assert metadata.to_json() == json.dumps(SCHEMA_1)


def test_models_are_made_for_opset_18_with_the_names_that_clients_know() -> None:
    assert contract.OPSET == 18
    assert (contract.IMAGES, contract.DIGITS, contract.PROBABILITIES, contract.THETA) == (
        "images", "digits", "probabilities", "theta",
    )  # fmt: skip
    assert (contract.METADATA_KEY, contract.SCHEMA_VERSION) == ("rnnspn", 1)


def test_an_alphabet_beyond_ascii_is_written_as_itself() -> None:
    written = replace(handmade.METADATA, alphabet="零一二三四").to_json()
    assert "零一二三四" in written
    assert ModelMetadata.from_json(written).alphabet == "零一二三四"


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"steps": 1', "nul"])
def test_what_is_no_json_is_refused(text: str) -> None:
    assert "is not JSON" in refusal(text)


@pytest.mark.parametrize("text", ["[]", "7", '"text"', "null"])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    assert "is not a JSON object" in refusal(text)


@pytest.mark.parametrize("version", [0, 2, 99, -1, "1", None])
def test_another_schema_is_refused_with_the_mend(version: object) -> None:
    reason = refusal(json.dumps(SCHEMA_1 | {"schema_version": version}))
    assert f"has schema {version!r}, this release knows schema 1" in reason
    assert "install the release" in reason


@pytest.mark.parametrize("name", sorted(SCHEMA_1.keys() - {"schema_version"}))
def test_every_field_has_to_be_there(name: str) -> None:
    reason = refusal(json.dumps({key: value for key, value in SCHEMA_1.items() if key != name}))
    assert reason.endswith(f"lacks {name}; export the model again")


def test_fields_that_a_later_release_adds_are_ignored() -> None:
    assert read(colour="blue") == read()


@pytest.mark.parametrize(("name", "high"), [("steps", 64), ("height", 4096), ("width", 4096)])
def test_sizes_are_whole_numbers_within_their_limits(name: str, high: int) -> None:
    for value in (1, high):
        assert getattr(read(**{name: value, "downsample": 1}), name) == value
    for value in (0, -1, high + 1, 10**30, 3.0, "3", None, True, [3]):
        reason = refusal(json.dumps(SCHEMA_1 | {name: value}))
        assert f"has {name} {value!r}, expected 1 to {high}" in reason


@pytest.mark.parametrize("alphabet", ["", "0", "00", "010", "01\x1b", "01\n", 7, None, ["0", "1"], {}])
def test_an_alphabet_is_two_or_more_different_printable_characters(alphabet: object) -> None:
    assert read(alphabet="01").alphabet == "01"
    assert "expected two or more different characters" in refusal(json.dumps(SCHEMA_1 | {"alphabet": alphabet}))


def test_the_three_families_are_read_and_others_refused() -> None:
    assert read(family="ffn-spn").family == "ffn-spn"
    assert read(family="conv", downsample=None).family == "conv"
    for family in ("other", "CONV", "", None, 3, ["conv"]):
        assert "has family" in refusal(json.dumps(SCHEMA_1 | {"family": family}))


def test_the_factor_is_at_most_the_shorter_side_and_absent_for_conv() -> None:
    for factor in (1, 40):
        assert read(downsample=factor, height=40, width=90).downsample == factor
    for factor in (0, -3, 41, 1.0, True, "3", None):
        reason = refusal(json.dumps(SCHEMA_1 | {"downsample": factor, "height": 40, "width": 90}))
        assert f"has downsample {factor!r}, expected 1 or more" in reason
    for factor in (0, 1, 3, "none"):
        assert "expected null for conv" in refusal(json.dumps(SCHEMA_1 | {"family": "conv", "downsample": factor}))


@pytest.mark.parametrize("name", ["training", "versions", "parity", "test_error"])
@pytest.mark.parametrize("value", [7, "text", ["digit_error"]])
def test_records_are_objects(name: str, value: object) -> None:
    assert f"has {name} {value!r}, expected an object" in refusal(json.dumps(SCHEMA_1 | {name: value}))


def test_a_model_that_was_never_tested_says_so_with_null() -> None:
    assert read(test_error=None).test_error is None
    for name in ("training", "versions", "parity"):
        assert "expected an object" in refusal(json.dumps(SCHEMA_1 | {name: None}))


def test_notes_are_text() -> None:
    assert "expected text" in refusal(json.dumps(SCHEMA_1 | {"checkpoint_sha256": 7}))


@pytest.mark.parametrize("name", ["resize_policy", "polarity", "normalisation"])
@pytest.mark.parametrize("value", ["", "another", "zzz", None, 1])
def test_a_preparation_that_this_release_does_not_know_is_refused(name: str, value: object) -> None:
    assert f"has {name} {value!r}, this release knows" in refusal(json.dumps(SCHEMA_1 | {name: value}))
