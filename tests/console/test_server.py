"""The console without a browser: access, sign-in, every page, every mutating callback, the socket."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from tests.support.console_home import Home, SignIn, text

Json = dict[str, Any]
PAGES = {
    "overview": {},
    "releases": {"releases-query": {}},
    "release": {"release-name": "credit-default@2"},
    "drift": {"drift-query": {}},
    "fairness": {"fairness-query": {}},
    "reviews": {},
}


def _writes(spec: Json, output: str) -> bool:
    return output in re.sub(r"@\w+", "", spec["output"])


def _fired(spec: Json, changed: str) -> bool:
    return changed in [f"{one['id']}.{one['property']}" for one in spec["inputs"]]


def fire(client: TestClient, output: str, changed: str, values: Json) -> Any:
    """Call the callback that writes `output` (`id.property`) and is fired by `changed`, as the renderer does."""
    known = [one for one in client.get("/_dash-dependencies").json() if _writes(one, output) and _fired(one, changed)]
    [spec] = [one for one in known if not one["clientside_function"]]
    names = spec["output"].strip(".").split("...") if spec["output"].startswith("..") else [spec["output"]]
    outputs = [dict(zip(("id", "property"), name.rsplit(".", 1), strict=True)) for name in names]

    def filled(deps: list[Json]) -> list[Json]:
        return [dep | {"value": values.get(f"{dep['id']}.{dep['property']}")} for dep in deps]

    body = {
        "output": spec["output"],
        "outputs": outputs if len(names) > 1 else outputs[0],
        "inputs": filled(spec["inputs"]),
        "changedPropIds": [changed] if changed in values else [],
        "state": filled(spec["state"]),
    }
    return client.post("/_dash-update-component", json=body)


def filled(client: TestClient, name: str, **given: Any) -> Json:
    """What a page's callback sets: properties by component."""
    values = {f"{id_}.data": value for id_, value in (PAGES[name] | given).items()}
    answer = fire(client, f"{name}.children", f"{name}-turn.data", values)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()["response"]
    return found


def page(client: TestClient, name: str, **given: Any) -> str:
    """The words of a page as its callback fills it."""
    found = filled(client, name, **given)
    return "".join(text(part["children"]) for part in found.values() if "children" in part)


def test_without_a_session_there_is_only_the_sign_in_page(console: TestClient) -> None:
    console.cookies.clear()
    for path in ("/", "/release/credit-default@2", "/audit?kind=X"):
        answer = console.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in?next=")
    for path in ("/_dash-layout", "/_dash-dependencies"):
        assert console.get(path).status_code == 401
    assert console.post("/_dash-update-component", json={}).status_code == 401
    assert console.get("/healthz").json() == {"ok": True}
    assert console.get("/assets/console.css").status_code == 200


def test_nothing_serves_api_docs_or_tools(sign_in: SignIn) -> None:
    client = sign_in("auditor")
    for path in ("/docs", "/redoc", "/openapi.json", "/_mcp"):
        assert "Dash" in client.get(path).text or client.get(path).status_code == 404
        assert "swagger" not in client.get(path).text.lower()


def test_security_headers(sign_in: SignIn) -> None:
    headers = sign_in("auditor").get("/").headers
    scripts = headers["content-security-policy"].split("script-src")[1].split(";")[0]
    assert "unsafe" not in scripts
    assert scripts.count("sha256-") >= 2
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"


def test_scripts_go_compressed(console: TestClient) -> None:
    whole = console.get("/assets/clientside.js", headers={"Accept-Encoding": "identity"})
    small = console.get("/assets/clientside.js", headers={"Accept-Encoding": "gzip"})
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < len(whole.content) / 2
    assert small.content == whole.content


def test_a_wrong_password_is_refused_in_the_ledgers_words(console: TestClient) -> None:
    console.cookies.clear()
    console.get("/sign-in")
    form = {"form": console.cookies["plimsoll_form"], "name": "operator", "password": "wrong", "next": "/"}
    answer = console.post("/sign-in", data=form)
    assert answer.status_code == 401
    assert "name or password is wrong" in answer.text
    assert "plimsoll_session" not in console.cookies


def test_a_sign_in_form_from_elsewhere_is_refused(console: TestClient, home: Home) -> None:
    console.cookies.clear()
    sent = {"form": "guess", "name": "operator", "password": home.passwords["operator"]}
    assert console.post("/sign-in", data=sent).headers["location"] == "/sign-in?again=1"
    assert "plimsoll_session" not in console.cookies


def test_the_session_cookie_is_out_of_reach_of_scripts(console: TestClient, home: Home) -> None:
    console.cookies.clear()
    console.get("/sign-in")
    form = {"form": console.cookies["plimsoll_form"], "name": "auditor", "password": home.passwords["auditor"]}
    cookies = console.post("/sign-in", data=form).headers.get_list("set-cookie")
    [session] = [one for one in cookies if one.startswith("plimsoll_session=")]
    assert "HttpOnly" in session
    assert "samesite=strict" in session.lower()


