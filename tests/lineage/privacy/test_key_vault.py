"""The vault: a sealed value opens for that person's decision only, and never again without the key."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lineage.errors import TamperedError, UnavailableError, UnknownError
from lineage.privacy.key_vault import Vault
from lineage.settings import Settings

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
AT = NOW.isoformat()


@pytest.fixture
def vault(settings: Settings) -> Vault:
    return Vault(settings)


def fact_of(vault: Vault, pseudonym: str, seq: int = 7) -> dict[str, Any]:
    data = {"commitment": vault.commitment(pseudonym)}
    return {"kind": "SubjectErased", "seq": seq, "at": NOW.isoformat(), "data": data}


def test_a_subject_keeps_its_pseudonym_whoever_asks(vault: Vault, settings: Settings) -> None:
    names = vault.identify([("ada", AT), ("grace", AT), ("ada", AT)])
    assert names[0] == names[2] != names[1]
    assert Vault(settings).identify([("grace", AT), ("ada", AT)]) == [names[1], names[0]]
    assert vault.pseudonym("ada") == vault.existing_pseudonym("ada") == names[0]
    assert vault.existing_pseudonym("nobody") is None
    assert vault.identify([]) == vault.seal([]) == vault.open([]) == []


def test_what_was_sealed_opens_again(vault: Vault) -> None:
    ada, grace = vault.identify([("ada", AT), ("grace", AT)])
    sealed = vault.seal([(ada, b"d1", b"one"), (grace, b"d2", b"two"), ("of nobody", b"d3", b"three")])
    assert sealed[2] is None
    assert b"one" not in (sealed[0] or b"")
    opened = vault.open(
        [(ada, b"d1", sealed[0]), (grace, b"d2", sealed[1]), ("of nobody", b"d3", b"x"), (ada, b"", None)]
    )
    assert opened == [b"one", b"two", None, None]


def test_the_same_gives_the_same_bytes_and_anything_else_another_nonce(vault: Vault) -> None:
    ada, grace = vault.identify([("ada", AT), ("grace", AT)])
    asked = [
        (ada, b"d1", b"one"),
        (ada, b"d1", b"two"),
        (ada, b"d2", b"one"),
        (grace, b"d1", b"one"),
        (ada, b"d", b"1one"),
    ]
    sealed = vault.seal(asked)
    assert vault.seal(asked) == sealed
    assert len({blob[1:13] for blob in sealed if blob}) == len(asked)


@pytest.mark.parametrize("change", ["decision", "person", "byte", "end", "form", "short"])
def test_what_was_not_sealed_for_this_decision_does_not_open(vault: Vault, change: str) -> None:
    ada, grace = vault.identify([("ada", AT), ("grace", AT)])
    blob = vault.seal([(ada, b"d1", b"one")])[0] or b""
    wrong = {
        "decision": (ada, b"d2", blob),
        "person": (grace, b"d1", blob),
        "byte": (ada, b"d1", blob[:-1] + bytes([blob[-1] ^ 1])),
        "end": (ada, b"d1", blob[:-1]),
        "form": (ada, b"d1", b"\x02" + blob[1:]),
        "short": (ada, b"d1", b"\x01"),
    }
    with pytest.raises(TamperedError, match="not sealed for this decision"):
        vault.open([wrong[change]])


@hypothesis_settings(max_examples=60)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=30), st.binary(max_size=60)), min_size=1, max_size=8))
def test_any_name_and_any_data_come_back(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    vault = Vault(Settings(home=tmp_path_factory.mktemp("vault")))
    names = vault.identify([(subject, AT) for subject, _ in rows])
    assert len(set(names)) == len({subject for subject, _ in rows})
    items = [(name, str(n).encode(), data) for n, (name, (_, data)) in enumerate(zip(names, rows, strict=True))]
    sealed = vault.seal(items)
    assert vault.open([(n, a, blob) for (n, a, _), blob in zip(items, sealed, strict=True)]) == [d for _, d in rows]
    vault.close()


def test_an_erased_person_is_gone_for_good_and_comes_back_as_somebody_else(vault: Vault) -> None:
    ada, grace = vault.identify([("ada", AT), ("grace", AT)])
    sealed = vault.seal([(ada, b"d1", b"one"), (grace, b"d2", b"two")])
    before = vault.commitment(ada)
    assert vault.erase(ada, NOW, record=41)
    assert not vault.erase(ada, NOW)
    assert vault.open([(ada, b"d1", sealed[0]), (grace, b"d2", sealed[1])]) == [None, b"two"]
    assert vault.key_states([ada, grace, "f00"]) == {ada: "erased", grace: "kept", "f00": "missing"}
    assert vault.erased_by(ada) == {"at": "2026-11-23T10:00:00.000000Z", "record": 41}
    assert vault.erased_by(grace) is None
    with pytest.raises(UnknownError):
        vault.commitment(ada)

    later = (NOW + timedelta(seconds=1)).isoformat()
    again = vault.identify([("ada", later)])[0]
    assert again != ada
    assert vault.commitment(again) != before
    assert vault.open([(ada, b"d1", sealed[0])]) == [None]


def test_nothing_of_an_erased_person_stays_in_the_file(vault: Vault, settings: Settings) -> None:
    """Also where rows moved between pages before: what the journal or a freed page held is looked for."""
    chance, held, erased = Random(7), dict[str, tuple[bytes, bytes, bytes]](), list[str]()
    for turn in range(5):
        vault.identify([(f"subject-{turn}-{number}", AT) for number in range(300)])
        rows = sqlite3.connect(settings.vault).execute("SELECT handle, pseudonym, commitment, wrapped FROM subjects")
        held |= {name: (handle.encode(), promise.encode(), wrapped) for handle, name, promise, wrapped in rows}
        for name in chance.sample(sorted(held.keys() - set(erased)), 60):
            vault.erase(name, NOW)
            erased.append(name)
    vault.forget_marks(NOW + timedelta(seconds=1))
    everything = b"".join(path.read_bytes() for path in settings.vault.parent.iterdir())
    assert b"subject-" not in everything
    left = [name for name in erased if any(part in everything or part[16:40] in everything for part in held[name])]
    assert left == []
    kept = next(name for name in held if name not in erased)
    assert all(part in everything for part in held[kept])


def test_an_old_copy_of_the_vault_resurrects_nobody(vault: Vault, settings: Settings, tmp_path: Path) -> None:
    names = vault.identify([(f"subject-{number}", AT) for number in range(20)])
    sealed = vault.seal([(name, b"d", b"data") for name in names])
    copy = shutil.copy(settings.vault, tmp_path / "backup.db")
    facts = [fact_of(vault, name, seq) for seq, name in enumerate(names[:5])]
    for name in names[:5]:
        vault.erase(name, NOW)
    vault.close()
    shutil.copy(copy, settings.vault)

    restored = Vault(settings)
    assert restored.key_states(names) == dict.fromkeys(names, "kept")
    assert restored.apply_erasures(facts) == 5
    assert restored.apply_erasures(facts) == 0
    opened = restored.open([(name, b"d", blob) for name, blob in zip(names, sealed, strict=True)])
    assert opened == [None] * 5 + [b"data"] * 15
    assert [restored.erased_by(name) for name in names[:2]] == [
        {"at": "2026-11-23T10:00:00.000000Z", "record": seq} for seq in (0, 1)
    ]


def test_what_was_spooled_before_the_erasure_keeps_the_pseudonym_whose_key_is_gone(vault: Vault) -> None:
    first = vault.pseudonym("ada")
    vault.erase(first, NOW)
    early, late = (NOW - timedelta(seconds=1)).isoformat(), (NOW + timedelta(seconds=1)).isoformat()
    assert vault.identify([("ada", early), ("ada", AT)]) == [first, first]
    second = vault.identify([("ada", late)])[0]
    assert second != first
    assert vault.identify([("ada", early), ("ada", late)]) == [first, second]
    vault.erase(second, NOW + timedelta(minutes=1))
    assert vault.identify([("ada", early), ("ada", late)]) == [first, second]
    assert (
        vault.erased_pseudonym("ada", early),
        vault.erased_pseudonym("ada", late),
        vault.erased_pseudonym("grace", early),
    ) == (first, second, None)
    vault.forget_marks(NOW + timedelta(seconds=30))
    assert (vault.erased_pseudonym("ada", early), vault.erased_pseudonym("ada", late)) == (second, second)
    vault.forget_marks(NOW + timedelta(minutes=2))
    assert vault.erased_pseudonym("ada", early) is None


def test_another_master_key_is_told_and_makes_nothing(vault: Vault, settings: Settings) -> None:
    vault.pseudonym("ada")
    vault.close()
    master = settings.secrets / "vault.key"
    kept = master.read_text()
    master.write_text("00" * 32)
    with pytest.raises(TamperedError, match="not the key"):
        Vault(settings).existing_pseudonym("ada")
    master.unlink()
    again = Vault(settings)
    with pytest.raises(UnavailableError, match="put it back from your backup"):
        again.pseudonym("ada")
    assert not master.exists()
    master.write_text("no key")
    with pytest.raises(UnavailableError, match="cannot be read"):
        again.pseudonym("ada")
    master.write_text(kept)
    assert again.existing_pseudonym("ada")


def test_a_row_that_was_changed_is_told(vault: Vault, settings: Settings) -> None:
    ada, grace = vault.identify([("ada", AT), ("grace", AT)])
    with sqlite3.connect(settings.vault) as db:
        other = db.execute("SELECT wrapped FROM subjects WHERE pseudonym = ?", (grace,)).fetchone()
        db.execute("UPDATE subjects SET wrapped = ? WHERE pseudonym = ?", (*other, ada))
    with pytest.raises(TamperedError, match="vault"):
        vault.seal([(ada, b"d", b"one")])


def test_a_file_that_is_no_vault_is_told(settings: Settings) -> None:
    Vault(settings).pseudonym("ada")
    settings.vault.write_bytes(b"not a database, " * 400)
    with pytest.raises(UnavailableError, match="vault of subject keys"):
        Vault(settings).existing_pseudonym("ada")


def test_only_its_owner_may_read_it(vault: Vault, settings: Settings) -> None:
    vault.pseudonym("ada")
    modes = [path.stat().st_mode & 0o777 for path in (settings.vault, settings.secrets / "vault.key")]
    assert modes == [0o600, 0o600]


def test_threads_that_name_the_same_people_agree(vault: Vault) -> None:
    told: list[list[str]] = []

    def ask() -> None:
        told.append(vault.identify([(f"subject-{number}", AT) for number in range(50)]))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(names == told[0] for names in told)


OTHER = """
import sys
from pathlib import Path
from lineage.settings import Settings
from lineage.privacy.key_vault import Vault
vault = Vault(Settings(home=Path(sys.argv[1])))
for turn in range(20):
    names = vault.identify([(f"subject-{n}", "2026-11-23T10:00:00Z") for n in range(turn, turn + 30)])
print(" ".join(vault.identify([(f"subject-{n}", "2026-11-23T10:00:00Z") for n in range(49)])))
"""


def test_processes_that_begin_together_make_one_vault(settings: Settings) -> None:
    command = [sys.executable, "-c", OTHER, str(settings.home)]
    others = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = {other.communicate()[0].strip() for other in others}
    assert [other.returncode for other in others] == [0, 0, 0]
    assert told == {" ".join(Vault(settings).identify([(f"subject-{n}", AT) for n in range(49)]))}


def test_a_writer_that_ends_midway_has_changed_nothing(settings: Settings) -> None:
    vault, killed = Vault(settings), Vault(settings)
    vault.pseudonym("ada")
    killed._db().execute("BEGIN IMMEDIATE")
    killed._db().execute("DELETE FROM subjects")
    killed.close()  # as a process that is gone: nothing was committed
    assert vault.existing_pseudonym("ada")
