"""Replay of a decision: equal bit for bit whichever model answered, or the missing parts named."""

from __future__ import annotations

import asyncio
import math
import shutil
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from lineage.errors import TamperedError, UnavailableError
from lineage.settings import Settings
from serve.decision.answers import Request
from serve.models.bundle_store import BundleStore
from tests.support.bundles import features, folder_of
from tests.support.decider_bench import RISKY, Bench
from tests.support.gateway_parts import decider_of
from validators.replay import load_recorded, recompute, replay

Row = dict[str, Any]


@pytest.fixture(scope="module")
def _bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Settings(home=tmp_path_factory.mktemp("bench")))


@pytest.fixture
def bench(_bench: Bench) -> Bench:
    _bench.lines.clear()
    return _bench


@pytest.fixture
def own(_bench: Bench, tmp_path: Path) -> Settings:
    """The artefacts once more, for tests that harm them."""
    shutil.copytree(_bench.settings.root, tmp_path / "home")
    return Settings(home=tmp_path / "home")


def shown(line: Row, **subject: Any) -> Row:
    """A line of a spool as the ledger service shows it, after the way through JSON."""
    personal = {name: line[name] for name in ("key", "features", "reasons")} | {"standing": "readable"}
    view: Row = orjson.loads(orjson.dumps(line | {"subject": personal | subject}))
    for name in ("key", "features", "reasons"):
        del view[name]
    return view


def customers(number: int, seed: int = 5) -> list[Row]:
    draw = Random(seed)
    return [
        features(draw.gammavariate(2, 1), draw.gammavariate(1, 1) * draw.choice([1, 1e-300, 1e30]), draw.randrange(6))
        for _ in range(number)
    ]


WAYS: dict[str, Row] = {
    "champion": {},
    "challenger": {"share": 1.0},
    "baseline": {"champion": None},
    "both": {"share": 0.5},
}


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_every_decision_comes_out_again(bench: Bench, way: str, explain: bool) -> None:
    table = bench.table(**WAYS[way])
    for number, row in enumerate([RISKY, features(9.0, 0.0, 0), *customers(60)]):
        bench.ask(table, row, f"customer-{number}", explain=explain)
    results = [replay(shown(line), bench.settings) for line in bench.lines]
    assert [result.differences for result in results] == [[]] * 62
    assert {result.grade for result in results} == {"bit-identical"}
    assert all(result.ok and result.recorded == result.recomputed for result in results)
    roles = {line["role"] for line in bench.lines}
    assert roles == ({"champion", "challenger"} if way == "both" else {way})
    assert any(line["reasons"] for line in bench.lines)


def test_verification_and_a_stand_in_come_out_again(bench: Bench) -> None:
    async def fails(*asked: Any) -> Any:
        raise UnavailableError("the pool is gone")

    bench.ask(bench.table(share=1.0), RISKY, purpose="verification")
    honest, bench.pool.behave = bench.pool.behave, fails
    bench.ask(bench.table(share=1.0), RISKY)
    bench.pool.behave = honest
    assert [line["purpose"] for line in bench.lines] == ["verification", "customer"]
    assert bench.lines[1]["fallback"] == "challenger_failed"
    assert [replay(shown(line), bench.settings).grade for line in bench.lines] == ["bit-identical"] * 2


def test_the_baseline_that_stood_in_for_refused_bytes_comes_out_again(bench: Bench, own: Settings) -> None:
    model = folder_of(own, bench.first) / "model.ubj"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    store, lines = BundleStore(own), list[Row]()
    store.load([bench.first, bench.second])
    decider = decider_of(store, lines.append, bench.pool)
    asyncio.run(decider.decide(bench.table(previous=bench.second), "loan", Request(RISKY, "c1")))
    (line,) = lines
    assert (line["role"], line["fallback"], line["release"]) == ("baseline", "champion_refused", "loan@2")
    result = replay(shown(line), own)
    assert (result.grade, result.scorer) == ("bit-identical", "baseline")


