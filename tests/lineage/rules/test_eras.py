"""Eras: what is on record is parsed and judged by the rules in force when it was written."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from lineage.errors import InvalidError, RefusedError
from lineage.facts.eras import EARLIER, LATEST, upcast
from lineage.facts.registry import FACTS, parse_fact, shape_of
from lineage.ledger import Ledger
from lineage.log.signing_key import signer_at
from lineage.rules.draft import Draft
from lineage.rules.eras import RULES, activation, rulebook_digest, rules_of
from lineage.service.context import PLATFORM_ACTOR, Context
from lineage.settings import Settings
from lineage.verify import verify_ledger
from tests.support.accounts import begin_era_3
from tests.support.earlier_versions import VERSIONS
from tests.support.sample_facts import CONTROLLER, MODEL, SAMPLES, FactWriter, ManualClock, sample

#: What each era of a released version allows. A difference means that a rule was changed without a new era.
DIGESTS = {
    1: "sha256:1b6fd2a85ceff9d2f34982225303e39c048442963a02349181422ba597c23db2",
    2: "sha256:9b435244475dc28ee7e815a3ec8db7a36de4286c4a7882bd661bd815043fbccc",
}


def activate(ledger: Ledger) -> None:
    begin_era_3(ledger)


@pytest.mark.parametrize("era", DIGESTS)
def test_the_rules_of_an_era_are_those_that_were_released(era: int) -> None:
    assert rulebook_digest(era) == DIGESTS[era]


def test_every_era_has_its_rules_and_the_last_one_is_in_force() -> None:
    released = [era for era in range(1, LATEST + 1) if era != LATEST or version("plimsoll") in VERSIONS]
    assert list(DIGESTS) == released, "an era of a released version has its digest here"
    assert rules_of(LATEST) is RULES


def test_a_kind_is_refused_before_its_era_and_taken_in_it(writer: FactWriter) -> None:
    writer.train()
    writer.record("AlertRaised", alert="mlflow_aliases", about=None)
    with pytest.raises(InvalidError, match="exists since era 2") as caught:
        writer.record("AlertClosed")
    assert caught.value.field == "kind"
    activate(writer.ledger)
    writer.record("AlertClosed")
    assert writer.ledger.state.models[MODEL].alerts == []


def test_a_field_of_a_later_era_is_refused_in_an_earlier_one(writer: FactWriter) -> None:
    with pytest.raises(InvalidError, match="release"):
        writer.ledger.append(Draft("AlertRaised", CONTROLLER, sample("AlertRaised"), MODEL))


@pytest.mark.parametrize("kind", EARLIER)
def test_earlier_data_is_read_in_the_present_shape_and_stays_as_stored(kind: str) -> None:
    for earlier in EARLIER[kind]:
        fields = {field.alias or name for name, field in shape_of(kind, earlier.until).model_fields.items()}
        stored = parse_fact(kind, {name: SAMPLES[kind][name] for name in fields}, earlier.until)
        before = dict(stored)
        assert parse_fact(kind, upcast(kind, stored, earlier.until)) == upcast(kind, stored, earlier.until)
        assert stored == before


def test_an_era_begins_after_the_one_before_and_only_by_the_ledger(writer: FactWriter) -> None:
    for era in (1, LATEST + 2):
        with pytest.raises((InvalidError, RefusedError)):
            writer.ledger.append(Draft("RulesActivated", PLATFORM_ACTOR, activation(2) | {"era": era}))
    with pytest.raises(RefusedError) as caught:
        writer.ledger.append(Draft("RulesActivated", CONTROLLER, activation(2)))
    assert (caught.value.status, caught.value.code) == (403, "role")
    assert writer.ledger.state.era == 1


def test_a_service_activates_the_latest_rules_once(settings: Settings, quick: None) -> None:
    for _ in range(2):
        context = Context(settings, clock=ManualClock())
        assert context.ledger.state.era == LATEST
        context.close()
    ledger = Ledger(settings.log_folder, clock=ManualClock(), signer=signer_at(settings.log_key))
    activated = ledger.records.find(kinds=["RulesActivated"]).records
    assert [record["data"]["era"] for record in activated] == list(range(2, LATEST + 1))
    assert activated[-1]["data"]["digest"] == rulebook_digest(LATEST)
    ledger.close()


def test_a_log_over_two_eras_verifies_as_a_whole(settings: Settings, quick: None) -> None:
    ledger = Ledger(settings.log_folder, clock=ManualClock(), signer=signer_at(settings.log_key))
    writer = FactWriter(ledger)
    writer.train()
    writer.record("AlertRaised", alert="mlflow_aliases", about=None)
    activate(ledger)
    writer.record("AlertClosed")
    writer.record("AlertRaised")
    ledger.close()
    assert verify_ledger(settings).problems == []


def test_rules_of_a_later_version_are_refused_with_what_to_do(settings: Settings, quick: None) -> None:
    ledger = Ledger(settings.log_folder, clock=ManualClock(), signer=signer_at(settings.log_key))
    activate(ledger)
    later = activation(LATEST) | {"era": LATEST + 1, "software": "plimsoll 99.0"}
    record = ledger._log.append(
        {
            "at": "2026-11-23T10:00:00.000000Z",
            "kind": "RulesActivated",
            "model": None,
            "release": None,
            "actor": {"name": "ledger", "role": "platform"},
            "reason": None,
            "data": later,
            "key": None,
        }
    )
    ledger.close()
    with pytest.raises(RefusedError, match="Run the version that wrote it") as caught:
        Ledger(settings.log_folder, clock=ManualClock(), signer=signer_at(settings.log_key))
    assert caught.value.code == "newer_rules"
    assert verify_ledger(settings).problems[0]["record"] == record["seq"]


def test_kinds_name_an_era_that_exists() -> None:
    assert {fact.introduced for fact in FACTS.values()} <= set(range(1, LATEST + 1))


def test_a_policy_that_an_earlier_era_accepted_goes_on_to_verify(settings: Settings, quick: None) -> None:
    ledger = Ledger(settings.log_folder, clock=ManualClock(), signer=signer_at(settings.log_key))
    writer = FactWriter(ledger)
    writer.policy = writer.policy | {"records": {"retention_days": "25 months"}, "serving": {"cache": "yes"}}
    release = writer.champion()
    activate(ledger)
    with pytest.raises(InvalidError, match=r"policy\.serving\.cache|policy\.records"):
        writer.train()
    assert ledger.state.models[MODEL].champion == release
    ledger.close()
    problems = [one for one in verify_ledger(settings).problems if "bundle" not in one["problem"]]
    assert [one for one in problems if "no folder" not in one["problem"]] == []
