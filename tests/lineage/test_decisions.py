"""Finding one decision: in a segment whose bytes are proven, in a spool, withheld, or exactly what is missing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
import typer
from sample_facts import CONTROLLER, MODEL, Hand, digest
from service_story import Story, open_story
from typer.testing import CliRunner

from console.terminal import decision as commands
from lineage.digest import digest_file
from lineage.privacy.decisions import READABLE
from lineage.privacy.erasure import RETENTION_DAYS, Subjects
from lineage.rules.draft import Draft
from lineage.settings import Settings
from plimsoll import Client
from serve.record.decision_log import DecisionLog
from serve.record.sealing import SCHEMA
from serve.record.spool import Spool
from tests.serve.records import decision, outcome

Json = dict[str, Any]
PERSONAL = {"key", "features", "named", "reasons", "key_hash_share", "error"}


class Archive:
    """A ledger service with decisions: `decide` as the gateway does, `seal` as the controller does."""

    def __init__(self, story: Story) -> None:
        self.story, self.settings = story, story.settings
        self.champion = story.teller.champion()
        self.spool, self.keeper = Spool(self.settings.spool, "r1"), DecisionLog(self.settings)
        self.alive = True

    def later(self, **by: float) -> None:
        """Time goes by; sessions have ended, and everybody signs in again."""
        self.story.clock.later(**by)
        for name, password in self.story.passwords.items():
            answer = self.story.http.post("/v1/session", json={"name": name, "password": password})
            self.story.tokens[name] = answer.json()["token"]

    def reopen(self) -> None:
        self.story.reopen()

    @property
    def subjects(self) -> Subjects:
        return self.story.office.subjects

    def decide(self, number: int, **changes: Any) -> str:
        now = self.story.clock()
        given = {"at": now.isoformat(), "rollout": None, "release": self.champion}
        given |= {"digest": self.story.teller.digest(self.champion), "model": MODEL, "route_version": 10_000}
        line = decision(number, "champion", **(given | changes)) | {"arm": None}
        self.spool.write(line)
        return str(line["decision_id"])

    def seal(self) -> list[Json]:
        self.keeper.take()
        facts = []
        for segment in self.keeper.next_segments():
            draft = Draft("DecisionsSealed", CONTROLLER, segment.data, segment.model, key=segment.name)
            facts.append(self.story.office.ledger.append(draft))
        self.keeper.sealed(lambda process: self.alive)
        return facts

    def seal_plain(self, rows: list[Json], name: str = "20261123T090000-0123456789abcdef") -> Path:
        """A segment as they were before there were keys."""
        plain = {"key": pl.String, "key_hash_share": pl.Float64, "features": pl.List(pl.Float64)}
        schema = {one: kind for one, kind in SCHEMA.items() if one not in ("subject", "sealed")} | plain
        schema |= {"reasons": pl.List(pl.String)}
        path = self.settings.decisions / MODEL / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame([{one: row.get(one) for one in schema} for row in rows], schema=schema).write_parquet(path)
        data = {"segment": name, "uri": f"decisions/{MODEL}/{path.name}", "digest": digest_file(path)}
        data |= {"rows": len(rows), "outcomes": 0, "from": rows[0]["at"], "to": rows[-1]["at"], "releases": {}}
        self.story.office.ledger.append(Draft("DecisionsSealed", CONTROLLER, data, MODEL))
        return path

    def show(self, decision_id: str, who: str = "auditor", status: int = 200) -> Json:
        answer = self.story.get(f"decisions/{decision_id}", who)
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found

    def ask(self, verb: str, subject: Any, who: str, status: int, key: str | None = None, **body: Any) -> Json:
        headers = self.story.headers(who) | ({"Idempotency-Key": key} if key else {})
        sent = {"subject": subject} | body
        answer = self.story.http.post(f"/v1/subjects/{verb}", json=sent, headers=headers)
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found

    def history(self, subject: str, who: str = "auditor") -> list[str]:
        return [one["decision_id"] for one in self.ask("history", subject, who, 200)["decisions"]]


@contextmanager
def open_archive(settings: Settings, clock: Hand) -> Iterator[Archive]:
    with open_story(settings, clock) as story:
        yield Archive(story)


@pytest.fixture
def archive(settings: Settings, clock: Hand) -> Iterator[Archive]:
    with open_archive(settings, clock) as archive:
        yield archive


def test_a_sealed_decision_is_shown_with_the_record_that_proves_it(archive: Archive) -> None:
    archive.decide(1, reasons=["R-debt"], score=0.1 + 0.2)
    archive.spool.write(outcome(1, 1) | {"model": MODEL})
    (fact,) = archive.seal()
    shown = archive.show("d1")
    assert (shown["release"], shown["decision"], shown["score"]) == (archive.champion, "approve", 0.1 + 0.2)
    assert float.fromhex(shown["score_hex"]) == 0.1 + 0.2
    assert shown["subject"]["standing"] == READABLE
    assert (shown["subject"]["key"], shown["subject"]["features"]) == ("customer-1", [1.0, 2.0])
    assert shown["subject"]["reasons"] == ["R-debt"]
    assert [one["outcome"] for one in shown["outcomes"]] == [1]
    place = {"record": fact["seq"], "segment": fact["data"]["segment"], "digest": fact["data"]["digest"]}
    assert (
        shown["evidence"]
        == {"state": "sealed", "proof": f"/v1/proof/{fact['seq']}", "uri": fact["data"]["uri"]} | place
    )


def test_who_had_put_the_release_there_is_named_as_of_the_route_in_force(archive: Archive) -> None:
    release = archive.story.office.ledger.state.releases[archive.champion]
    promoted = next(step for step in release.steps if step["kind"] == "ReleasePromoted")
    started = next(step for step in release.steps if step["kind"] == "CanaryStarted")
    archive.decide(1, route_version=promoted["seq"])
    archive.decide(2, route_version=started["seq"])
    shown = archive.show("d1")["released"]
    assert shown["by"] == promoted
    assert [one["by"] for one in shown["approvals"]] == ["validator"]
    assert shown["author"] == "scientist"
    assert archive.show("d2")["released"]["by"]["actor"] == "operator"


def test_a_spooled_decision_is_found_before_it_is_sealed_and_after(archive: Archive) -> None:
    archive.decide(1)
    assert archive.show("d1")["evidence"] == {"state": "spooled"}
    assert archive.show("d1")["subject"]["key"] == "customer-1"
    archive.seal()
    archive.decide(2)
    assert archive.show("d1")["evidence"]["state"] == "sealed"
    assert archive.history("customer-2") == ["d2"]


@pytest.mark.parametrize("who", ["scientist", "validator", "controller"])
def test_what_it_says_about_the_person_is_not_for_everybody(archive: Archive, who: str) -> None:
    archive.decide(1, key="ada-lovelace", features=[4177.0, 2.0], error="InvalidError: debt is 4177.0")
    archive.decide(2, key="ada-lovelace", features=[4177.0, 2.0])
    archive.seal()
    archive.decide(3, key="ada-lovelace", features=[4177.0, 2.0])
    for name in ("d1", "d2", "d3"):
        shown = archive.show(name, who)
        assert shown["subject"] == {
            "standing": "withheld",
            "why": f"role {'service' if who == 'controller' else who} may not see it; role auditor or operator may",
        }
        assert not {"ada-lovelace", "4177"} & set(repr(shown).replace("'", " ").split())
        assert "4177" not in repr(shown)
    assert archive.show("d1", who)["error"] == "InvalidError"


def test_a_client_of_the_gateway_is_told_nothing_and_history_is_for_who_may_see(archive: Archive) -> None:
    archive.decide(1)
    assert archive.show("d1", "client", 403)["code"] == "role"
    for who in ("scientist", "validator", "controller", "client"):
        archive.ask("history", "customer-1", who, 403)
    refusals = archive.story.office.ledger.records.find(kinds=["ActionRefused"]).records
    assert {one["data"]["attempted"] for one in refusals} == {"SubjectHistory platform"}
    assert archive.history("customer-1", "operator") == ["d1"]


def test_an_unknown_id_is_unknown(archive: Archive) -> None:
    archive.decide(1)
    archive.seal()
    assert archive.show("d2", status=404)["code"] == "unknown"
    assert archive.show("..%2f..%2fsecrets", status=404)
    assert archive.show("d1' OR '1'='1", status=404)["code"] == "unknown"


def test_all_of_one_person_is_found_wherever_it_lies(archive: Archive) -> None:
    for number in range(12):
        archive.decide(number, key=["ada", "grace"][number % 2])
        archive.story.clock.later(seconds=1)
        if number in (3, 7):
            archive.seal()
    archive.seal_plain([decision(20, key="ada", at="2026-11-23T09:00:00+00:00", model=MODEL)])
    assert archive.history("ada") == ["d20", "d0", "d2", "d4", "d6", "d8", "d10"]
    assert archive.history("grace") == [f"d{number}" for number in range(1, 12, 2)]
    assert archive.history("nobody") == []
    assert archive.show("d20")["subject"]["standing"] == "plain"
    assert archive.show("d20")["subject"]["key"] == "ada"


def test_a_segment_that_was_changed_is_never_parsed(archive: Archive) -> None:
    archive.decide(1)
    (fact,) = archive.seal()
    assert archive.show("d1")
    path = archive.settings.root / fact["data"]["uri"]
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    told = archive.show("d1", status=500)
    assert (told["code"], told["record"]) == ("tampered", fact["seq"])
    path.unlink()
    told = archive.show("d1", status=503)
    assert fact["data"]["segment"] in told["error"]
    assert f"record {fact['seq']}" in told["error"]
    path.write_bytes(sound)
    assert archive.show("d1")


def test_what_could_not_be_read_is_named_and_looked_at_again(archive: Archive) -> None:
    archive.decide(1)
    (fact,) = archive.seal()
    path = archive.settings.root / fact["data"]["uri"]
    away = path.with_suffix(".away")
    path.rename(away)
    told = archive.show("d1", status=503)  # no index knows what is in it
    assert fact["data"]["segment"] in told["error"]
    away.rename(path)
    assert archive.show("d1")["evidence"]["record"] == fact["seq"]


@pytest.mark.parametrize("harm", ["gone", "garbage", "other"])
def test_the_index_is_made_anew_when_it_does_not_fit(archive: Archive, settings: Settings, harm: str) -> None:
    for number in range(3):
        archive.decide(number)
        archive.seal()
    assert archive.history("customer-2") == ["d2"]
    index = settings.decisions / "index.db"
    archive.subjects.decisions.close()
    if harm == "other":
        with sqlite3.connect(index) as db:
            db.execute("UPDATE segments SET digest = ?", (digest("another log"),))
            db.execute("DELETE FROM places")
        db.close()
    else:
        for path in settings.decisions.glob("index.db*"):
            path.unlink()
        if harm == "garbage":
            index.write_bytes(b"garbage " * 1000)
    archive.reopen()
    assert archive.history("customer-2") == ["d2"]
    assert archive.show("d0")["evidence"]["state"] == "sealed"


def test_the_index_names_nobody(archive: Archive, settings: Settings) -> None:
    archive.decide(1, key="ada-lovelace")
    archive.seal_plain([decision(2, key="ada-lovelace", model=MODEL)])
    archive.seal()
    archive.history("ada-lovelace")
    archive.subjects.decisions.close()
    held = b"".join(path.read_bytes() for path in settings.decisions.glob("index.db*"))
    assert b"d1" in held
    assert b"lovelace" not in held


def test_a_vault_without_the_key_says_so(archive: Archive, settings: Settings) -> None:
    archive.decide(0)
    archive.seal()
    copy = shutil.copy(settings.vault, settings.root / "backup.db")
    archive.decide(1)
    archive.seal()
    shutil.copy(copy, settings.vault)  # from before the customer came
    archive.reopen()
    shown = archive.show("d1")["subject"]
    assert (shown["standing"], shown["features"], shown["erased"]) == ("missing", None, None)


def test_a_torn_line_hides_no_other(archive: Archive) -> None:
    archive.decide(1)
    with archive.spool.path.open("ab") as file:
        file.write(b'{"type":"decision","decision_id":"d2","key":"cust\n')
        file.write(orjson.dumps(["d2"]) + b"\n")
    archive.decide(3)
    archive.show("d2", status=404)
    assert archive.show("d3")["subject"]["key"] == "customer-3"


@pytest.fixture
def terminal(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`plimsoll …` as somebody who is signed in."""
    app = typer.Typer()
    commands.register(app)
    monkeypatch.setenv("PLIMSOLL_HOME", str(archive.settings.home))

    def run(*words: str, who: str = "operator", stdin: str | None = None) -> Any:
        transport = archive.story.http._transport
        signed_in = Client(archive.story.tokens[who], ledger="http://testserver", transport=transport)
        monkeypatch.setattr(commands, "client", lambda settings: signed_in)
        return CliRunner().invoke(app, list(words), input=stdin)

    return run


