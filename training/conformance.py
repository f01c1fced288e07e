"""The conformance suite of model families: both halves, the one that trains and the one that scores.

    python -m training.conformance            # every installed family
    python -m training.conformance NAME ...   # these

Exit status: 0 everything conforms, 1 something does not, 2 no family has that name.
"""

from __future__ import annotations

import argparse
import os
import pickletools
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lineage.errors import InvalidError, TamperedError, UnavailableError, UnknownError
from training.family import Examples, Family
from training.plugins import TRAINING_FAMILIES
from validators.conformance.outcome import CONFORMS, PROBLEMS, UNKNOWN, write_outcome
from validators.plugins import SCORING_FAMILIES
from validators.scoring.port import Parse, Rows, Scorer
from validators.statistics.auc import auc

_ROWS, _WIDTH, _SEED = 600, 9, 5  # from 8 columns on numpy may sum rows of a batch in another order
_LEAST_AUC = 0.65  # on examples that a straight line separates well
_TOLERANCE = 1e-3  # log-odds: families may compute in float32

#: A pickle that creates a file when it is loaded: os.open(path, O_CREAT).
_HOSTILE_PICKLE = b"\x80\x04cos\nopen\nX%b%bK\x40\x86R."


def sample_examples(seed: int = 1, rows: int = _ROWS) -> Examples:
    """Synthetic examples whose outcome depends on the first two of nine features along a straight line."""
    source = np.random.default_rng(seed)
    values = source.normal(size=(rows, _WIDTH))
    return Examples(values, source.random(rows) < 1 / (1 + np.exp(-2 * (values[:, 0] - values[:, 1]))))


def problems_of_family(family: Family, parse: Parse, place: Path) -> list[str]:
    """What is wrong with a model family, a sentence each; empty if it conforms.

    Args:
        family: the half that trains.
        parse: the half that reads what was trained.
        place: an empty folder, into which a hostile artefact tries to write.
    """
    found = list(_description_problems(family))
    if found:
        return found
    train, content = sample_examples(), family.fit({}, sample_examples(), _SEED)
    found += _fit_problems(family, train, content)
    if not isinstance(content, bytes):
        return found
    found += _damage_problems(parse, content, place)
    try:
        scorer = parse(family.artefact, content)
    except TamperedError as error:
        return [*found, f"parse refuses what fit has made: {error.message}"]
    return [*found, *_scorer_problems(scorer, train)]


def _description_problems(family: Family) -> Iterator[str]:
    artefact = getattr(family, "artefact", None)
    if not isinstance(artefact, str) or Path(artefact).name != artefact or not Path(artefact).suffix:
        yield f"artefact is {artefact!r}; expected a file name with an ending"
        return
    defaults, space = family.defaults(), family.space()
    for name, span in space.items():
        if name not in defaults:
            yield f"space has {name!r}, which is not one of the defaults"
        elif span.low >= span.high or (span.log and span.low <= 0):
            yield f"the range of {name!r} is {span.low} to {span.high}; expected low below high, above 0 when log"


def _fit_problems(family: Family, train: Examples, content: bytes) -> Iterator[str]:
    if not isinstance(content, bytes) or not content:
        yield f"fit returns {type(content).__name__}; expected bytes"
        return
    kept = train.rows.copy()
    if len({_fit_in_state(family, train, state) for state in (1, 2)} | {content}) > 1:
        yield "the same parameters, examples and seed give other bytes"
    if not np.array_equal(kept, train.rows):
        yield "fit changed the examples"
    if is_pickle(content):
        yield "the artefact is a pickle; expected a data-only format"
    yield from _refusal(
        lambda: family.fit({"no_such_parameter": 1}, train, _SEED), UnknownError, "an unknown parameter"
    )
    same = replace(train, outcomes=np.zeros(len(train.rows), dtype=bool))
    yield from _refusal(lambda: family.fit({}, same, _SEED), InvalidError, "examples with one outcome")


def _fit_in_state(family: Family, train: Examples, state: int) -> bytes:
    """A fit while the shared random generators are in another state, which a family must not use."""
    kept, kept_numpy = random.getstate(), np.random.get_state()
    random.seed(state)
    np.random.seed(state)
    try:
        return family.fit(family.defaults(), train, _SEED)
    finally:
        random.setstate(kept)
        np.random.set_state(kept_numpy)


def is_pickle(content: bytes) -> bool:
    """Whether bytes are a whole pickle of any protocol. Nothing is executed."""
    try:
        return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(content))
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError):
        return False


def _refusal(call: Callable[[], object], expected: type[Exception], what: str) -> Iterator[str]:
    try:
        call()
    except expected:
        return
    yield f"{what}: expected {expected.__name__}"


