from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from lineage.accounts.credentials import Credentials
from lineage.service.app import create_app
from lineage.settings import Settings
from lineage.signing import make_keys
from plimsoll.ledger import Ledger
from tests.support.model_folder import write_folder
from tests.support.ports import free_port
from training.spec import Spec, load_spec


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def spec(model_folder: Path) -> Spec:
    return load_spec(model_folder)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path / "home")
    make_keys(made)
    return made


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Ledger]]:
    """A real ledger service on a port of its own, and the trainer's client."""
    port = free_port()
    settings = Settings(home=tmp_path_factory.mktemp("served"), ledger_port=port)
    Credentials(settings).first_start()
    server = uvicorn.Server(uvicorn.Config(create_app(settings), host="127.0.0.1", port=port, log_level="error"))
    answering = threading.Event()
    begin = server.startup

    async def startup(sockets: list[socket.socket] | None = None) -> None:
        await begin(sockets)
        answering.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert answering.wait(30)
    ledger = Ledger(settings.ledger_url, settings.token("trainer"), timeout=30)
    yield settings, ledger
    ledger.close()
    server.should_exit = True
    thread.join(30)
