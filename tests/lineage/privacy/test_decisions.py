"""Finding one decision: in a segment whose bytes are proven, in a spool, withheld, or exactly what is missing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import orjson
import pytest
import typer
from typer.testing import CliRunner

from console.terminal import decision as commands
from lineage.privacy.decisions import READABLE
from lineage.privacy.erasure import RETENTION_DAYS
from lineage.settings import Settings
from plimsoll import Client
from tests.support.decision_archive import Archive, open_archive
from tests.support.decision_records import decision, outcome
from tests.support.sample_facts import MODEL, ManualClock, digest

Json = dict[str, Any]
PERSONAL = {"key", "features", "named", "reasons", "key_hash_share", "error"}


READS = ("--reason", "a customer complained")


@pytest.fixture
def archive(settings: Settings, clock: ManualClock) -> Iterator[Archive]:
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
    release = archive.service.context.ledger.state.releases[archive.champion]
    promoted = next(step for step in release.steps if step.kind == "ReleasePromoted")
    started = next(step for step in release.steps if step.kind == "CanaryStarted")
    archive.decide(1, route_version=promoted.seq)
    archive.decide(2, route_version=started.seq)
    shown = archive.show("d1")["released"]
    assert shown["by"] == asdict(promoted)
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


@pytest.mark.parametrize("who", ["scientist", "validator"])
def test_what_it_says_about_the_person_is_not_for_everybody(archive: Archive, who: str) -> None:
    archive.decide(1, key="ada-lovelace", features=[4177.0, 2.0], error="InvalidError: debt is 4177.0")
    archive.decide(2, key="ada-lovelace", features=[4177.0, 2.0])
    archive.seal()
    archive.decide(3, key="ada-lovelace", features=[4177.0, 2.0])
    for name in ("d1", "d2", "d3"):
        shown = archive.show(name, who)
        assert shown["subject"] == {
            "standing": "withheld",
            "why": f"role {who} may not see it; role auditor or operator may",
        }
        assert not {"ada-lovelace", "4177"} & set(repr(shown).replace("'", " ").split())
        assert "4177" not in repr(shown)
    assert archive.show("d1", who)["error"] == "InvalidError"


def test_a_client_of_the_gateway_is_told_nothing_and_history_is_for_who_may_see(archive: Archive) -> None:
    archive.decide(1)
    assert archive.show("d1", "client", 403)["code"] == "role"
    for who in ("scientist", "validator", "controller", "client"):
        archive.ask("history", "customer-1", who, 403)
    refusals = archive.service.context.ledger.records.find(kinds=["ActionRefused"]).records
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
        archive.service.clock.later(seconds=1)
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
        transport = archive.service.http._transport
        signed_in = Client(archive.service.tokens[who], ledger="http://testserver", transport=transport)
        monkeypatch.setattr(commands, "client", lambda settings: signed_in)
        return CliRunner().invoke(app, list(words), input=stdin)

    return run


def test_the_terminal_shows_a_decision_and_says_what_a_replay_lacks(archive: Archive, terminal: Any) -> None:
    archive.decide(1, reasons=["R-debt"], key="ada-lovelace")
    archive.seal()
    told = terminal("decision", "show", "d1", *READS).output
    for word in ("ada-lovelace", "R-debt", "/v1/proof/", archive.champion, "ReleasePromoted by"):
        assert word in " ".join(told.split())
    assert "ada-lovelace" not in terminal("decision", "show", "d1", *READS, who="scientist").output
    assert orjson.loads(terminal("decision", "show", "d1", *READS, "--json").output)["decision_id"] == "d1"
    replayed = terminal("decision", "replay", "d1", *READS)
    assert replayed.exit_code == 1
    assert "missing bundle" in replayed.output
    assert orjson.loads(terminal("decision", "replay", "d1", *READS, "--json", who="scientist").output)["grade"] is None
    assert terminal("decision", "show", "nothing", *READS).exit_code == 2


def test_the_terminal_holds_and_erases(archive: Archive, terminal: Any) -> None:
    archive.decide(1, key="ada-lovelace")
    archive.seal()
    why = ("--reason", "asked by letter")
    assert "d1" in terminal("decision", "history", "ada-lovelace", *READS).output
    assert terminal("erase", "ada-lovelace", *why).exit_code == 3  # nobody vouches
    assert terminal("erase", "ada-lovelace", *why, "--identity-verified").exit_code == 3  # retention
    archive.later(days=RETENTION_DAYS + 1)
    assert terminal("hold", "ada-lovelace", *why).exit_code == 0
    assert terminal("erase", "ada-lovelace", *why, "--identity-verified").exit_code == 3
    assert terminal("release-hold", "ada-lovelace", *why, who="auditor").exit_code == 0
    done = terminal("erase", "-", *why, "--identity-verified", stdin="ada-lovelace\n")
    assert done.exit_code == 0
    assert "1 decisions in 1 sealed segments" in " ".join(done.output.split())
    assert "the person was erased (record" in " ".join(terminal("decision", "replay", "d1", *READS).output.split())
    assert terminal("erase", "-", *why, stdin="\n").exit_code == 2
