from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lineage.digest import digest_folder
from lineage.errors import InvalidError, TamperedError
from lineage.settings import Settings
from lineage.signing import verify
from tests.support.model_folder import customers
from training.bundle import Trained, Written, choose_threshold, write_bundle
from training.plugins import family_of
from training.spec import Spec
from training.split import split
from training.train import description_of, examples
from validators.scoring.bundle import load_bundle
from validators.scoring.golden import replay_golden


def write(spec: Spec, settings: Settings) -> Written:
    parts = split(customers(2000), "ID", spec.model.name)
    learn = examples(parts.train, spec.inputs, spec.data.label)
    trained = Trained(
        "boosted_trees",
        family_of("boosted_trees").fit({}, learn, 1),
        "logistic",
        family_of("logistic").fit({}, learn, 1),
    )
    described = description_of(spec, "sha256:" + "0" * 64)
    return write_bundle(described, trained, parts.validation, spec.decision.approval_rate, settings)


def test_the_bundle_is_named_by_its_content_signed_and_read_only(spec: Spec, settings: Settings) -> None:
    written = write(spec, settings)
    assert digest_folder(written.folder) == written.digest == "sha256:" + written.folder.name
    verify(written.folder, settings)
    assert written.folder.stat().st_mode & 0o222 == 0
    bundle = load_bundle(written.folder)
    assert replay_golden(bundle).ok
    assert bundle.threshold == written.threshold
    assert bundle.feature_names == spec.features.names
    assert sorted(path.name for path in settings.artefacts.iterdir()) == sorted(
        [written.folder.name, written.folder.name + ".sig"]
    )


def test_the_same_inputs_give_the_same_folder(spec: Spec, settings: Settings) -> None:
    assert write(spec, settings).digest == write(spec, settings).digest
    assert len([path for path in settings.artefacts.iterdir() if path.is_dir()]) == 1


def test_a_changed_byte_breaks_the_signature(spec: Spec, settings: Settings) -> None:
    written = write(spec, settings)
    target: Path = written.folder / "golden.json"
    target.chmod(0o644)
    target.write_bytes(target.read_bytes().replace(b"approve", b"decline", 1))
    with pytest.raises(TamperedError):
        verify(written.folder, settings)


def test_the_threshold_approves_the_share_that_was_asked_for() -> None:
    scores = np.random.default_rng(1).random(1000)
    assert abs((scores < choose_threshold(scores, 0.8)).mean() - 0.8) < 0.002
    for wrong in (np.array([]), np.zeros(10), np.ones(10)):
        with pytest.raises(InvalidError):
            choose_threshold(wrong, 0.8)
