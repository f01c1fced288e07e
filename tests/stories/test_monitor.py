"""Monitor: decisions are sealed, and drift raises an alert and requests retraining."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from lineage.digest import digest_file
from lineage.privacy.erasure import RETENTION_DAYS
from plimsoll.errors import Refused
from serve.controller import training_jobs as jobs
from serve.controller.live_fairness import disparities
from serve.intent import Intention
from serve.monitor import drift_intentions, fairness_intentions, window_frame
from tests.support.bank import FIRST, MODEL, Bank, facts_of
from tests.support.model_folder import customers
from validators.drift.measure import measure_drift
from validators.replay import replay


def seal(bank: Bank) -> None:
    """As the controller does every few seconds."""
    bank.decision_log.take()
    for segment in bank.decision_log.next_segments():
        bank.state(Intention("DecisionsSealed", segment.model, segment.data, about_release=False), key=segment.name)
    bank.decision_log.sealed(lambda process: True)


def look_for_drift(bank: Bank) -> str:
    """As the controller does: the champion's newest decisions against the reference in its bundle."""
    release, model = bank.release(FIRST), bank.model
    policy = release.terms
    window = window_frame(release.features, bank.decision_log.latest(release, policy.monitor.drift.window).records)
    folder = bank.settings.artefacts / release.digest.removeprefix("sha256:")
    measured = measure_drift(pl.read_parquet(folder / "reference.parquet"), window, policy, FIRST)
    for intention in drift_intentions(model, release, [], measured):
        bank.state(intention)
    return str(measured["verdict"])


def test_customers_change_somebody_is_told_and_a_new_model_is_asked_for(champion: Bank) -> None:
    bank = champion

    # Given a champion and customers as they always were
    town = customers(4000)
    bank.serve_customers(600, town)
    seal(bank)
    assert look_for_drift(bank) == "ok"

    # When fairness is looked at, then decisions are joined with what the model never saw
    release = bank.release(FIRST)
    records, terms = bank.decision_log.latest(release, 2000).records, release.terms
    grouping = terms.validation.limits["group_fairness"]
    found = disparities(bank.settings, MODEL, records, terms.monitor.fairness, grouping)
    for disparity in found:
        for intention in fairness_intentions(bank.model, disparity.to_dict(FIRST, "live")):
            bank.state(intention)
    assert "SEX" in {disparity.attribute for disparity in found}
    assert bank.fact("FairnessMeasured")["data"]["stage"] == "live"
    assert "AlertRaised" not in bank.recorded("monitor")

    # When incomes fall and debts rise
    poorer = town.tail(400).with_columns(income=pl.col("income") * 0.3, debt=500 + pl.col("debt") * 0.5)
    bank.serve_customers(400, poorer)
    seal(bank)
    assert look_for_drift(bank) == "drift"

    # Then one alert names what moved, and one training run is asked for, of the folder the champion came from
    alert, asked = bank.fact("AlertRaised")["data"], bank.fact("RetrainRequested")
    assert (alert["alert"], alert["severity"]) == ("drift", "ticket")
    assert "income" in alert["summary"]
    assert "debt" in alert["summary"]
    assert (asked["actor"]["name"], asked["data"]["folder"]) == ("controller", str(bank.folder))
    assert bank.recorded("monitor") == [
        "DecisionsSealed",
        "DriftMeasured",
        *["FairnessMeasured"] * len(found),
        "DecisionsSealed",
        "DriftMeasured",
        "RetrainRequested",
        "AlertRaised",
    ]
    assert set(bank.recorded("monitor")) == facts_of("monitor")

    # and nobody is told or asked again while it lasts, also by a controller that has just begun
    assert look_for_drift(bank) == "drift"
    assert bank.recorded("monitor")[-2:] == ["AlertRaised", "DriftMeasured"]

    # and the request becomes one job, however often the controller looks
    assert bank.model.requests == [asked["seq"]]
    for _ in range(2):
        for intention in jobs.step(bank.model, asked["seq"], bank.jobs):
            bank.state(intention)
    (command,) = bank.jobs.submitted
    assert f"--request {asked['seq']}" in command
    assert bank.model.jobs[str(asked["seq"])].status == "running"
    assert bank.model.champion == FIRST  # nothing but a new release can change who answers


