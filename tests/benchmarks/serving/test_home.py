"""The home that benchmarks and fault runs start from: its facts are lawful and its bundles real."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving.home import Champion, build_home, named
from benchmarks.serving.model import rows
from lineage.ledger import Ledger
from lineage.log.signing_key import signer_at
from lineage.settings import Settings
from serve.models.bundle_store import BundleStore
from serve.routes import Target
from validators.scoring.bundle import parse_features

Home = tuple[Settings, list[Champion]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    settings = Settings(home=tmp_path_factory.mktemp("bank") / "var")
    return settings, build_home(settings, 3, releases=2, explain="adverse")


def test_every_model_has_a_champion_and_one_before_it(home: Home) -> None:
    settings, champions = home
    ledger = Ledger(settings.log_folder, signer=signer_at(settings.log_key))
    ledger.close()
    for champion in champions:
        model = ledger.state.models[champion.model]
        assert (model.champion, model.previous) == (champion.release, champion.before[0][0])
        assert ledger.state.releases[champion.release].digest == champion.digest


def test_the_bundles_are_verified_like_any_and_answer_as_was_said(home: Home) -> None:
    settings, champions = home
    store = BundleStore(settings)
    store.load([Target(champion.release, champion.digest) for champion in champions])
    assert store.refused == {}
    for champion in champions:
        bundle = store.get(Target(champion.release, champion.digest))
        assert bundle is not None
        asked = named(rows(1, seed=5)[0])
        assert float(bundle.model.score(parse_features(bundle, asked))[0]) == champion.score


def test_no_two_models_answer_alike(home: Home) -> None:
    _, champions = home
    digests = {champion.digest for champion in champions} | {one.before[0][1] for one in champions}
    assert len(digests) == 6
    assert len({champion.score for champion in champions}) == 3


def test_a_home_leaves_no_drafts_behind(home: Home) -> None:
    settings, _ = home
    assert sorted(path.name for path in Path(settings.root).iterdir()) == ["artefacts", "keys", "ledger"]
    assert not [path for path in settings.artefacts.iterdir() if path.name.startswith("draft")]
