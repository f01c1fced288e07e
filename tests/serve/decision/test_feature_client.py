"""Features by entity out of a real Feast store (SQLite), from the folder of a model to the answer; without Ray."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from structlog.testing import capture_logs

from lineage.clock import instant
from lineage.errors import InvalidError, PlimsollError, TamperedError, UnavailableError, UnknownError
from lineage.settings import Settings
from lineage.signing import make_keys
from serve.decision.feature_client import FeatureClient
from serve.decision.feature_replica import HANGS_SECONDS, FeatureReader, FeatureReadPool
from serve.decision.freshness import EntityFeatures, usable_features
from training.bundle import Trained, write_bundle
from training.dataset import pin_dataset
from training.features import training_frame
from training.materialize import materialize
from training.origin import bind_features
from training.plugins import family_of
from training.progress import Progress
from training.spec import Spec, load_spec
from training.split import split
from training.train import description_of, examples
from validators.scoring.bundle import Bundle, load_bundle, parse_features
from validators.scoring.feature_origin import STORE, STORE_FILE, feast_home, read_origin

EXAMPLE = Path(__file__).parents[3] / "examples" / "credit_default"
ROWS = 2_000
LIMIT = timedelta(days=45)
PATIENT = 30.0  # seconds: how long a test lets a read take that should succeed, on any machine


@dataclass
class World:
    """A trained release of the example whose features are in the online store."""

    settings: Settings
    spec: Spec
    bundle: Bundle
    digest: str
    frame: pl.DataFrame
    as_of: datetime

    def lookup(self, room: FeatureReadPool, at: datetime | None = None, **options: Any) -> FeatureClient:
        options = {"seconds": PATIENT} | options
        return FeatureClient(room.read, lambda: (at or self.as_of).timestamp(), **options)

    def fetch(self, entity: dict[str, Any], at: datetime | None = None, digest: str | None = None) -> EntityFeatures:
        room = FeatureReadPool(FeatureReader(self.settings))
        try:
            return asyncio.run(self.lookup(room, at).fetch(self.spec.model.name, digest or self.digest, entity))
        finally:
            room.close()

    @property
    def database(self) -> Path:
        return feast_home(self.settings, self.spec.model.name) / "online.db"


@pytest.fixture(scope="module", autouse=True)
def _in_utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, _in_utc: None) -> World:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    make_keys(settings)
    folder = tmp_path_factory.mktemp("model") / "credit_default"
    shutil.copytree(EXAMPLE, folder)
    data = folder / load_spec(folder).data.file
    pl.read_parquet(data).head(ROWS).write_parquet(data)  # all 30,000 are written in a minute on a busy machine
    spec = load_spec(folder)
    frame = training_frame(
        spec.feature_source,
        pin_dataset(spec.model.name, spec.data_file, settings).data,
        spec.data.key,
        spec.data.label,
        settings,
    )
    parts = split(frame, spec.data.key, spec.model.name)
    learn = examples(parts.train, spec.inputs, spec.data.label)
    trees, logistic = family_of("boosted_trees"), family_of("logistic")
    models = Trained("boosted_trees", trees.fit({}, learn, 1), "logistic", logistic.fit({}, learn, 1))
    described = description_of(spec, "sha256:" + "0" * 64)
    written = write_bundle(described, models, parts.validation, spec.decision.approval_rate, settings)
    assert bind_features(spec.feature_source, written.digest, settings) == "by entity through credit_default_v1: ID"
    done = materialize(spec, settings, Progress(io.StringIO()))
    bundle = load_bundle(written.folder)
    return World(settings, spec, bundle, written.digest, frame, instant(done.as_of))


def test_an_entity_gets_bit_for_bit_what_the_same_row_gets_by_named_features(world: World) -> None:
    for customer in (1, 42, ROWS - 1, ROWS):
        served = usable_features(world.fetch({"ID": customer}), world.bundle.features)
        named = world.frame.filter(pl.col("ID") == customer).select(world.spec.features.names).row(0, named=True)
        assert served.fresh
        assert (served.service, served.oldest_seconds) == ("credit_default_v1", 0.0)
        looked_up, sent = parse_features(world.bundle, served.values), parse_features(world.bundle, named)
        assert looked_up.tobytes() == sent.tobytes()
        for scorer in (world.bundle.model, world.bundle.baseline):
            assert scorer.score(looked_up).tobytes() == scorer.score(sent).tobytes()


def test_a_row_counts_until_its_view_says_so_and_not_a_moment_longer(world: World) -> None:
    assert world.fetch({"ID": 42}, world.as_of + LIMIT).fresh
    late = world.fetch({"ID": 42}, world.as_of + LIMIT + timedelta(milliseconds=1))
    assert late.values == {}
    assert sorted(late.stale) == sorted(world.spec.features.names)
    assert late.known


def test_the_baseline_answers_stale_features_at_its_neutral_point(world: World) -> None:
    means = np.asarray([world.bundle.baseline.means])  # type: ignore[attr-defined]
    assert not world.bundle.baseline.contributions(means).any()


def test_rows_from_the_future_are_not_used(world: World) -> None:
    assert world.fetch({"ID": 42}, world.as_of - timedelta(minutes=1)).values == {}


def test_an_unknown_entity_is_named(world: World) -> None:
    with pytest.raises(UnknownError, match=f"ID {ROWS + 1}") as caught:
        world.fetch({"ID": ROWS + 1})
    assert (caught.value.status, caught.value.field) == (404, "entity")


@pytest.mark.parametrize(
    ("entity", "told"),
    [
        ({}, "lacks 'ID'"),
        ({"id": 42}, "has 'id'; expected ID"),
        ({"ID": 42, "SEX": 1}, "has 'SEX'"),
        ({"ID": "42"}, "'42'; expected a whole number"),
        ({"ID": 42.0}, "expected a whole number"),
        ({"ID": True}, "expected a whole number"),
        ({"ID": None}, "expected a whole number"),
        ({"ID": [42]}, "expected a whole number"),
        ({"ID": 2**63}, "expected a whole number"),
    ],
)
def test_an_entity_that_is_no_key_is_the_callers_bug(world: World, entity: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidError, match=told) as caught:
        world.fetch(entity)
    assert not isinstance(caught.value, UnknownError)


def test_a_release_without_a_service_takes_features_only(world: World) -> None:
    with pytest.raises(InvalidError, match="send `features`"):
        world.fetch({"ID": 42}, digest="sha256:" + "0" * 64)


def test_a_digest_is_no_path(world: World) -> None:
    with pytest.raises(InvalidError, match="not a digest"):
        world.fetch({"ID": 42}, digest="sha256:../../secrets")


def test_a_changed_origin_serves_nobody(world: World) -> None:
    place = feast_home(world.settings, world.spec.model.name) / "releases" / world.digest.removeprefix("sha256:")
    path = place / "origin.json"
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"ttl_seconds":3888000', b'"ttl_seconds":9888000'))
    try:
        with pytest.raises(TamperedError):
            world.fetch({"ID": 42})
    finally:
        path.write_bytes(before)
    assert (
        read_origin(world.settings, world.spec.model.name, world.digest).views[0].ttl_seconds == LIMIT.total_seconds()
    )


def test_a_reader_follows_when_the_store_is_filled_anew(world: World) -> None:
    reader = FeatureReader(world.settings)
    name = world.spec.model.name
    first = reader.read(name, world.digest, {"ID": 7})["views"][0]
    earlier = world.as_of - timedelta(days=400)
    with closing(sqlite3.connect(world.database)) as held, held:
        held.execute("UPDATE credit_default_card_behaviour SET event_ts = ?", (int(earlier.timestamp()),))
    try:
        again = reader.read(name, world.digest, {"ID": 7})["views"][0]
        assert (again["at"], again["values"]) == (earlier.timestamp(), first["values"])
        assert len(world.fetch({"ID": 7}).stale) == len(world.spec.features.names)
    finally:
        with closing(sqlite3.connect(world.database)) as held, held:
            held.execute("UPDATE credit_default_card_behaviour SET event_ts = ?", (int(world.as_of.timestamp()),))


def test_readers_read_while_rows_are_being_written(world: World) -> None:
    with closing(sqlite3.connect(world.database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE credit_default_card_behaviour SET event_ts = 0 WHERE feature_name = 'PAY_0'")
        assert world.fetch({"ID": 42}).fresh
        writer.execute("ROLLBACK")


def test_a_store_that_hangs_is_unavailable_and_comes_back(world: World, tmp_path: Path) -> None:
    """Reads of a store that somebody holds hang for as long as Feast lets SQLite wait."""
    copy = Settings(home=tmp_path / "home")
    shutil.copytree(world.settings.root, copy.root)
    elsewhere = replace(world, settings=copy)
    room = FeatureReadPool(FeatureReader(copy), threads=2)
    name = world.spec.model.name

    async def story(holder: sqlite3.Connection) -> None:
        impatient, patient = elsewhere.lookup(room, seconds=0.05), elsewhere.lookup(room)
        with pytest.raises(UnavailableError, match="did not answer within 50 ms") as caught:
            await impatient.fetch(name, world.digest, {"ID": 42})
        assert (caught.value.status, caught.value.field) == (503, "entity")
        holder.execute("ROLLBACK")
        assert (await patient.fetch(name, world.digest, {"ID": 42})).fresh

    with closing(sqlite3.connect(elsewhere.database, isolation_level=None)) as holder:
        assert holder.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        holder.execute("BEGIN EXCLUSIVE")
        asyncio.run(story(holder))
    room.close()


class Gate(FeatureReader):
    """The real reader behind a gate that is shut: each read waits until it is opened."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.entered, self.opened = threading.Semaphore(0), threading.Event()

    def read(self, model: str, digest: str, entity: dict[str, Any]) -> dict[str, Any]:
        self.entered.release()
        assert self.opened.wait(PATIENT)
        return super().read(model, digest, entity)


