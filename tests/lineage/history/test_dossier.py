"""The dossier of a release: reproducible bytes, proofs that verify independently, and gaps that are named."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import typer
from starlette.testclient import TestClient
from typer.testing import CliRunner

from console.terminal import dossier as dossier_terminal
from lineage.accounts.credentials import Credentials
from lineage.digest import digest_bytes, digest_folder, digest_of
from lineage.errors import RefusedError, TamperedError, UnknownError
from lineage.history import dossier as dossier_module
from lineage.history.dossier import MISSING, README, SUMS, build_dossier, to_zip
from lineage.history.dossier_records import about
from lineage.ledger import Draft, Ledger
from lineage.log.signing_key import signer_at
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM
from lineage.service import dossier as routes_dossier
from lineage.service.app import create_app
from lineage.settings import Settings
from plimsoll.wire import Wire
from tests.support.sample_facts import AUTHOR, MODEL, OPERATOR, POLICY, VALIDATOR, FactWriter, ManualClock, sample
from tests.support.witnessed_log import serving

LEDGER = Actor("ledger", PLATFORM)
REPORT = b"<!doctype html><title>credit-default@1: validated</title>"
BUNDLE = {
    "model.ubj": b"\x00trees",
    "baseline.json": b"{}",
    "release.json": b'{"threshold": 0.31}\n',
    "golden.json": b'{"rows": [{"LIMIT_BAL": 20000}]}',
    "reference.parquet": b"PAR1 rows of customers PAR1",
}


class Release:
    """One release with everything that a dossier tells of: a request, a job, checks, a review, traffic."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.settings, self.ledger = settings, ledger
        self.writer = FactWriter(ledger)
        self.bundle = settings.artefacts / "draft"
        self.bundle.mkdir(parents=True)
        for name, data in BUNDLE.items():
            (self.bundle / name).write_bytes(data)
        digest = digest_folder(self.bundle)
        self.bundle = self.bundle.rename(self.bundle.with_name(digest.removeprefix("sha256:")))
        settings.reports.mkdir(parents=True)
        self.report = settings.reports / f"{MODEL}@1.html"
        self.report.write_bytes(REPORT)
        say = self.writer.record
        request = say("RetrainRequested", None, AUTHOR)["seq"]
        say("JobStarted", request=request)
        say("DatasetPinned", digest="sha256:" + "1" * 64)  # another content under the same name
        say("DatasetPinned")
        self.name = self.writer.train(request=request, digest=digest, policy_digest=digest_of(POLICY))
        for check in POLICY["validation"]["checks"]:
            say("CheckCompleted", self.name, check=check, policy_digest=digest_of(POLICY))
        say("FairnessMeasured", release=self.name, stage="validation")
        say("CandidateValidated", self.name, report_digest=digest_bytes(REPORT))
        say("ReleaseRegistered", self.name, digest=digest)
        say("JobFinished", request=request, status="succeeded", message="")
        self.writer.canary(self.name)
        say("RouteApplied", champion=None, challenger=self.name)
        self.writer.to_review(self.name)
        author = Actor("scientist", "validator")
        draft = Draft("ReviewDecided", author, sample("ReviewDecided", digest=digest), None, self.name, "it is mine")
        with pytest.raises(RefusedError) as refusal:
            ledger.append(draft)
        ledger.refuse(draft, refusal.value)
        self.writer.approve(self.name)
        self.writer.promote(self.writer.rollout(self.name))
        say("DecisionsSealed")
        drift = say("DriftMeasured")
        say("AlertRaised", evidence=drift["seq"])
        say("RetrainRequested", evidence=drift["seq"])

    def unrelated(self) -> None:
        """What happens meanwhile, to others."""
        self.ledger.append(Draft("SignedIn", LEDGER, {"account": "auditor"}))
        other = FactWriter(self.ledger, "card-fraud")
        other.made = 50
        other.champion()
        self.writer.record("DecisionsSealed", releases={f"{MODEL}@11": 3}, segment="another")
        self.writer.record("AlertRaised", alert="fairness", about="SEX", evidence=None)

    def build(self, upto: int | None = None) -> dict[str, bytes]:
        return build_dossier(self.ledger, self.settings, self.name, upto)


