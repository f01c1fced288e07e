"""Frames of pandas and polars: columns become tensors, and answers a frame of the same library."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pandas as pd
import polars as pl
import pytest

from plimsoll import Client, Invalid
from plimsoll.frames import columns_of, tensor


class Gateway:
    """Answers an inference with what it was asked, row by row."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.asked.append(body)
        keys = body["parameters"]["keys"]
        outputs = [
            {"name": "score", "datatype": "FP64", "shape": [len(keys)], "data": [0.5] * len(keys)},
            {"name": "decision_id", "datatype": "BYTES", "shape": [len(keys)], "data": [f"d-{key}" for key in keys]},
        ]
        return httpx.Response(200, json={"outputs": outputs})


COLUMNS = {"id": list(range(600)), "age": [30 + n % 40 for n in range(600)], "limit": [n / 2 for n in range(600)]}


@pytest.mark.parametrize("kind", [pl.DataFrame, pd.DataFrame])
def test_a_frame_is_decided_in_pieces_and_comes_back_as_one_of_its_kind(kind: Any) -> None:
    gateway = Gateway()
    client = Client("token", transport=httpx.MockTransport(gateway))
    found = client.decide_frame("credit-default", kind(COLUMNS), key="id")
    assert isinstance(found, kind)
    assert list(found["decision_id"]) == [f"d-{number}" for number in range(600)]
    assert [len(body["parameters"]["keys"]) for body in gateway.asked] == [256, 256, 88]
    first = {one["name"]: one for one in gateway.asked[0]["inputs"]}
    assert {name: one["datatype"] for name, one in first.items()} == {"age": "INT64", "limit": "FP64"}
    assert first["limit"]["data"][:3] == [0.0, 0.5, 1.0]


def test_a_column_that_is_not_there_is_named() -> None:
    client = Client("token", transport=httpx.MockTransport(Gateway()))
    with pytest.raises(Invalid, match="customer") as caught:
        client.decide_frame("m", pl.DataFrame(COLUMNS), key="customer")
    assert caught.value.field == "customer"


@pytest.mark.parametrize("thing", [[1, 2], {"a": [1]}, "text", None, 5])
def test_what_is_no_frame(thing: Any) -> None:
    with pytest.raises(Invalid, match="expected a frame"):
        columns_of(thing)


@pytest.mark.parametrize(
    "values",
    [[1, None], [1.0, float("nan")], ["a", 1], [True, False], [object()], [[1]]],
    ids=["[1, None]", "[1.0, nan]", "['a', 1]", "[True, False]", "[object]", "[[1]]"],  # the same in every process
)
def test_values_that_are_no_features(values: list[Any]) -> None:
    with pytest.raises(Invalid) as caught:
        tensor("age", values)
    assert caught.value.field == "age"
