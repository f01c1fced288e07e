"""Keys on a running ledger: what was signed before holds, what a stolen key signs does not."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI

from lineage.backup.create import create
from lineage.backup.restore import restore
from lineage.digest import digest_folder
from lineage.errors import TamperedError
from lineage.examiner import verify as examiner
from lineage.log.checkpoint import Checkpoint, from_sector, to_sector
from lineage.log.handover import HandOver, LogKeys, handover_files
from lineage.log.reader import CHECKPOINT, VKEY
from lineage.log.signed_note import NoteError, Signer, Verifier, split
from lineage.log.signing_key import install_next, next_key, next_signer_at, public_keys, signer_at, verifier_at
from lineage.rules.draft import Draft
from lineage.service.context import PLATFORM_ACTOR, Context
from lineage.settings import Settings
from lineage.signing import BundleKeys, key_name, sign, signature_of, verify, verify_files
from lineage.verify import verify_ledger
from lineage.witness.server import create_app as create_witness
from tests.support.ledger_service import LedgerService, open_service
from tests.support.sample_facts import MODEL, FactWriter, ManualClock, sample
from tests.support.witnessed_log import ShownLog, key_of, opened, serving

REASON = "yearly rotation"


@pytest.fixture
def witness(tmp_path: Path) -> FastAPI:
    return create_witness(tmp_path / "witness", trust_first=True)


@pytest.fixture
def home(settings: Settings, witness: FastAPI) -> Iterator[Settings]:
    with serving(witness) as url:
        yield Settings(**settings.model_dump() | {"witness_url": url, "witness_seconds": 20.0})


@pytest.fixture
def service(home: Settings, clock: ManualClock) -> Iterator[LedgerService]:
    """A ledger service with a witness, where an admin is signed in."""
    with open_service(home, clock) as service:
        yield service


def ask(service: LedgerService, path: str, who: str = "admin", **body: Any) -> Any:
    given = {"reason": REASON} | body
    return service.http.post(f"/v1/keys/{path}", json=given, headers=service.headers(who))


def verified(folder: Path, key: Verifier, *more: str) -> list[Any]:
    """The problems that the examiner's program finds in a log, with this key of the log."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        examiner.main([*(more or ("log",)), str(folder), "--vkey", key.vkey, "--json"])
    problems: list[Any] = orjson.loads(said.getvalue())["problems"]
    return problems


def append(service: LedgerService, count: int = 2) -> None:
    for _ in range(count):
        service.context.ledger.append(Draft("LedgerOpened", PLATFORM_ACTOR, sample("LedgerOpened")))


def test_a_log_goes_on_under_another_key_and_every_reader_follows(
    service: LedgerService, home: Settings, tmp_path: Path
) -> None:
    append(service)
    first = service.context.ledger.verifier
    kept = tmp_path / "kept"
    kept.write_bytes(service.context.ledger.checkpoint())
    answers = [ask(service, "ledger/rotate") for _ in range(2)]
    assert [(one.status_code, one.json()["witnessed"]) for one in answers] == [(201, True)] * 2
    second, third = (Verifier.parse(one.json()["data"]["new"]["public"]) for one in answers)
    append(service)
    assert service.context.ledger.verifier == verifier_at(home.log_key) == third
    assert {first.name, second.name, third.name} == {service.context.ledger.keys.name}
    assert public_keys(home.log_key) == [third]
    for key in (first, second, third):
        assert verified(home.log_folder, key) == []
        assert verified(home.log_folder, key, "extends", str(kept)) == []
    assert verify_ledger(home).ok
    proof = tmp_path / "proof.json"
    proof.write_bytes(service.get("proof/2").content)
    for key in (first, third):
        assert verified(proof, key, "record") == []
    service.reopen()
    assert service.context.ledger.verifier == third
    assert service.context.ledger.state.away is None, "the witness knows the log by its new key"
    listed = {(one["key"], one["id"]): one for one in service.get("key-eras").json()["keys"]}
    assert listed["ledger", first.key_id.hex()]["until"] == answers[0].json()["seq"]
    assert listed["ledger", third.key_id.hex()]["until"] is None


