"""The console in a real browser, against a real ledger: what each role sees and may do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright import sync_api as playwright

from plimsoll import Client
from plimsoll.ledger import Ledger
from tests.support.console_browser import WIDE, Seat, chromium, console_process
from tests.support.console_home import Home, running

pytestmark = pytest.mark.acceptance
PAGES = ("/", "/releases", "/release/credit-default@2", "/drift", "/fairness", "/reviews", "/audit")
PHONE = {"width": 390, "height": 844}
#: Looks of a page; `make browser` has all of them.
LOOKS = [
    pytest.param(WIDE, "light", id="wide-light"),
    pytest.param(PHONE, "dark", id="phone-dark"),
    pytest.param(WIDE, "dark", id="wide-dark", marks=pytest.mark.sweep),
    pytest.param(PHONE, "light", id="phone-light", marks=pytest.mark.sweep),
]
#: ag-Grid draws an empty header row first.
DRAWN = "[...document.querySelectorAll('.ag-header-row')].every(row => row.children.length > 0)"
AXE = """async () => (await axe.run()).violations.filter(v => ['serious', 'critical'].includes(v.impact))
  .map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)).join(' | '))"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home of their own: these tests approve and promote."""
    with running(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture(scope="module")
def served(home: Home) -> Iterator[str]:
    with console_process(home.settings) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def _sessions() -> dict[str, Any]:
    """Cookies of each person's first sign-in."""
    return {}


@pytest.fixture
def seat(browser: Any, served: str, home: Home, _sessions: dict[str, Any]) -> Iterator[Any]:
    seats: list[Seat] = []

    def take(name: str, *, own_session: bool = False, **options: Any) -> Seat:
        cookies = None if own_session else _sessions.get(name)
        seats.append(Seat(browser, served, home, name, cookies, **options))
        if not own_session:
            _sessions.setdefault(name, seats[-1].context.cookies())
        return seats[-1]

    yield take
    for one in seats:
        one.context.close()


def test_a_change_is_on_screen_within_two_seconds_without_reload(seat: Any, home: Home) -> None:
    page = seat("operator").open("/")
    page.evaluate("window.notReloaded = true")
    _seen_after(page, home, "first change, while the page may still be settling")
    seconds = [_seen_after(page, home, f"change {number}") for number in range(3)]
    # A delay of ours would show every time; a busy machine shows now and then.
    assert min(seconds) < 2.0, seconds
    assert page.evaluate("window.notReloaded") is True


def _seen_after(page: Any, home: Home, summary: str) -> float:
    """Seconds from the ledger's acknowledgement to the row being visible."""
    alert = {"alert": "slow", "about": summary, "severity": "page", "summary": summary, "evidence": None}
    home.ledger.append("AlertRaised", model="card-fraud", data=alert)
    began = time.monotonic()
    page.wait_for_selector(f".need >> text={summary}", timeout=8_000)
    return time.monotonic() - began


def test_the_author_sees_why_they_cannot_approve(seat: Any) -> None:
    page = seat("validator").open("/reviews")
    own = page.get_by_role("button", name="Approve fx-signal@1")
    own.wait_for()
    assert own.is_disabled()
    why = "validator is the author of this release; a second person has to decide"
    assert page.get_by_text(why).count() == 1
    assert page.get_by_role("button", name="Approve credit-default@2").is_enabled()


def test_an_old_view_is_refused_then_read_again_then_recorded(seat: Any, home: Home) -> None:
    validator = seat("validator")
    page = validator.open("/release/credit-default@2")
    page.get_by_role("button", name="Approve credit-default@2").click()
    page.wait_for_selector("text=Traffic does not change")
    go = page.locator("#dialog-go")
    assert go.is_disabled()
    page.fill("#dialog-reason", "all metrics inside their limits")
    home.ledger.append(
        "CanaryHeld",
        model="credit-default",
        release="credit-default@2",
        data={"why": "still watching", "judgement": {}},
    )
    _train_another(home)
    go.click()
    page.wait_for_selector("#dialog-refusal .refusal")
    page.click("#dialog-again")
    playwright.expect(page.locator("#dialog-refusal")).to_have_text("")
    page.fill("#dialog-reason", "all metrics inside their limits, read again")
    go.click()
    page.wait_for_selector("text=Recorded as #")
    page.wait_for_selector("text=approve by validator: all metrics inside their limits, read again", timeout=4_000)
    assert home.ledger.release("credit-default@2")["state"] == "approved"


def _train_another(home: Home) -> None:
    """Something about the model that a person should see before they decide: a further candidate."""
    facts = home.ledger.release("credit-default@2")["facts"]
    data = next(fact["data"] for fact in facts if fact["kind"] == "ModelTrained")
    other = data | {"digest": "sha256:" + "9" * 64, "seed": 99}
    trainer = Ledger(home.settings.ledger_url, home.settings.token("trainer"))
    trainer.append("ModelTrained", model="credit-default", data=other)
    trainer.close()


def test_promote_with_a_reason(seat: Any, home: Home) -> None:
    page = seat("operator").open("/release/credit-default@2")
    page.get_by_role("button", name="Promote to 50").click()
    page.wait_for_selector("text=The controller takes the further steps")
    page.fill("#dialog-reason", "approved by the validator, going ahead")
    page.click("#dialog-go")
    page.wait_for_selector("text=Recorded as #")
    last = home.ledger.release("credit-default@2")["facts"][-1]
    assert (last["kind"], last["data"]["share"], last["actor"]["name"]) == ("RolloutStepped", 0.5, "operator")
    assert last["reason"] == "approved by the validator, going ahead"


def test_the_audit_keeps_its_filters_in_the_address(seat: Any) -> None:
    page = seat("auditor").open("/audit?kind=ModelTrained")
    page.wait_for_selector(".ag-cell >> text=ModelTrained")
    assert page.locator("#audit-count").inner_text() != "0 records"
    page.fill("#audit-actor", "nobody")
    page.wait_for_url("**/audit?kind=ModelTrained&actor=nobody")
    playwright.expect(page.locator("#audit-count")).to_have_text("0 records")
    page.fill("#audit-actor", "")
    page.locator(".ag-cell >> text=ModelTrained").first.click()
    page.wait_for_selector(".detail pre >> text=environment_digest")


def test_the_palette_leads_to_a_release_by_keyboard(seat: Any) -> None:
    page = seat("auditor").open("/")
    page.keyboard.press("Control+k")
    page.keyboard.type("default@3")
    page.wait_for_selector("#palette li[data-href] >> text=credit-default@3")
    page.keyboard.press("Enter")
    page.wait_for_url("**/release/credit-default@3")
    page.wait_for_selector("h1 >> text=credit-default@3")


def test_signing_out_elsewhere_ends_this_tab(seat: Any) -> None:
    auditor = seat("auditor", own_session=True)
    page = auditor.open("/")
    other = auditor.context.new_page()
    other.goto(auditor.base + "/releases")
    other.click("#sign-out")
    page.wait_for_url("**/sign-in?**", timeout=15_000)


@pytest.mark.parametrize(("viewport", "scheme"), LOOKS)
def test_every_page_is_accessible(seat: Any, scheme: str, viewport: dict[str, int]) -> None:
    from axe_playwright_python.sync_playwright import Axe

    script = Axe().axe_script
    one = seat("validator", color_scheme=scheme, viewport=viewport, bypass_csp=True)
    found: dict[str, list[str]] = {}
    for path in PAGES:
        page = one.open(path)
        page.wait_for_selector(".panel")
        page.wait_for_function(DRAWN)
        page.evaluate(script)
        found |= {path: bad} if (bad := page.evaluate(AXE)) else {}
    assert found == {}


def test_the_dialog_is_accessible(seat: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = seat("operator", bypass_csp=True).open("/drift")
    page.get_by_role("button", name="Retrain credit-default").click()
    page.wait_for_selector("text=A training job starts")
    page.evaluate(Axe().axe_script)
    assert page.evaluate(AXE) == []


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.sweep)])
def test_no_page_scrolls_sideways_on_a_phone(seat: Any, scheme: str) -> None:
    one = seat("operator", color_scheme=scheme, viewport=PHONE)
    for path in PAGES:
        page = one.open(path)
        page.wait_for_selector(".panel")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path


