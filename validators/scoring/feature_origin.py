"""The origin of a release's features: where they are read when a caller names an entity instead of sending them.

Training writes an origin beside each release and the address of the online store beside each model, both signed with
the platform's key. They are data: reading them runs no definitions and opens no Feast registry, which may hold
pickled functions. What a release reads is fixed with it; the address of the store may change.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from lineage.digest import canonical, read_folder
from lineage.errors import InvalidError, TamperedError, UnavailableError
from lineage.settings import Settings
from lineage.signing import sign, signature_of, verify_files

SCHEMA = 1
ORIGIN_FILE, STORE_FILE = "origin.json", "store.json"
RELEASES, STORE, LOCK = "releases", "store", ".lock"
#: The summary of the last materialization. Replicas that read features open the store early where it exists.
MATERIALIZED = "materialized.json"
#: The types an entity's key may have, by Feast's names.
KEY_TYPES = ("INT64", "INT32", "STRING")


Mark = tuple[int, int, int]


@dataclass(frozen=True)
class View:
    """A feature view: which of its features the release takes (name -> Feast's type) and for how long they count.

    `ttl_seconds` of 0 is no limit. `keys` name the columns that identify the entity, with Feast's types.
    """

    name: str
    ttl_seconds: float
    keys: Mapping[str, str]
    features: Mapping[str, str]


@dataclass(frozen=True)
class Origin:
    """The feature service of one release, as it was when the release was trained."""

    model: str
    digest: str
    service: str
    views: tuple[View, ...]

    @property
    def keys(self) -> dict[str, str]:
        """Every key that a caller has to name, with its type."""
        return {name: kind for view in self.views for name, kind in view.keys.items()}

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(name for view in self.views for name in view.features)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"schema": SCHEMA, **asdict(self)}


@dataclass(frozen=True)
class Address:
    """The text of a feature_store.yaml, and the folder that relative paths in it start from."""

    text: str
    repository: str


def feast_home(settings: Settings, model: str) -> Path:
    """Registry, online store, source file and origins of one model."""
    return settings.root / "feast" / model


def mark_of(settings: Settings, model: str, digest: str | None = None) -> Mark | None:
    """A mark that changes when the address of a model's store, or a release's origin, is rewritten; None if absent.

    Verifying takes milliseconds, this microseconds: compare the mark before each use and verify again when it changed.
    """
    home = feast_home(settings, model)
    path = home / STORE / STORE_FILE if digest is None else home / RELEASES / _folder_name(digest) / ORIGIN_FILE
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def write_origin(origin: Origin, settings: Settings) -> Path:
    """Sign an origin and write it; where the same one is there already, nothing changes.

    Raises:
        UnavailableError: there is no signing key, or the folder cannot be written.
    """
    place = feast_home(settings, origin.model) / RELEASES / _folder_name(origin.digest)
    return _write(place, ORIGIN_FILE, canonical(origin.to_dict()), settings)


def read_origin(settings: Settings, model: str, digest: str) -> Origin:
    """The verified origin of a release.

    Raises:
        InvalidError: the release has none: it takes features only.
        TamperedError: it is not what training signed.
    """
    place = feast_home(settings, model) / RELEASES / _folder_name(digest)
    content = _read(place, ORIGIN_FILE, settings)
    if content is None:
        raise InvalidError(
            f"this release of {model} has no feature service to read an entity's features from; send `features`",
            field="entity",
        )
    try:
        views = tuple(View(**view) for view in content.pop("views"))
        schema = content.pop("schema")
        origin = Origin(**content, views=views)
    except (KeyError, TypeError) as error:
        raise TamperedError(f"the origin of {model} {digest[:19]}… is not one: {error!r}") from error
    if (schema, origin.model, origin.digest) != (SCHEMA, model, digest):
        raise TamperedError(f"the origin of {model} {digest[:19]}… belongs to {origin.model} {origin.digest[:19]}…")
    return origin


def write_address(model: str, address: Address, settings: Settings) -> Path:
    """Sign the address of a model's online store and put it in its place.

    Raises:
        UnavailableError: there is no signing key, or the folder cannot be written.
    """
    content = canonical({"schema": SCHEMA, "model": model, **asdict(address)})
    return _write(feast_home(settings, model) / STORE, STORE_FILE, content, settings)


def read_address(settings: Settings, model: str) -> Address:
    """The verified address of a model's online store.

    Raises:
        UnavailableError: there is no address yet.
        TamperedError: it is not what was signed.
    """
    content = _read(feast_home(settings, model) / STORE, STORE_FILE, settings)
    if content is None:
        raise UnavailableError(
            f"it is not known where the features of {model} are; run `plimsoll features materialize FOLDER`",
            field="entity",
        )
    whose = (content.pop("schema", None), content.pop("model", None))
    if whose != (SCHEMA, model):
        raise TamperedError(f"the address of the online store of {model} belongs to {whose[1]}; materialize it again")
    try:
        return Address(**content)
    except TypeError as error:
        raise TamperedError(f"the address of the online store of {model} is not one: {error}") from error


def read_origins(settings: Settings, model: str) -> list[Origin]:
    """Every origin of a model, releases in the order of their digests.

    Raises:
        TamperedError: one is not what training signed.
    """
    folder = feast_home(settings, model) / RELEASES
    found = folder.iterdir() if folder.is_dir() else ()
    names = sorted(path.name for path in found if path.is_dir() and not path.name.startswith("."))
    return [read_origin(settings, model, f"sha256:{name}") for name in names]


def _folder_name(digest: str) -> str:
    name = digest.removeprefix("sha256:")
    if len(name) != 64 or not name.isalnum():  # it becomes part of a path
        raise InvalidError(
            f"{digest[:80]!r} is not a digest; expected sha256: and 64 hexadecimal digits", field="digest"
        )
    return name


def _write(place: Path, name: str, content: bytes, settings: Settings) -> Path:
    home = place.parent
    try:
        if (place / name).is_file() and (place / name).read_bytes() == content and signature_of(place).is_file():
            return place
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=home) as staging:
            draft = Path(staging) / place.name  # the signature holds the folder's name
            draft.mkdir()
            (draft / name).write_bytes(content)
            (draft / name).chmod(0o600)  # a store's address may hold what opens it
            sign(draft, settings)
            with _locked(home, exclusive=True):
                shutil.rmtree(place, ignore_errors=True)
                signature_of(draft).replace(signature_of(place))
                draft.rename(place)
    except OSError as error:
        raise UnavailableError(f"cannot write {place}: {error.strerror or error}") from error
    return place


def _read(place: Path, name: str, settings: Settings) -> dict[str, Any] | None:
    if not place.parent.is_dir():
        return None
    with _locked(place.parent, exclusive=False):
        if not place.is_dir():
            return None
        files = read_folder(place)
        verify_files(place.name, files, signature_of(place), settings)
    try:
        content: dict[str, Any] = orjson.loads(files[name])
    except (KeyError, orjson.JSONDecodeError) as error:
        raise TamperedError(f"{place.name[:12]}/{name} cannot be read: {error!r}") from error
    return content


@contextlib.contextmanager
def _locked(home: Path, *, exclusive: bool) -> Iterator[None]:
    """Lock a folder of origins: folder and signature are two files, and no reader may see one without the other."""
    with (home / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
