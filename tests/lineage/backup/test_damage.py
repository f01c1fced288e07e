"""A backup that was changed, cut short or never finished is refused, and the one before it can be restored."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lineage.backup.create import create
from lineage.backup.manifest import MANIFEST, read_manifest
from lineage.backup.restore import restore
from lineage.digest import canonical, digest_of
from lineage.errors import RefusedError, TamperedError, UnavailableError
from lineage.log.disk import Disk
from lineage.settings import Settings
from tests.support.backup_home import House, lines, other, tree


def test_every_byte_that_was_changed_is_found_and_its_file_named(house: House, settings: Settings, dest: Path) -> None:
    house.ledger.close()
    create(settings, dest)
    manifest = read_manifest(dest)
    whole = tree(dest)
    checked = 0
    for path in [dest / MANIFEST, *sorted((dest / "files").iterdir()), *sorted((dest / "log").glob("*.jsonl"))]:
        data = path.read_bytes()
        names = {name for name, one in manifest["files"].items() if one["sha256"] in (path.name, _digest(data))}
        for offset in {0, len(data) // 2, len(data) - 1} if data else ():
            path.write_bytes(data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :])
            with pytest.raises(TamperedError) as error:
                restore(dest, other(settings))
            assert error.value.field in names or path.name == MANIFEST, path
            checked += 1
        for spoilt in (data[:-1], None):
            if data:
                path.unlink() if spoilt is None else path.write_bytes(spoilt)
                with pytest.raises(TamperedError) as error:
                    restore(dest, other(settings))
                assert error.value.field in (names or {MANIFEST}), path
        path.write_bytes(data)
        assert not other(settings).root.exists()
    assert checked > 40
    assert tree(dest) == whole
    restore(dest, other(settings))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_backup_that_was_never_finished_is_known_for_one(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    (dest / MANIFEST).unlink()
    with pytest.raises(TamperedError, match="no backup was finished") as error:
        restore(dest, other(settings))
    assert error.value.field == MANIFEST
    create(settings, dest)
    restore(dest, other(settings))


def test_names_that_lead_out_of_the_home_are_refused(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    manifest = read_manifest(dest)
    for name in ("../escaped", "/escaped", "ledger/../../escaped"):
        bad = manifest | {"files": manifest["files"] | {name: manifest["files"]["ledger/accounts.json"]}}
        whole = bad | {"digest": digest_of(bad)}
        (dest / MANIFEST).write_bytes(canonical(whole))
        with pytest.raises(TamperedError):
            restore(dest, other(settings))


class Failing(Disk):
    """Fails at one operation, or from it on."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.left, self.error = at, error

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error

    def append(self, descriptor: int, data: bytes) -> None:
        if self.left == 0:
            super().append(descriptor, data[: len(data) // 2])  # a disk that is full takes a part
        self._count()
        super().append(descriptor, data)

    def flush(self, descriptor: int) -> None:
        self._count()
        super().flush(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._count()
        super().rename(old, new)

    def truncate(self, descriptor: int, size: int) -> None:
        self._count()
        super().truncate(descriptor, size)

    def write_at(self, descriptor: int, data: bytes, offset: int) -> None:
        self._count()
        super().write_at(descriptor, data, offset)

    def unlink(self, path: Path) -> None:
        self._count()
        super().unlink(path)


class PowerCutError(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PowerCutError()])
def test_wherever_the_disk_fills_or_the_power_goes_the_backup_before_can_be_restored(
    error: BaseException, house: House, settings: Settings, dest: Path
) -> None:
    raised = UnavailableError if isinstance(error, OSError) else PowerCutError
    with pytest.raises(raised):
        create(settings, dest, disk=Failing(9, error))
    with pytest.raises(TamperedError, match="no backup was finished"):
        restore(dest, other(settings))
    before = create(settings, dest).records
    expected = lines(settings)[:before]
    at, failed, renewed = 0, 0, False
    while not renewed:
        house.record(3)
        house.decide(1)
        house.seal()
        (settings.reports / "more.html").write_text(str(at))
        try:
            now = create(settings, dest, disk=Failing(at, error))
            renewed = True
        except raised:
            failed += 1
            done = restore(dest, other(settings, f"again-{at}"))
            if done.records != before:  # the manifest was in place already: only the sweep was cut short
                assert done.records == len(house.ledger.records)
                renewed = True
            else:
                assert lines(other(settings, f"again-{at}")) == expected
            assert done.lost == []
        at += 6
    assert failed > 8
    now = create(settings, dest)
    assert restore(dest, other(settings, "last")).records == now.records == len(house.ledger.records)


def test_a_restore_onto_a_full_disk_leaves_nothing(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    for at in range(0, 40, 7):
        with pytest.raises(UnavailableError, match=r"nothing was restored: .*No space"):
            restore(dest, other(settings), disk=Failing(at, OSError(28, "No space left on device")))
        assert not other(settings).root.exists()
    other(settings).root.mkdir()  # as where a volume is mounted
    with pytest.raises(UnavailableError):
        restore(dest, other(settings), disk=Failing(9, OSError(28, "No space left on device")))
    assert list(other(settings).root.iterdir()) == []
    restore(dest, other(settings))


def test_only_a_home_that_holds_nothing_is_restored_into(house: House, settings: Settings, dest: Path) -> None:
    create(settings, dest)
    before = tree(settings.root)
    with pytest.raises(RefusedError, match="not empty"):
        restore(dest, settings)
    assert tree(settings.root) == before


def test_a_home_with_a_record_that_was_changed_is_not_restored(house: House, settings: Settings, dest: Path) -> None:
    path = sorted(settings.log_folder.glob("*.jsonl"))[0]
    path.write_bytes(path.read_bytes().replace(b"auditor-0", b"auditor-1"))
    create(settings, dest)  # a log that is written is copied, not judged
    with pytest.raises(TamperedError, match="record 1 was changed"):
        restore(dest, other(settings))
    house.ledger.close()
    with pytest.raises(TamperedError, match="record 1 was changed"):
        create(settings, dest)
