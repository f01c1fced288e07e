"""Routes for pages: filters, paging, ETags, what a person may do, and what changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lineage.lifecycle import State
from lineage.settings import Settings
from lineage.state.views import model_view, release_view
from tests.support.ledger_service import Story, open_story
from tests.support.sample_facts import MODEL, OPERATOR, Hand


@pytest.fixture
def story(settings: Settings, clock: Hand) -> Iterator[Story]:
    with open_story(settings, clock) as story:
        yield story


def test_releases_are_filtered_and_paged_the_last_moved_first(story: Story) -> None:
    teller = story.teller
    names = [teller.register() for _ in range(3)]
    teller.canary(names[0])
    page = story.get("releases?limit=2").json()
    assert (page["total"], [one["release"] for one in page["releases"]]) == (3, [names[0], names[2]])
    rest = story.get("releases?limit=2&offset=2").json()
    assert [one["release"] for one in rest["releases"]] == [names[1]]
    assert [one["release"] for one in story.get("releases?state=canary,review").json()["releases"]] == [names[0]]
    assert story.get(f"releases?model={MODEL}&search=@2").json()["total"] == 1
    assert story.get("releases?model=nobody").json() == {"releases": [], "total": 0, "models": {}, "kill": None}
    assert "policy" not in page["releases"][0]
    assert (list(page["models"]), page["models"][MODEL]["challenger"]) == ([MODEL], names[0])


def test_a_state_that_is_none_is_refused_by_name(story: Story) -> None:
    answer = story.get("releases?state=promoted")
    assert (answer.status_code, answer.json()["field"]) == (422, "state")


def test_models_are_searched_and_say_what_is_killed(story: Story) -> None:
    story.teller.champion()
    page = story.get("models?search=CREDIT").json()
    assert (page["total"], page["models"][0]["champion"], page["kill"]) == (1, f"{MODEL}@1", None)
    assert story.get("models?search=zzz").json()["models"] == []


def test_an_unchanged_page_is_not_sent_again(story: Story) -> None:
    story.teller.champion()
    for path in (
        "models",
        "releases",
        "stopped",
        "inbox",
        f"models/{MODEL}/actions",
        f"releases/{MODEL}@1/actions",
        "kill/actions",
    ):
        first = story.get(path)
        headers = story.headers("auditor") | {"If-None-Match": first.headers["ETag"]}
        again = story.http.get(f"/v1/{path}", headers=headers)
        assert (again.status_code, again.content) == (304, b""), path
    story.teller.say("AlertRaised", alert="drift", about=f"{MODEL}@1")
    first = story.get("models")
    assert first.json()["models"][0]["alerts"][0]["about"] == f"{MODEL}@1"


def test_an_answer_says_which_record_it_includes(story: Story) -> None:
    champion = story.teller.champion()
    for path in ("models", "releases", "stopped", "inbox", f"models/{MODEL}", f"releases/{champion}"):
        assert int(story.get(path).headers["X-Ledger-Seq"]) == story.context.ledger.state.seq, path
    first = story.get("models")
    record = story.teller.say("DecisionsSealed")
    again = story.http.get("/v1/models", headers=story.headers("auditor") | {"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.headers["X-Ledger-Seq"]) == (304, str(record["seq"]))


def test_what_is_stopped_is_listed_and_nothing_else(story: Story) -> None:
    champion = story.teller.champion()
    assert story.get("stopped").json() == {"models": [], "total": 0, "kill": None}
    story.teller.say("BreakerOpened", release=champion, replica="a")
    page = story.get("stopped").json()
    assert (page["total"], list(page["models"][0]["breakers"])) == (1, ["a"])
    story.teller.say("KillSwitchPulled", None, OPERATOR)
    assert story.get("stopped").json()["models"][0]["kill"]["by"] == OPERATOR.name


def test_quiet_facts_leave_the_pages_as_they_were(story: Story) -> None:
    story.teller.champion()
    before = {path: story.get(path).headers["ETag"] for path in ("models", "releases", "inbox")}
    story.teller.say("DecisionsSealed")
    story.teller.say("DriftMeasured", verdict="ok")
    assert {path: story.get(path).headers["ETag"] for path in before} == before


def test_actions_are_those_of_the_person_who_asks(story: Story) -> None:
    release = story.teller.bring(State.REVIEW)
    offered = {
        who: {one["verb"]: one for one in story.get(f"releases/{release}/actions", who).json()["actions"]}
        for who in ("validator", "scientist", "operator")
    }
    assert offered["validator"]["approve"]["possible"]
    assert "author" in offered["scientist"]["approve"]["why_not"]
    assert offered["operator"]["promote"]["code"] == "approval"
    assert offered["operator"]["abort"]["possible"]
    assert story.get("releases/nobody@1/actions").status_code == 404


def test_the_inbox_is_the_callers(story: Story) -> None:
    release = story.teller.bring(State.REVIEW)
    (item,) = story.get("inbox", "validator").json()["items"]
    assert (item["kind"], item["release"]) == ("review", release)
    assert story.get("inbox", "auditor").json() == {"items": [], "total": 0}
    story.teller.approve(release)
    assert story.get("inbox", "validator").json()["total"] == 0
    assert story.get("inbox?limit=1", "operator").json()["items"][0]["kind"] == "approved"


def test_changes_hold_what_serving_needs_and_nothing_that_did_not_move(story: Story) -> None:
    teller = story.teller
    champion = teller.champion()
    rejected = teller.bring(State.REJECTED)
    everything = story.get("changes", "controller").json()
    assert set(everything["releases"]) == {champion}
    assert rejected not in everything["releases"]
    model, release = model_view(everything["models"][MODEL]), release_view(everything["releases"][champion])
    assert (model.champion, release.state, release.terms.rollout.steps[-1]) == (champion, "champion", 1.0)
    seq = everything["seq"]
    assert story.get(f"changes?after={seq}", "controller").json()["models"] == {}
    story.teller.say("AlertRaised", alert="drift", about=champion)
    assert set(story.get(f"changes?after={seq}", "controller").json()["models"]) == {MODEL}
    assert story.get("changes", "auditor").status_code == 403
