"""Register: a validated candidate becomes a release, its bytes fixed from then on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plimsoll import Refused
from tests.support.bank import Workshop, facts_of


def test_a_validated_candidate_becomes_a_release(workshop: Workshop) -> None:
    # Given a candidate that passed every check
    bank, tracker = workshop.bank, workshop.tracker
    candidate = bank.train(tracker, seed=31)
    assert bank.validate(candidate).passed

    # When it is registered
    version = bank.register(candidate, tracker)

    # Then digest and fingerprint are those of training, and data scientists find it in MLflow
    assert bank.recorded("register") == ["ReleaseRegistered"]
    assert set(bank.recorded("register")) == facts_of("register")
    registered, trained = bank.fact("ReleaseRegistered")["data"], bank.fact("ModelTrained")["data"]
    assert registered == {
        "digest": trained["digest"],
        "mlflow_version": version,
        "fingerprint": trained["fingerprint"],
    }
    assert bank.release(candidate.release).state == "registered"

    # and it still answers nobody
    assert bank.model.champion is None
    assert bank.release(candidate.release).share == 0.0
    assert bank.auditor.verify()["ok"]


def test_what_was_not_checked_and_what_was_changed_since_is_refused(workshop: Workshop) -> None:
    # Given a candidate that nobody has checked
    bank, tracker = workshop.bank, workshop.tracker
    candidate = bank.train(tracker, seed=32)

    # When it is to be registered, then it is refused
    with pytest.raises(Refused) as refused:
        bank.register(candidate, tracker)
    assert refused.value.code == "order"

    # Given that it has passed, when other bytes come under its name, then they are refused
    assert bank.validate(candidate).passed
    others = replace(candidate.written, digest="sha256:" + "0" * 64)
    with pytest.raises(Refused) as refused:
        bank.register(replace(candidate, written=others), tracker)
    assert refused.value.code == "digest"
    assert bank.recorded("register") == []
    assert bank.release(candidate.release).state == "validated"