def test_no_more_reads_are_under_way_than_allowed_and_the_rest_is_told_at_once(world: World) -> None:
    gate = Gate(world.settings)
    ticks = [0.0]
    room = FeatureReadPool(gate, threads=2, waiting=1, clock=lambda: ticks[0])
    name = world.spec.model.name

    async def story() -> list[Any]:
        lookup, narrow = world.lookup(room), world.lookup(room, most=3)
        waiting = [asyncio.create_task(narrow.fetch(name, world.digest, {"ID": one})) for one in (1, 2, 3)]
        for _ in range(2):
            assert await asyncio.to_thread(gate.entered.acquire, timeout=PATIENT)
        with pytest.raises(UnavailableError, match="3 entities are being looked up already"):
            await narrow.fetch(name, world.digest, {"ID": 4})
        with pytest.raises(UnavailableError, match="too many"):
            await lookup.fetch(name, world.digest, {"ID": 4})
        assert not room.hung
        ticks[0] = HANGS_SECONDS + 1
        assert room.hung
        gate.opened.set()
        return await asyncio.gather(*waiting)

    assert all(served.fresh for served in asyncio.run(story()))
    assert not room.hung
    room.close()


def test_opening_a_store_takes_no_thread_and_goes_on_when_the_first_caller_gave_up(world: World) -> None:
    class Slow(FeatureReader):
        opened = threading.Event()
        count = 0

        def open(self, model: str, digest: str) -> None:
            self.count += 1
            assert self.opened.wait(PATIENT)
            super().open(model, digest)

    reader = Slow(world.settings)
    room = FeatureReadPool(reader, threads=1, clock=lambda: 0.0)
    name = world.spec.model.name

    async def story() -> list[EntityFeatures]:
        with pytest.raises(UnavailableError):
            await world.lookup(room, seconds=0.02).fetch(name, world.digest, {"ID": 1})
        others = [asyncio.create_task(world.lookup(room).fetch(name, world.digest, {"ID": one})) for one in (1, 2, 3)]
        await asyncio.sleep(0)
        assert not room.hung
        reader.opened.set()
        return await asyncio.gather(*others)

    assert all(served.fresh for served in asyncio.run(story()))
    assert reader.count == 1
    room.close()


