"""Starting points of the stories. Each stage is reached once by the real verbs; every story uses its own copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.controller import training_jobs as jobs
from serve.controller.training_jobs import JobView
from tests.support.bank import FIRST, MODEL, SECOND, Bank, Stage, Workshop, folder_of_a_model, open_bank
from training.tracking import Tracker


@pytest.fixture(scope="session")
def _workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A scientist asked for a training run, and three releases passed their checks."""
    place = tmp_path_factory.mktemp("workshop")
    with (
        open_bank(place / "home", folder=folder_of_a_model(place / "model")) as bank,
        Tracker(bank.settings) as tracker,
    ):
        asked = bank.person("scientist").retrain(MODEL, str(bank.folder), "the first release")["seq"]
        for intention in jobs.step(bank.model, asked, bank.jobs):
            bank.state(intention)
        for seed, request in ((3, asked), (4, None), (5, None)):
            candidate = bank.train(tracker, seed, request=request)
            assert bank.validate(candidate).passed
            bank.register(candidate, tracker)
        bank.jobs.known[jobs.job_id_of(MODEL, asked)] = JobView("SUCCEEDED", "registered")
        for intention in jobs.step(bank.model, asked, bank.jobs):
            bank.state(intention)
        with open_bank(place / "registered", bank.stage()) as copy:
            registered = copy.stage()
        yield Workshop(bank, tracker, registered)


@pytest.fixture
def workshop(_workshop: Workshop) -> Workshop:
    """Given a place where candidates are made."""
    _workshop.bank.begin()
    return _workshop


@pytest.fixture(scope="session")
def _in_review(_workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    with open_bank(tmp_path_factory.mktemp("review") / "home", _workshop.registered) as bank:
        bank.bring_to_review(FIRST)
        return bank.stage()


@pytest.fixture(scope="session")
def _with_champion(_in_review: Stage, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    with open_bank(tmp_path_factory.mktemp("champion") / "home", _in_review) as bank:
        bank.approve(FIRST)
        bank.bring_to_championship(FIRST)
        return bank.stage()


@pytest.fixture(scope="session")
def _with_approved(_with_champion: Stage, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    with open_bank(tmp_path_factory.mktemp("approved") / "home", _with_champion) as bank:
        bank.bring_to_review(SECOND)
        bank.approve(SECOND)
        return bank.stage()


@pytest.fixture(scope="session")
def _with_successor(_with_approved: Stage, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    with open_bank(tmp_path_factory.mktemp("successor") / "home", _with_approved) as bank:
        bank.bring_to_championship(SECOND)
        return bank.stage()


@pytest.fixture
def registered(_workshop: Workshop, tmp_path: Path) -> Iterator[Bank]:
    """Given three registered releases, none of which has ever answered a customer."""
    with open_bank(tmp_path / "home", _workshop.registered) as bank:
        yield bank


@pytest.fixture
def in_review(_in_review: Stage, tmp_path: Path) -> Iterator[Bank]:
    """Given the first release, whose canary was judged good enough; its story began when the record did."""
    with open_bank(tmp_path / "home", _in_review) as bank:
        bank.begun = 0
        yield bank


@pytest.fixture
def champion(_with_champion: Stage, tmp_path: Path) -> Iterator[Bank]:
    """Given the first release as champion, and two more that are registered."""
    with open_bank(tmp_path / "home", _with_champion) as bank:
        yield bank


@pytest.fixture
def approved(_with_approved: Stage, tmp_path: Path) -> Iterator[Bank]:
    """Given the first release as champion, and the second approved beside it."""
    with open_bank(tmp_path / "home", _with_approved) as bank:
        yield bank


@pytest.fixture
def successor(_with_successor: Stage, tmp_path: Path) -> Iterator[Bank]:
    """Given the second release as champion, the first standing by, and a third that is registered."""
    with open_bank(tmp_path / "home", _with_successor) as bank:
        yield bank
