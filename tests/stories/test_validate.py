"""Validate: every check that the policy names must pass; a failed candidate is rejected."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from lineage.digest import digest_file
from plimsoll import Refused
from tests.support.bank import Workshop, facts_of, folder_of_a_model
from tests.support.model_folder import customers


def test_a_sound_candidate_passes_and_one_that_learned_from_chance_is_rejected(
    workshop: Workshop, tmp_path: Path
) -> None:
    bank, tracker = workshop.bank, workshop.tracker

    # Given a candidate trained on what happened, and one trained on labels that mean nothing
    sound = bank.train(tracker, seed=21)
    noise = customers(seed=4).with_columns(pl.col("bad").shuffle(seed=1))
    folder = folder_of_a_model(tmp_path / "model", data=noise)
    chance = bank.train(tracker, seed=22, folder=folder)
    bank.begin()

    # When both are validated
    assert bank.validate(sound).passed
    assert bank.validate(chance, folder).failed == ["beats_baseline_and_champion"]

    # Then each check of the policy is on record for both, and one verdict each
    checks = ["CheckCompleted"] * 4
    assert bank.recorded("validate", sound.release) == [*checks, "CandidateValidated"]
    assert bank.recorded("validate", chance.release) == [*checks, "CandidateRejected"]
    assert set(bank.recorded("validate")) == facts_of("validate")
    assert bank.release(sound.release).state == "validated"
    assert bank.release(chance.release).state == "rejected"
    assert bank.fact("CandidateRejected")["data"]["failed"] == ["beats_baseline_and_champion"]

    # and the report an examiner reads is the one whose digest is on record
    report = bank.settings.reports / f"{chance.release}.html"
    assert digest_file(report) == bank.release(chance.release).report_digest
    assert "Rejected" in report.read_text()

    # and the rejected candidate can neither be registered nor come back under another number
    with pytest.raises(Refused) as refused:
        bank.register(chance, tracker)
    assert refused.value.code == "order"
    with pytest.raises(Refused) as refused:
        bank.train(tracker, seed=22, folder=folder)
    assert refused.value.code == "same_bytes"


def test_no_candidate_is_validated_by_saying_so(workshop: Workshop) -> None:
    # Given a candidate that nobody has checked
    bank = workshop.bank
    candidate = bank.train(workshop.tracker, seed=23)

    # When somebody states that it passed
    data = {"checks": ["beats_baseline_and_champion"], "report_digest": candidate.written.digest}
    with pytest.raises(Refused) as refused:
        bank.trainer.append("CandidateValidated", release=candidate.release, data=data)

    # Then the ledger counts the checks itself
    assert refused.value.code == "checks"
    assert bank.recorded("validate") == []
    assert bank.fact("ActionRefused")["data"]["code"] == "checks"
    assert bank.release(candidate.release).state == "trained"
