"""The protocol's requests and replies, without HTTP: what is understood, what is refused, what is answered."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from lineage.errors import InvalidError
from serve.decision.decider import Answer
from serve.gateway.messages import RequestError
from serve.gateway.open_inference import (
    OUTPUTS,
    Inference,
    answer_inference,
    check_text,
    model_metadata,
    read_inference,
)
from validators.scoring.features import Feature

FEATURES = (
    Feature("income", "number", minimum=0.0),
    Feature("late", "integer"),
    Feature("grade", "category", categories=("A", "B")),
    Feature("branch", "category", categories=(1, 2)),
)
NUMBERS = FEATURES[:2]


def _tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


INPUTS = [
    _tensor("income", "FP64", [1.5, 2]),
    _tensor("late", "INT64", [0, 1], [2, 1]),
    _tensor("grade", "BYTES", ["A", "B"]),
    _tensor("branch", "INT32", [1, 2]),
]


def _read(content: dict[str, Any], features: tuple[Feature, ...] = FEATURES) -> Inference:
    return read_inference(json.dumps(content).encode(), None, features, "loan")


def _answer(number: int = 1, **changes: Any) -> Answer:
    fields: dict[str, Any] = {
        "decision": "decline",
        "score": 0.25 * number,
        "threshold": 0.5,
        "decision_id": f"d{number}",
        "release": "loan@1",
        "digest": "sha256:1",
        "role": "champion",
        "fallback": None,
        "reasons": [{"code": "R1", "text": "Zu späte Zahlungen", "feature": "late", "contribution": 0.5}],
    }
    return Answer(**fields | changes)


def test_columns_become_rows_of_named_features() -> None:
    asked = _read({"inputs": INPUTS})
    assert asked.rows == [
        {"income": 1.5, "late": 0, "grade": "A", "branch": 1},
        {"income": 2, "late": 1, "grade": "B", "branch": 2},
    ]
    assert (asked.keys, asked.id) == ([None, None], None)
    assert asked.wanted == dict.fromkeys(OUTPUTS, False)


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_a_matrix_has_the_features_in_order(data: list[Any]) -> None:
    asked = _read({"inputs": [_tensor("features", "FP32", data, [2, 2])]}, NUMBERS)
    assert asked.rows == [{"income": 1.0, "late": 2.0}, {"income": 3.0, "late": 4.0}]


def test_keys_come_as_a_tensor_or_as_a_parameter_but_not_as_both() -> None:
    keyed = _tensor("key", "BYTES", ["anna", "bert"])
    assert _read({"inputs": [*INPUTS, keyed]}).keys == ["anna", "bert"]
    assert _read({"inputs": INPUTS, "parameters": {"keys": ["anna", "bert"]}}).keys == ["anna", "bert"]
    with pytest.raises(InvalidError, match="expected one of them"):
        _read({"inputs": [keyed, *INPUTS], "parameters": {"keys": ["anna", "bert"]}})
    matrix = _tensor("features", "FP64", [1, 2, 3, 4], [2, 2])
    assert _read({"inputs": [matrix, keyed]}, NUMBERS).keys == ["anna", "bert"]


def test_a_feature_may_be_called_key_or_features() -> None:
    odd = (Feature("key", "number"), Feature("features", "number"))
    asked = _read({"inputs": [_tensor("key", "FP64", [1]), _tensor("features", "FP64", [2])]}, odd)
    assert asked.rows == [{"key": 1, "features": 2}]
    assert asked.keys == [None]


def test_what_clients_write_as_null_or_as_a_hint_is_passed_over() -> None:
    hints = {"id": None, "parameters": None, "outputs": None, "model_name": "loan"}
    assert _read({"inputs": INPUTS} | hints).rows
    assert _read({"inputs": INPUTS, "parameters": {"content_type": "pd"}, "outputs": []}).rows


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"inputs": None}, "inputs", "missing or empty"),
        ({"inputs": []}, "inputs", "missing or empty"),
        ({"inputs": {"income": 1}}, "inputs", "list of tensors"),
        ({"inputs": [1]}, "inputs[0]", "expected a tensor"),
        ({"inputs": INPUTS[:3]}, "branch", "'branch' is missing; expected income, late, grade, branch"),
        ({"inputs": [*INPUTS, _tensor("brnch", "INT32", [1, 2])]}, "brnch", "not known to this model"),
        ({"inputs": [*INPUTS, INPUTS[0]]}, "income", "given twice"),
        ({"inputs": [*INPUTS[:3], _tensor("branch", "INT32", [1])]}, "branch", r"shape is \[1\]; expected \[2\]"),
        ({"inputs": [*INPUTS[:3], _tensor("branch", "INT32", [1] * 4, [2, 2])]}, "branch", r"expected \[2\]"),
        ({"inputs": [_tensor("features", "FP64", [1, 2, 3], [1, 3])]}, "features", r"expected \[n, 4\]"),
        ({"inputs": [_tensor("features", "FP64", [1, 2, 3, 4])]}, "features", r"expected \[n, 4\]"),
        ({"inputs": [_tensor("key", "BYTES", ["a"])]}, "income", "missing"),
        ({"inputs": [*INPUTS, _tensor("key", "BYTES", ["a"])]}, "key", r"expected \[2\]"),
        ({"inputs": [*INPUTS, _tensor("key", "INT32", [1, 2])]}, "key", "key is int '1'"),
        ({"id": 7}, "id", "expected a text"),
        ({"id": "a\r\nb"}, "id", "printable"),
        ({"model_name": "lone"}, "model_name", "the path says loan"),
        ({"arm": "challenger"}, "arm", "'arm' is not known here"),
        ({"parameters": []}, "parameters", "expected an object"),
        ({"parameters": {"priority": 1}}, "parameters.priority", "expected keys or binary_data_output"),
        ({"parameters": {"binary_data_output": 1}}, "parameters.binary_data_output", "expected true or false"),
        ({"parameters": {"keys": "anna"}}, "parameters.keys", "list of 2 texts"),
        ({"parameters": {"keys": ["anna"]}}, "parameters.keys", "list of 2 texts"),
        ({"parameters": {"keys": ["anna", 7]}}, "parameters.keys", "int '7'"),
        ({"outputs": "score"}, "outputs", "list of outputs"),
        ({"outputs": ["score"]}, "outputs[0].name", "expected one of score, decision"),
        ({"outputs": [{"name": "scores"}]}, "outputs[0].name", "'scores'; expected one of score"),
        ({"outputs": [{"name": "score"}, {"name": "score"}]}, "outputs[1].name", "each once"),
        ({"outputs": [{"name": ["score"]}]}, "outputs[0].name", "expected one of"),
        (
            {"outputs": [{"name": "score", "parameters": {"classification": 2}}]},
            "outputs[0].parameters",
            "classification",
        ),
        (
            {"outputs": [{"name": "score", "parameters": {"binary_data": "yes"}}]},
            "outputs[0].parameters.binary_data",
            "yes",
        ),
    ],
)
def test_what_cannot_be_understood_is_named(changes: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidError, match=message) as told:
        _read({"inputs": INPUTS} | changes)
    assert (told.value.status, told.value.field) == (422, field)


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (b"7", "a JSON object"),
        (b"100000", "said to have"),
        (b"-1", "said to have"),
        (b"", "said to have"),
        (b"1e2", "'1e2'"),
    ],
)
def test_a_wrong_length_of_the_json_is_malformed(length: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message) as told:
        read_inference(json.dumps({"inputs": INPUTS}).encode(), length, FEATURES, "loan")
    assert told.value.status == 400


def test_bytes_behind_the_json_that_no_tensor_takes_are_malformed() -> None:
    text = json.dumps({"inputs": INPUTS}).encode()
    assert read_inference(text, str(len(text)).encode(), FEATURES, "loan").rows
    with pytest.raises(RequestError, match="3 bytes behind the JSON belong to no tensor"):
        read_inference(text + b"abc", str(len(text)).encode(), FEATURES, "loan")


def test_an_outputs_own_wish_goes_before_the_requests() -> None:
    outputs = [{"name": "decision"}, {"name": "score", "parameters": {"binary_data": False}}]
    asked = _read({"inputs": INPUTS, "outputs": outputs, "parameters": {"binary_data_output": True}})
    assert list(asked.wanted.items()) == [("decision", True), ("score", False)]
    assert _read({"inputs": INPUTS, "parameters": {"binary_data_output": True}}).wanted == dict.fromkeys(OUTPUTS, True)


def test_a_reply_in_json_has_every_output_and_the_id() -> None:
    asked = Inference([{}, {}], [None, None], dict.fromkeys(OUTPUTS, False), "r7")
    response = answer_inference("loan", [_answer(1), _answer(2, fallback="champion_failed", reasons=[])], asked, {})
    content = json.loads(response.body)
    assert (content["model_name"], content["model_version"], content["id"]) == ("loan", "loan@1", "r7")
    data = {output["name"]: output["data"] for output in content["outputs"]}
    assert data["score"] == [0.25, 0.5]
    assert data["decision_id"] == ["d1", "d2"]
    assert data["fallback"] == ["", "champion_failed"]
    assert [json.loads(text) for text in data["reasons"]] == [_answer(1).reasons, []]
    assert {tuple(output["shape"]) for output in content["outputs"]} == {(2,)}
    assert "inference-header-content-length" not in response.headers


def test_a_reply_in_bytes_has_them_in_the_order_of_the_outputs() -> None:
    asked = Inference([{}], [None], {"reasons": True, "role": False, "score": True}, None)
    response = answer_inference("loan", [_answer()], asked, {})
    length = int(response.headers["inference-header-content-length"])
    content, tail = json.loads(response.body[:length]), bytes(response.body[length:])
    sizes = [output.get("parameters", {}).get("binary_data_size") for output in content["outputs"]]
    assert (sizes[1], sizes[2]) == (None, 8)
    assert content["outputs"][1]["data"] == ["champion"]
    assert int.from_bytes(tail[:4], "little") == sizes[0] - 4
    assert json.loads(tail[4 : sizes[0]]) == _answer().reasons
    assert np.frombuffer(tail[sizes[0] :], "<f8").tolist() == [0.25]
    assert "id" not in content


def test_metadata_says_what_may_be_sent_and_asked() -> None:
    told = model_metadata("loan", ["loan@1"], FEATURES)
    kinds = {tensor["name"]: tensor["datatype"] for tensor in told["inputs"]}
    assert kinds == {"income": "FP64", "late": "INT64", "grade": "BYTES", "branch": "INT64"}
    assert [tensor["name"] for tensor in told["outputs"]] == list(OUTPUTS)
    assert told["inputs"][2]["parameters"] == {"expected": "one of A, B"}


@pytest.mark.parametrize("text", ["", "x" * 201, "a\tb", "a\x00", "\x1b[31m", "a\u202eb", "a\u200bb", None, 7, ["a"]])
def test_a_name_that_a_caller_chooses_can_be_printed(text: Any) -> None:
    with pytest.raises(InvalidError, match="expected a text of 1 to 200 printable characters"):
        check_text(text)
    assert check_text("Kunde 17 / Zürich: ü") == "Kunde 17 / Zürich: ü"
