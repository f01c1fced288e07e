"""Any sequence of facts: what the guards let pass never breaks the fold, and the promises of the design hold."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.errors import PlimsollError
from lineage.ledger import Ledger
from lineage.lifecycle import IN_FLIGHT, State
from lineage.policy import parse_policy
from lineage.state.fold import LedgerState
from tests.support.accounts import begin_era_3
from tests.support.random_history import SWITCH, next_draft

#: What gives a release traffic, which nothing gets while it is stopped.
GIVES_TRAFFIC = {"CanaryStarted", "CanaryStepped", "RolloutStepped", "ReleasePromoted"}


def promises(state: LedgerState, records: list[dict[str, Any]]) -> None:
    """What must be true whatever happened."""
    for model in state.models.values():
        mine = [release for release in state.releases.values() if release.model == model.model]
        flying = [release.release for release in mine if release.state in IN_FLIGHT]
        assert len(flying) <= 1
        assert flying == ([model.challenger] if model.challenger else [])
        for name in (model.champion, model.previous, model.challenger):
            assert name is None or state.releases[name].digest not in state.barred
        allowed = {0.0}
        if model.challenger:
            terms = parse_policy(state.releases[model.challenger].policy)
            allowed |= {*terms.canary.steps, *terms.rollout.steps}
        assert model.share in allowed
        assert bool(model.salt) == bool(model.challenger)
        if model.shadow:
            assert state.releases[model.shadow].state is State.REGISTERED
            assert model.challenger is None
            assert state.releases[model.shadow].digest not in state.barred
        assert (model.mode == "normal") == (model.champion is not None)
        if model.champion:
            champion_has_earned_it(state, model.champion, records)


def champion_has_earned_it(state: LedgerState, champion: str, records: list[dict[str, Any]]) -> None:
    release = state.releases[champion]
    mine = [record for record in records if record["release"] == champion]
    kinds = {record["kind"] for record in mine}
    assert {"CandidateValidated", "ReleaseRegistered", "CanaryStarted", "ReleasePromoted"} <= kinds
    golden = next(record for record in mine if record["kind"] == "ReleasePromoted")["data"]["golden"]
    assert golden["count"] == golden["matched"] > 0
    if parse_policy(release.policy).review.required:
        assert any(a.decision == "approve" and a.by_id != release.author_id for a in release.approvals)
    wanted = parse_policy(release.policy).validation.checks
    assert wanted
    assert all(release.checks[name].status == "pass" for name in wanted)


def stopped(records: list[dict[str, Any]]) -> dict[str | None, str]:
    """What is stopped and what answers there, told from the facts about the switch alone, by model (None: all).

    Only a request by one person and a confirmation by another let go; on the way each fact is checked.
    """
    pulled: dict[str | None, str] = {}
    asked: dict[str | None, str] = {}
    for record in records:
        name, kind, actor = record["model"], record["kind"], record["actor"]
        if kind in GIVES_TRAFFIC:
            assert name not in pulled, f"{kind} while {name} was stopped"
            assert None not in pulled, f"{kind} while all were stopped"
        if kind in SWITCH:
            assert actor["role"] in ("operator", "validator")
        if kind == "KillSwitchPulled":
            assert (pulled.get(name), record["data"]["answer"]) != ("nothing", "baseline")
            pulled[name] = record["data"]["answer"]
            asked.pop(name, None)
        elif kind == "KillReleaseRequested":
            assert name in pulled
            asked[name] = actor["name"]
        elif kind == "KillSwitchReleased":
            assert asked[name] != actor["name"]
            del pulled[name], asked[name]
    return pulled


def nobody_lets_go_but_two_people(state: LedgerState, records: list[dict[str, Any]]) -> None:
    told = {name: model.kill.answer for name, model in state.models.items() if model.kill}
    assert stopped(records) == told | ({None: state.kill.answer} if state.kill else {})


def traffic(state: LedgerState) -> dict[tuple[str, str], str | None]:
    roles = ("champion", "challenger")
    return {(name, role): getattr(model, role) for name, model in state.models.items() for role in roles}


def no_fact_about_one_release_takes_another_out_of_traffic(
    before: dict[tuple[str, str], str | None], state: LedgerState, record: dict[str, Any]
) -> None:
    for (model, role), release in before.items():
        if release is None or release == record["release"]:
            continue
        stays = [getattr(state.models[model], role)]
        if record["kind"] == "ReleasePromoted" and record["model"] == model and role == "champion":
            stays.append(state.models[model].previous)
        assert release in stays, f"{record['kind']} of {record['release']} took {release} out of traffic"


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_any_sequence_of_facts_keeps_every_promise(seed: int) -> None:
    random, nothing = Random(seed), mock.Mock(return_value=None)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(os, "fdatasync", nothing),
        mock.patch.object(os, "fsync", nothing),
    ):
        ledger = Ledger(Path(folder) / "log")
        turn = random.choice([0, 40, 120])  # some histories have releases of earlier eras that share their bytes
        for number in range(120):
            if number == turn:
                begin_era_3(ledger)
            before, answering = len(ledger.records), traffic(ledger.state)
            try:
                record = ledger.append(next_draft(random, ledger.state))
            except PlimsollError:
                assert len(ledger.records) == before
            else:
                if ledger.state.era >= 3:
                    no_fact_about_one_release_takes_another_out_of_traffic(answering, ledger.state, record)
            promises(ledger.state, ledger.records)
        nobody_lets_go_but_two_people(ledger.state, ledger.records)
        told, fold = list(ledger.records), ledger.state
        ledger.close()
        again = Ledger(Path(folder) / "log")
        assert again.records == told
        assert again.state == fold
        again.close()