def test_a_single_bit_is_seen_and_the_grade_is_honest(bench: Bench) -> None:
    bench.ask(bench.table(), RISKY)
    line = bench.lines[0]

    def graded(**changes: Any) -> tuple[str | None, int]:
        result = replay(shown(line | changes), bench.settings)
        return result.grade, len(result.differences)

    assert graded(score=math.nextafter(line["score"], 1.0)) == ("numerically equal", 1)
    assert graded(threshold=math.nextafter(line["threshold"], 1.0)) == ("numerically equal", 1)
    assert graded(score=line["score"] - 0.01) == ("decision-equal", 1)
    assert graded(reasons=line["reasons"][::-1]) == ("decision-equal", 1)
    assert graded(reasons=[]) == ("decision-equal", 1)
    assert graded(decision="approve") == ("different", 1)
    assert graded(adverse=False) == ("different", 1)
    assert graded(features=[9.0, 0.0, 0.0])[0] == "different"
    assert not replay(shown(line | {"decision": "approve"}), bench.settings).ok


def test_a_favourable_decision_without_reasons_is_given_none(bench: Bench) -> None:
    bench.ask(bench.table(), features(9.0, 0.0, 0))
    result = replay(shown(bench.lines[0]), bench.settings)
    assert result.recomputed is not None
    assert (result.grade, result.recomputed.reasons) == ("bit-identical", [])


@pytest.mark.parametrize(
    ("subject", "what"),
    [
        ({"standing": "erased", "erased": {"at": "x", "record": 41}}, "key"),
        ({"standing": "erased", "erased": None}, "key"),
        ({"standing": "missing"}, "key"),
        ({"standing": "withheld", "why": "role scientist may not see it"}, "role"),
    ],
)
def test_without_the_persons_part_there_is_no_grade(bench: Bench, subject: Row, what: str) -> None:
    bench.ask(bench.table(), RISKY)
    gone = {"features": None, "reasons": None, "key": None} | subject
    result = replay(shown(bench.lines[0], **gone), bench.settings)
    assert (result.grade, result.ok) == (None, False)
    assert [one["what"] for one in result.missing] == [what]
    if (subject.get("erased") or {}).get("record"):
        assert "record 41" in result.missing[0]["why"]


@pytest.mark.parametrize("harm", ["gone", "byte", "added", "unsigned"])
def test_a_bundle_that_is_not_the_one_is_never_parsed(bench: Bench, own: Settings, harm: str) -> None:
    bench.ask(bench.table(), RISKY)
    folder = folder_of(own, bench.first)
    if harm == "gone":
        shutil.rmtree(folder)
    elif harm == "byte":
        (folder / "model.ubj").write_bytes(b"not a model")
    elif harm == "added":
        (folder / "more").write_text("more")
    else:
        folder.with_name(folder.name + ".sig").unlink()
    result = replay(shown(bench.lines[0], standing="erased", erased=None), own)
    expected = {"gone": "bundle", "byte": "digest", "added": "digest", "unsigned": "signature"}[harm]
    assert [one["what"] for one in result.missing] == ["key", expected]
    assert result.grade is None
    kind = UnavailableError if harm == "gone" else TamperedError
    with pytest.raises(kind):
        load_recorded(bench.first.digest, own)


def test_a_record_of_another_width_is_told(bench: Bench) -> None:
    bench.ask(bench.table(), RISKY)
    bundle = load_recorded(bench.first.digest, bench.settings)
    with pytest.raises(TamperedError, match="2 features"):
        recompute(shown(bench.lines[0], features=[1.0, 2.0]), bundle)


def test_a_replay_says_all_of_it_as_json(bench: Bench) -> None:
    bench.ask(bench.table(), RISKY)
    told = orjson.loads(orjson.dumps(replay(shown(bench.lines[0]), bench.settings).to_dict()))
    assert told["ok"] is True
    assert float.fromhex(told["recorded"]["score"]) == bench.lines[0]["score"]
    assert told["digest"] == bench.first.digest