@pytest.fixture
def release(settings: Settings, clock: ManualClock, quick: None) -> Iterator[Release]:
    ledger = Ledger(settings.log_folder, clock=clock, signer=signer_at(settings.log_key))
    ledger.append(Draft("LedgerOpened", LEDGER, sample("LedgerOpened")))
    yield Release(settings, ledger)
    ledger.close()


def unpack(files: dict[str, bytes], folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(to_zip(files))) as archive:
        archive.extractall(folder)
    return folder


def content(files: dict[str, bytes], name: str) -> Any:
    return json.loads(files[name])


def shell(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_made_again_it_is_the_same_also_when_other_things_happened(release: Release) -> None:
    first = release.build()
    assert release.build() == first
    assert to_zip(release.build()) == to_zip(first)
    release.unrelated()
    assert to_zip(release.build()) == to_zip(first)


def test_another_process_makes_the_same(release: Release, settings: Settings, clock: ManualClock) -> None:
    first = release.build()
    release.ledger.close()
    again = Ledger(settings.log_folder, clock=clock, signer=signer_at(settings.log_key), segment_bytes=4_096)
    try:
        assert build_dossier(again, settings, release.name) == first
    finally:
        again.close()


def test_a_rollback_makes_a_newer_one_and_the_old_one_can_be_made_again(release: Release) -> None:
    before = release.build()
    stood = len(release.ledger.records)
    release.unrelated()
    release.writer.record("RollbackOrdered", release.name, OPERATOR)
    ordered = release.build()
    release.writer.record("ReleaseRolledBack", release.name)
    after = release.build()
    assert [content(one, "release.json")["state"] for one in (before, ordered, after)] == [
        "champion",
        "rolling_back",
        "rolled_back",
    ]
    assert after["facts.jsonl"].startswith(before["facts.jsonl"])
    assert release.build(stood) == before
    assert release.build(len(release.ledger.records)) == after
    trained = content(after, "data.json")["record"]
    assert content(release.build(trained), "release.json")["state"] == "trained"


def test_every_record_about_the_release_is_in_it_and_no_other(release: Release) -> None:
    release.unrelated()
    release.writer.record("RollbackOrdered", release.name, OPERATOR)
    lines = release.build()["facts.jsonl"].splitlines()
    records = [json.loads(line) for line in lines]
    assert lines == [release.ledger.records.line(record["seq"]) for record in records]
    told = [record["kind"] for record in records]
    assert told == [
        *("RetrainRequested", "JobStarted", "DatasetPinned", "ModelTrained", "CheckCompleted", "CheckCompleted"),
        *("FairnessMeasured", "CandidateValidated", "ReleaseRegistered", "JobFinished", "CanaryStarted"),
        *("RouteApplied", "CanaryStepped", "ReviewRequested", "ActionRefused", "ReviewDecided", "RolloutStepped"),
        *("RolloutStepped", "ReleasePromoted", "DecisionsSealed", "DriftMeasured", "AlertRaised", "RetrainRequested"),
        "RollbackOrdered",
    ]
    assert (
        next(one for one in records if one["kind"] == "DatasetPinned")["data"]["digest"]
        == sample("DatasetPinned")["digest"]
    )


def test_what_other_releases_say_of_it_is_about_it(release: Release) -> None:
    second = release.writer.champion()
    kinds = [json.loads(line)["kind"] for line in release.build()["facts.jsonl"].splitlines()]
    assert kinds[-3:] == ["CanaryStarted", "ReleasePromoted", "ChampionRetired"]  # its arm, its successor, its end
    release.writer.record("RollbackOrdered", second, OPERATOR, to=release.name)
    last = json.loads(release.build()["facts.jsonl"].splitlines()[-1])
    assert (last["kind"], last["release"]) == ("RollbackOrdered", second)


def test_a_release_that_was_asked_for_because_another_drifted_says_so(release: Release) -> None:
    drift = release.writer.record("DriftMeasured")["seq"]
    request = release.writer.record("RetrainRequested", evidence=drift)["seq"]
    second = release.writer.train(request=request)
    numbers = about(release.ledger.records, second, len(release.ledger.records))
    assert {drift, request} < set(numbers)


def test_the_verifier_that_is_in_it_verifies_every_proof_without_us(release: Release, tmp_path: Path) -> None:
    release.unrelated()
    release.writer.record("RollbackOrdered", release.name, OPERATOR)
    folder = unpack(release.build(), tmp_path / "dossier")
    vkey = (folder / "vkey").read_text().strip()
    proofs = sorted((folder / "proofs").iterdir())
    lines = (folder / "facts.jsonl").read_text().splitlines()
    assert len(proofs) == len(lines) > 20
    assert [json.loads(path.read_bytes())["record"] for path in proofs] == lines
    for path in proofs:
        done = shell(folder, sys.executable, "-I", "verify.py", "record", f"proofs/{path.name}", "--vkey", vkey)
        assert done.returncode == 0, done.stdout + done.stderr
    bad = json.loads(proofs[3].read_bytes())
    bad["record"] = bad["record"].replace("boosted_trees", "boasted_trees")
    proofs[3].write_text(json.dumps(bad))
    done = shell(folder, sys.executable, "-I", "verify.py", "record", f"proofs/{proofs[3].name}", "--vkey", vkey)
    assert done.returncode == 1, done.stdout + done.stderr


def test_the_log_extends_what_the_dossier_signed(release: Release, settings: Settings, tmp_path: Path) -> None:
    folder = unpack(release.build(), tmp_path / "dossier")
    release.unrelated()
    command = [sys.executable, "-I", "verify.py", "extends", "checkpoint", str(settings.log_folder)]
    done = shell(folder, *command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_commands_of_its_readme_say_yes(release: Release, tmp_path: Path) -> None:
    folder = unpack(release.build(), tmp_path / "dossier")
    text = (folder / README).read_text()
    part = text.split("## Verify it without trusting us")[1].split("## Left out")[0]
    blocks = "\n".join(line[4:] for line in part.splitlines() if line.startswith("    "))
    script = f'set -e\npython() {{ {sys.executable} "$@"; }}\n{blocks}\n'
    done = shell(folder, "bash", "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": OK") == len(list(folder.rglob("*.*"))) + len({"checkpoint", "vkey", "FILES"})
    assert done.stdout.strip().endswith("True")


def test_every_file_stands_in_the_sums_and_in_the_readme(release: Release, tmp_path: Path) -> None:
    files = release.build()
    listed = dict(line.split("  ")[::-1] for line in files[SUMS].decode().splitlines())
    assert listed.keys() == files.keys() - {SUMS}
    assert all(hashlib.sha256(files[name]).hexdigest() == digest for name, digest in listed.items())
    readme = files[README].decode()
    named = {name for name in files if not name.startswith("proofs/")} - {README}
    assert all(f"| `{name}` |" in readme for name in named)
    assert f"record {len(release.ledger.records)} " in readme
    assert "Nothing is missing" in readme
    assert MISSING not in files


def test_what_people_ask_for_is_told_with_the_number_of_its_record(release: Release) -> None:
    files = release.build()
    release_json, data = content(files, "release.json"), content(files, "data.json")
    assert release_json == json.loads(json.dumps(release.ledger.read(lambda fold: asdict(fold.releases[release.name]))))
    findings = content(files, "findings.json")
    assert [one["check"] for one in findings["checks"]] == POLICY["validation"]["checks"]
    assert findings["checks"][0]["findings"] == sample("CheckCompleted")["findings"]
    approvals = content(files, "approvals.json")
    assert [one["by"] for one in approvals["decided"]] == [VALIDATOR.name]
    assert [one["code"] for one in approvals["refused"]] == ["four_eyes"]
    assert [one["kind"] for one in content(files, "judgements.json")] == [
        *("CanaryStepped", "ReviewRequested", "RolloutStepped", "RolloutStepped"),
    ]
    assert content(files, "segments.json")["total"] == {"decisions": 100, "segments": 1}
    assert (data["seed"], data["bundle"]["digest"]) == (7, release_json["digest"])
    assert data["pinned"][0]["columns"] == ["LIMIT_BAL", "default"]
    assert hashlib.sha256(files["policy.json"]).hexdigest() == findings["policy_digest"].removeprefix("sha256:")
    assert content(files, "policy.json") == POLICY
    assert "sha256:" + hashlib.sha256(files["bundle/FILES"]).hexdigest() == release_json["digest"]
    assert files["report.html"] == REPORT
    for told in (*findings["checks"], *approvals["decided"], data):
        assert f"proofs/{told['record']:012d}.json" in files


def test_rows_of_customers_are_not_in_it(release: Release) -> None:
    files = release.build()
    everything = b"".join(files.values())
    for name in ("golden.json", "reference.parquet", "model.ubj"):
        assert BUNDLE[name] not in everything
        assert f"  {name}\n".encode() in files["bundle/FILES"]
        assert name.encode() in files[README] or name == "model.ubj"
    assert files["bundle/release.json"] == BUNDLE["release.json"]


def test_a_report_that_was_changed_is_named_as_missing(release: Release) -> None:
    release.report.write_bytes(REPORT.replace(b"validated", b"Validated"))
    files = release.build()
    assert "report.html" not in files
    missing = files[MISSING].decode()
    assert "**report.html**" in missing
    assert digest_bytes(REPORT) in missing
    assert "changed" in missing
    assert MISSING in files[README].decode().split("|")[0]
    assert f"  {MISSING}\n" in files[SUMS].decode()
    release.report.unlink()
    assert "No such file" in release.build()[MISSING].decode()


@pytest.mark.parametrize("fault", ["changed", "added", "gone", "large"])
def test_a_bundle_that_is_not_the_recorded_one_is_named_as_missing(
    fault: str, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "changed":
        (release.bundle / "golden.json").write_bytes(b"{}")
    elif fault == "added":
        (release.bundle / "more").write_bytes(b"")
    elif fault == "gone":
        release.bundle.rename(release.bundle.with_name("elsewhere"))
    else:
        monkeypatch.setattr(dossier_module, "_SPEC_BYTES", 4)
    files = release.build()
    assert "bundle/release.json" not in files
    assert ("bundle/FILES" in files) is (fault == "large")
    assert "bundle/release.json" in files[MISSING].decode()
    assert (content(files, "data.json")["bundle"]["files"] is None) is (fault != "large")


def test_a_policy_whose_digest_does_not_fit_is_told(release: Release) -> None:
    second = release.writer.train()  # its policy digest is made up
    files = build_dossier(release.ledger, release.settings, second)
    assert "**policy.json**" in files[MISSING].decode()
    assert content(files, "policy.json") == POLICY


def test_a_candidate_without_a_report_lacks_none(release: Release) -> None:
    second = release.writer.train(digest=release.ledger.state.releases[release.name].digest)
    files = build_dossier(release.ledger, release.settings, second)
    assert "report.html" not in files
    assert "report.html" not in files[MISSING].decode()


def test_measurements_beyond_a_number_are_counted_and_named(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dossier_module, "MOST_ROUTINE", 4)
    for number in range(9):
        release.writer.record("DecisionsSealed", segment=f"s{number}")
        release.writer.record("FairnessMeasured")
    files = release.build()
    records = [json.loads(line) for line in files["facts.jsonl"].splitlines()]
    kept = [one["data"]["segment"] for one in records if one["kind"] == "DecisionsSealed"]
    assert kept == ["s5", "s6", "s7", "s8"]
    stages = [one["data"]["stage"] for one in records if one["kind"] == "FairnessMeasured"]
    assert stages == ["validation", "live", "live", "live", "live"]
    assert content(files, "segments.json")["total"] == {"decisions": 1_000, "segments": 10}
    assert "6 of 10 records of kind DecisionsSealed" in files[MISSING].decode()
    assert len([name for name in files if name.startswith("proofs/")]) == len(records)


@pytest.mark.parametrize(
    ("name", "upto"), [("credit-default@2", None), ("", None), (f"{MODEL}@1", 3), (f"{MODEL}@1", 999)]
)
def test_a_release_that_is_not_there_or_not_yet_is_unknown(name: str, upto: int | None, release: Release) -> None:
    with pytest.raises(UnknownError):
        build_dossier(release.ledger, release.settings, name, upto)


def test_the_zip_says_nothing_of_where_and_when_it_was_made(release: Release) -> None:
    archive = zipfile.ZipFile(io.BytesIO(to_zip(release.build())))
    assert archive.testzip() is None
    names = [entry.filename for entry in archive.infolist()]
    assert names == sorted(names)
    for entry in archive.infolist():
        assert (entry.date_time, entry.compress_type) == ((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED)
        assert (entry.create_system, entry.external_attr >> 16, entry.extra) == (3, 0o100644, b"")


# --- over HTTP


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service that is only read."""
    settings, clock = Settings(home=tmp_path_factory.mktemp("served") / "var"), ManualClock()
    people = Credentials(settings, clock=clock).first_start()
    app = create_app(settings, clock=clock)
    app.include_router(routes_dossier.router)
    with TestClient(app) as http:
        http.app.state.release = Release(settings, app.state.context.ledger)  # type: ignore[attr-defined]
        body = {"name": "auditor", "password": people["auditor"]}
        http.headers["Authorization"] = f"Bearer {http.post('/v1/session', json=body).json()['token']}"
        yield http


def test_the_service_gives_the_same_zip_to_everybody_who_may_read(served: TestClient) -> None:
    release: Release = served.app.state.release  # type: ignore[attr-defined]
    path = f"/v1/releases/{release.name}/dossier"
    answer = served.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert answer.headers["content-disposition"] == f"attachment; filename={release.name}.zip"
    assert answer.content == to_zip(release.build())
    stands = content(release.build(), "release.json")["steps"][3]["seq"]
    assert served.get(path, params={"upto": stands}).content == to_zip(release.build(stands))
    assert served.get(path, headers={"Authorization": f"Bearer {release.settings.token('client')}"}).status_code == 403
    assert served.get(path, headers={"Authorization": "Bearer nobody"}).status_code == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nobody@1/dossier", 404),
        ("..%2f..%2fetc@1/dossier", 404),
        (f"{MODEL}@1/dossier?upto=0", 422),
        (f"{MODEL}@1/dossier?upto=2", 404),
        (f"{MODEL}@1/dossier?upto=99999", 404),
        (f"{MODEL}@1/dossier?upto={10**30}", 422),
    ],
)
def test_the_service_says_what_is_wrong(path: str, status: int, served: TestClient) -> None:
    answer = served.get(f"/v1/releases/{path}")
    assert answer.status_code == status, answer.text


# --- the terminal


@pytest.fixture
def run(settings: Settings, clock: ManualClock, quick: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    people = Credentials(settings, clock=clock).first_start()
    app = create_app(settings, clock=clock)
    app.include_router(routes_dossier.router)
    Release(settings, app.state.context.ledger)
    terminal = typer.Typer()
    terminal.callback()(lambda: None)  # or Typer takes the one command for the whole program
    dossier_terminal.register(terminal)
    with serving(app) as url:
        body = {"name": "auditor", "password": people["auditor"]}
        monkeypatch.setenv("PLIMSOLL_TOKEN", Wire(url).ask("POST", "/v1/session", json=body)["token"])
        monkeypatch.setenv("PLIMSOLL_HOME", str(settings.root))
        monkeypatch.setenv("PLIMSOLL_LEDGER_PORT", url.rpartition(":")[2])
        yield lambda *words: CliRunner().invoke(terminal, ["dossier", *map(str, words)])


def test_the_terminal_unpacks_and_verifies(run: Any, settings: Settings, tmp_path: Path) -> None:
    done = run(f"{MODEL}@1", "--to", tmp_path / "one")
    assert done.exit_code == 0, done.output
    assert f"{MODEL}@1 as of record " in done.output
    assert "each with its proof, verified" in done.output
    told = json.loads(run(f"{MODEL}@1", "--to", tmp_path / "two", "--json").output)
    assert (told["ok"], told["problems"], told["missing"]) == (True, [], [])
    assert told["records"] == len((tmp_path / "two" / "facts.jsonl").read_text().splitlines())
    again = run(f"{MODEL}@1", "--to", tmp_path / "three", "--upto", told["record"])
    assert again.exit_code == 0
    assert (tmp_path / "three" / SUMS).read_bytes() == (tmp_path / "two" / SUMS).read_bytes()
    assert run(f"{MODEL}@1", "--to", tmp_path / "one").exit_code == 3
    assert run(f"{MODEL}@9", "--to", tmp_path / "four").exit_code == 2
    settings.reports.joinpath(f"{MODEL}@1.html").write_bytes(b"")
    done = run(f"{MODEL}@1", "--to", tmp_path / "five")
    assert done.exit_code == 0, "a gap that is told is no fault of the proofs"
    assert "missing: **report.html**" in done.output


SPOILT: dict[str, tuple[str, str]] = {
    "a fact": ("facts.jsonl", "facts.jsonl: its lines are not those that are proved"),
    "a proof": ("proofs", "it is not verified"),
    "a finding": ("findings.json", "findings.json: its SHA-256 differs"),
    "the verifier": ("verify.py", "verify.py: it is not the verifier of this installation"),
    "a file more": ("more.txt", f"more.txt: it is not listed in {SUMS}"),
    "a file less": ("approvals.json", "approvals.json: its SHA-256 differs"),
}


@pytest.mark.parametrize("what", sorted(SPOILT))
def test_the_terminal_finds_what_was_changed_in_a_dossier(what: str, release: Release, tmp_path: Path) -> None:
    folder = dossier_terminal.unpack(to_zip(release.build()), tmp_path / "dossier")
    assert dossier_terminal.check(release.name, folder, 0.0).ok
    name, problem = SPOILT[what]
    path = sorted(folder.joinpath(name).iterdir())[2] if name == "proofs" else folder / name
    if what == "a file less":
        path.unlink()
    else:
        data = path.read_bytes() if path.exists() else b""
        path.write_bytes(data.replace(b"2026", b"2025") if b"2026" in data else data + b" ")
    checked = dossier_terminal.check(release.name, folder, 0.0)
    assert not checked.ok
    assert any(problem in one for one in checked.problems), checked.problems


def test_another_logs_key_verifies_nothing(release: Release, settings: Settings, tmp_path: Path) -> None:
    folder = dossier_terminal.unpack(to_zip(release.build()), tmp_path / "dossier")
    stranger = signer_at(tmp_path / "stranger.key").verifier.vkey
    checked = dossier_terminal.check(release.name, folder, 0.0, vkey=stranger)
    assert len(checked.problems) == checked.records > 20


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "proofs/../../escaped"])
def test_an_archive_that_leads_out_of_its_folder_is_not_unpacked(name: str, release: Release, tmp_path: Path) -> None:
    with pytest.raises(TamperedError):
        dossier_terminal.unpack(to_zip(release.build() | {name: b""}), tmp_path / "deep" / "dossier")
    with pytest.raises(TamperedError):
        dossier_terminal.unpack(b"no zip", tmp_path / "deep" / "dossier")
    with pytest.raises(TamperedError):
        dossier_terminal.unpack(to_zip({name: b""}), tmp_path / "deep" / "dossier")
    assert not (tmp_path / "deep").exists()