def test_who_gave_up_waiting_for_a_thread_is_not_read_for(world: World) -> None:
    gate = Gate(world.settings)
    room = FeatureReadPool(gate, threads=1)
    name = world.spec.model.name

    async def story() -> None:
        first = asyncio.create_task(world.lookup(room).fetch(name, world.digest, {"ID": 1}))
        assert await asyncio.to_thread(gate.entered.acquire, timeout=PATIENT)
        with pytest.raises(UnavailableError):
            await world.lookup(room, seconds=0.02).fetch(name, world.digest, {"ID": 2})
        gate.opened.set()
        assert (await first).fresh
        assert (await world.lookup(room).fetch(name, world.digest, {"ID": 3})).fresh

    asyncio.run(story())
    room.close()
    assert gate.entered.acquire(blocking=False)  # the third; the second never entered
    assert not gate.entered.acquire(blocking=False)


def test_a_store_that_was_never_filled_says_so(world: World, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    make_keys(settings)
    feast_home(settings, world.spec.model.name).mkdir(parents=True)
    bind_features(world.spec.feature_source, world.digest, settings)
    with pytest.raises(UnavailableError, match="nothing was ever put into it"):
        FeatureReader(settings).read(world.spec.model.name, world.digest, {"ID": 1})


def test_errors_cross_the_process_border_as_what_they_are(world: World) -> None:
    for kind in (InvalidError, UnknownError, UnavailableError, TamperedError):

        async def ask(model: str, digest: str, entity: dict[str, Any], name: str = kind.__name__) -> dict[str, Any]:
            return {"refused": [name, "what happened", "entity"]}

        with pytest.raises(PlimsollError) as caught:
            asyncio.run(FeatureClient(ask).fetch("m", "d", {"ID": 1}))
        assert type(caught.value) is kind
        assert (caught.value.message, caught.value.field) == ("what happened", "entity")


def test_the_gateway_does_not_carry_feast() -> None:
    code = "import serve.app, sys; sys.exit('feast' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


def test_warming_opens_the_stores_that_were_filled_since(world: World, tmp_path: Path) -> None:
    home = Settings(home=tmp_path)
    reader, name = FeatureReader(home), world.spec.model.name
    for model in (name, "another"):  # the other's address is not its own
        shutil.copytree(feast_home(world.settings, name), feast_home(home, model))
    shutil.copytree(world.settings.root / "keys", home.root / "keys")
    with capture_logs() as logged:
        reader.warm()
        assert [*reader._stores] == [name]
        opened = reader._stores[name]
        reader.warm()
    assert reader._stores[name] is opened
    assert [(line["event"], line["model"]) for line in logged] == [("online store not opened", "another")]
    os.utime(feast_home(home, name) / STORE / STORE_FILE)
    reader.warm()
    assert reader._stores[name] is not opened


def test_one_look_for_stores_at_a_time(world: World) -> None:
    class Slow(FeatureReader):
        opened = threading.Event()

        def warm(self) -> None:
            assert self.opened.wait(PATIENT)
            super().warm()

    room = FeatureReadPool(Slow(world.settings))
    first = room.warm()
    assert room.warm() is first
    Slow.opened.set()
    first.result(PATIENT)
    assert room.warm() is not first
    room.close()


def test_a_look_for_stores_that_ends_on_what_nobody_foresaw_is_not_passed_over(world: World) -> None:
    class Broken(FeatureReader):
        def warm(self) -> None:
            raise RuntimeError("nobody foresaw this")

    room = FeatureReadPool(Broken(world.settings))
    with pytest.raises(RuntimeError, match="nobody foresaw this"):
        room.warm().result(PATIENT)
    with pytest.raises(RuntimeError, match="nobody foresaw this"):
        room.warm()
    room.close()