def test_the_hand_over_is_signed_by_both_keys_and_counts_the_record(service: LedgerService, home: Settings) -> None:
    record = ask(service, "ledger/rotate").json()
    (path,) = handover_files(home.log_folder)
    handover = HandOver.parse(path.read_bytes())
    assert handover.head.size >= record["seq"]
    assert [handover.old.vkey, handover.new.vkey] == [record["data"][which]["public"] for which in ("old", "new")]
    assert not next_key(home.log_key).exists()
    data = path.read_bytes()
    for at in range(len(data)):
        with pytest.raises(NoteError):
            HandOver.parse(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_a_foreign_key_and_a_former_key_do_not_open_the_log(
    service: LedgerService, home: Settings, tmp_path: Path
) -> None:
    former = shutil.copytree(home.log_key.parent, tmp_path / "former")
    ask(service, "ledger/rotate")
    service.close()
    for keys in (former, tmp_path / "stranger"):
        copy = Settings(**home.model_dump() | {"home": tmp_path / f"with-{keys.name}"})
        shutil.copytree(home.root, copy.root)
        shutil.rmtree(copy.log_key.parent)
        if keys.exists():
            shutil.copytree(keys, copy.log_key.parent)
        with pytest.raises(TamperedError, match="restore the key that belongs to it"):
            Context(copy)
    service._open()


def test_what_a_thief_signs_with_the_former_key_is_refused(
    service: LedgerService, home: Settings, tmp_path: Path
) -> None:
    """The thief writes the log's folder and has the former private key, but not the present one."""
    first = signer_at(home.log_key)
    ask(service, "ledger/rotate")
    append(service)
    service.close()
    folder, whole = (shutil.copytree(home.log_folder, tmp_path / name) for name in ("log", "whole"))
    present = verifier_at(home.log_key)
    assert present is not None
    note = from_sector((folder / CHECKPOINT).read_bytes())
    head = Checkpoint.parse(split(note)[0])
    (folder / CHECKPOINT).write_bytes(to_sector(head.sign(first)))
    assert verified(folder, present)[0]["record"] == 0
    (folder / VKEY).write_text(first.verifier.vkey + "\n")
    for path in handover_files(folder):
        path.unlink()
    assert "does not hold the key" in verified(folder, present)[0]["problem"]
    shutil.rmtree(home.log_folder)
    shutil.copytree(folder, home.log_folder)
    assert not verify_ledger(home).ok
    shutil.rmtree(home.log_folder)
    shutil.copytree(whole, home.log_folder)
    service._open()


def test_a_hand_over_that_is_missing_or_not_on_record_is_found(
    service: LedgerService, home: Settings, tmp_path: Path
) -> None:
    ask(service, "ledger/rotate")
    present = service.context.ledger.verifier
    folder = home.log_folder
    (path,) = handover_files(folder)
    data = path.read_bytes()
    path.unlink()
    assert not verify_ledger(home).ok
    stolen, other = signer_at(home.log_key), Signer(present.name, key_of("other"))
    head = HandOver.parse(data).head
    path.write_bytes(HandOver.make(head, other, stolen).note)
    assert "not on record" in verify_ledger(home).problems[0]["problem"]
    assert "not on record" in verified(folder, present)[0]["problem"]
    path.write_bytes(data)
    assert verify_ledger(home).ok


def test_a_checkpoint_of_a_revoked_key_does_not_count(service: LedgerService, home: Settings, tmp_path: Path) -> None:
    kept = {name: tmp_path / name for name in ("early", "late")}
    kept["early"].write_bytes(service.context.ledger.checkpoint())
    stolen_at = len(service.context.ledger.records) + 1
    append(service)
    kept["late"].write_bytes(service.context.ledger.checkpoint())
    record = ask(service, "ledger/rotate").json()
    old = record["data"]["old"]["id"]
    assert ask(service, "ledger/revoke", id=old, from_record=stolen_at).status_code == 201
    present = service.context.ledger.verifier
    assert verified(home.log_folder, present, "extends", str(kept["early"])) == []
    assert "revoked" in verified(home.log_folder, present, "extends", str(kept["late"]))[0]["problem"]


@pytest.mark.parametrize("step", ["recorded", "handed over", "half installed"])
def test_a_rotation_that_a_crash_interrupted_is_finished_at_opening(
    step: str, service: LedgerService, home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(*_: object) -> None:
        raise Crash

    def half(path: Path) -> None:
        path.with_suffix(".vkey").write_text(next_key(path).with_suffix(".vkey").read_text())
        raise Crash

    if step == "recorded":
        monkeypatch.setattr(service.context.ledger, "hand_over", crash)
    elif step == "handed over":
        monkeypatch.setattr("lineage.service.key_changes.install_next", crash)
    else:
        monkeypatch.setattr("lineage.service.key_changes.install_next", half)
    person = service.context.actor_of(service.tokens["admin"])
    with pytest.raises(Crash):
        service.context.key_changes.rotate("ledger", person, REASON, None)
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", lambda _: None)
    service.context.ledger._log._broken = "a crash"
    service.context.close()
    service._open()
    expected = service.context.ledger.state.keys.in_force("ledger")
    assert expected is not None
    assert service.context.ledger.verifier.vkey == expected.public
    append(service)
    assert verify_ledger(home).ok
    assert not next_key(home.log_key).exists()


def test_a_next_key_that_is_not_on_record_is_thrown_away(service: LedgerService, home: Settings) -> None:
    next_signer_at(home.log_key)
    BundleKeys(home).prepare()
    service.reopen()
    assert not next_key(home.log_key).exists()
    assert sorted(path.name for path in home.log_key.parent.iterdir()) == [
        *("ledger.key", "ledger.vkey", "signing.key", "signing.pub")
    ]


@pytest.mark.parametrize("key", ["ledger", "bundle"])
def test_only_an_admin_changes_keys_and_a_request_counts_once(key: str, service: LedgerService) -> None:
    before = service.context.ledger.verifier, key_name(service.settings)
    for who in ("operator", "validator", "scientist", "auditor", "controller", "client"):
        assert ask(service, f"{key}/rotate", who).status_code == 403
    assert (service.context.ledger.verifier, key_name(service.settings)) == before
    headers = service.headers("admin") | {"Idempotency-Key": "once"}
    answers = [service.http.post(f"/v1/keys/{key}/rotate", json={"reason": REASON}, headers=headers) for _ in "ab"]
    assert [one.status_code for one in answers] == [201, 200]
    assert answers[0].json() == answers[1].json()
    assert ask(service, f"{key}/revoke", id=answers[0].json()["data"]["new"]["id"]).json()["code"] == "key_in_force"
    assert ask(service, "console/rotate").status_code == 422


def test_a_backup_of_a_rotated_log_is_restored(service: LedgerService, home: Settings, tmp_path: Path) -> None:
    ask(service, "ledger/rotate")
    append(service)
    create(home, tmp_path / "backup")
    again = Settings(**home.model_dump() | {"home": tmp_path / "again"})
    done = restore(tmp_path / "backup", again)
    assert (done.lost, verify_ledger(again).ok) == ([], True)
    assert handover_files(again.log_folder)


# --- the witness


def shown(folder: Path, size: int = 5) -> tuple[ShownLog, Signer]:
    log = ShownLog(size=size)
    return log, Signer(log.signer.name, key_of("next key"))


def handover_of(log: ShownLog, new: Signer, old: Signer | None = None) -> HandOver:
    head = Checkpoint(log.signer.name, len(log.tree), log.tree.root())
    return HandOver.make(head, old or log.signer, new)


def body(log: ShownLog, note: bytes, old: int) -> bytes:
    offer = log.offer(old)
    return type(offer)(old, offer.proof, note).body


def test_a_witness_pins_a_new_key_only_where_the_pinned_one_signed_it_over(tmp_path: Path) -> None:
    log, new = shown(tmp_path)
    stranger = Signer(new.name, key_of("stranger"))
    with opened(tmp_path / "w", trust_first=True) as witness:
        witness.introduce(log.signer.verifier.vkey)
        witness.add_checkpoint(log.body(0))
        log.grow(2)
        with pytest.raises(Exception, match="another key"):
            witness.hand_over(body(log, handover_of(log, new, stranger).note, 5))
        forged = handover_of(log, new).note.replace(b"from ", b"from  ")
        with pytest.raises(Exception, match="no hand-over"):
            witness.hand_over(body(log, forged, 5))
        other = ShownLog(size=0).grow(7, "other")
        with pytest.raises(Exception, match="continue"):
            witness.hand_over(body(other, handover_of(other, new).note, 5))
        assert witness.logs()[new.name] == log.signer.verifier
        assert witness.hand_over(body(log, handover_of(log, new).note, 5)) == new.verifier
        former = log.signer
        log.grow(1)
        with pytest.raises(Exception, match="no signature"):
            witness.add_checkpoint(log.body(5))
        log.signer = new
        witness.add_checkpoint(log.body(5))
        log.signer = former
        with pytest.raises(Exception, match="another key"):
            witness.hand_over(body(log, handover_of(log, stranger).note, 8))


def test_keys_sign_for_the_sizes_of_their_era_only() -> None:
    log, new = shown(Path())
    keys = LogKeys(log.signer.verifier, (handover_of(log, new),))
    for size, signer, holds in [(3, log.signer, True), (5, log.signer, True), (5, new, True), (3, new, False)]:
        note = Checkpoint(new.name, size, log.tree.root(size)).sign(signer)
        if holds:
            assert keys.signer_of(note) == signer.verifier
        else:
            with pytest.raises(NoteError):
                keys.signer_of(note)
    log.grow(1)
    with pytest.raises(NoteError):
        keys.signer_of(log.note())


# --- bundles


def bundle(home: Settings, content: bytes) -> tuple[Path, str]:
    folder = home.artefacts / "draft"
    folder.mkdir(parents=True)
    (folder / "model.ubj").write_bytes(content)
    told = sample("ModelTrained")
    said = {name: told[name] for name in ("family", "threshold", "policy_digest")} | {"model": MODEL}
    said["features"] = [{"name": name} for name in told["features"]]
    (folder / "release.json").write_bytes(orjson.dumps(said))
    digest = digest_folder(folder)
    folder = folder.rename(folder.with_name(digest.removeprefix("sha256:")))
    sign(folder, home)
    return folder, digest


def load(folder: Path, home: Settings) -> str | None:
    """The words with which loading is refused; None if it is not."""
    files = {name: (folder / name).read_bytes() for name in ("model.ubj", "release.json")}
    try:
        verify_files(folder.name, files, signature_of(folder), home)
    except TamperedError as error:
        return error.message
    return None


def champion(writer: FactWriter, digest: str, key: str) -> str:
    release = writer.train(digest=digest, signature_key=key)
    writer.check(release)
    writer.record("CandidateValidated", release)
    writer.record("ReleaseRegistered", release, digest=digest)
    return writer.promote(writer.rollout(writer.approve(writer.to_review(writer.canary(release)))))


def test_a_bundle_holds_in_the_era_of_its_key_and_not_once_the_key_is_distrusted(
    service: LedgerService, home: Settings
) -> None:
    first_key = key_name(home)
    folder, digest = bundle(home, b"first")
    release = champion(service.writer, digest, first_key)
    rotated = ask(service, "bundle/rotate").json()
    assert key_name(home) == rotated["data"]["new"]["id"] != first_key
    assert load(folder, home) is None
    verify(folder, home, key_id=first_key)
    verify(folder, home)
    with pytest.raises(TamperedError):
        verify(folder, home, key_id=key_name(home))
    newer, _ = bundle(home, b"second")
    assert load(newer, home) is None
    assert ask(service, "bundle/revoke", id=first_key).status_code == 201
    assert load(folder, home) is None, "it was registered before"
    assert service.context.ledger.state.models[MODEL].alert("signing_key_revoked", release) is None
    assert ask(service, "bundle/revoke", id=first_key, from_record=1).status_code == 201
    assert "revoked" in str(load(folder, home))
    with pytest.raises(TamperedError, match="revoked"):
        verify(folder, home)
    alert = service.context.ledger.state.models[MODEL].alert("signing_key_revoked", release)
    assert alert is not None
    assert "plimsoll rollback" in alert.summary
    assert alert.closes == f"another champion than {release}"
    assert verify_ledger(home).ok, "the record itself is what it was"
    service.reopen()
    assert "revoked" in str(load(folder, home))


def test_a_bundle_registered_after_its_key_was_stolen_is_not_loaded(service: LedgerService, home: Settings) -> None:
    first_key = key_name(home)
    honest, digest = bundle(home, b"honest")
    champion(service.writer, digest, first_key)
    stolen_at = len(service.context.ledger.records) + 1
    forged, other = bundle(home, b"forged")
    champion(service.writer, other, first_key)
    ask(service, "bundle/rotate")
    assert ask(service, "bundle/revoke", id=first_key, from_record=stolen_at).status_code == 201
    assert load(honest, home) is None
    assert "revoked before it was registered" in str(load(forged, home))
    assert service.context.ledger.state.models[MODEL].alerts[-1].alert == "signing_key_revoked"


def test_install_is_finished_where_only_the_public_half_was_replaced(settings: Settings) -> None:
    signer_at(settings.log_key)
    new = next_signer_at(settings.log_key)
    settings.log_key.with_suffix(".vkey").write_text(new.verifier.vkey + "\n")
    assert signer_at(settings.log_key).verifier == new.verifier
    later = next_signer_at(settings.log_key)
    assert public_keys(settings.log_key) == [new.verifier, later.verifier]
    install_next(settings.log_key)
    assert signer_at(settings.log_key).verifier == later.verifier
