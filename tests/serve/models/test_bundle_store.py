"""Bundles in memory: verified before they are parsed, loaded once, within a budget, isolated from each other."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from lineage.bundle_facts import parse_statement
from lineage.errors import UnavailableError
from lineage.settings import Settings
from serve.models.bundle_store import BundleStore
from serve.models.memory_budget import ModelMemory
from serve.models.sandbox_client import Proof, Sandbox
from serve.routes import Target
from tests.support.bundles import features, folder_of, make_bundle
from tests.support.faulty_bundles import altered, end_children, of_family, sandbox_with
from validators.scoring.bundle import Absent, Bundle, parse_features
from validators.scoring.verified_read import load_verified, read_verified


class Watched(Sandbox):
    """A real sandbox that remembers what it was asked to prove."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def prove(self, digest: str, folder: Path, files: Mapping[str, bytes]) -> Proof:
        self.asked.append(digest)
        return super().prove(digest, folder, files)


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, list[Target]]:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    return settings, [make_bundle(settings, f"loan@{number}", seed=number) for number in range(1, 6)]


@pytest.fixture
def settings(_made: tuple[Settings, list[Target]]) -> Settings:
    return _made[0]


@pytest.fixture
def targets(_made: tuple[Settings, list[Target]]) -> list[Target]:
    return _made[1]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.close()


def small(settings: Settings, models: float, sandbox: Sandbox, target: Target) -> Settings:
    """Settings whose budget is so many models like this one."""
    folder = folder_of(settings, target)
    proof = sandbox.prove(target.digest, folder, read_verified(folder, target.digest, settings))
    return settings.model_copy(update={"model_memory_mib": models * proof.memory / (1024 * 1024)})


def _loaded(target: Target, settings: Settings) -> Bundle:
    return load_verified(folder_of(settings, target), target.digest, settings)


def answer(bundle: Bundle | None) -> float:
    assert bundle is not None
    return float(bundle.model.score(parse_features(bundle, features()))[0])


def test_what_is_held_answers_as_what_was_loaded_alone(
    settings: Settings, targets: list[Target], sandbox: Watched
) -> None:
    store = BundleStore(settings, sandbox)
    assert (
        store.get(targets[0]) is store.get_baseline(targets[0]) is store.get(None) is store.get_baseline(None) is None
    )
    assert store.has_missing(targets)
    store.load(targets)
    assert not store.has_missing(targets)
    assert (store.resident, store.refused, store.evictions) == (5, {}, 0)
    assert [answer(store.get(one)) for one in targets] == [answer(_loaded(one, settings)) for one in targets]
    assert len({answer(store.get(one)) for one in targets}) == 5
    assert 5 * 50_000 < store.memory_bytes < 5 * 200_000


def test_no_model_is_parsed_here_before_the_sandbox_has_proven_it(
    settings: Settings, targets: list[Target], sandbox: Watched
) -> None:
    dead = Sandbox(command=("/nowhere/python",))
    store = BundleStore(settings, dead)
    store.load(targets[:2])
    assert store.resident == 0
    assert all("sandbox cannot be started" in store.refused[one.digest] for one in targets[:2])
    assert store.get_baseline(targets[0]) is None
    with pytest.raises(UnavailableError):
        dead.start()


def test_a_bundle_that_fails_in_the_sandbox_is_refused_and_the_others_are_held(
    settings: Settings, targets: list[Target], tmp_path: Path
) -> None:
    files = read_verified(folder_of(settings, targets[0]), targets[0].digest, settings)
    crashing = altered(settings, targets[0], "loan@8", of_family(files, "crashes"))
    wrong = altered(settings, targets[0], "loan@9", {"golden.json": files["golden.json"].replace(b"0x1.", b"0x1.1", 1)})
    sandbox = sandbox_with(tmp_path)
    store = BundleStore(settings, sandbox)
    store.load([crashing, targets[1], wrong])
    assert store.get(targets[1]) is not None
    assert store.get(crashing) is store.get(wrong) is None
    assert "ended with -11" in store.refused[crashing.digest]
    assert "7 of 8 golden rows" in store.refused[wrong.digest]
    assert not store.has_missing([crashing, targets[1], wrong])
    store.load(targets[1:2])
    assert store.refused == {}
    sandbox.close()