def test_sealed_decisions_cannot_be_changed_unseen(champion: Bank) -> None:
    bank = champion

    # Given customers who were answered
    seal(bank)
    bank.begin()
    answers = bank.serve_customers(40)

    # When the controller seals, twice
    seal(bank)
    seal(bank)

    # Then one segment holds every decision and outcome, and its digest is on record
    assert bank.recorded("monitor") == ["DecisionsSealed"]
    sealed = bank.fact("DecisionsSealed")["data"]
    path = bank.settings.root / sealed["uri"]
    assert (sealed["rows"], sealed["outcomes"], sealed["releases"]) == (40, 40, {FIRST: 40})
    assert sealed["digest"] == digest_file(path)
    rows = pl.read_parquet(path).filter(pl.col("type") == "decision")
    assert not {"key", "features", "reasons"} & set(rows.columns)
    assert set(rows["decision_id"]) == {answer.decision_id for answer in answers}
    assert dict(rows.select("decision_id", "score").iter_rows()) == {a.decision_id: a.score for a in answers}
    assert bank.auditor.verify()["ok"]

    # When a single byte of it is changed, then the auditor is told which record names it
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    verified = bank.auditor.verify()
    assert not verified["ok"]
    assert [problem["record"] for problem in verified["problems"]] == [bank.fact("DecisionsSealed")["seq"]]


@pytest.mark.parametrize(("given", "roles"), [("registered", {"baseline"}), ("approved", {"champion", "challenger"})])
def test_every_decision_is_answered_for_until_the_person_is_erased(
    given: str, roles: set[str], request: pytest.FixtureRequest
) -> None:
    # Given customers who were answered, some of them sealed and some not yet
    bank: Bank = request.getfixturevalue(given)
    town = customers(4000)
    answers = bank.serve_customers(90, town)
    seal(bank)
    bank.clock.later(minutes=1)
    answers += bank.serve_customers(10, town)

    # When an auditor asks for each, then it is what the customer was told, and comes out again bit for bit
    def shown(name: str) -> dict[str, Any]:
        return bank.auditor.decision(name, "a customer complained")

    for answer in answers:
        found = shown(answer.decision_id)
        assert (found["score"], found["decision"], found["release"]) == (answer.score, answer.decision, answer.release)
        assert found["subject"]["reasons"] == [reason["code"] for reason in answer.reasons]
        assert found["released"]["by"]["seq"] <= found["route_version"]
        result = replay(found, bank.settings)
        assert result.grade == "bit-identical", result
    assert {shown(answer.decision_id)["role"] for answer in answers} == roles
    assert {shown(answers[n].decision_id)["evidence"]["state"] for n in (0, 95)} == {"sealed", "spooled"}

    # When the first customer asks to be erased, then the law comes first, and says until when
    seal(bank)
    with pytest.raises(Refused, match=r"12 CFR 1002\.12"):
        bank.operator.erase("1", "asked by letter", identity_verified=True)
    bank.clock.later(days=RETENTION_DAYS + 1)

    # and once it allows it, data sets and decisions are named, and nobody reads them again
    told = bank.operator.erase("1", "asked by letter", identity_verified=True)
    mine = [answers[0].decision_id, answers[90].decision_id]
    assert told["touched"]["decisions"] == mine
    assert {one["dataset"] for one in told["touched"]["datasets"]} == {MODEL, f"{MODEL}-protected"}
    assert {"small-credit@1", "small-credit@2"} <= set(told["touched"]["trained_on"])
    for name in mine:
        erased = shown(name)
        assert (erased["score"], erased["subject"]["standing"]) == (answers[mine.index(name) * 90].score, "erased")
        assert [one["what"] for one in replay(erased, bank.settings).missing] == ["key"]
    assert replay(shown(answers[1].decision_id), bank.settings).ok
    assert bank.auditor.subject_history("1", "to see that nothing is left")["decisions"] == []
    assert bank.auditor.verify()["ok"]
