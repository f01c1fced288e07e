"""Verification names the first record that is not what was recorded, whatever stored bytes were changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lineage.digest import canonical, digest_file, digest_folder
from lineage.errors import TamperedError
from lineage.facts.eras import LATEST
from lineage.ledger import Ledger
from lineage.lifecycle import State
from lineage.log.checkpoint import Checkpoint, from_sector, to_sector
from lineage.log.merkle import Tree, leaf_hash
from lineage.log.reader import CHECKPOINT, ZERO, segments
from lineage.log.signed_note import Signer
from lineage.log.signing_key import signer_at
from lineage.settings import Settings
from lineage.signing import make_keys, sign, signature_of
from lineage.verify import verify_ledger
from tests.support.accounts import begin_era_3
from tests.support.sample_facts import MODEL, FactWriter, ManualClock, sample

Damage = Callable[[list[bytes], int], list[bytes]]


@pytest.fixture
def told(settings: Settings, quick: None) -> Settings:
    """A home whose log of several segments holds a short story."""
    ledger = Ledger(settings.log_folder, clock=ManualClock(), segment_bytes=4_000, signer=signer_at(settings.log_key))
    FactWriter(ledger).bring(State.REJECTED)
    FactWriter(ledger, "other").bring(State.REJECTED)
    ledger.close()
    result = verify_ledger(settings)
    assert result.ok
    assert result.records == len(stored(settings.log_folder)) == 8
    assert len(segments(settings.log_folder)) > 1
    return settings


def stored(folder: Path) -> list[bytes]:
    return b"".join(path.read_bytes() for path in segments(folder)).splitlines(keepends=True)


def store(folder: Path, changed: list[bytes]) -> None:
    first, *others = segments(folder)
    for path in others:
        path.unlink()
    first.write_bytes(b"".join(changed))


def first_problem(settings: Settings) -> int:
    result = verify_ledger(settings)
    assert not result.ok
    assert result.problems[0]["problem"]
    number: int = result.problems[0]["record"]
    return number


def flip(lines: list[bytes], n: int, at: int = 30) -> list[bytes]:
    changed = bytearray(lines[n])
    changed[at] ^= 1
    return [*lines[:n], bytes(changed), *lines[n + 1 :]]


DAMAGES: dict[str, Damage] = {
    "one bit flipped": flip,
    "line deleted": lambda lines, n: lines[:n] + lines[n + 1 :],
    "line doubled": lambda lines, n: [*lines[:n], lines[n], *lines[n:]],
    "end cut": lambda lines, n: lines[:n],
    "last byte cut": lambda lines, n: [*lines[:n], lines[n][:-1]],
    "half a line cut": lambda lines, n: [*lines[:n], lines[n][: len(lines[n]) // 2]],
    "a byte inserted": lambda lines, n: [*lines[:n], lines[n][:40] + b" " + lines[n][40:], *lines[n + 1 :]],
    "a byte deleted": lambda lines, n: [*lines[:n], lines[n][:40] + lines[n][41:], *lines[n + 1 :]],
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_each_record_is_named_when_it_was_damaged(damage: str, told: Settings) -> None:
    whole = stored(told.log_folder)
    for n in range(len(whole)):
        store(told.log_folder, DAMAGES[damage](whole, n))
        doubled = damage == "line doubled"
        if doubled and n == len(whole) - 1:
            assert first_problem(told) == n + 2
            continue
        assert first_problem(told) == n + (2 if doubled else 1), f"{damage} in record {n + 1}"
        with pytest.raises(TamperedError):
            Ledger(told.log_folder, signer=signer_at(told.log_key))


def test_any_single_byte_of_the_log(told: Settings) -> None:
    whole = stored(told.log_folder)
    for n in range(len(whole)):
        for at in range(0, len(whole[n]), 17):
            store(told.log_folder, flip(whole, n, at))
            assert first_problem(told) == n + 1, f"byte {at} of record {n + 1}"


def test_swapped_lines(told: Settings) -> None:
    whole = stored(told.log_folder)
    for n in range(len(whole) - 1):
        store(told.log_folder, [*whole[:n], whole[n + 1], whole[n], *whole[n + 2 :]])
        assert first_problem(told) == n + 1


def test_a_deleted_segment(told: Settings, tmp_path: Path) -> None:
    for number, path in enumerate(segments(told.log_folder)):
        copy = shutil.copytree(told.root, tmp_path / f"copy-{number}")
        (copy / "ledger" / "log" / path.name).unlink()
        assert first_problem(Settings(home=copy)) == int(path.stem)


def test_a_checkpoint_that_is_gone_or_forged(told: Settings, tmp_path: Path) -> None:
    path = told.log_folder / CHECKPOINT
    good = path.read_bytes()
    stranger = signer_at(tmp_path / "stranger.key")
    forged = Checkpoint(stranger.name, 8, bytes(32)).sign(stranger)
    for bad in (b"", b"nonsense", good[:-2], good + b"\n", to_sector(forged), good.replace(b"\n8\n", b"\n7\n")):
        path.write_bytes(bad)
        assert first_problem(told) == 0, bad
    path.unlink()
    assert first_problem(told) == 0
    path.write_bytes(good)
    assert verify_ledger(told).ok


def test_any_single_byte_of_the_checkpoint(told: Settings) -> None:
    path = told.log_folder / CHECKPOINT
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert not verify_ledger(told).ok, f"byte {at}"


def test_a_log_signed_anew_by_another_key(told: Settings, tmp_path: Path) -> None:
    stranger = signer_at(tmp_path / "stranger.key")
    lines, checkpoint = rechained(stored(told.log_folder), lambda record: None, 0, stranger)
    store(told.log_folder, lines)
    (told.log_folder / CHECKPOINT).write_bytes(checkpoint)
    (told.log_folder / "vkey").write_text(stranger.verifier.vkey + "\n")
    assert not verify_ledger(told).ok
    with pytest.raises(TamperedError, match="restore the key"):
        Ledger(told.log_folder, signer=signer_at(told.log_key))


def rechained(
    lines: list[bytes], change: Callable[[dict[str, object]], None], n: int, signer: Signer
) -> tuple[list[bytes], bytes]:
    """What somebody would store who knows how the chain is made and has the key."""
    prev, made, tree = ZERO, [], Tree()
    for number, line in enumerate(lines):
        record = orjson.loads(line)
        if number == n:
            change(record)
        made.append(canonical(record | {"prev": prev}) + b"\n")
        tree.append(leaf_hash(made[-1][:-1]))
        prev = tree.leaf(number).hex()
    return made, to_sector(Checkpoint(signer.name, len(made), tree.root()).sign(signer))


@pytest.mark.parametrize(
    "change",
    [
        {"actor": {"name": "scientist", "role": "scientist"}},
        {"kind": "ReleasePromoted"},
        {"kind": "Nonsense"},
        {"data": {}},
        {"data": None},
        {"actor": None},
        {"model": None},
        {"model": 5},
        {"release": "credit-default@7"},
        {"reason": 5},
        {"extra": 1},
        {"seq": "1"},
        {"v": 3},
        {"v": True},
    ],
    ids=str,
)
def test_a_chain_made_anew_around_an_illegal_record(change: dict[str, object], told: Settings) -> None:
    signer = signer_at(told.log_key)
    lines, checkpoint = rechained(stored(told.log_folder), lambda record: record.update(change), 1, signer)
    store(told.log_folder, lines)
    (told.log_folder / CHECKPOINT).write_bytes(checkpoint)
    assert first_problem(told) == 2


def test_no_log_is_not_a_verified_log(settings: Settings) -> None:
    assert not verify_ledger(settings).ok
    Ledger(settings.log_folder).close()
    assert not verify_ledger(settings).ok


def test_a_verified_log_may_grow_meanwhile(settings: Settings, quick: None) -> None:
    ledger = Ledger(settings.log_folder)
    writer = FactWriter(ledger)
    for _ in range(5):
        writer.train()
        assert verify_ledger(settings).ok, "the service need not be stopped"
    ledger.close()


FEATURES = ["income", "debt"]


def statement() -> dict[str, Any]:
    """What a bundle has to say about the release of the sample."""
    trained = sample("ModelTrained")
    said = {name: trained[name] for name in ("family", "threshold", "policy_digest")}
    return said | {"model": MODEL, "features": [{"name": name} for name in FEATURES]}


OTHERWISE: dict[str, tuple[dict[str, Any], str]] = {
    "another model": ({"model": "other"}, "says that model is 'other'"),
    "another threshold": ({"threshold": 0.99}, "says that threshold is 0.99"),
    "another policy": ({"policy_digest": "sha256:" + "0" * 64}, "says that policy_digest is"),
    "features in another order": ({"features": statement()["features"][::-1]}, "says that features is"),
    "one feature fewer": ({"features": statement()["features"][1:]}, "says that features is"),
    "no statement": ({"features": None}, "does not state what a release is"),
}


@pytest.mark.parametrize("era", [1, LATEST])
@pytest.mark.parametrize("case", OTHERWISE)
def test_a_signed_bundle_that_says_other_things_than_its_facts_is_named(
    settings: Settings, quick: None, case: str, era: int
) -> None:
    make_keys(settings)
    folder = settings.artefacts / "draft"
    folder.mkdir(parents=True)
    (folder / "release.json").write_bytes(orjson.dumps(statement() | OTHERWISE[case][0]))
    name = digest_folder(folder)
    sign(folder.rename(folder.with_name(name.removeprefix("sha256:"))), settings)
    ledger = Ledger(settings.log_folder)
    if era == LATEST:
        begin_era_3(ledger)
    writer = FactWriter(ledger)
    release = writer.train(digest=name, features=FEATURES)
    writer.check(release)
    writer.record("CandidateValidated", release)
    registered = writer.record("ReleaseRegistered", release, digest=name)["seq"]
    ledger.close()
    problems = verify_ledger(settings).problems
    if case == "no statement" and era < 3:
        assert problems == [], "what an earlier version registered is judged as it was then"
        return
    (problem,) = problems
    assert problem["record"] == registered
    assert OTHERWISE[case][1] in problem["problem"]


def test_sealed_segments_and_bundles_are_what_facts_say(settings: Settings, quick: None) -> None:
    make_keys(settings)
    folder = settings.artefacts / "draft"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text("{}")
    (folder / "release.json").write_bytes(orjson.dumps(statement()))
    name = digest_folder(folder)
    folder = folder.rename(folder.with_name(name.removeprefix("sha256:")))
    sign(folder, settings)
    ledger = Ledger(settings.log_folder)
    writer = FactWriter(ledger)
    release = writer.train(digest=name, features=FEATURES)
    writer.check(release)
    writer.record("CandidateValidated", release)
    registered = writer.record("ReleaseRegistered", release, digest=name)["seq"]
    uri = f"decisions/{MODEL}/one.parquet"
    segment = settings.root / uri
    segment.parent.mkdir(parents=True)
    pl.DataFrame({name: ["x"] for name in ("type", "decision_id", "at", "model")}).write_parquet(segment)
    sealed = writer.record("DecisionsSealed", segment="one", uri=uri, digest=digest_file(segment))["seq"]
    ledger.close()
    assert (verify_ledger(settings).ok, verify_ledger(settings).segments, verify_ledger(settings).bundles) == (
        True,
        1,
        1,
    )

    def damaged(path: Path, content: bytes | None) -> int:
        keep = path.read_bytes() if path.exists() else None
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        number = first_problem(settings)
        path.unlink(missing_ok=True)
        if keep is not None:
            path.write_bytes(keep)
        assert verify_ledger(settings).ok
        return number

    assert damaged(segment, b"PAR1 rowz PAR1") == sealed
    assert damaged(segment, None) == sealed
    for path in (folder / "model.json", folder / "release.json"):
        assert damaged(path, b"[]") == registered
        assert damaged(path, None) == registered
    assert damaged(folder / "added.json", b"{}") == registered
    signature = signature_of(folder)
    good = signature.read_bytes()
    for at in range(0, len(good), max(1, len(good) // 6)):
        assert damaged(signature, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]) == registered
    for forged in (b"", b"{}", b"null", b"[]", None):
        assert damaged(signature, forged) == registered


def cosign(home: Settings) -> bytes:
    """Have a witness cosign the newest checkpoint of a log that is not open; returns the note that is kept."""
    witness = Signer("witness.example/one", Ed25519PrivateKey.from_private_bytes(b"w" * 32), cosigns=True)
    note = from_sector((home.log_folder / CHECKPOINT).read_bytes())
    home.witness_pin.write_text(f"{witness.verifier.vkey}\n")
    home.cosigned.write_bytes(note + witness.cosign(note, 1_800_000_000))
    return home.cosigned.read_bytes()


def test_any_single_byte_of_the_cosigned_checkpoint(told: Settings) -> None:
    good = cosign(told)
    assert verify_ledger(told).ok
    assert verify_ledger(told).cosigned == 8
    for at in range(len(good)):
        told.cosigned.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert first_problem(told) == 0, f"byte {at}"


def test_a_log_that_does_not_continue_what_the_witness_cosigned(told: Settings, tmp_path: Path) -> None:
    """The log is cut or written anew with its own key, so that all else is in order."""
    cosign(told)
    signer, whole = signer_at(told.log_key), stored(told.log_folder)
    tree = Tree()
    tree.extend([leaf_hash(line.rstrip(b"\n")) for line in whole[:-2]])
    store(told.log_folder, whole[:-2])
    (told.log_folder / CHECKPOINT).write_bytes(to_sector(Checkpoint(signer.name, 6, tree.root()).sign(signer)))
    assert first_problem(told) == 7
    told.cosigned.unlink()
    assert verify_ledger(told).ok
    other = Checkpoint(signer.name, 6, bytes(32)).sign(signer)
    told.cosigned.write_bytes(other)
    told.witness_pin.unlink()
    assert first_problem(told) == 0
    stranger = signer_at(tmp_path / "stranger.key")
    told.cosigned.write_bytes(Checkpoint(signer.name, 6, tree.root()).sign(Signer(signer.name, stranger.private)))
    assert first_problem(told) == 0
