"""Routes for pages: filters, paging, ETags, what a person may do, and what changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lineage.lifecycle import State
from lineage.settings import Settings
from lineage.state.views import model_view, release_view
from tests.support.ledger_service import LedgerService, open_service
from tests.support.sample_facts import MODEL, OPERATOR, ManualClock


@pytest.fixture
def service(settings: Settings, clock: ManualClock) -> Iterator[LedgerService]:
    with open_service(settings, clock) as service:
        yield service


def test_releases_are_filtered_and_paged_the_last_moved_first(service: LedgerService) -> None:
    writer = service.writer
    names = [writer.register() for _ in range(3)]
    writer.canary(names[0])
    page = service.get("releases?limit=2").json()
    assert (page["total"], [one["release"] for one in page["releases"]]) == (3, [names[0], names[2]])
    rest = service.get("releases?limit=2&offset=2").json()
    assert [one["release"] for one in rest["releases"]] == [names[1]]
    assert [one["release"] for one in service.get("releases?state=canary,review").json()["releases"]] == [names[0]]
    assert service.get(f"releases?model={MODEL}&search=@2").json()["total"] == 1
    assert service.get("releases?model=nobody").json() == {"releases": [], "total": 0, "models": {}, "kill": None}
    assert "policy" not in page["releases"][0]
    assert (list(page["models"]), page["models"][MODEL]["challenger"]) == ([MODEL], names[0])


def test_a_state_that_is_none_is_refused_by_name(service: LedgerService) -> None:
    answer = service.get("releases?state=promoted")
    assert (answer.status_code, answer.json()["field"]) == (422, "state")


def test_models_are_searched_and_say_what_is_killed(service: LedgerService) -> None:
    service.writer.champion()
    page = service.get("models?search=CREDIT").json()
    assert (page["total"], page["models"][0]["champion"], page["kill"]) == (1, f"{MODEL}@1", None)
    assert service.get("models?search=zzz").json()["models"] == []


def test_an_unchanged_page_is_not_sent_again(service: LedgerService) -> None:
    service.writer.champion()
    for path in (
        "models",
        "releases",
        "stopped",
        "inbox",
        f"models/{MODEL}/actions",
        f"releases/{MODEL}@1/actions",
        "kill/actions",
    ):
        first = service.get(path)
        headers = service.headers("auditor") | {"If-None-Match": first.headers["ETag"]}
        again = service.http.get(f"/v1/{path}", headers=headers)
        assert (again.status_code, again.content) == (304, b""), path
    service.writer.record("AlertRaised", alert="drift", about=f"{MODEL}@1")
    first = service.get("models")
    assert first.json()["models"][0]["alerts"][0]["about"] == f"{MODEL}@1"


def test_an_answer_says_which_record_it_includes(service: LedgerService) -> None:
    champion = service.writer.champion()
    for path in ("models", "releases", "stopped", "inbox", f"models/{MODEL}", f"releases/{champion}"):
        assert int(service.get(path).headers["X-Ledger-Seq"]) == service.context.ledger.state.seq, path
    first = service.get("models")
    record = service.writer.record("DecisionsSealed")
    again = service.http.get(
        "/v1/models", headers=service.headers("auditor") | {"If-None-Match": first.headers["ETag"]}
    )
    assert (again.status_code, again.headers["X-Ledger-Seq"]) == (304, str(record["seq"]))


def test_what_is_stopped_is_listed_and_nothing_else(service: LedgerService) -> None:
    champion = service.writer.champion()
    assert service.get("stopped").json() == {"models": [], "total": 0, "kill": None, "away": None}
    service.writer.record("BreakerOpened", release=champion, replica="a")
    page = service.get("stopped").json()
    assert (page["total"], list(page["models"][0]["breakers"])) == (1, ["a"])
    service.writer.record("KillSwitchPulled", None, OPERATOR)
    assert service.get("stopped").json()["models"][0]["kill"]["by"] == OPERATOR.name


def test_quiet_facts_leave_the_pages_as_they_were(service: LedgerService) -> None:
    service.writer.champion()
    before = {path: service.get(path).headers["ETag"] for path in ("models", "releases", "inbox")}
    service.writer.record("DecisionsSealed")
    service.writer.record("DriftMeasured", verdict="ok")
    assert {path: service.get(path).headers["ETag"] for path in before} == before


def test_actions_are_those_of_the_person_who_asks(service: LedgerService) -> None:
    release = service.writer.bring(State.REVIEW)
    offered = {
        who: {one["verb"]: one for one in service.get(f"releases/{release}/actions", who).json()["actions"]}
        for who in ("validator", "scientist", "operator")
    }
    assert offered["validator"]["approve"]["possible"]
    assert "author" in offered["scientist"]["approve"]["why_not"]
    assert offered["operator"]["promote"]["code"] == "approval"
    assert offered["operator"]["abort"]["possible"]
    assert service.get("releases/nobody@1/actions").status_code == 404


def test_the_inbox_is_the_callers(service: LedgerService) -> None:
    release = service.writer.bring(State.REVIEW)
    (item,) = service.get("inbox", "validator").json()["items"]
    assert (item["kind"], item["release"]) == ("review", release)
    assert service.get("inbox", "auditor").json() == {"items": [], "total": 0}
    service.writer.approve(release)
    assert service.get("inbox", "validator").json()["total"] == 0
    assert service.get("inbox?limit=1", "operator").json()["items"][0]["kind"] == "approved"


def test_changes_hold_what_serving_needs_and_nothing_that_did_not_move(service: LedgerService) -> None:
    writer = service.writer
    champion = writer.champion()
    rejected = writer.bring(State.REJECTED)
    everything = service.get("changes", "controller").json()
    assert set(everything["releases"]) == {champion}
    assert rejected not in everything["releases"]
    model, release = model_view(everything["models"][MODEL]), release_view(everything["releases"][champion])
    assert (model.champion, release.state, release.terms.rollout.steps[-1]) == (champion, "champion", 1.0)
    seq = everything["seq"]
    assert service.get(f"changes?after={seq}", "controller").json()["models"] == {}
    service.writer.record("AlertRaised", alert="drift", about=champion)
    assert set(service.get(f"changes?after={seq}", "controller").json()["models"]) == {MODEL}
    assert service.get("changes", "auditor").status_code == 403
