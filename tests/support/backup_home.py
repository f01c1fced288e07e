"""A home in which everything has something to lose, and what a backup of it is compared with."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from lineage.accounts.credentials import Credentials
from lineage.digest import digest_folder
from lineage.ledger import Draft, Ledger
from lineage.log.reader import Chain
from lineage.log.signing_key import signer_at
from lineage.privacy.key_vault import Vault
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM
from lineage.settings import Settings
from lineage.signing import make_keys, sign
from serve.record.decision_log import DecisionLog
from serve.record.spool import Spool
from tests.support.decision_records import decision
from tests.support.sample_facts import MODEL, FactWriter, ManualClock, sample_of

LEDGER = Actor("ledger", PLATFORM)


class House:
    """A home in which everything has something to lose."""

    def __init__(self, settings: Settings, clock: ManualClock, segment_bytes: int = 4_096) -> None:
        self.settings, self.clock, self.segment_bytes = settings, clock, segment_bytes
        self.open()
        if not settings.accounts_file.exists():
            self._furnish()
        self.bundle = self.ledger.state.releases[f"{MODEL}@1"].digest
        self.spool, self.decision_log, self.decided = Spool(settings.spool, "r1"), DecisionLog(settings), 0

    def _furnish(self) -> None:
        settings = self.settings
        self.record()
        Credentials(settings, clock=self.clock).first_start()
        make_keys(settings)
        bundle, writer = self._bundle(), FactWriter(self.ledger)
        release = writer.train(digest=bundle)
        writer.check(release)
        writer.record("CandidateValidated", release)
        writer.record("ReleaseRegistered", release, digest=bundle)
        settings.reports.mkdir()
        (settings.reports / f"{release}.html").write_text("<title>report</title>")
        pl.DataFrame({"ID": [1, 2], "default": [0, 1]}).write_delta(str(settings.datasets / MODEL))
        (settings.mlflow / "artifacts" / "run").mkdir(parents=True)
        (settings.mlflow / "artifacts" / "run" / "model.ubj").write_bytes(b"model")
        with closing(sqlite3.connect(settings.mlflow / "mlflow.db")) as db:
            db.execute("PRAGMA journal_mode = WAL").fetchall()
            db.execute("CREATE TABLE runs (id TEXT)")
            db.execute("INSERT INTO runs VALUES ('4b1c')")
            db.commit()
        for name in ("run/ledger.process", "logs/ledger.log", "ledger/lineage.duckdb", "secrets/session.json"):
            (settings.root / name).parent.mkdir(exist_ok=True)
            (settings.root / name).write_bytes(b"not state: " + name.encode())

    def open(self) -> None:
        signer = signer_at(self.settings.log_key)
        self.ledger = Ledger(
            self.settings.log_folder, clock=self.clock, signer=signer, segment_bytes=self.segment_bytes
        )

    def record(self, count: int = 1) -> None:
        for number in range(count):
            self.ledger.append(Draft("SignedIn", LEDGER, {"account": f"auditor-{number}"}))

    def decide(self, count: int, **changes: Any) -> None:
        for _ in range(count):
            self.decided += 1
            self.spool.write(decision(self.decided, "champion", **changes))

    def seal(self) -> None:
        self.decision_log.take()
        for segment in self.decision_log.next_segments():
            data = sample_of(self.ledger.state.era, "DecisionsSealed", **segment.data)
            if self.ledger.state.era < 3:  # a log that begins without the service is of era 1
                del data["answers"]
            self.ledger.append(Draft("DecisionsSealed", Actor("controller", "service"), data, MODEL, key=segment.name))
        self.decision_log.sealed(lambda process: True)

    def erase(self, subject: str) -> None:
        """What the ledger service does to erase a person."""
        with closing(Vault(self.settings)) as vault:
            name = vault.existing_pseudonym(subject) or ""
            counts = dict.fromkeys(("decisions", "segments", "plain", "datasets", "releases"), 0)
            data = {"commitment": vault.commitment(name), "ground": "GDPR Art. 17(1)", "by": "op", "role": "operator"}
            record = self.ledger.append(Draft("SubjectErased", LEDGER, data | counts, reason="asked in writing"))
            vault.erase(name, self.clock(), record["seq"])

    def _bundle(self) -> str:
        folder = self.settings.artefacts / "draft"
        folder.mkdir(parents=True)
        (folder / "model.ubj").write_bytes(b"model")
        digest = digest_folder(folder)
        folder = folder.rename(folder.with_name(digest.removeprefix("sha256:")))
        sign(folder, self.settings)
        (folder / "model.ubj").chmod(0o400)
        folder.chmod(0o500)
        return digest


def other(settings: Settings, name: str = "again") -> Settings:
    """A home beside, with the same witness."""
    return Settings(**settings.model_dump() | {"home": settings.root.with_name(name)})


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(settings: Settings) -> list[bytes]:
    return [entry.line.data for entry in Chain(settings.log_folder, signer_at(settings.log_key).verifier)]


def rows(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as db:
        return list(db.iterdump())


def on_record(settings: Settings) -> Counter[str]:
    """How often each decision stands in the segments that the log names."""
    found: Counter[str] = Counter()
    for entry in Chain(settings.log_folder, signer_at(settings.log_key).verifier):
        if entry.record["kind"] == "DecisionsSealed":
            found.update(pl.read_parquet(settings.root / entry.record["data"]["uri"])["decision_id"].to_list())
    return found


def go_on(settings: Settings, clock: ManualClock) -> House:
    """A controller and a ledger that go on with a home that was put back."""
    house = House.__new__(House)
    house.settings, house.clock, house.segment_bytes = settings, clock, 4_096
    house.open()
    house.decision_log = DecisionLog(settings)
    for _ in range(2):  # what was under way, then the rest
        house.seal()
    house.ledger.close()
    return house