def test_one_person_kills_and_a_second_one_lets_go(seat: Any, home: Home) -> None:
    operator, validator = seat("operator"), seat("validator")
    page = operator.open("/release/card-fraud@1")
    page.get_by_role("button", name="Kill card-fraud, baseline answers").click()
    page.wait_for_selector("text=No release takes traffic meanwhile")
    _send(page, "scores collapsed to one value")
    page.wait_for_selector(".stop.killed >> text=KILLED by operator since", timeout=8_000)
    _ask_to_release(page, "card-fraud", "scores vary again")
    panel = page.locator("section.panel").filter(has=page.get_by_role("heading", name="Kill switch"))
    own = panel.get_by_role("button", name="Release card-fraud")
    playwright.expect(own).to_be_disabled(timeout=8_000)
    why = "operator asked for the release of card-fraud; a second person has to confirm"
    assert page.get_by_text(why).count() == 1
    other = validator.open("/")
    other.wait_for_selector(".need >> text=operator asks to release the kill switch: scores vary again")
    other.locator(".stop.killed").get_by_role("button", name="Release card-fraud").click()
    other.wait_for_selector("text=Kill it again at any moment")
    _send(other, "scores looked at by a second person")
    for one in (page, other):
        playwright.expect(one.locator(".stop.killed")).to_have_count(0, timeout=8_000)
    told = [record["kind"] for record in home.ledger.records(kind=SWITCH)["records"]]
    assert told == SWITCH.split(",")


