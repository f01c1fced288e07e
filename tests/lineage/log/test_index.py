"""The index: records by number and by subject, whether in memory or only on disk."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from lineage.ledger import Ledger
from lineage.log import index as module
from lineage.log.index import Records
from tests.support.sample_facts import CONTROLLER, FactWriter


@pytest.fixture
def told(writer: FactWriter, monkeypatch: pytest.MonkeyPatch) -> Records:
    """Two hundred records of three models, of which only the newest few are kept in memory."""
    monkeypatch.setattr(module, "_RECENT", 5)
    rng = random.Random(3)
    tellers = [writer, *(FactWriter(writer.ledger, name) for name in ("card-fraud", "fx-signal"))]
    for one in tellers:
        one.train()
    while len(writer.ledger.records) < 200:
        one = rng.choice(tellers)
        one.record(rng.choice(["AlertRaised", "DriftMeasured"]), None, CONTROLLER, None)
    return writer.ledger.records


def plain(records: Records, **wanted: Any) -> list[int]:
    """As one would look through all of them."""
    kinds, actor = wanted.pop("kinds", None), wanted.pop("actor", None)
    return [
        record["seq"]
        for record in records
        if (kinds is None or record["kind"] in kinds)
        and (actor is None or record["actor"]["name"] == actor)
        and all(record[name] == value for name, value in wanted.items())
    ]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"model": "card-fraud"},
        {"model": "card-fraud", "kinds": ["AlertRaised"]},
        {"kinds": ["AlertRaised", "ModelTrained"]},
        {"kinds": ["Nonsense"]},
        {"model": "nobody's"},
        {"actor": "trainer"},
        {"release": "fx-signal@1"},
        {"kinds": []},
    ],
    ids=str,
)
def test_a_page_is_what_looking_through_all_gives(wanted: dict[str, Any], told: Records) -> None:
    expected = plain(told, **wanted)
    page = told.find(**wanted)
    assert ([record["seq"] for record in page.records], page.total) == (expected, len(expected))
    newest = told.find(newest_first=True, offset=2, limit=3, **wanted)
    assert ([record["seq"] for record in newest.records], newest.total) == (expected[::-1][2:5], len(expected))
    between = told.find(after=50, upto=120, **wanted)
    assert [record["seq"] for record in between.records] == [seq for seq in expected if 50 < seq <= 120]


def test_records_are_a_sequence(told: Records) -> None:
    assert [record["seq"] for record in told] == list(range(1, 201))
    assert (told[0]["seq"], told[-1]["seq"], [r["seq"] for r in told[3:5]], told[300:]) == (1, 200, [4, 5], [])
    assert orjson.loads(told.line(7)) == told[6]
    for number in (200, -201):
        with pytest.raises(IndexError):
            told[number]
    with pytest.raises(IndexError):
        told.line(201)


def test_behind_the_end_there_is_nothing_to_find(told: Records) -> None:
    assert told.find(after=200).records == []
    assert told.find(after=10**12, kinds=["AlertRaised"]).total == 0


def test_what_was_found_before_growing_stays_right(ledger: Ledger) -> None:
    writer = FactWriter(ledger)
    writer.train()
    before = ledger.records.numbers(model=writer.model)
    for _ in range(1_100):  # beyond what the columns begin with
        writer.record("AlertRaised")
    assert list(before) == [0]
    assert ledger.records.find(model=writer.model).total == 1_101