def test_beyond_the_budget_baselines_stay_and_models_load_on_demand(
    settings: Settings, targets: list[Target], sandbox: Watched
) -> None:
    store = BundleStore(small(settings, 2.5, sandbox, targets[0]), sandbox)
    store.load(targets)
    held = [one for one in targets if store.get(one) is not None]
    assert held == targets[:2]  # the first ones are the most needed
    assert not store.has_missing(targets)
    for one in targets:
        light = store.get_baseline(one)
        assert light is not None
        assert 0 < light.baseline.score(parse_features(light, features()))[0] < 1
        assert isinstance(light.model, Absent)
        with pytest.raises(UnavailableError, match="not in memory"):
            answer(light)
    store.get(targets[0])
    assert answer(asyncio.run(store.get_or_load(targets[4]))) == answer(_loaded(targets[4], settings))
    assert [one for one in targets if store.get(one)] == [
        targets[0],
        targets[4],
    ]  # not the one that nobody asked for
    assert (store.resident, store.evictions) == (2, 1)
    assert store.get_baseline(targets[1]) is not None


def test_holding_lets_nothing_go_that_is_wanted(settings: Settings, targets: list[Target], sandbox: Watched) -> None:
    store = BundleStore(small(settings, 2.5, sandbox, targets[0]), sandbox)
    store.load(targets[:2])
    store.load(targets[1:4])
    assert [one for one in targets if store.get(one)] == targets[1:3]
    assert store.get_baseline(targets[0]) is None  # no route names it any more, and its model is gone
    store.load(targets[1:3])
    assert store.evictions == 1


def test_a_model_larger_than_the_budget_is_refused_and_says_what_to_do(
    settings: Settings, targets: list[Target], sandbox: Watched
) -> None:
    store = BundleStore(small(settings, 0.5, sandbox, targets[0]), sandbox)
    store.load(targets[:1])
    assert "PLIMSOLL_MODEL_MEMORY_MIB" in store.refused[targets[0].digest]
    assert store.get_baseline(targets[0]) is not None


def test_many_who_want_one_bundle_at_once_have_it_loaded_once(
    settings: Settings, targets: list[Target], sandbox: Watched
) -> None:
    store = BundleStore(settings, sandbox)
    sandbox.asked.clear()

    async def all_at_once() -> list[Bundle | None]:
        return await asyncio.gather(*(store.get_or_load(targets[number % 2]) for number in range(40)))

    bundles = asyncio.run(all_at_once())
    assert len({id(bundle) for bundle in bundles}) == 2
    assert sorted(sandbox.asked) == sorted(one.digest for one in targets[:2])


def test_who_gives_up_waiting_does_not_take_the_load_from_others(
    settings: Settings, targets: list[Target], sandbox: Watched
) -> None:
    store = BundleStore(settings, sandbox)

    async def one_gives_up() -> Bundle | None:
        impatient = asyncio.create_task(store.get_or_load(targets[0]))
        patient = asyncio.create_task(store.get_or_load(targets[0]))
        await asyncio.sleep(0)
        impatient.cancel()
        return await patient

    assert asyncio.run(one_gives_up()) is not None


def test_a_bundle_that_hangs_holds_up_no_other(settings: Settings, targets: list[Target], tmp_path: Path) -> None:
    files = read_verified(folder_of(settings, targets[0]), targets[0].digest, settings)
    hanging = altered(settings, targets[0], "loan@8", of_family(files, "sleeps"))
    sandbox = sandbox_with(tmp_path)
    store = BundleStore(settings, sandbox)

    async def both() -> tuple[bool, Bundle | None]:
        slow = asyncio.create_task(store.get_or_load(hanging))
        await store.get_or_load(targets[1])
        waiting = not slow.done()
        while not end_children(sandbox):
            await asyncio.sleep(0)
        return waiting, await slow

    assert asyncio.run(both()) == (True, None)
    assert store.get(targets[1]) is not None
    assert "ended by force" in store.refused[hanging.digest]
    sandbox.close()


