"""Golden rows: answers recorded when a release was made, which it must reproduce bit for bit wherever it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from lineage.errors import TamperedError, UnavailableError
from validators.scoring.bundle import GOLDEN_FILE, Bundle, parse_features


@dataclass(frozen=True)
class GoldenResult:
    """How many golden rows there are, how many were reproduced, and the digest of the answers given now."""

    count: int
    matched: int
    digest: str

    @property
    def ok(self) -> bool:
        """No rows is not a pass."""
        return 0 < self.count == self.matched

    def to_dict(self) -> dict[str, Any]:
        """The form that facts carry."""
        return {"count": self.count, "matched": self.matched, "digest": self.digest}


def answer(bundle: Bundle, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Score rows of named features one by one, as a request would, in the form golden.json keeps."""
    answers = []
    for features in rows:
        score = float(bundle.model.score(parse_features(bundle, features))[0])
        answers.append({"features": features, "score": score.hex(), "decision": bundle.decision(score)})
    return answers


def replay_golden(bundle: Bundle, content: bytes | None = None) -> GoldenResult:
    """Score the golden rows again and compare.

    Args:
        content: golden.json, where it was read already; it is read from the bundle's folder otherwise.

    Raises:
        UnavailableError: golden.json cannot be read.
        TamperedError: golden.json is not a list of golden rows.
        InvalidError: a golden row is not what the release takes.
    """
    path = bundle.folder / GOLDEN_FILE
    try:
        golden = json.loads(path.read_bytes() if content is None else content)
        answers = answer(bundle, [row["features"] for row in golden])
    except OSError as error:
        raise UnavailableError(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise TamperedError(f"{path} is not a list of golden rows: {error!r}") from error
    matched = sum(now == then for now, then in zip(answers, golden, strict=True))
    text = "\n".join(f"{row['score']} {row['decision']}" for row in answers)
    return GoldenResult(len(golden), matched, "sha256:" + sha256(text.encode()).hexdigest())
