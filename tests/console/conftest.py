"""One real ledger service with a realistic history, and one console in front of it, for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.support.console_home import Home, SignIn, running


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The home that tests without a browser read; what they write does not move a release."""
    with running(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="session")
def console(home: Home) -> Iterator[TestClient]:
    """The console in this process; nobody is signed in. Dash allows one application a process."""
    from console.server import build

    with TestClient(build(home.settings), follow_redirects=False) as client:
        yield client


@pytest.fixture
def sign_in(console: TestClient, home: Home) -> Iterator[SignIn]:
    """Signs a person in on the shared client, through the real form; afterwards nobody is signed in."""

    def enter(name: str) -> TestClient:
        console.cookies.clear()
        console.get("/sign-in")
        form = {"form": console.cookies["plimsoll_form"], "name": name, "password": home.passwords[name], "next": "/"}
        answer = console.post("/sign-in", data=form)
        assert answer.status_code == 303, answer.text
        console.headers["X-CSRFToken"] = console.cookies["_csrf_token"]
        return console

    yield enter
    console.cookies.clear()
    console.headers.pop("X-CSRFToken", None)