def test_signing_out_ends_the_token_at_the_ledger(sign_in: SignIn) -> None:
    client = sign_in("auditor")
    cookie = client.cookies["plimsoll_session"]
    client.post("/sign-out", data={"csrf": client.cookies["_csrf_token"]})
    client.cookies.set("plimsoll_session", cookie)
    assert client.get("/beat").status_code == 401


@pytest.mark.parametrize("name", list(PAGES))
@pytest.mark.parametrize("role", ["operator", "auditor"])
def test_every_page_fills_for_every_role(sign_in: SignIn, home: Home, name: str, role: str) -> None:
    client = sign_in(role)
    found = filled(client, name)
    assert len("".join(text(part.get("children")) for part in found.values())) > 40
    shown = found[f"{name}-shown"]["data"]
    assert shown["version"] == home.head()
    assert all(one["kinds"] for one in shown["shows"])


def test_the_audit_page_is_there_before_any_row(sign_in: SignIn) -> None:
    sign_in("auditor").get("/audit")
    from console.pages.audit import layout

    assert "every record of the ledger" in text(layout(kind="ModelTrained"))


def test_the_overview_shows_what_waits_for_this_role(sign_in: SignIn) -> None:
    said = page(sign_in("validator"), "overview")
    assert "Quarantined: wrong decisions 6.2%" in said
    assert "Review due in" in said
    assert "Training job" not in said.partition("In flight")[0]
    assert "Nothing waits for role auditor" in page(sign_in("auditor"), "overview")


def test_the_release_page_says_why_a_button_is_dead_and_who_can(sign_in: SignIn) -> None:
    said = page(sign_in("operator"), "release")
    assert "operator has role operator, which may not state ReviewDecided; role validator may" in said


def test_small_groups_are_not_enough_data(sign_in: SignIn) -> None:
    assert "not enough data" in page(sign_in("auditor"), "fairness")


def test_a_page_says_of_which_model_its_news_are(sign_in: SignIn) -> None:
    shown = filled(sign_in("auditor"), "release")["release-shown"]["data"]
    assert [one["models"] for one in shown["shows"]] == [["credit-default"]]
    assert "DecisionsSealed" not in shown["shows"][0]["kinds"], "every few seconds, and nothing of it is shown"


def test_an_answer_older_than_what_is_shown_is_dropped(sign_in: SignIn, home: Home) -> None:
    client = sign_in("auditor")
    later = {"release-shown.data": {"version": home.head() + 1_000, "shows": []}}
    values = {"release-name.data": "credit-default@2", "release-turn.data": {"head": 1}} | later
    assert fire(client, "release.children", "release-turn.data", values).status_code == 204


def test_an_unknown_release_is_the_ledgers_refusal(sign_in: SignIn) -> None:
    answer = fire(
        sign_in("auditor"), "release.children", "release-turn.data", {"release-name.data": "credit-default@99"}
    )
    said = text(answer.json()["response"]["release"]["children"])
    assert "there is no release 'credit-default@99'" in said


def test_the_audit_grid_gets_blocks_newest_first_and_filtered(sign_in: SignIn) -> None:
    client = sign_in("auditor")
    values = {"audit-grid.getRowsRequest": {"startRow": 0, "endRow": 5}, "audit-query.data": {"kind": "ModelTrained"}}
    answer = fire(client, "audit-grid.getRowsResponse", "audit-grid.getRowsRequest", values).json()["response"]
    found = answer["audit-grid"]["getRowsResponse"]
    assert found["rowCount"] == 6
    assert [row["kind"] for row in found["rowData"]] == ["ModelTrained"] * 5
    assert found["rowData"][0]["seq"] > found["rowData"][-1]["seq"]


def test_the_chain_is_verified(sign_in: SignIn) -> None:
    answer = fire(sign_in("auditor"), "audit-verified.children", "audit-verify.n_clicks", {})
    said = text(answer.json()["response"]["audit-verified"]["children"])
    assert "Chain verified" in said
    assert "No witness" in said


def test_a_long_record_is_verified_when_it_is_asked_for(sign_in: SignIn) -> None:
    sign_in("auditor").get("/audit")
    from console.pages.audit import not_verified

    assert "Not verified yet 1,000,000 records" in text(not_verified(1_000_000))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ["Cosigned by the witness", "40 records, 2 to come"]),
        ({"unreachable_since": "2026-11-23T10:00:00.000000Z"}, ["does not answer since"]),
        ({"refused": "the witness saw 50 records"}, ["The witness refuses", "saw 50 records"]),
    ],
)
def test_the_audit_page_says_what_the_witness_says(changes: Json, says: list[str], sign_in: Any) -> None:
    sign_in("auditor").get("/audit")  # the pages are there once the console is
    from console.pages.audit import cosigned

    seen = {"cosigned_size": 40, "lag": 2, "refused": None, "unreachable_since": None} | changes
    told = "".join(str(part.to_plotly_json()) for part in cosigned(seen))
    for words in says:
        assert words in told


