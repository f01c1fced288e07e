"""Train: data is pinned, a model fitted, and the result is a traceable candidate."""

from __future__ import annotations

import pytest

from lineage.digest import digest_folder
from lineage.signing import verify
from plimsoll import Refused
from tests.support.bank import SECOND, Workshop, facts_of


def test_a_run_leaves_a_candidate_that_can_be_traced_to_its_data(workshop: Workshop) -> None:
    bank = workshop.bank

    # When the scientist's run trains
    candidate = bank.train(workshop.tracker, seed=11)

    # Then the data were pinned first, by version and content, and the candidate names them
    assert bank.recorded("train") == ["DatasetPinned", "ModelTrained"]
    assert set(bank.recorded("train")) == facts_of("train")
    pinned, trained = bank.fact("DatasetPinned")["data"], bank.fact("ModelTrained")["data"]
    assert (pinned["version"], pinned["digest"]) == (trained["dataset"]["version"], trained["dataset"]["digest"])
    assert pinned["rows"] == 4000

    # and its bytes are those on record, signed
    assert digest_folder(candidate.written.folder) == trained["digest"]
    verify(candidate.written.folder, bank.settings)

    # and it is a candidate, no more: nobody has looked at it, and no customer meets it
    fold = bank.release(candidate.release)
    assert (fold.state, fold.author, fold.share) == ("trained", "scientist", 0.0)
    assert fold.terms.review.required
    assert bank.model.champion is None
    assert bank.model.challenger is None


def test_the_same_folder_and_seed_give_the_same_bytes(workshop: Workshop) -> None:
    bank = workshop.bank

    # Given a release, trained with seed 4.  When that run is repeated, and once more with another seed
    first = bank.release(SECOND)
    with pytest.raises(Refused, match=f"these bytes are release {SECOND} already") as refused:
        bank.train(workshop.tracker, seed=4)
    other = bank.train(workshop.tracker, seed=12)

    # Then what was done the same came out the same, which is no new release, and the other is one
    assert refused.value.code == "same_bytes"
    assert first.digest != other.written.digest
    assert first.fingerprint != other.fingerprint
    assert bank.recorded("train") == ["DatasetPinned", "DatasetPinned", "ModelTrained"]