def _damage_problems(parse: Parse, content: bytes, place: Path) -> Iterator[str]:
    """Bytes that are no artefact must raise TamperedError, and must not be executed."""
    trap = place / "executed"
    path = str(trap).encode()
    for what, damaged in {
        "no bytes": b"",
        "the first half of an artefact": content[: len(content) // 2],
        "an artefact without its last 16 bytes": content[:-16],
        "an artefact in reverse": content[::-1],
        "zeros": bytes(len(content)),
        "text": b"this is no model\n",
        "an empty JSON object": b"{}",
        "a pickle": _HOSTILE_PICKLE % (len(path).to_bytes(4, "little"), path),
    }.items():
        outcome = _outcome_in_child(parse, damaged)
        if outcome != "TamperedError":
            yield f"{what} gives {outcome}; expected TamperedError"
    if trap.exists():
        yield "parse executes a pickle"


def _outcome_in_child(parse: Parse, content: bytes) -> str:
    """What parsing these bytes leads to. A parser in C may crash, so it runs in a child process."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            parse("damaged", content)
            code = 1
        except TamperedError:
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        return f"a crash ({signal.Signals(-code).name})"
    return ("TamperedError", "a model", "another error")[code]


def _scorer_problems(scorer: Scorer, train: Examples) -> Iterator[str]:
    rows = train.rows
    if scorer.width != rows.shape[1]:
        yield f"width is {scorer.width} after {rows.shape[1]} features were learned"
        return
    kept, scores, parts = rows.copy(), scorer.score(rows), scorer.contributions(rows)
    if scores.shape != (len(rows),) or scores.dtype != np.float64:
        yield f"score gives {scores.dtype}{list(scores.shape)}; expected float64[{len(rows)}]"
        return
    if parts.shape != rows.shape or parts.dtype != np.float64:
        yield f"contributions gives {parts.dtype}{list(parts.shape)}; expected float64{list(rows.shape)}"
        return
    if not ((scores >= 0) & (scores <= 1)).all():
        yield "a score is outside 0 to 1"
        return
    reached = auc(scores, train.outcomes, 0.95).value
    if reached < _LEAST_AUC:
        yield f"AUC is {reached:.3f} on the simple examples it learned from; expected at least {_LEAST_AUC}"
    log_odds = np.log(scores / (1 - scores))
    bias = log_odds - parts.sum(axis=1)
    if not np.isfinite(parts).all() or not np.ptp(bias[np.isfinite(log_odds)]) <= _TOLERANCE:
        yield f"contributions and one bias do not add up to the log-odds of the score within {_TOLERANCE}"
    if scores.tobytes() != _one_by_one(scorer.score, rows):
        yield "a row in a batch and the same row alone get other scores"
    if parts.tobytes() != _one_by_one(scorer.contributions, rows):
        yield "a row in a batch and the same row alone get other contributions"
    if scorer.score(np.asfortranarray(rows)).tobytes() != scores.tobytes():
        yield "rows stored by column get other scores than the same rows stored by row"
    if scorer.score(rows).tobytes() != scores.tobytes():
        yield "the same rows get other scores the second time"
    if scorer.score(rows[:0]).shape != (0,):
        yield "no rows give something else than no scores"
    if not np.array_equal(kept, rows):
        yield "scoring changed the rows"


def _one_by_one(ask: Callable[[Rows], Rows], rows: Rows) -> bytes:
    return b"".join(ask(row[None]).tobytes() for row in rows)


def problems_of_installed(name: str, place: Path) -> list[str]:
    """What is wrong with the installed family called `name`; see `problems_of_family`."""
    for point, half in ((TRAINING_FAMILIES, "trains"), (SCORING_FAMILIES, "scores")):
        if name not in point.names():
            return [f"the half that {half} is not installed; expected {name!r} in {point.package} or {point.group}"]
    try:
        return problems_of_family(TRAINING_FAMILIES.load(name), SCORING_FAMILIES.load(name), place)
    except (InvalidError, UnavailableError) as error:
        return [error.message]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m training.conformance", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help="model families (default: all)")
    wanted = parser.parse_args(arguments).names
    installed = sorted({*TRAINING_FAMILIES.names(), *SCORING_FAMILIES.names()})
    for name in wanted:
        if name not in installed:
            sys.stderr.write(f"no model family is called {name!r}; {TRAINING_FAMILIES.hint(name)}\n")
            return UNKNOWN
    outcomes = []
    for name in wanted or installed:
        with tempfile.TemporaryDirectory(prefix="conformance-") as place:
            outcomes.append(write_outcome(TRAINING_FAMILIES, name, problems_of_installed(name, Path(place))))
    return CONFORMS if all(outcomes) else PROBLEMS


if __name__ == "__main__":
    sys.exit(main())
