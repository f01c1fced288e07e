"""The rules of the kill switch, of breakers and of the shadow.

One person pulls the switch; two different people release it. Nothing else releases it: no service may state these
facts (`roles.may`), and in the fold only `KillSwitchReleased` clears a pulled switch.
"""

from __future__ import annotations

from lineage.errors import RefusedError, UnknownError
from lineage.rules.proposal import Proposal
from lineage.state.safety import Kill

_ANSWERS = {"baseline": "the baseline answers", "nothing": "nothing is answered"}


def can_be_pulled(p: Proposal) -> None:
    """Refuse to pull a pulled switch, unless that stops more or cancels a request to release it."""
    kill, answer = _kill(p), p.data["answer"]
    if kill is None or (kill.answer, answer) == ("baseline", "nothing"):
        return
    if kill.answer == answer and kill.asked_by is not None:
        return
    looser = "; to have the baseline answer again is to release it, which takes two people"
    raise RefusedError(
        f"{_name(p.named)}: {_kill_text(kill)} already{'' if kill.answer == answer else looser}", code="pulled"
    )


def not_pulled(model: str | None) -> RefusedError:
    """The error for a release of a switch that is not pulled."""
    return RefusedError(
        f"the kill switch of {_name(model)} is not pulled; there is nothing to release", code="not_pulled"
    )


def not_requested(model: str | None) -> RefusedError:
    """The error for a confirmation without a request."""
    return RefusedError(
        f"no release of {_name(model)} was requested; request it first, then a second person confirms", code="not_asked"
    )


def is_pulled(p: Proposal) -> None:
    """Refuse to release a switch that is not pulled, or that was pulled again since."""
    kill = _kill(p)
    if kill is None:
        raise not_pulled(p.named)
    if p.data["pulled"] != kill.seq:
        raise RefusedError(
            f"{_name(p.named)}: {_kill_text(kill)} in record {kill.seq}, not {p.data['pulled']}; "
            "look again, then decide",
            code="stale",
            status=412,
        )


def is_not_requested_yet(p: Proposal) -> None:
    """Refuse a second request while the first waits for its confirmation."""
    kill = _kill(p)
    if kill is not None and kill.asked_by is not None:
        raise RefusedError(
            f"{kill.asked_by} asked to release {_name(p.named)} at {kill.asked_at}; a second person has to confirm",
            code="asked",
        )


def is_requested(p: Proposal) -> None:
    """Refuse a confirmation unless the named request is open."""
    kill = _kill(p)
    if kill is None or kill.asked_by is None:
        raise not_requested(p.named)
    if p.data["requested"] != kill.asked_seq:
        raise RefusedError(
            f"the request is record {kill.asked_seq}, not {p.data['requested']}; look again, then decide",
            code="stale",
            status=412,
        )


def confirms_as_second_person(p: Proposal) -> None:
    """Refuse a confirmation by the person who made the request."""
    kill = _kill(p)
    if kill is not None and kill.asked_by_id == p.actor.person:
        raise RefusedError(
            f"{p.actor.name} asked for the release of {_name(p.named)}; a second person has to confirm",
            code="four_eyes",
            status=403,
        )


def is_not_killed(p: Proposal) -> None:
    """Refuse to give a release traffic while the kill switch of its model or of all models is pulled."""
    for kill, whom in ((p.model.kill, p.model.model), (p.state.kill, "all models")):
        if kill is not None:
            raise RefusedError(
                f"{whom}: {_kill_text(kill)}; no release takes traffic until two people release it. Rolling back, "
                "aborting, reviewing and retraining stay possible",
                code="killed",
            )


def is_about_release_of_model(p: Proposal) -> None:
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


def no_other_beside_champion(p: Proposal) -> None:
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


def is_shadow(p: Proposal) -> None:
    """Refuse to stop a shadow that does not run."""
    if p.model.shadow != p.release.release:
        raise RefusedError(f"{p.release.release} does not score in the shadow; there is nothing to stop", code="order")


def _kill(p: Proposal) -> Kill | None:
    # An unknown name is an error: a misspelt name would stop no model.
    return p.state.kill if p.named is None else p.model.kill


def _name(model: str | None) -> str:
    return model if model is not None else "all models"


def _kill_text(kill: Kill) -> str:
    return f"killed by {kill.by} at {kill.at} ({_ANSWERS[kill.answer]})"