SWITCH = "KillSwitchPulled,KillReleaseRequested,KillSwitchReleased"


def _send(page: Any, reason: str) -> None:
    page.fill("#dialog-reason", reason)
    page.click("#dialog-go")
    page.wait_for_selector("text=Recorded as #")


def _ask_to_release(page: Any, whose: str, reason: str) -> None:
    page.locator(".stop.killed").get_by_role("button", name=f"Ask to release {whose}").first.click()
    page.wait_for_selector("text=Nothing changes until a second person confirms")
    _send(page, reason)


@pytest.fixture
def stopped(home: Home) -> Iterator[None]:
    """All models killed, one of its own too, a breaker open; let go afterwards."""
    url = home.settings.ledger_url
    breaker = {"release": "credit-default@1", "replica": "r-1", "cause": "constant_scores", "evidence": {"rows": 50}}
    data = breaker | {"since": "2026-11-23T10:05:00.000000Z", "times": 1}
    people = [Client.sign_in(name, home.passwords[name], ledger=url) for name in ("operator", "validator")]
    for model, answer in ((None, "nothing"), ("credit-default", "baseline")):
        people[0].kill(model, "feature store is down", answer=answer)
        people[0].ask_kill_release(model, "feature store is back")
    home.ledger.append("BreakerOpened", model="credit-default", data=data)
    yield
    for model in (None, "credit-default"):
        people[1].release_kill(model, "seen by a second person")
    closed = {"release": "credit-default@1", "replica": "r-1", "cause": "trial passed", "seconds": 4.0, "answers": 12}
    home.ledger.append("BreakerClosed", model="credit-default", data=closed)


@pytest.mark.parametrize(("viewport", "scheme"), LOOKS)
def test_what_is_killed_is_accessible_and_fits(stopped: None, seat: Any, scheme: str, viewport: dict[str, int]) -> None:
    from axe_playwright_python.sync_playwright import Axe

    one = seat("validator", color_scheme=scheme, viewport=viewport, bypass_csp=True)
    for path in ("/", "/releases", "/release/credit-default@1"):
        page = one.open(path)
        page.wait_for_selector(".panel")
        playwright.expect(page.locator(".stop.killed")).to_have_count(2)
        playwright.expect(page.locator(".stop.broken")).to_have_count(1)
        page.evaluate(Axe().axe_script)
        assert page.evaluate(AXE) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], path


def test_nothing_leaves_this_machine_and_nothing_breaks_the_policy(seat: Any) -> None:
    one = seat("operator")
    for path in PAGES:
        page = one.open(path)
        page.wait_for_selector(".panel")
    page.keyboard.press("Control+k")
    page.keyboard.press("Escape")
    hosts = {httpx.URL(url).host for url in one.requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert one.complaints == []
