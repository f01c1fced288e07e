"""The rules of the kill switch, of breakers and of the shadow.

One person stops; two different people let go. Nothing else lets go: no service may state these facts (`guards.may`),
and the fold forgets a pulled switch by a `KillSwitchReleased` alone.
"""

from __future__ import annotations

from lineage.errors import RefusedError, UnknownError
from lineage.rules.proposal import Proposal
from lineage.state.safety import Kill

_ANSWERS = {"baseline": "the baseline answers", "nothing": "nothing is answered"}


def may_be_pulled(p: Proposal) -> None:
    """Refuse to pull what is pulled, unless that stops more, or takes back a request to let go."""
    kill, answer = _kill(p), p.data["answer"]
    if kill is None or (kill.answer, answer) == ("baseline", "nothing"):
        return
    if kill.answer == answer and kill.asked_by is not None:
        return
    looser = "; to have the baseline answer again is to release it, which takes two people"
    raise RefusedError(
        f"{_name(p.named)}: {_was_killed(kill)} already{'' if kill.answer == answer else looser}", code="pulled"
    )


def not_pulled(model: str | None) -> RefusedError:
    """What whoever would release it is told."""
    return RefusedError(
        f"the kill switch of {_name(model)} is not pulled; there is nothing to release", code="not_pulled"
    )


def not_asked_for(model: str | None) -> RefusedError:
    """What whoever would confirm a release is told."""
    return RefusedError(
        f"nobody asked to release {_name(model)}; ask first, then a second person has to confirm", code="not_asked"
    )


def is_pulled(p: Proposal) -> None:
    """Refuse to release what is not pulled, or another pull than the one that stands."""
    kill = _kill(p)
    if kill is None:
        raise not_pulled(p.named)
    if p.data["pulled"] != kill.seq:
        raise RefusedError(
            f"{_name(p.named)}: {_was_killed(kill)} in record {kill.seq}, not {p.data['pulled']}; "
            "look again, then decide",
            code="stale",
            status=412,
        )


def is_not_asked_for(p: Proposal) -> None:
    """Refuse a second request: what is asked for waits for a confirmation, not for another request."""
    kill = _kill(p)
    if kill is not None and kill.asked_by is not None:
        raise RefusedError(
            f"{kill.asked_by} asked to release {_name(p.named)} at {kill.asked_at}; a second person has to confirm",
            code="asked",
        )


def is_asked_for(p: Proposal) -> None:
    """Refuse to confirm what nobody asked for."""
    kill = _kill(p)
    if kill is None or kill.asked_by is None:
        raise not_asked_for(p.named)
    if p.data["requested"] != kill.asked_seq:
        raise RefusedError(
            f"the request stands in record {kill.asked_seq}, not {p.data['requested']}; look again, then decide",
            code="stale",
            status=412,
        )


def is_a_second_person(p: Proposal) -> None:
    """Refuse a confirmation by whoever asked."""
    kill = _kill(p)
    if kill is not None and kill.asked_by == p.actor.name:
        raise RefusedError(
            f"{p.actor.name} asked for the release of {_name(p.named)}; a second person has to confirm",
            code="four_eyes",
            status=403,
        )


def is_not_killed(p: Proposal) -> None:
    """Refuse to give a release traffic while the model, or all of them, is stopped."""
    for kill, whom in ((p.model.kill, p.model.model), (p.state.kill, "all models")):
        if kill is not None:
            raise RefusedError(
                f"{whom}: {_was_killed(kill)}; no release takes traffic until two people let go. Rolling back, "
                "aborting, reviewing and retraining stay possible",
                code="killed",
            )


def about_its_own_release(p: Proposal) -> None:
    """Refuse a breaker of a release that the model does not have."""
    release = p.state.releases.get(p.data["release"])
    if release is None or release.model != p.named:
        raise UnknownError(f"there is no release {p.data['release']!r} of {p.named}", field="release")


def is_open(p: Proposal) -> None:
    """Refuse to close a breaker that is not open."""
    breaker = p.model.breakers.get(p.data["replica"])
    if breaker is None or breaker.release != p.data["release"]:
        raise RefusedError(
            f"no breaker of {p.data['release']} is open on replica {p.data['replica']}; there is nothing to close",
            code="order",
        )


def alone_beside_the_champion(p: Proposal) -> None:
    """Refuse a second release that is scored beside the champion: the pool scores one."""
    if p.model.shadow == p.release.release:
        raise RefusedError(f"{p.release.release} scores in the shadow already", code="order")
    other = p.model.challenger or p.model.shadow
    if other is not None:
        what = "is in flight" if p.model.challenger else "scores in the shadow"
        raise RefusedError(f"{other} {what} already; one release of a model at a time", code="in_flight")


def no_other_shadow(p: Proposal) -> None:
    """Refuse a canary while another release is scored in the shadow: the pool scores one."""
    if p.model.shadow not in (None, p.release.release):
        raise RefusedError(
            f"{p.model.shadow} scores in the shadow; stop that first: one release of a model at a time",
            code="in_flight",
        )


def is_the_shadow(p: Proposal) -> None:
    """Refuse to stop a shadow that does not run."""
    if p.model.shadow != p.release.release:
        raise RefusedError(f"{p.release.release} does not score in the shadow; there is nothing to stop", code="order")


def _kill(p: Proposal) -> Kill | None:
    # A name that the ledger never heard is an error: a misspelt stop would stop nobody.
    return p.state.kill if p.named is None else p.model.kill


def _name(model: str | None) -> str:
    return model if model is not None else "all models"


def _was_killed(kill: Kill) -> str:
    return f"killed by {kill.by} at {kill.at} ({_ANSWERS[kill.answer]})"
