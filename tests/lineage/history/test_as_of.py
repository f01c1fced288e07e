"""As-of answers equal those of the fold stopped at that record, for every record of any history."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lineage.clock import instant
from lineage.errors import InvalidError, PlimsollError, UnknownError
from lineage.facts.registry import FACTS, subject_of
from lineage.history.as_of import BARRING, DECIDING, answering, moment
from lineage.ledger import Ledger
from lineage.lifecycle import State
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.service.history import deciding_records, same_bytes_elsewhere
from lineage.settings import Settings
from lineage.state.fold import LedgerState
from tests.support.ledger_service import open_service
from tests.support.random_history import next_draft
from tests.support.sample_facts import (
    CONTROLLER,
    MODEL,
    OPERATOR,
    POLICY,
    VALIDATOR,
    FactWriter,
    ManualClock,
    digest,
    sample,
)

Record = dict[str, Any]
FIRST, SECOND = f"{MODEL}@1", f"{MODEL}@2"


class Spaced:
    """A writer whose facts lie a minute apart."""

    def __init__(self, writer: FactWriter, clock: ManualClock) -> None:
        self.writer, self.clock = writer, clock
        writer.record = self._later(writer.record)  # type: ignore[method-assign]

    def _later(self, say: Any) -> Any:
        def later(*words: Any, **changes: Any) -> Record:
            self.clock.later(minutes=1)
            record: Record = say(*words, **changes)
            return record

        return later


@pytest.fixture
def spaced(writer: FactWriter, clock: ManualClock) -> FactWriter:
    return Spaced(writer, clock).writer


def routed(writer: FactWriter, **changes: Any) -> Record:
    """The routes as the fold asks for them, acknowledged by every replica."""
    view = writer.ledger.state.models[MODEL]
    told = {"version": writer.ledger.state.seq, "champion": view.champion, "share": view.share}
    told["challenger"] = view.challenger if view.share > 0 else None
    return writer.record("RouteApplied", **(told | changes))


def last(writer: FactWriter, kind: str) -> Record:
    found: Record = writer.ledger.records.find(kinds=[kind], newest_first=True, limit=1).records[0]
    return found


def test_it_tells_who_answered_with_what_and_who_put_it_there(spaced: FactWriter) -> None:
    release = spaced.champion()
    applied = routed(spaced)
    answer = answering(spaced.ledger.records, MODEL, instant(applied["at"]))
    decided = answer["decided"]
    assert (decided["mode"], decided["release"], decided["digest"]) == ("normal", release, digest(MODEL, 1))
    assert (decided["threshold"], decided["policy"]) == (0.31, POLICY)
    assert decided["policy_digest"] == digest("policy")
    assert decided["by"] == {
        "seq": last(spaced, "ReleasePromoted")["seq"],
        "at": last(spaced, "ReleasePromoted")["at"],
        "kind": "ReleasePromoted",
        "by": "controller",
        "role": "service",
        "reason": "because",
    }
    people = [(step["did"], step["by"]) for step in decided["people"]]
    assert people == [
        ("canary_started", "operator"),
        ("share_raised", "controller"),
        ("approved", "validator"),
        ("rollout_started", "operator"),
        ("share_raised", "controller"),
        ("promoted", "controller"),
    ]
    acknowledged = answer["acknowledged"]
    assert (acknowledged["seq"], acknowledged["champion"]) == (applied["seq"], release)
    assert (acknowledged["version"], acknowledged["in_step"]) == (applied["seq"] - 1, True)
    assert answer["asked"] == {"at": applied["at"]}


def test_a_moment_earlier_somebody_else_answered(spaced: FactWriter) -> None:
    spaced.champion()
    promoted = last(spaced, "ReleasePromoted")
    before = answering(spaced.ledger.records, MODEL, instant(promoted["at"]) - timedelta(microseconds=1))["decided"]
    assert (before["mode"], before["release"], before["baseline_of"]) == ("baseline", None, FIRST)
    assert (before["digest"], before["threshold"]) == (digest(MODEL, 1), None), "a baseline has a cut-off of its own"
    challenger = before["challenger"]
    assert (challenger["release"], challenger["share"], challenger["threshold"]) == (FIRST, 1.0, 0.31)
    assert challenger["state"] == "rollout"
    assert challenger["by"]["kind"] == "RolloutStepped"
    after = answering(spaced.ledger.records, MODEL, instant(promoted["at"]))["decided"]
    assert (after["release"], after["challenger"]) == (FIRST, None)


def test_what_was_decided_is_told_apart_from_what_was_acknowledged(spaced: FactWriter) -> None:
    spaced.champion()
    first = routed(spaced)
    spaced.canary(spaced.register())
    started = last(spaced, "CanaryStarted")
    between = answering(spaced.ledger.records, MODEL, instant(started["at"]))
    assert between["decided"]["challenger"]["share"] == 0.1
    assert (between["acknowledged"]["seq"], between["acknowledged"]["in_step"]) == (first["seq"], False)
    second = routed(spaced)
    after = answering(spaced.ledger.records, MODEL, instant(second["at"]))["acknowledged"]
    assert (after["challenger"], after["share"], after["in_step"]) == (SECOND, 0.1, True)
    assert answering(spaced.ledger.records, MODEL, seq=1)["acknowledged"] is None


def test_after_a_rollback_the_order_is_what_decided(spaced: FactWriter) -> None:
    spaced.champion()
    second = spaced.champion()
    order = spaced.record("RollbackOrdered", second, OPERATOR, "too many wrong decisions", to=FIRST)
    decided = answering(spaced.ledger.records, MODEL, seq=order["seq"])["decided"]
    assert decided["release"] == FIRST
    assert (decided["by"]["seq"], decided["by"]["by"]) == (order["seq"], "operator")
    assert decided["by"]["reason"] == "too many wrong decisions"
    spaced.record("ReleaseRolledBack", second, to=FIRST)
    reinstated = spaced.record("ChampionReinstated", FIRST)
    people = answering(spaced.ledger.records, MODEL, seq=reinstated["seq"])["decided"]["people"]
    assert (people[-1]["did"], people[-1]["seq"]) == ("reinstated", reinstated["seq"])
    order = spaced.record("RollbackOrdered", FIRST, OPERATOR, to="baseline")
    last_of_all = answering(spaced.ledger.records, MODEL, seq=order["seq"])["decided"]
    assert (last_of_all["mode"], last_of_all["by"]["seq"]) == ("baseline", order["seq"])


def test_records_of_one_instant_belong_together(writer: FactWriter) -> None:
    writer.champion()  # the clock stands still
    at = instant(writer.ledger.records[0]["at"])
    assert answering(writer.ledger.records, MODEL, at)["decided"]["release"] == FIRST
    assert answering(writer.ledger.records, MODEL, seq=1)["decided"]["release"] is None


def test_bytes_that_failed_elsewhere_answer_no_longer_here(spaced: FactWriter) -> None:
    spaced.champion()
    other = FactWriter(spaced.ledger, "other")
    same = other.train(digest=digest(MODEL, 1))
    other.check(same, "fail")
    other.record("CandidateRejected", same)
    registered = spaced.register()  # the first fact after which the model is looked at again
    told = last(spaced, "ReleaseRegistered")
    assert told["release"] == registered
    fold = spaced.ledger.state.models[MODEL]
    decided = answering(spaced.ledger.records, MODEL, seq=told["seq"])["decided"]
    assert fold.champion is None
    assert (decided["release"], decided["mode"]) == (None, "baseline")


@pytest.mark.parametrize("state", list(State))
def test_it_answers_in_every_state_of_a_release(state: State, writer: FactWriter) -> None:
    writer.bring(state)
    view = writer.ledger.state.models[MODEL]
    decided = answering(writer.ledger.records, MODEL, seq=len(writer.ledger.records))["decided"]
    assert (decided["release"], decided["mode"]) == (view.champion, view.mode)
    assert (decided["challenger"] or {}).get("release") == view.challenger


# What cannot be answered


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("yesterday", "no instant"),
        ("2026-03-04", "without a zone"),
        ("2026-03-04T10:02:00", "without a zone"),
        ("2026-03-04T10:02:00 01:00", "%2B"),
        ("", "no instant"),
        ("2026-13-04T10:02:00Z", "no instant"),
    ],
)
def test_what_is_no_instant_is_told(text: str, says: str) -> None:
    with pytest.raises(InvalidError) as caught:
        moment(text)
    assert says in caught.value.message
    assert caught.value.field == "at"


@pytest.mark.parametrize(
    "text", ["2026-03-04T10:02Z", "2026-03-04T10:02:00Z", "2026-03-04T11:02:00.000+01:00", "2026-03-04 10:02:00+00:00"]
)
def test_an_instant_may_be_written_in_several_ways(text: str) -> None:
    assert moment(text) == datetime.fromisoformat("2026-03-04T10:02:00+00:00")


def test_what_nobody_can_know_is_refused(spaced: FactWriter, clock: ManualClock) -> None:
    FactWriter(spaced.ledger, "other").train()
    began = clock()
    spaced.champion()
    records = spaced.ledger.records
    with pytest.raises(UnknownError) as unknown:
        answering(records, "nobody", clock())
    assert unknown.value.field == "model"
    with pytest.raises(InvalidError) as early:
        answering(records, MODEL, began)
    assert "its first record is 2, at 2026-11-23T10:01:00" in early.value.message
    with pytest.raises(InvalidError) as also_early:
        answering(records, MODEL, seq=1)
    assert "its first record is 2" in also_early.value.message
    with pytest.raises(InvalidError) as future:
        answering(records, MODEL, clock() + timedelta(microseconds=1), now=clock())
    assert "future" in future.value.message
    with pytest.raises(InvalidError) as zone:
        answering(records, MODEL, datetime(2026, 11, 23, 12))
    assert "zone" in zone.value.message
    for both in ({}, {"instant": clock(), "seq": 1}, {"seq": 0}):
        with pytest.raises(InvalidError):
            answering(records, MODEL, **both)
    assert answering(records, MODEL, clock(), now=clock())["decided"]["release"] == FIRST


# Stops


def stop(spaced: FactWriter, kind: str, actor: Actor, model: str | None = MODEL, **data: Any) -> Record:
    spaced.record("AlertRaised")  # a minute passes
    return spaced.ledger.append(Draft(kind, actor, data, model, None, "scores look wrong"))


def let_go(spaced: FactWriter, pulled: Record) -> Record:
    asked = stop(spaced, "KillReleaseRequested", VALIDATOR, pulled["model"], pulled=pulled["seq"])
    numbers = {"pulled": pulled["seq"], "requested": asked["seq"]}
    return stop(spaced, "KillSwitchReleased", OPERATOR, pulled["model"], **numbers)


@pytest.mark.parametrize("model", [MODEL, None])
def test_while_a_person_has_stopped_it_the_baseline_answers(spaced: FactWriter, model: str | None) -> None:
    release = spaced.champion()
    trial = spaced.canary(spaced.register())
    pulled = stop(spaced, "KillSwitchPulled", VALIDATOR, model, answer="baseline")
    freed = let_go(spaced, pulled)
    records = spaced.ledger.records
    told = answering(records, MODEL, seq=freed["seq"] - 1)["decided"]
    assert (told["mode"], told["killed"], told["release"]) == ("killed", "baseline", None)
    assert (told["baseline_of"], told["digest"]) == (release, digest(MODEL, 1))
    assert (told["challenger"], told["threshold"], told["people"]) == (None, None, [])
    assert (told["by"]["by"], told["by"]["reason"]) == ("validator", "scores look wrong")
    assert [(kill["of"], kill["since"]) for kill in told["kills"]] == [(model, pulled["at"])]
    for around in (pulled["seq"] - 1, freed["seq"]):
        told = answering(records, MODEL, seq=around)["decided"]
        assert (told["mode"], told["killed"], told["kills"]) == ("normal", "", [])
        assert (told["release"], told["challenger"]["release"]) == (release, trial)
        assert told["by"]["kind"] == "ReleasePromoted", "who put it there, not who let it go"


def test_where_nothing_is_answered_nobody_is_named(spaced: FactWriter) -> None:
    spaced.champion()
    stop(spaced, "KillSwitchPulled", OPERATOR, None, answer="baseline")
    one = stop(spaced, "KillSwitchPulled", OPERATOR, answer="nothing")
    told = answering(spaced.ledger.records, MODEL, seq=one["seq"])["decided"]
    nobody = (told["killed"], told["release"], told["baseline_of"], told["digest"], told["policy"])
    assert nobody == ("nothing", None, None, None, None)
    assert told["by"]["seq"] == one["seq"]
    freed = let_go(spaced, one)
    told = answering(spaced.ledger.records, MODEL, seq=freed["seq"])["decided"]
    assert (told["killed"], told["baseline_of"], told["by"]["kind"]) == ("baseline", FIRST, "KillSwitchReleased")


def test_a_route_is_in_step_when_it_is_stopped_too(spaced: FactWriter) -> None:
    spaced.champion()
    stop(spaced, "KillSwitchPulled", OPERATOR, answer="baseline")
    for said, in_step in (("", False), ("nothing", False), ("baseline", True)):
        applied = routed(spaced, killed=said)
        told = answering(spaced.ledger.records, MODEL, seq=applied["seq"])["acknowledged"]
        assert (told["killed"], told["in_step"]) == (said, in_step)


def test_it_tells_on_which_replicas_a_breaker_was_open(spaced: FactWriter) -> None:
    spaced.champion()
    spaced.record("BreakerOpened")
    opened = spaced.record("BreakerOpened", replica="other", cause="slow")
    spaced.record("BreakerClosed")
    told = answering(spaced.ledger.records, MODEL, seq=opened["seq"])["decided"]
    assert (told["mode"], told["release"]) == ("normal", FIRST), "on other replicas it answers"
    assert [(one["replica"], one["cause"]) for one in told["breakers"]] == [
        ("a1b2c3", "constant_scores"),
        ("other", "slow"),
    ]
    told = answering(spaced.ledger.records, MODEL, seq=opened["seq"] + 1)["decided"]
    assert [one["replica"] for one in told["breakers"]] == ["other"]


# Any history


def told_by_the_fold(records: list[Record], model: str) -> dict[str, Any] | None:
    """The same answer, from the whole fold of all records."""
    fold = LedgerState()
    applied = None
    for record in records:
        fold.apply(record)
        if record["kind"] == "RouteApplied" and record["model"] == model:
            applied = record["seq"]
    view = fold.models.get(model)
    if view is None:
        return None
    answers = [kill.answer for kill in (fold.kill, view.kill) if kill]
    killed = "nothing" if "nothing" in answers else "baseline" if answers else ""
    release = fold.releases.get(view.champion or "") if not killed else None
    trial = fold.releases.get(view.challenger or "") if not killed else None
    baseline = fold.releases.get(view.baseline_from or "") if killed != "nothing" else None
    return {
        "release": release.release if release else None,
        "mode": "killed" if killed else view.mode,
        "killed": killed,
        "kills": len(answers),
        "breakers": {name: said.seq for name, said in view.breakers.items()},
        "baseline_of": baseline.release if baseline and release is None else None,
        "digest": getattr(release or baseline, "digest", None),
        "threshold": release.threshold if release else None,
        "challenger": (trial.release, view.share, trial.digest, trial.threshold, str(trial.state)) if trial else None,
        "acknowledged": applied,
    }


def told_by_the_answer(answer: dict[str, Any]) -> dict[str, Any]:
    decided, trial = answer["decided"], answer["decided"]["challenger"]
    names = ("release", "share", "digest", "threshold", "state")
    told = {name: decided[name] for name in ("release", "mode", "killed", "baseline_of", "digest", "threshold")}
    told |= {"kills": len(decided["kills"]), "breakers": {one["replica"]: one["seq"] for one in decided["breakers"]}}
    told["challenger"] = tuple(trial[name] for name in names) if trial else None
    return told | {"acknowledged": (answer["acknowledged"] or {}).get("seq")}


def random_history(ledger: Ledger, clock: ManualClock, random: Random, count: int) -> None:
    """Facts of two models, legal ones only, some at the same instant."""
    for _ in range(count):
        clock.later(seconds=random.choice([0, 0, 1, 60]))
        draft = next_draft(random, ledger.state)
        if random.random() < 0.1 and ledger.state.models:
            model = random.choice(list(ledger.state.models))
            draft = Draft("RouteApplied", CONTROLLER, sample("RouteApplied"), model)
        try:
            ledger.append(draft)
        except PlimsollError:
            continue


@hypothesis_settings(max_examples=12)
@given(seed=st.integers(0, 2**32))
def test_at_every_record_of_any_history_it_is_what_the_fold_says(seed: int) -> None:
    nothing = mock.Mock(return_value=None)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(os, "fdatasync", nothing),
        mock.patch.object(os, "fsync", nothing),
    ):
        clock = ManualClock()
        ledger = Ledger(Path(folder) / "log", clock=clock)
        random_history(ledger, clock, Random(seed), 90)
        records = ledger.records[:]
        for number in range(1, len(records) + 1):
            at = records[number - 1]["at"]
            until = [record for record in records if record["at"] <= at]
            for model in ("one", "two"):
                few = deciding_records(ledger.records, model, len(records), same_bytes_elsewhere(ledger.state, model))
                for here, prefix in (({"seq": number}, records[:number]), ({"instant": instant(at)}, until)):
                    expected = told_by_the_fold(prefix, model)
                    if expected is None:
                        with pytest.raises((InvalidError, UnknownError)):
                            answering(records, model, **here)
                        continue
                    whole = answering(records, model, **here)
                    assert told_by_the_answer(whole) == expected
                    assert answering(few, model, **here) == whole, "few records suffice"
                    check_who(whole, prefix)
        ledger.close()


def check_who(answer: dict[str, Any], prefix: list[Record]) -> None:
    """Whoever is named put on record what is said; without that record somebody else would answer."""
    by, share_by = answer["decided"]["by"], (answer["decided"]["challenger"] or {}).get("by")
    for who in filter(None, (by, share_by)):
        record = prefix[who["seq"] - 1]
        assert (record["kind"], record["actor"]["name"], record["at"]) == (who["kind"], who["by"], who["at"])
        without = told_by_the_fold(prefix[: who["seq"] - 1], answer["model"])
        told = told_by_the_fold(prefix[: who["seq"]], answer["model"])
        if told is None:  # all models were stopped before this one was known
            assert (record["model"], record["kind"]) == (None, "KillSwitchPulled")
            continue
        assert without != told or told["killed"], "what was decided under a stop shows when it ends"
    for step in answer["decided"]["people"]:
        assert prefix[step["seq"] - 1]["release"] == answer["decided"]["release"]


def test_what_decides_is_all_that_moves_a_release() -> None:
    about = {kind for kind in FACTS if subject_of(kind) == "release"}
    shadow = {"ShadowStarted", "ShadowStopped"}
    assert about - set(DECIDING) == {"CheckCompleted", "CanaryHeld"} | shadow, "they move nothing"
    assert set(BARRING) < set(DECIDING)


# Over HTTP


def test_the_service_answers(settings: Settings, clock: ManualClock) -> None:
    with open_service(settings, clock) as service:
        path = f"models/{MODEL}/asof"
        began = clock()
        clock.later(minutes=1)
        service.writer.champion()
        head = len(service.context.ledger.records)
        answer = service.get(f"{path}?at=2026-11-23T10:01Z")
        assert answer.status_code == 200, answer.text
        assert answer.json() == answering(service.context.ledger.records, MODEL, clock())
        assert answer.json()["decided"]["release"] == FIRST
        assert service.get(f"{path}?seq={head - 1}").json()["decided"]["release"] is None
        assert service.get(f"{path}?at=2026-11-23T11:01:00%2B01:00").json()["decided"]["release"] == FIRST
        clock.later(minutes=50)
        assert service.get(f"{path}?at=2026-11-23T10:30:00Z").json()["decided"]["release"] == FIRST
        for query, status, field in (
            ("", 422, "at"),
            ("?at=2026-11-23T10:01Z&seq=1", 422, "at"),
            ("?at=2026-11-23T10:01", 422, "at"),
            ("?at=yesterday", 422, "at"),
            ("?at=2026-11-23T11:01:00+01:00", 422, "at"),
            ("?at=2026-11-23T11:01:01Z", 422, "at"),
            (f"?at={began:%Y-%m-%dT%H:%M:%S}Z", 422, "at"),
            ("?seq=1", 422, "seq"),
            ("?seq=0", 422, "seq"),
            (f"?seq={head + 9}", 404, "seq"),
        ):
            told = service.get(path + query)
            assert (told.status_code, told.json()["field"]) == (status, field), (query, told.text)
        assert service.get("models/nobody/asof?seq=1").status_code == 404
        assert service.get(f"{path}?seq=1", who="client").status_code == 403
        assert service.http.get(f"/v1/{path}?seq=1").status_code == 401