SHOWN = {
    "verb": "approve",
    "subject": "credit-default@2",
    "etag": 1,
    "to": None,
    "key": "k1",
    "least": 8,
}


def press(client: TestClient, state: Json, reason: str, clicks: int | None = 1) -> Any:
    values = {"dialog-go.n_clicks": clicks, "dialog-state.data": state, "dialog-reason.value": reason}
    return fire(client, "dialog-refusal.children", "dialog-go.n_clicks", values)


def said(answer: Any) -> str:
    return text(answer.json()["response"]["dialog-refusal"]["children"])


def test_nothing_is_sent_without_a_click(sign_in: SignIn, home: Home) -> None:
    before = home.head()
    assert press(sign_in("validator"), SHOWN, "a good reason", clicks=None).status_code == 204
    assert home.head() == before + 1  # the sign-in itself


def test_a_callback_without_the_sessions_token_is_refused(sign_in: SignIn) -> None:
    client = sign_in("validator")
    client.headers["X-CSRFToken"] = "guess"
    assert client.post("/_dash-update-component", json={}).status_code == 403


def test_an_old_view_is_refused_verbatim_with_a_way_to_read_again(sign_in: SignIn) -> None:
    told = said(press(sign_in("validator"), SHOWN, "all metrics inside their limits"))
    assert "Read it again" in told
    assert len(told) > 30


def test_a_role_that_may_not_is_refused_by_the_ledger(sign_in: SignIn, home: Home) -> None:
    etag = home.ledger.release("credit-default@2")["etag"]
    told = said(press(sign_in("auditor"), SHOWN | {"etag": etag}, "all metrics inside their limits"))
    assert "has role auditor, which may not state ReviewDecided" in told


def test_nobody_approves_their_own_release_even_past_the_button(sign_in: SignIn, home: Home) -> None:
    own = {"subject": "fx-signal@1", "etag": home.ledger.release("fx-signal@1")["etag"]}
    told = said(press(sign_in("validator"), SHOWN | own, "my own work, looks fine"))
    assert "is the author" in told
    assert "a second person has to decide" in told


def test_a_short_reason_never_leaves_the_console(sign_in: SignIn) -> None:
    assert "at least 8 characters" in said(press(sign_in("validator"), SHOWN, "ok"))


def test_the_dialog_says_from_and_to(sign_in: SignIn) -> None:
    ask = {"ask.data": {"verb": "approve", "subject": "credit-default@2", "at": 1}}
    answer = fire(sign_in("validator"), "dialog-body.children", "ask.data", ask).json()["response"]
    words = text(answer["dialog-body"]["children"])
    assert "credit-default@2 in review" in words
    assert "credit-default@2 approved" in words
    assert answer["dialog-go"]["children"] == "Approve credit-default@2"
    assert answer["dialog-state"]["data"]["etag"] > 0


def test_a_missing_report_is_plain_text_under_a_strict_policy(sign_in: SignIn) -> None:
    answer = sign_in("auditor").get("/report/credit-default@2")
    assert answer.status_code == 404
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "has no report yet" in answer.text


def test_the_palette_lists_releases(sign_in: SignIn) -> None:
    client = sign_in("auditor")
    assert "credit-default@2" in [place["name"] for place in client.get("/places").json()]
    found = client.get("/places", params={"search": "FRAUD"}).json()
    assert [place["href"] for place in found] == ["/release/card-fraud@1"]


def test_a_failing_callback_leaves_a_line_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    from console.server import report_error

    with pytest.raises(KeyError):
        report_error(KeyError("a slip"))
    assert "a callback failed" in capsys.readouterr().out


def test_pages_stand_alone() -> None:
    """Nothing of Ray, of the store or of the serving plane is loaded by looking."""
    import subprocess
    import sys

    script = (
        "import sys, console.server; print([m for m in ('ray', 'duckdb', 'serve', 'training') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", ["/healthzzz", "/sign-in-again", "/favicon.icons", "/assetsx"])
def test_a_path_that_begins_like_an_open_one_needs_a_session(path: str, console: TestClient) -> None:
    answer = console.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={quote(path, safe='')}")


def test_a_path_where_nothing_is_answers_404_and_shows_the_page_that_says_so(sign_in: SignIn) -> None:
    console = sign_in("auditor")
    assert {console.get(path).status_code for path in ("/healthzzz", "/release", "/release/a/b", "/x")} == {404}
    assert {console.get(path).status_code for path in ("/", "/releases", "/release/credit-default@1", "/audit")} == {
        200
    }


def test_a_callback_that_is_not_there_answers_404(sign_in: SignIn) -> None:
    asked = {"output": "nothing.children", "outputs": {"id": "nothing", "property": "children"}, "inputs": []}
    answer = sign_in("auditor").post("/_dash-update-component", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown")


def test_another_host_name_is_refused(console: TestClient) -> None:
    answer = console.get("/sign-in", headers={"Host": "rebound.example"})
    assert (answer.status_code, answer.json()["code"]) == (421, "host")