def test_a_refused_bundle_is_looked_at_again_after_a_rest(
    settings: Settings, targets: list[Target], sandbox: Watched, tmp_path: Path
) -> None:
    shutil.copytree(settings.root, tmp_path / "home")
    own, now = Settings(home=tmp_path / "home"), [0.0]
    model = folder_of(own, targets[0]) / "model.ubj"
    content = model.read_bytes()
    model.write_bytes(content[:-1] + b"!")
    store = BundleStore(own, sandbox, clock=lambda: now[0])
    store.load(targets[:1])
    assert "digest" in store.refused[targets[0].digest]
    model.write_bytes(content)
    now[0] = 9.0
    assert asyncio.run(store.get_or_load(targets[0])) is None
    now[0] = 11.0
    assert asyncio.run(store.get_or_load(targets[0])) is not None
    assert store.refused == {}


def test_what_was_proven_is_verified_again_when_it_is_loaded_again(
    settings: Settings, targets: list[Target], sandbox: Watched, tmp_path: Path
) -> None:
    shutil.copytree(settings.root, tmp_path / "home")
    own = Settings(home=tmp_path / "home")
    store = BundleStore(small(own, 1.5, sandbox, targets[0]), sandbox)
    store.load(targets[:2])
    assert store.get(targets[1]) is None
    model = folder_of(own, targets[1]) / "model.ubj"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    assert asyncio.run(store.get_or_load(targets[1])) is None
    assert "digest" in store.refused[targets[1].digest]
    assert store.get(targets[0]) is not None
    assert store.get_baseline(targets[1]) is not None


def test_room_is_taken_before_a_model_is_there_and_given_back_where_it_fails(
    settings: Settings, targets: list[Target]
) -> None:
    bundle = _loaded(targets[0], settings)
    models = ModelMemory(100)
    assert models.reserve("a", 60, ())
    assert models.get("a") is None
    assert not models.reserve("b", 60, ())  # what is still being parsed cannot go
    assert not models.reserve("a", 10, ())
    models.release("a")
    assert models.reserve("b", 60, ())
    models.fill("b", bundle)
    assert models.get("b") is bundle
    assert not models.reserve("c", 60, ("b",))
    assert not models.fits_beside(60, ("b",))
    assert models.fits_beside(60, ())
    assert models.reserve("c", 60, ())
    assert (len(models), models.taken, models.evictions, "b" in models) == (1, 60, 1, False)
    assert not models.reserve("d", 101, ())


def _release_says(files: Mapping[str, bytes], **changes: object) -> dict[str, bytes]:
    return {"release.json": json.dumps(json.loads(files["release.json"]) | changes).encode()}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "card"},
        {"threshold": 0.9},
        {"policy_digest": "sha256:" + "f" * 64},
        {"features": "reversed"},
    ],
)
def test_a_signed_bundle_that_says_other_things_than_the_route_is_refused_and_the_others_are_held(
    settings: Settings, targets: list[Target], sandbox: Watched, changes: dict[str, object]
) -> None:
    files = read_verified(folder_of(settings, targets[0]), targets[0].digest, settings)
    recorded = parse_statement("recorded", files["release.json"]).digest
    if "features" in changes:
        changes = {"features": json.loads(files["release.json"])["features"][::-1]}
    lying = altered(settings, targets[0], "loan@9", _release_says(files, **changes))
    store = BundleStore(settings, sandbox)
    store.load([replace(lying, statement=recorded), replace(targets[0], statement=recorded)])
    assert store.get(lying) is store.get_baseline(lying) is None
    assert "says" in store.refused[lying.digest]
    assert lying.digest not in sandbox.asked, "no parser of its family has seen it"
    assert store.get(targets[0]) is not None


def test_a_bundle_of_another_model_is_refused_also_where_only_release_and_digest_are_known(
    settings: Settings, targets: list[Target], sandbox: Watched
) -> None:
    store = BundleStore(settings, sandbox)
    other = Target("card@1", targets[0].digest)
    store.load([other])
    assert store.get(other) is None
    assert store.refused[other.digest] == "the bundle of card@1 says that it is of model 'loan'"
