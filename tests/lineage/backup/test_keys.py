"""Backups with and without keys."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lineage.backup.create import create
from lineage.backup.manifest import MANIFEST
from lineage.backup.restore import restore
from lineage.errors import TamperedError, UnavailableError
from lineage.log.signed_note import Signer
from lineage.log.signing_key import _pem
from lineage.secret_files import write_secret
from lineage.service.context import Context
from lineage.settings import Settings
from lineage.verify import verify_ledger
from tests.support.backup_home import House, other, tree
from tests.support.sample_facts import ManualClock
from tests.support.witnessed_log import key_of


def test_without_keys_no_secret_is_anywhere_in_it(
    house: House, settings: Settings, dest: Path, tmp_path: Path, clock: ManualClock
) -> None:
    create(settings, dest, keys=False)
    secrets = [path.read_bytes().strip() for path in settings.secrets.glob("*") if path.name != "session.json"]
    secrets += [path.read_bytes().strip() for path in settings.root.glob("keys/*.key")]
    assert len(secrets) >= 6
    everything = b"".join(tree(dest).values())
    assert [secret for secret in secrets if secret in everything] == []
    assert "no private keys" in (dest / "README.md").read_text()
    home = other(settings)
    done = restore(dest, home)
    assert (done.keys, done.lost) == (False, [])
    assert verify_ledger(home).pinned

    # started without its keys, it refuses to go on under others; with them, it goes on
    with pytest.raises(TamperedError, match="restore the key"):
        Context(home, clock=clock)
    for name in ("keys", "secrets"):
        shutil.rmtree(home.root / name)
        shutil.copytree(settings.root / name, home.root / name)
    Context(home, clock=clock).close()


def test_a_backup_with_the_wrong_key_or_without_one_is_not_made(house: House, settings: Settings, dest: Path) -> None:
    right = settings.log_key.read_text()
    write_secret(settings.log_key, _pem(key_of("another")))
    with pytest.raises(UnavailableError, match="does not belong"):
        create(settings, dest)
    settings.log_key.unlink()
    with pytest.raises(UnavailableError, match="back up without keys"):
        create(settings, dest)
    write_secret(settings.log_key, right)
    (settings.secrets / "vault.key").rename(settings.root / "kept")
    with pytest.raises(UnavailableError, match=r"vault\.key is missing"):
        create(settings, dest)
    (settings.root / "kept").rename(settings.secrets / "vault.key")
    public = settings.log_key.with_suffix(".vkey")
    public.write_text(Signer("plimsoll/0123456789abcdef", key_of("another")).verifier.vkey + "\n")
    write_secret(settings.log_key, _pem(key_of("another")))
    with pytest.raises(TamperedError, match="is not the one that it is verified with"):
        create(settings, dest)
    assert not (dest / MANIFEST).exists()
