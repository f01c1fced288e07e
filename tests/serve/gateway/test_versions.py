"""Releases in the path: only the one that answers is accepted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lineage.settings import Settings
from serve.decision.traffic_split import falls_on_challenger, position_of
from tests.support.bad_http_cases import tensors
from tests.support.gateway_servers import CLIENT, SERVICE, Reply, ServedLoans, raw_request, send, served


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, ServedLoans]]:
    loans = ServedLoans(Settings(home=tmp_path_factory.mktemp("versions")))
    with served(loans.app) as port:
        yield port, loans


def _infer(port: int, version: str, keys: list[str], token: str = CLIENT) -> Reply:
    content = tensors(len(keys)) | {"parameters": {"keys": keys}}
    path = f"/v2/models/loan/versions/{version}/infer"
    return send(port, raw_request(json.dumps(content).encode(), path, token=token))


def _get(port: int, path: str, token: str = CLIENT) -> Reply:
    return send(port, raw_request(path=path, method="GET", token=token, Content_Length=None, Content_Type=None), "GET")


def _key(wanted: bool, share: float) -> str:
    """A customer who is on trial, or one who is not."""
    names = (f"customer-{number}" for number in range(1_000))
    return next(name for name in names if falls_on_challenger(position_of(name, "pepper-and-salt"), share) is wanted)


@pytest.mark.parametrize("version", ["loan@2", "2"])
def test_the_release_that_answers_may_be_named(front: tuple[int, ServedLoans], version: str) -> None:
    port, loans = front
    loans.route()
    loans.lines.clear()
    reply = _infer(port, version, ["a", "b"])
    assert (reply.status, reply.content["model_version"]) == (200, "loan@2")
    assert [line["purpose"] for line in loans.lines] == ["customer"] * 2
    assert _get(port, f"/v2/models/loan/versions/{version}").content["versions"] == ["loan@2"]
    assert _get(port, f"/v2/models/loan/versions/{version}/ready").content == {"name": "loan", "ready": True}


@pytest.mark.parametrize(
    ("version", "status"), [("loan@1", 403), ("1", 403), ("loan@9", 404), ("9", 404), ("card@2", 404)]
)
def test_another_release_is_refused_and_one_that_is_none_is_unknown(
    front: tuple[int, ServedLoans], version: str, status: int
) -> None:
    port, loans = front
    loans.route()
    loans.lines.clear()
    for reply in (
        _infer(port, version, ["a"]),
        _get(port, f"/v2/models/loan/versions/{version}"),
        _get(port, f"/v2/models/loan/versions/{version}/ready"),
    ):
        assert (reply.status, reply.content["field"]) == (status, "version")
        assert "loan@2" in reply.content["error"]
    assert loans.lines == []


def test_nobody_chooses_an_arm_by_naming_its_release(front: tuple[int, ServedLoans]) -> None:
    port, loans = front
    loans.route(share=0.5)
    loans.lines.clear()
    on_trial, not_on_trial = _key(True, 0.5), _key(False, 0.5)
    for version, keys in (("3", [on_trial]), ("3", [not_on_trial]), ("2", [on_trial]), ("2", [not_on_trial, on_trial])):
        reply = _infer(port, version, keys)
        assert (reply.status, reply.content["code"]) == (403, "version")
    assert loans.lines == []
    assert _infer(port, "2", [not_on_trial]).status == 200
    assert [line["arm"] for line in loans.lines] == ["champion"]


def test_rows_that_are_answered_by_two_releases_have_no_one_version(front: tuple[int, ServedLoans]) -> None:
    port, loans = front
    loans.route(share=0.5)
    keys = [_key(True, 0.5), _key(False, 0.5)]
    body = json.dumps(tensors(2) | {"parameters": {"keys": keys}}).encode()
    reply = send(port, raw_request(body, "/v2/models/loan/infer"))
    assert "model_version" not in reply.content
    assert "x-model-release" not in reply.headers
    releases: dict[str, Any] = {output["name"]: output["data"] for output in reply.content["outputs"]}
    assert releases["release"] == ["loan@3", "loan@2"]
    assert releases["role"] == ["challenger", "champion"]


def test_a_service_may_verify_a_release_that_was(front: tuple[int, ServedLoans]) -> None:
    port, loans = front
    loans.route(share=1.0)
    loans.lines.clear()
    for version in ("1", "2"):
        assert _infer(port, version, ["a"], SERVICE).content["model_version"] == f"loan@{version}"
    assert [(line["purpose"], line["arm"], line["role"]) for line in loans.lines] == [
        ("verification", None, "champion")
    ] * 2
    assert _get(port, "/v2/models/loan", SERVICE).content["versions"] == ["loan@2", "loan@1"]
    assert _get(port, "/v2/models/loan/versions/1/ready", SERVICE).status == 200
    assert _infer(port, "3", ["a"], SERVICE).status == 403  # a challenger answers only whom the split gives it


def test_where_the_baseline_is_in_charge_its_release_is_the_version(front: tuple[int, ServedLoans]) -> None:
    port, loans = front
    loans.route(champion=False)
    loans.lines.clear()
    assert _get(port, "/v2/models/loan").content["versions"] == ["loan@2"]
    for token in (CLIENT, SERVICE):
        assert _infer(port, "2", ["a"], token).content["model_version"] == "loan@2"
    assert [line["role"] for line in loans.lines] == ["baseline"] * 2


def test_a_release_whose_bundle_is_not_in_memory_cannot_be_verified(front: tuple[int, ServedLoans]) -> None:
    port, loans = front
    loans.route(previous_digest="sha256:" + "0" * 64)
    for reply in (_infer(port, "1", ["a"], SERVICE), _get(port, "/v2/models/loan/versions/1/ready", SERVICE)):
        assert (reply.status, reply.content["field"]) == (503, "version")
