"""Which receiver is meant: files, variables, certificates, and what is refused."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from lineage.errors import InvalidError, UnavailableError
from lineage.openlineage.outbox import Outbox
from lineage.openlineage.receiver import FileTarget, HttpTarget, read_receiver
from tests.support.lineage_receiver import Receiver, all_of, drain, running
from tests.support.ports import free_port
from tests.support.sample_facts import FactWriter


def test_without_a_receiver_nothing_is_sent(writer: FactWriter, folder: Path) -> None:
    writer.champion()
    outbox = Outbox.of_user(writer.ledger.records, folder)
    before = threading.active_count()
    with running(outbox):
        assert threading.active_count() == before
        assert outbox.step() is None
    state = {"url": None, "sent": 0, "waiting": 0, "dead": 0, "failing_since": None}
    assert outbox.state() == state | {"why": "no receiver is set"}
    assert list(folder.iterdir()) == []


def test_the_variables_of_openlineage_name_the_receiver(
    writer: FactWriter, receiver: Receiver, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", receiver.url.removesuffix("/api/v1/lineage") + "/")
    monkeypatch.setenv("OPENLINEAGE_ENDPOINT", "/custom/lineage")
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "secret-123")
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "bank-prod")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    writer.train()
    outbox = Outbox.of_user(writer.ledger.records, folder)
    drain(outbox)
    assert receiver.bodies == all_of(writer.ledger, "bank-prod")
    assert {name["authorization"] for name in receiver.headers} == {"Bearer secret-123"}
    assert {name["path"] for name in receiver.headers} == {"/custom/lineage"}


@pytest.mark.parametrize("said", ["true", "1", "TRUE"])
def test_it_can_be_switched_off(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENLINEAGE_DISABLED", said)
    assert read_receiver() == (None, "plimsoll")


def test_a_file_named_by_the_user_goes_before_the_variables(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = receiver.url.removesuffix("/api/v1/lineage")
    text = (
        f"transport:\n  type: http\n  url: {base}\n  timeout: 3\n  auth:\n    type: api_key\n    apiKey: of-the-file\n"
    )
    (tmp_path / "conf.yml").write_text(text)
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "conf.yml"))
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    target, _ = read_receiver()
    assert isinstance(target, HttpTarget)
    target.send(b"{}")
    assert receiver.headers[0]["authorization"] == "Bearer of-the-file"
    assert target.url == receiver.url


def test_a_file_in_the_working_folder_is_read(writer: FactWriter, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "openlineage.yml").write_text("transport:\n  type: file\n  log_file_path: out.jsonl\n")
    writer.champion()
    drain(Outbox.of_user(writer.ledger.records, folder))
    assert (tmp_path / "out.jsonl").read_bytes().splitlines() == all_of(writer.ledger)


def test_the_nested_variables_name_a_transport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(tmp_path / "a.jsonl"))
    target, _ = read_receiver()
    assert isinstance(target, FileTarget)
    assert target.url == f"file:{tmp_path / 'a.jsonl'}"


def test_a_file_that_cannot_be_written_is_waited_for(writer: FactWriter, folder: Path, tmp_path: Path) -> None:
    writer.train()
    outbox = Outbox(writer.ledger.records, folder, FileTarget(tmp_path / "missing" / "out.jsonl"))
    assert outbox.step()
    (tmp_path / "missing").mkdir()
    drain(outbox)
    assert (tmp_path / "missing" / "out.jsonl").read_bytes().splitlines() == all_of(writer.ledger)


def test_the_console_is_the_log_of_the_service(
    writer: FactWriter, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "console")
    writer.train()
    drain(Outbox.of_user(writer.ledger.records, folder))
    assert capsys.readouterr().out.count("eventType") == 2


@pytest.mark.parametrize(
    ("names", "field"),
    [
        ({"OPENLINEAGE_URL": "bank.example"}, "url"),
        ({"OPENLINEAGE_URL": "ftp://bank.example"}, "url"),
        ({"OPENLINEAGE_URL": "http://user:hidden@127.0.0.1"}, "url"),
        ({"OPENLINEAGE_URL": "http://127.0.0.1:99999"}, "url"),
        ({"OPENLINEAGE_URL": "http://127.0.0.1", "OPENLINEAGE_API_KEY": "hidden\nX: y"}, "api_key"),
        ({"OPENLINEAGE_URL": "http://127.0.0.1", "OPENLINEAGE_DISABLED": "hidden"}, "OPENLINEAGE_DISABLED"),
        ({"OPENLINEAGE__TRANSPORT__TYPE": "kafka"}, "transport.type"),
        ({"OPENLINEAGE__TRANSPORT": '{"type":"http","url":"http://a","auth":{"type":"jwt"}}'}, "transport.auth.type"),
        ({"OPENLINEAGE__TRANSPORT": '{"type":"http","url":"http://a","retry":{"total":"hidden"}}'}, "transport.retry"),
        ({"OPENLINEAGE_CONFIG": "/nowhere/to/be/found.yml"}, "OPENLINEAGE_CONFIG"),
    ],
)
def test_what_is_not_understood_is_said_without_its_secrets_and_sends_nothing(
    names: dict[str, str], field: str, writer: FactWriter, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidError) as refused:
        read_receiver()
    assert refused.value.field == field
    assert "hidden" not in refused.value.message
    outbox = Outbox.of_user(writer.ledger.records, folder)
    assert outbox.state()["url"] is None
    assert outbox.state()["why"] == refused.value.message


@pytest.mark.parametrize(
    "text", ["transport: [", "- a\n", "filters:\n  - type: exact\n", "transport: {type: file, append: false}"]
)
def test_a_file_that_asks_for_what_is_not_done_here_sends_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "openlineage.yml").write_text(text)
    with pytest.raises(InvalidError, match="OpenLineage's configuration"):
        read_receiver()


def test_the_key_is_never_shown(
    writer: FactWriter, receiver: Receiver, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer.train()
    receiver.answer = lambda number, body: {1: 500, 2: 401}.get(number, 400)
    outbox = Outbox(writer.ledger.records, folder, HttpTarget(receiver.url, "secret-123"))
    assert outbox.step()
    assert outbox.step()
    drain(outbox)
    shown = capsys.readouterr()
    kept = "".join(path.read_text() for path in folder.iterdir())
    assert "secret-123" not in f"{shown.out}{shown.err}{kept}{outbox.state()}"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bank")])
    host = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    begin, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)
    draft = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    draft = draft.serial_number(7).not_valid_before(begin).not_valid_after(end).add_extension(host, critical=False)
    made = draft.sign(key, hashes.SHA256())
    pem, secret = folder / "bank.pem", folder / "bank.key"
    pem.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pem, secret


def test_a_receiver_is_trusted_only_on_a_certificate_that_the_user_vouches_for(tmp_path: Path) -> None:
    pem, secret = certificate(tmp_path)
    receiver = Receiver(tls=(pem, secret))
    base = receiver.url.removesuffix("/api/v1/lineage")
    with pytest.raises(UnavailableError, match="certificate"):
        HttpTarget(receiver.url).send(b"{}")
    text = f"transport:\n  type: http\n  url: {base}\n  sslContext:\n    caCertPath: {pem}\n"
    (tmp_path / "openlineage.yml").write_text(text)
    target, _ = read_receiver()
    assert target is not None
    target.send(b"{}")
    receiver.close()
    assert receiver.bodies == [b"{}"]


def test_an_unreachable_address_says_which() -> None:
    port = free_port()
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}"):
        HttpTarget(f"http://127.0.0.1:{port}/").send(b"{}")
