"""Segments that are not there: refused when they are stated, named when they are wanted, and nothing else stops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lineage.digest import digest_bytes
from lineage.settings import Settings
from lineage.verify import verify_ledger
from tests.support.decision_archive import Archive, open_archive
from tests.support.sample_facts import MODEL, ManualClock, sample

Json = dict[str, Any]
PERSON = "customer-1"


@pytest.fixture
def archive(settings: Settings, clock: ManualClock) -> Iterator[Archive]:
    with open_archive(settings, clock) as archive:
        yield archive


def state(archive: Archive, status: int, who: str = "controller", model: str = MODEL, **changes: Any) -> Json:
    body = {"kind": "DecisionsSealed", "model": model, "data": sample("DecisionsSealed", **changes)}
    answer = archive.service.http.post("/v1/facts", json=body, headers=archive.service.headers(who))
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


def rows_of(archive: Archive) -> Json:
    headers = archive.service.headers("auditor") | {"X-Reason": "to look for gaps"}
    found: Json = archive.service.http.get("/v1/query/decisions", headers=headers).json()
    return found


def put(archive: Archive, name: str = "own", **columns: Any) -> tuple[Path, Json]:
    path = archive.settings.decisions / MODEL / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {one: ["x"] for one in ("type", "decision_id", "at", "model")} | columns
    pl.DataFrame(rows).write_parquet(path)
    uri = f"decisions/{MODEL}/{name}.parquet"
    return path, {"segment": name, "uri": uri, "digest": digest_bytes(path.read_bytes())}


def test_a_segment_that_is_not_there_is_not_recorded_and_decisions_are_answered_on(archive: Archive) -> None:
    archive.decide(1)
    archive.seal()
    for who in ("controller", "trainer"):
        refused = state(archive, 409, who, segment="ghost", uri=f"decisions/{MODEL}/ghost.parquet")
        assert (refused["code"], "ghost" in refused["error"]) == ("segment", True)
    assert archive.service.context.ledger.records[-1]["kind"] == "ActionRefused"
    answer = rows_of(archive)
    assert ([row["decision_id"] for row in answer["rows"]], answer["missing_segments"]) == (["d1"], [])


def test_what_is_stated_has_to_be_there_with_that_digest_and_as_a_segment(archive: Archive) -> None:
    path, named = put(archive)
    state(archive, 409, **(named | {"digest": digest_bytes(b"")}))
    path.write_bytes(b"PAR1 rows PAR1")
    state(archive, 409, **(named | {"digest": digest_bytes(path.read_bytes())}))
    _, named = put(archive, score=["high"])
    state(archive, 409, **named)
    _, named = put(archive)
    assert state(archive, 201, **named)["data"]["segment"] == "own"
    assert state(archive, 409, **named)["code"] == "segment", "a name is used once"


@pytest.mark.parametrize(
    ("segment", "uri"),
    [
        ("own", "decisions/other/own.parquet"),
        ("own", f"decisions/{MODEL}/../{MODEL}/own.parquet"),
        ("own", "/etc/passwd"),
        ("own", "file:///etc/passwd"),
        ("own", "https://127.0.0.1/own.parquet"),
        ("../own", f"decisions/{MODEL}/../own.parquet"),
        ("", f"decisions/{MODEL}/.parquet"),
        ("other", f"decisions/{MODEL}/own.parquet"),
    ],
)
def test_a_segment_lies_in_the_folder_of_its_model_under_its_name(archive: Archive, segment: str, uri: str) -> None:
    _, named = put(archive)
    assert state(archive, 409, **(named | {"segment": segment, "uri": uri}))["code"] == "segment"


def test_a_segment_that_is_lost_is_named_everywhere_and_stops_nothing(archive: Archive, clock: ManualClock) -> None:
    archive.decide(1)
    (lost,) = archive.seal()
    clock.later(seconds=1)
    archive.decide(2)
    archive.seal()
    clock.later(seconds=1)
    assert archive.history(PERSON) == ["d1"]
    (archive.settings.root / lost["data"]["uri"]).unlink()
    answer = rows_of(archive)
    assert [row["decision_id"] for row in answer["rows"]] == ["d2"]
    told = {"record": lost["seq"], "model": MODEL, "segment": lost["data"]["segment"]}
    (missing,) = answer["missing_segments"]
    assert missing.items() >= told.items()
    assert archive.show("d2")["missing_segments"] == []
    assert archive.show("d1", status=503)["field"] == "segment"
    told_of_person = archive.ask("history", PERSON, "auditor", 200)
    assert told_of_person["decisions"] == []
    assert told_of_person["missing_segments"][0].items() >= told.items()
    assert archive.service.get("query/releases").json()["rows"]
    assert archive.service.http.get("/healthz").json()["missing_segments"] == 1
    assert "plimsoll_ledger_missing_segments 1.0" in archive.service.http.get("/metrics").text
    problems = verify_ledger(archive.settings).problems
    assert [one["problem"] for one in problems if one["record"] == lost["seq"]] == [missing["problem"]]


def test_nobody_is_erased_while_a_segment_that_must_be_kept_cannot_be_read(
    archive: Archive, clock: ManualClock
) -> None:
    archive.decide(1)
    archive.seal()
    archive.later(days=700)
    archive.decide(2)
    (lost,) = archive.seal()
    archive.later(days=100)
    path = archive.settings.root / lost["data"]["uri"]
    away = path.rename(path.with_suffix(".away"))
    wanted = {"reason": "asked for in writing", "identity_verified": True}
    told = archive.ask("erase", PERSON, "operator", 503, **wanted)
    assert lost["data"]["segment"] in told["error"]
    away.rename(path)
    archive.ask("erase", PERSON, "operator", 201, **wanted)
