"""Open alerts: each with its subject, and closed by evidence about that subject alone."""

from __future__ import annotations

import pytest

from lineage.errors import RefusedError
from lineage.facts.eras import LATEST
from lineage.lifecycle import State
from tests.support.sample_facts import MODEL, OPERATOR, Teller

FIRST, SECOND = f"{MODEL}@1", f"{MODEL}@2"


@pytest.fixture
def champion(teller: Teller) -> Teller:
    """A model whose first release answers, under the latest rules."""
    teller.ledger.state.era = LATEST
    teller.bring(State.CHAMPION)
    return teller


def names(teller: Teller) -> list[str]:
    return [alert.name for alert in teller.ledger.state.models[MODEL].alerts]


def fairness(teller: Teller, attribute: str, verdict: str, stage: str = "live", release: str = FIRST) -> None:
    teller.say("FairnessMeasured", attribute=attribute, verdict=verdict, stage=stage, release=release)


def drift(teller: Teller, verdict: str, release: str = FIRST) -> None:
    teller.say("DriftMeasured", release=release, verdict=verdict)


def breach(teller: Teller, attribute: str) -> None:
    teller.say("AlertRaised", alert="fairness", about=attribute, release=FIRST, severity="page")


def test_an_alert_is_listed_once_as_it_was_first_raised(champion: Teller) -> None:
    first = champion.say("AlertRaised", alert="drift", about=FIRST)
    champion.say("AlertRaised", alert="drift", about=FIRST, summary="again")
    (alert,) = champion.ledger.state.models[MODEL].alerts
    assert (alert.seq, alert.release, alert.about) == (first["seq"], FIRST, FIRST)
    assert FIRST in alert.closes


def test_two_attributes_are_two_alerts_and_each_is_closed_by_its_own(champion: Teller) -> None:
    breach(champion, "SEX")
    breach(champion, "AGE")
    fairness(champion, "SEX", "ok")
    assert names(champion) == ["fairness AGE"]
    fairness(champion, "AGE", "ok")
    assert names(champion) == []


@pytest.mark.parametrize(
    ("attribute", "verdict", "stage", "release"),
    [
        ("AGE", "ok", "live", FIRST),
        ("SEX", "ok", "validation", FIRST),
        ("SEX", "ok", "live", SECOND),
        ("SEX", "not_enough_data", "live", FIRST),
        ("SEX", "breach", "live", FIRST),
    ],
)
def test_a_breach_is_not_closed_by(champion: Teller, attribute: str, verdict: str, stage: str, release: str) -> None:
    breach(champion, "SEX")
    fairness(champion, attribute, verdict, stage, release)
    assert names(champion) == ["fairness SEX"]


@pytest.mark.parametrize(("verdict", "release"), [("ok", SECOND), ("not_enough_data", FIRST), ("drift", FIRST)])
def test_drift_is_not_closed_by(champion: Teller, verdict: str, release: str) -> None:
    champion.say("AlertRaised", alert="drift", about=FIRST)
    drift(champion, verdict, release)
    assert names(champion) == [f"drift {FIRST}"]


def test_drift_is_closed_by_a_good_measurement_of_its_release(champion: Teller) -> None:
    champion.say("AlertRaised", alert="drift", about=FIRST)
    drift(champion, "ok")
    assert names(champion) == []


def test_what_is_measured_on_live_traffic_ends_with_the_championship(champion: Teller) -> None:
    champion.say("AlertRaised", alert="drift", about=FIRST)
    breach(champion, "SEX")
    champion.say("AlertRaised", alert="mlflow_aliases", about=None)
    champion.bring(State.CHAMPION)
    assert names(champion) == ["mlflow_aliases"], "aliases are wrong whatever release answers"


def test_the_proof_of_a_rollback_closes_what_it_did_not_prove_before(champion: Teller) -> None:
    second = champion.bring(State.CHAMPION)
    champion.say("RollbackOrdered", second, OPERATOR, to=FIRST)
    champion.say("AlertRaised", alert="rollback_not_proven", about=None, severity="page")
    (alert,) = champion.ledger.state.models[MODEL].alerts
    assert (alert.release, alert.severity) == (FIRST, "page")
    champion.say("ReleaseRolledBack", second, to=FIRST)
    assert names(champion) == ["rollback_not_proven"]
    champion.say("ChampionReinstated", FIRST)
    assert names(champion) == []


def test_what_nothing_measures_is_closed_by_a_fact(champion: Teller) -> None:
    champion.say("AlertRaised", alert="mlflow_aliases", about=None)
    drift(champion, "ok")
    assert names(champion) == ["mlflow_aliases"]
    champion.say("AlertClosed", alert="mlflow_aliases", about=None)
    assert names(champion) == []
    with pytest.raises(RefusedError) as caught:
        champion.say("AlertClosed", alert="mlflow_aliases", about=None)
    assert caught.value.code == "order"


@pytest.mark.parametrize(("alert", "about"), [("drift", FIRST), ("fairness", "SEX"), ("rollback_not_proven", None)])
def test_what_has_to_be_measured_is_not_closed_by_a_statement(champion: Teller, alert: str, about: str | None) -> None:
    champion.say("AlertRaised", alert=alert, about=about)
    with pytest.raises(RefusedError) as caught:
        champion.say("AlertClosed", alert=alert, about=about)
    assert caught.value.code == "evidence"
    assert len(names(champion)) == 1
