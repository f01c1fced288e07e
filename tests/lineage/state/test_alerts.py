"""Open alerts: each with its subject, and closed by evidence about that subject alone."""

from __future__ import annotations

import pytest

from lineage.errors import RefusedError
from lineage.lifecycle import State
from tests.support.accounts import begin_era_3
from tests.support.sample_facts import MODEL, OPERATOR, VALIDATOR, FactWriter

FIRST, SECOND = f"{MODEL}@1", f"{MODEL}@2"


@pytest.fixture
def champion(writer: FactWriter) -> FactWriter:
    """A model whose first release answers, under the latest rules."""
    begin_era_3(writer.ledger, [OPERATOR, VALIDATOR])
    writer.bring(State.CHAMPION)
    return writer


def names(writer: FactWriter) -> list[str]:
    return [alert.name for alert in writer.ledger.state.models[MODEL].alerts]


def fairness(writer: FactWriter, attribute: str, verdict: str, stage: str = "live", release: str = FIRST) -> None:
    writer.record("FairnessMeasured", attribute=attribute, verdict=verdict, stage=stage, release=release)


def drift(writer: FactWriter, verdict: str, release: str = FIRST) -> None:
    writer.record("DriftMeasured", release=release, verdict=verdict)


def breach(writer: FactWriter, attribute: str) -> None:
    writer.record("AlertRaised", alert="fairness", about=attribute, release=FIRST, severity="page")


def test_an_alert_is_listed_once_as_it_was_first_raised(champion: FactWriter) -> None:
    first = champion.record("AlertRaised", alert="drift", about=FIRST)
    champion.record("AlertRaised", alert="drift", about=FIRST, summary="again")
    (alert,) = champion.ledger.state.models[MODEL].alerts
    assert (alert.seq, alert.release, alert.about) == (first["seq"], FIRST, FIRST)
    assert FIRST in alert.closes


def test_two_attributes_are_two_alerts_and_each_is_closed_by_its_own(champion: FactWriter) -> None:
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
def test_a_breach_is_not_closed_by(
    champion: FactWriter, attribute: str, verdict: str, stage: str, release: str
) -> None:
    breach(champion, "SEX")
    fairness(champion, attribute, verdict, stage, release)
    assert names(champion) == ["fairness SEX"]


@pytest.mark.parametrize(("verdict", "release"), [("ok", SECOND), ("not_enough_data", FIRST), ("drift", FIRST)])
def test_drift_is_not_closed_by(champion: FactWriter, verdict: str, release: str) -> None:
    champion.record("AlertRaised", alert="drift", about=FIRST)
    drift(champion, verdict, release)
    assert names(champion) == [f"drift {FIRST}"]


def test_drift_is_closed_by_a_good_measurement_of_its_release(champion: FactWriter) -> None:
    champion.record("AlertRaised", alert="drift", about=FIRST)
    drift(champion, "ok")
    assert names(champion) == []


def test_what_is_measured_on_live_traffic_ends_with_the_championship(champion: FactWriter) -> None:
    champion.record("AlertRaised", alert="drift", about=FIRST)
    breach(champion, "SEX")
    champion.record("AlertRaised", alert="mlflow_aliases", about=None)
    champion.bring(State.CHAMPION)
    assert names(champion) == ["mlflow_aliases"], "aliases are wrong whatever release answers"


def test_the_proof_of_a_rollback_closes_what_it_did_not_prove_before(champion: FactWriter) -> None:
    second = champion.bring(State.CHAMPION)
    champion.record("RollbackOrdered", second, OPERATOR, to=FIRST)
    champion.record("AlertRaised", alert="rollback_not_proven", about=None, severity="page")
    (alert,) = champion.ledger.state.models[MODEL].alerts
    assert (alert.release, alert.severity) == (FIRST, "page")
    champion.record("ReleaseRolledBack", second, to=FIRST)
    assert names(champion) == ["rollback_not_proven"]
    champion.record("ChampionReinstated", FIRST)
    assert names(champion) == []


def test_what_nothing_measures_is_closed_by_a_fact(champion: FactWriter) -> None:
    champion.record("AlertRaised", alert="mlflow_aliases", about=None)
    drift(champion, "ok")
    assert names(champion) == ["mlflow_aliases"]
    champion.record("AlertClosed", alert="mlflow_aliases", about=None)
    assert names(champion) == []
    with pytest.raises(RefusedError) as caught:
        champion.record("AlertClosed", alert="mlflow_aliases", about=None)
    assert caught.value.code == "order"


@pytest.mark.parametrize(("alert", "about"), [("drift", FIRST), ("fairness", "SEX"), ("rollback_not_proven", None)])
def test_what_has_to_be_measured_is_not_closed_by_a_statement(
    champion: FactWriter, alert: str, about: str | None
) -> None:
    champion.record("AlertRaised", alert=alert, about=about)
    with pytest.raises(RefusedError) as caught:
        champion.record("AlertClosed", alert=alert, about=about)
    assert caught.value.code == "evidence"
    assert len(names(champion)) == 1
