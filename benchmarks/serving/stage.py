"""A running platform with benchmark models, and the requests for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import httpx
import psutil

from benchmarks.serving import platform
from benchmarks.serving.contenders import Contender, decisions
from benchmarks.serving.home import Champion, build_home, named
from benchmarks.serving.load import closed
from benchmarks.serving.model import Rows, rows
from lineage.settings import Settings
from validators.scoring.bundle import Explain, load_bundle

_DRAWN = 20_000
_MIB = 2**20


@dataclass(frozen=True)
class Stage:
    """One running platform.

    Attributes:
        seconds: until everything was ready.
    """

    settings: Settings
    champions: list[Champion]
    seconds: float

    @property
    def token(self) -> str:
        """Of the machine account that asks for decisions."""
        return self.settings.token("client")

    @property
    def model(self) -> Path:
        """The file of the first model, for the peers."""
        return self._folder / "model.ubj"

    @cached_property
    def sorted_rows(self) -> tuple[Rows, Rows]:
        """Rows that the first model decides in the customer's favour, and the others."""
        bundle, drawn = load_bundle(self._folder), rows(_DRAWN, seed=21)
        adverse = bundle.model.score(drawn) >= bundle.threshold
        return drawn[~adverse], drawn[adverse]

    def contender(self, name: str, asked: Rows, model: str = "model-000") -> Contender:
        """The gateway with decision requests for these rows."""
        return self.asked_for(name, decisions(model, asked, self.token))

    def asked_for(self, name: str, requests: list[bytes]) -> Contender:
        """The gateway with these requests."""
        port = self.settings.gateway_port
        return Contender(name, port, requests, lambda: platform.everything(self.settings))

    def check_champions(self) -> int:
        """Request every model once; return how many answered with the expected champion.

        Release, digest and the score's bits must equal those of the bundle.
        """
        (row,), right = rows(1, seed=5), 0
        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx.Client(base_url=self.settings.gateway_url, headers=headers, timeout=30.0, trust_env=False) as client:
            for champion in self.champions:
                body = {"features": named(row), "key": "customer", "purpose": "customer"}
                answer = client.post(f"/decide/{champion.model}", json=body).raise_for_status().json()
                found = answer["release"], answer["digest"], answer["score"], answer["role"]
                right += found == (champion.release, champion.digest, champion.score, "champion")
        return right

    def memory(self) -> float:
        """MiB that belong to the gateway replica alone, after a second of traffic."""
        favourable, _ = self.sorted_rows
        closed(self.settings.gateway_port, self.contender("", favourable[:2_000]).requests, 8, 1.0)
        return sum(_uss(process) for process in platform.named(self.settings, "ServeReplica:gateway:Gateway"))

    @property
    def _folder(self) -> Path:
        return self.settings.artefacts / self.champions[0].digest.removeprefix("sha256:")


@contextmanager
def staged(home: Path, models: int, explain: Explain) -> Iterator[Stage]:
    """Build the home, start the platform with one gateway replica, stop it afterwards."""
    settings = platform.settings_for(home, gateway_replicas=1)
    champions = build_home(settings, models, explain=explain)
    with platform.running(settings) as seconds:
        yield Stage(settings, champions, seconds)


def _uss(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss) / _MIB
