"""Erasing a person: permission, legal holds, the answer, and that nothing links to the person afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lineage.errors import InvalidError, UnavailableError
from lineage.facts.eras import LATEST
from lineage.privacy.affected_data import AffectedData
from lineage.privacy.erasure import RETENTION_DAYS
from lineage.privacy.key_vault import Vault
from lineage.settings import Settings
from lineage.verify import verify_ledger
from tests.support.decision_archive import Archive, open_archive
from tests.support.decision_records import decision
from tests.support.sample_facts import MODEL, ManualClock

Json = dict[str, Any]
WHY = {"reason": "asked in writing", "identity_verified": True}
YEARS_LATER = {"days": RETENTION_DAYS + 1}


@pytest.fixture
def archive(settings: Settings, clock: ManualClock) -> Iterator[Archive]:
    with open_archive(settings, clock) as archive:
        yield archive


def aged(archive: Archive) -> Archive:
    """With decisions about ada and grace that nobody has to keep any longer."""
    for number in range(6):
        archive.decide(number, key=["ada-lovelace", "grace-hopper"][number % 2])
        archive.seal()
    archive.later(**YEARS_LATER)
    archive.service.news()
    return archive


@pytest.fixture
def old(archive: Archive) -> Archive:
    return aged(archive)


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with open_archive(Settings(home=tmp_path_factory.mktemp("shared") / "var"), ManualClock()) as archive:
        yield aged(archive)


@pytest.fixture
def untouched(_shared: Archive) -> Iterator[Archive]:
    """As `old`, shared by the tests of what is refused: afterwards everything about ada is there as before."""
    _shared.service.news()
    yield _shared
    assert _shared.history("ada-lovelace") == ["d0", "d2", "d4"]
    assert _shared.show("d0")["subject"]["key"] == "ada-lovelace"


def kinds(archive: Archive) -> list[str]:
    """Kinds of the newest records, but for those of starting and signing in."""
    quiet = ("SignedIn", "LedgerOpened")
    return [record["kind"] for record in archive.service.news() if record["kind"] not in quiet]


def last_refusal(archive: Archive) -> Json:
    record: Json = archive.service.context.ledger.records.find(kinds=["ActionRefused"]).records[-1]
    return record


def log_bytes(settings: Settings) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(settings.log_folder.glob("*.jsonl")))


def test_an_operator_erases_one_person_and_the_record_verifies_as_before(old: Archive, settings: Settings) -> None:
    pseudonym = old.subjects.vault.existing_pseudonym("ada-lovelace")
    segments = {path: path.read_bytes() for path in settings.decisions.rglob("*.parquet")}
    told = old.ask("erase", "ada-lovelace", "operator", 201, **WHY)
    assert kinds(old) == ["SubjectErased"]
    assert (told["data"]["decisions"], told["data"]["segments"], told["data"]["releases"]) == (3, 3, 1)
    assert (told["data"]["by"], told["data"]["role"], told["reason"]) == ("operator", "operator", "asked in writing")
    assert told["actor"] == {"id": "ledger", "name": "ledger", "role": "platform"}
    assert told["touched"]["decisions"] == ["d0", "d2", "d4"]
    assert told["touched"]["decided_by"] == [old.champion]
    assert told["touched"]["models"] == [MODEL]

    # what was decided stays, whom it was about is gone
    shown = old.show("d2")
    assert (shown["decision"], shown["score"], shown["subject"]["standing"]) == ("approve", 0.2, "erased")
    assert [shown["subject"][name] for name in ("key", "features", "reasons", "key_hash_share")] == [None] * 4
    assert shown["subject"]["erased"] == {"at": told["at"], "record": told["seq"]}
    assert old.show("d1")["subject"]["key"] == "grace-hopper"
    assert old.history("ada-lovelace") == []
    assert old.history("grace-hopper") == ["d1", "d3", "d5"]

    # no byte of record or segments has changed, and nothing on record leads to the person
    assert {path: path.read_bytes() for path in settings.decisions.rglob("*.parquet")} == segments
    assert [one for one in verify_ledger(settings).problems if "segment" in one["problem"]] == []
    assert verify_ledger(settings).segments == 6
    held = log_bytes(settings)
    assert not [word for word in (b"ada-", b"lovelace", str(pseudonym).encode()) if word in held]


def test_the_commitment_can_be_recomputed_only_while_the_salt_is_there(old: Archive) -> None:
    vault = old.subjects.vault
    name = vault.existing_pseudonym("ada-lovelace") or ""
    before = vault.commitment(name)
    told = old.ask("erase", "ada-lovelace", "operator", 201, **WHY)
    assert told["data"]["commitment"] == before
    again = vault.pseudonym("ada-lovelace")  # the person comes back
    assert vault.commitment(again) != before


@pytest.mark.parametrize("who", ["scientist", "validator", "auditor", "controller"])
def test_only_an_operator_erases(untouched: Archive, who: str) -> None:
    assert untouched.ask("erase", "ada-lovelace", who, 403, **WHY)["code"] == "role"
    assert kinds(untouched) == ["ActionRefused"]
    assert last_refusal(untouched)["data"]["attempted"] == "SubjectErased platform"
    assert untouched.show("d0")["subject"]["key"] == "ada-lovelace"


def test_a_client_is_turned_away_at_the_door(untouched: Archive) -> None:
    assert untouched.ask("erase", "ada-lovelace", "client", 403, **WHY)["code"] == "role"


@pytest.mark.parametrize("verified", [{}, {"identity_verified": False}])
def test_nobody_is_erased_whose_identity_nobody_verified(untouched: Archive, verified: Json) -> None:
    told = untouched.ask("erase", "ada-lovelace", "operator", 403, reason="asked by telephone", **verified)
    assert (told["code"], told["field"]) == ("identity", "identity_verified")
    assert last_refusal(untouched)["data"]["code"] == "identity"
    assert untouched.show("d0")["subject"]["standing"] == "readable"


@pytest.mark.parametrize("everybody", ["*", " * ", "%", "**", "?", "   "])
def test_everybody_at_once_is_no_subject(untouched: Archive, everybody: str) -> None:
    assert untouched.ask("erase", everybody, "operator", 422, **WHY)["field"] == "subject"
    assert kinds(untouched) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"subject": ["ada-lovelace"]}, "subject"),
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 201}, "subject"),
        ({"subject": "ada-lovelace", "reason": "  "}, "reason"),
        ({"subject": "ada-lovelace", "identity_verified": "yes"}, "identity_verified"),
        ({"subject": "ada-lovelace", "all": True}, "all"),
    ],
)
def test_a_wrong_body_is_named(untouched: Archive, body: Json, field: str) -> None:
    sent = WHY | body
    assert untouched.ask("erase", sent.pop("subject"), "operator", 422, **sent)["field"] == field
    assert kinds(untouched) == []


@pytest.mark.parametrize("verb", ["erase", "hold", "release-hold"])
def test_an_unknown_subject_is_unknown(untouched: Archive, verb: str) -> None:
    who = "auditor" if verb == "release-hold" else "operator"
    body = WHY if verb == "erase" else {"reason": "a court asks"}
    told = untouched.ask(verb, "nobody", who, 404, **body)
    assert (told["code"], told["field"]) == ("unknown", "subject")
    assert kinds(untouched) == ["PersonalDataRead"], "that nobody is known under a name is an answer, too"


@pytest.mark.parametrize(
    ("reason", "key"),
    [("Ada-Lovelace asked", None), ("about ADA-LOVELACE.", None), ("asked", "erase ada-lovelace")],
)
def test_a_reason_or_key_that_names_the_person_never_reaches_the_record(
    untouched: Archive, reason: str, key: str | None
) -> None:
    for who in ("operator", "scientist"):
        body = {"reason": reason, "identity_verified": True}
        told = untouched.ask("erase", "ada-lovelace", who, 422, key, **body)
        assert told["field"] == ("reason" if key is None else "Idempotency-Key")
    assert kinds(untouched) == []
    assert b"lovelace" not in log_bytes(untouched.settings).lower()


def test_a_short_name_is_looked_for_as_a_word(archive: Archive) -> None:
    archive.decide(1, key="17")
    archive.seal()
    archive.later(**YEARS_LATER)
    archive.ask("erase", "17", "operator", 422, reason="case 17", identity_verified=True)
    archive.ask("erase", "17", "operator", 201, reason="case A171 of 2017", identity_verified=True)


# What the law says


def test_retention_comes_first_and_says_which_law_and_until_when(archive: Archive) -> None:
    archive.decide(1, key="ada")
    archive.later(days=100)
    archive.decide(2, key="ada")  # not sealed yet, and counts
    archive.seal()
    archive.decide(3, key="ada", purpose="verification")
    until = str((archive.service.clock() + timedelta(days=RETENTION_DAYS)).date())
    archive.service.news()
    for days in (0, 661, 100):
        archive.later(days=days)
        told = archive.ask("erase", "ada", "operator", 409, **WHY)
        assert told["code"] == "retention"
        assert told["until"] == until
        assert "12 CFR 1002.12(b)" in told["ground"]
        assert f"until {until}" in told["error"]
    assert kinds(archive) == ["ActionRefused"] * 3
    assert archive.history("ada") == ["d1", "d2", "d3"]
    archive.later(days=2)
    archive.ask("erase", "ada", "operator", 201, **WHY)


def test_the_policy_of_each_release_says_how_long_it_is_kept(archive: Archive) -> None:
    policy = archive.service.writer.policy
    archive.service.writer.policy = policy | {
        "records": {"retention_days": 1825, "retention_law": "MiFID II Art. 16(7)"}
    }
    long = archive.service.writer.train()
    archive.service.writer.policy = policy | {"records": {"retention_days": 0}}
    none = archive.service.writer.train()
    archive.decide(1, key="ada", release=none)
    archive.decide(2, key="grace", release=none)
    archive.decide(3, key="grace", release=long)
    archive.decide(4, key="alan", release="forgotten@1")
    archive.seal()
    archive.later(days=1)
    archive.ask("erase", "ada", "operator", 201, **WHY)
    told = archive.ask("erase", "grace", "operator", 409, **WHY)
    assert (told["ground"], told["until"]) == ("MiFID II Art. 16(7)", "2031-11-22")
    assert "1002.12" in archive.ask("erase", "alan", "operator", 409, **WHY)["ground"]


def test_a_retention_that_cannot_be_read_is_no_default(archive: Archive) -> None:
    archive.service.writer.policy = archive.service.writer.policy | {"records": {"retention_days": "25 months"}}
    with pytest.raises(InvalidError, match="retention_days"):
        archive.service.writer.train()
    archive.service.context.ledger.state.era = 1  # of which such a policy may be on record
    release = archive.service.writer.train()
    archive.service.context.ledger.state.era = LATEST
    archive.decide(1, key="ada", release=release)
    archive.later(**YEARS_LATER)
    assert archive.ask("erase", "ada", "operator", 404, **WHY)  # spooled, and no controller has given a key yet
    archive.seal()
    assert archive.ask("erase", "ada", "operator", 422, **WHY)["field"] == "records.retention_days"


def test_a_hold_forbids_the_erasure_until_an_auditor_releases_it(old: Archive, settings: Settings) -> None:
    placed = old.ask("hold", "ada-lovelace", "operator", 201, reason="a court asks for it")
    assert placed["kind"] == "HoldPlaced"
    assert placed["data"]["by"] == "operator"
    told = old.ask("erase", "ada-lovelace", "operator", 409, **WHY)
    assert (told["code"], told["record"], told["until"]) == ("hold", placed["seq"], None)
    assert "Art. 17(3)(e)" in told["ground"]
    assert old.ask("hold", "ada-lovelace", "auditor", 409, reason="another court")["code"] == "hold"
    old.ask("erase", "grace-hopper", "operator", 201, **WHY)  # nobody else is held

    old.reopen()  # the hold is on record, not in somebody's memory
    assert old.ask("erase", "ada-lovelace", "operator", 409, **WHY)["code"] == "hold"
    assert old.ask("release-hold", "ada-lovelace", "operator", 403, reason="the case is closed")["code"] == "role"
    released = old.ask("release-hold", "ada-lovelace", "auditor", 201, reason="the case is closed")
    assert released["data"]["placed"] == placed["seq"]
    assert released["data"]["commitment"] == placed["data"]["commitment"]
    assert old.ask("release-hold", "ada-lovelace", "auditor", 409, reason="again")["code"] == "no_hold"
    old.ask("erase", "ada-lovelace", "operator", 201, **WHY)
    assert b"lovelace" not in log_bytes(settings)


@pytest.mark.parametrize(("verb", "who"), [("hold", "scientist"), ("hold", "validator"), ("release-hold", "operator")])
def test_holds_are_for_who_may(untouched: Archive, verb: str, who: str) -> None:
    assert untouched.ask(verb, "ada-lovelace", who, 403, reason="because")["code"] == "role"
    assert kinds(untouched) == ["ActionRefused"]


def test_no_service_states_that_somebody_was_erased(old: Archive) -> None:
    vault = old.subjects.vault
    data = {
        "commitment": vault.commitment(vault.existing_pseudonym("ada-lovelace") or ""),
        "by": "x",
        "role": "operator",
    }
    counts = dict.fromkeys(("decisions", "segments", "plain", "datasets", "releases"), 0)
    facts = {"HoldPlaced": {}, "HoldReleased": {"placed": 1}, "SubjectErased": {"ground": "none", **counts}}
    for kind, more in facts.items():
        sent = {"kind": kind, "data": data | more}
        answer = old.service.http.post("/v1/facts", json=sent, headers=old.service.headers("controller"))
        assert (answer.status_code, answer.json()["code"]) == (403, "role")
    old.reopen()
    assert old.show("d0")["subject"]["standing"] == "readable"


# What is told


def test_the_data_sets_that_hold_the_person_and_what_was_trained_on_them_are_named(
    archive: Archive, settings: Settings
) -> None:
    place = settings.datasets / "people"
    for version, keys in enumerate([[1, 2, 3], [2, 3, 4], [3, 4, 5]]):
        pl.DataFrame({"income": [1.0, 2.0, 3.0], "ID": keys}).write_delta(str(place), mode="overwrite")
        pl.DataFrame({"ID": keys, "SEX": [1, 2, 1]}).write_delta(f"{place}-protected", mode="overwrite")
        pinned = {"dataset": "people", "uri": place.as_uri(), "version": version, "columns": ["income", "ID"]}
        archive.service.writer.record("DatasetPinned", **pinned, rows=3, digest="sha256:0")
    gone = {"dataset": "gone", "uri": "datasets/gone", "version": 0, "columns": ["ID"], "rows": 3, "digest": "x"}
    archive.service.writer.record("DatasetPinned", **gone)
    dataset = {"uri": place.as_uri(), "version": 1, "digest": "sha256:0", "protected": {"version": 1, "digest": "x"}}
    trained = archive.service.writer.train(dataset=dataset)
    archive.service.writer.train(dataset=dataset | {"version": 2, "protected": {"version": 2, "digest": "x"}})
    archive.decide(1, key="2")
    archive.seal()
    archive.later(**YEARS_LATER)

    told = archive.ask("erase", "2", "operator", 201, **WHY)["touched"]
    found = {(one["dataset"], one["version"]): one["rows"] for one in told["datasets"]}
    assert found == {
        ("people", 0): 1,
        ("people", 1): 1,
        ("people-protected", 1): 1,
        ("gone", 0): None,  # it may hold the person: nobody can look
        ("credit-default", 3): None,  # as the example releases name it
    }
    assert told["trained_on"][-1] == trained
    assert archive.ask("erase", "5", "operator", 404, **WHY)["datasets"][-1]["rows"] == 1


def test_decisions_from_before_there_were_keys_are_named_as_what_stays(old: Archive) -> None:
    row = decision(20, key="ada-lovelace", at="2026-11-23T09:00:00+00:00", model=MODEL, release=old.champion)
    old.seal_plain([row])
    told = old.ask("erase", "ada-lovelace", "operator", 201, **WHY)
    assert (told["data"]["decisions"], told["data"]["plain"]) == (4, 1)
    assert told["touched"]["plain"] == ["d20"]
    assert old.show("d20")["subject"]["key"] == "ada-lovelace"
    assert old.show("d0")["subject"]["key"] is None


def test_what_is_touched_is_json() -> None:
    told = AffectedData(decided_by=["a@1", "a@2"], trained_on=["b@1"]).to_dict()
    assert told["models"] == ["a", "b"]


# What can go wrong


def test_the_same_request_again_gives_the_first_record(old: Archive) -> None:
    first = old.ask("erase", "ada-lovelace", "operator", 201, "k1", **WHY)
    again = old.ask("erase", "ada-lovelace", "operator", 200, "k1", **WHY)
    assert (again["seq"], again["touched"]) == (first["seq"], None)
    assert kinds(old) == ["SubjectErased"]
    for changed in ({"reason": "asked again"}, {}):
        subject = "ada-lovelace" if changed else "grace-hopper"
        assert old.ask("erase", subject, "operator", 409, "k1", **WHY | changed)["code"] == "key_reused"
    assert old.ask("hold", "grace-hopper", "operator", 409, "k1", reason=WHY["reason"])["code"] == "key_reused"
    assert old.ask("hold", "grace-hopper", "auditor", 201, "k1", reason="other people's keys are their own")
    old.reopen()
    assert old.ask("erase", "ada-lovelace", "operator", 200, "k1", **WHY)["seq"] == first["seq"]
    assert old.ask("erase", "ada-lovelace", "operator", 404, "k2", **WHY)["code"] == "unknown"


def test_holds_take_an_idempotency_key_too(old: Archive) -> None:
    body = {"reason": "a court asks"}
    first = old.ask("hold", "ada-lovelace", "auditor", 201, "k1", **body)
    assert old.ask("hold", "ada-lovelace", "auditor", 200, "k1", **body) == first
    released = old.ask("release-hold", "ada-lovelace", "auditor", 201, "k2", **body)
    assert old.ask("release-hold", "ada-lovelace", "auditor", 200, "k2", **body) == released


def test_an_erasure_cut_short_between_record_and_key_is_finished(old: Archive, monkeypatch: Any) -> None:
    def broken(*asked: Any, **how: Any) -> Any:
        raise UnavailableError("disk full")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(old.subjects.vault, "erase", broken)
        told = old.ask("erase", "ada-lovelace", "operator", 503, "k1", **WHY)
        assert "is on record" in told["error"]
        old.ask("erase", "grace-hopper", "operator", 503, "k2", **WHY)
    assert kinds(old) == ["SubjectErased", "SubjectErased"]
    assert old.ask("erase", "grace-hopper", "operator", 200, "k3", **WHY)["touched"] is None  # by asking again
    assert old.show("d1")["subject"]["standing"] == "erased"
    assert kinds(old) == ["PersonalDataRead"]
    old.reopen()  # by starting again
    assert old.show("d0")["subject"]["standing"] == "erased"


def test_an_old_copy_of_the_vault_put_back_resurrects_nobody(old: Archive, settings: Settings, tmp_path: Path) -> None:
    copy = shutil.copy(settings.vault, tmp_path / "backup.db")
    told = old.ask("erase", "ada-lovelace", "operator", 201, **WHY)
    shutil.copy(copy, settings.vault)
    old.reopen()
    shown = old.show("d0")["subject"]
    assert (shown["standing"], shown["key"]) == ("erased", None)
    assert shown["erased"]["record"] == told["seq"]
    assert old.show("d1")["subject"]["key"] == "grace-hopper"


def test_decisions_on_their_way_are_born_erased(archive: Archive) -> None:
    policy = archive.service.writer.policy
    archive.service.writer.policy = policy | {"records": {"retention_days": 0}}
    archive.champion = archive.service.writer.train()
    archive.decide(1, key="ada")
    archive.seal()
    archive.decide(2, key="ada")
    archive.later(seconds=5)
    told = archive.ask("erase", "ada", "operator", 201, **WHY)
    assert told["touched"]["decisions"] == ["d1", "d2"]
    assert archive.show("d2")["subject"]["standing"] == "erased"  # though its line still lies in the spool
    assert archive.history("ada") == []
    archive.seal()
    assert archive.show("d2")["subject"]["standing"] == "erased"
    archive.later(seconds=5)
    archive.decide(3, key="ada")
    assert archive.history("ada") == ["d3"]


def test_what_is_decided_while_a_person_is_erased_is_kept(
    old: Archive, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention could not look at it, so it must not go: it is about somebody new."""
    real, other = old.subjects._affected, Vault(settings)
    other.pseudonym("grace-hopper")
    with monkeypatch.context() as patient:
        patient.setattr("lineage.privacy.key_vault._BUSY_SECONDS", 0.0)
        impatient = Vault(settings)
        impatient.existing_pseudonym("grace-hopper")

    def meanwhile(*asked: Any) -> Any:
        old.service.clock.later(seconds=1)
        old.decide(7, key="ada-lovelace")
        with pytest.raises(UnavailableError, match="locked"):
            impatient.pseudonym("somebody new")
        assert other.existing_pseudonym("ada-lovelace")  # but everybody may look
        return real(*asked)

    monkeypatch.setattr(old.subjects, "_affected", meanwhile)
    told = old.ask("erase", "ada-lovelace", "operator", 201, **WHY)
    assert "d7" not in told["touched"]["decisions"]
    old.seal()
    assert old.show("d0")["subject"]["standing"] == "erased"
    assert old.show("d7")["subject"]["key"] == "ada-lovelace"
    assert old.history("ada-lovelace") == ["d7"]


def test_without_the_vault_the_ledger_goes_on(old: Archive, settings: Settings) -> None:
    master = settings.secrets / "vault.key"
    kept = master.read_text()
    master.unlink()
    old.reopen()
    for answer in (old.show("d0", status=503), old.ask("erase", "ada-lovelace", "operator", 503, **WHY)):
        assert "vault.key" in answer["error"]
    assert old.service.get("verify").status_code == 200
    master.write_text(kept)
    assert old.show("d0")["subject"]["key"] == "ada-lovelace"


def test_answers_about_people_are_stored_by_nobody_on_the_way(old: Archive) -> None:
    headers = old.service.headers("auditor")
    answers = [
        old.service.http.get("/v1/decisions/d0", headers=headers | {"X-Reason": "x"}),
        old.service.http.post("/v1/subjects/history", json={"subject": "ada-lovelace", "reason": "x"}, headers=headers),
        old.service.http.post("/v1/subjects/hold", json={"subject": "ada-lovelace", "reason": "x"}, headers=headers),
    ]
    assert [answer.headers["cache-control"] for answer in answers] == ["no-store"] * 3