def test_the_terminal_shows_a_decision_and_says_what_a_replay_lacks(archive: Archive, terminal: Any) -> None:
    archive.decide(1, reasons=["R-debt"], key="ada-lovelace")
    archive.seal()
    told = terminal("decision", "show", "d1").output
    for word in ("ada-lovelace", "R-debt", "/v1/proof/", archive.champion, "ReleasePromoted by"):
        assert word in " ".join(told.split())
    assert "ada-lovelace" not in terminal("decision", "show", "d1", who="scientist").output
    assert orjson.loads(terminal("decision", "show", "d1", "--json").output)["decision_id"] == "d1"
    replayed = terminal("decision", "replay", "d1")
    assert replayed.exit_code == 1
    assert "missing bundle" in replayed.output
    assert orjson.loads(terminal("decision", "replay", "d1", "--json", who="scientist").output)["grade"] is None
    assert terminal("decision", "show", "nothing").exit_code == 2


def test_the_terminal_holds_and_erases(archive: Archive, terminal: Any) -> None:
    archive.decide(1, key="ada-lovelace")
    archive.seal()
    why = ("--reason", "asked by letter")
    assert "d1" in terminal("decision", "history", "ada-lovelace").output
    assert terminal("erase", "ada-lovelace", *why).exit_code == 3  # nobody vouches
    assert terminal("erase", "ada-lovelace", *why, "--identity-verified").exit_code == 3  # retention
    archive.later(days=RETENTION_DAYS + 1)
    assert terminal("hold", "ada-lovelace", *why).exit_code == 0
    assert terminal("erase", "ada-lovelace", *why, "--identity-verified").exit_code == 3
    assert terminal("release-hold", "ada-lovelace", *why, who="auditor").exit_code == 0
    done = terminal("erase", "-", *why, "--identity-verified", stdin="ada-lovelace\n")
    assert done.exit_code == 0
    assert "1 decisions in 1 sealed segments" in " ".join(done.output.split())
    assert "the person was erased (record" in " ".join(terminal("decision", "replay", "d1").output.split())
    assert terminal("erase", "-", *why, stdin="\n").exit_code == 2
