"""How facts about the kill switch, breakers and the shadow change the fold. Pure: what was there is left as it was."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]
Kill = dict[str, Any]
Breakers = dict[str, dict[str, Any]]


#: Facts by which a release takes more traffic: nobody may state them about a model that is killed.
STEPS = frozenset({"CanaryStarted", "CanaryStepped", "RolloutStepped", "ReleasePromoted"})


def switched(kill: Kill | None, record: Record) -> Kill | None:
    """The kill switch after a fact about it; None while nothing is pulled.

    Returns:
        `by`, `at`, `seq`, `answer` (baseline or nothing) and `reason` of the newest pull, `since` (when the first one
        was pulled), and who asked for its release: `asked_by`, `asked_at`, `asked_seq`, `asked_reason`, or None each.
    """
    who = {"by": record["actor"]["name"], "at": record["at"], "seq": record["seq"], "reason": record["reason"]}
    if record["kind"] == "KillSwitchPulled":
        nobody = dict.fromkeys(("asked_by", "asked_at", "asked_seq", "asked_reason"))
        return who | {"answer": record["data"]["answer"], "since": kill["since"] if kill else record["at"]} | nobody
    if record["kind"] == "KillReleaseRequested":
        return (kill or {}) | {f"asked_{name}": value for name, value in who.items()}
    return None


def broken(breakers: Breakers, record: Record) -> Breakers:
    """The open breakers by replica after a fact about one of them."""
    data = record["data"]
    rest = {replica: said for replica, said in breakers.items() if replica != data["replica"]}
    if record["kind"] == "BreakerClosed":
        return rest
    told = {name: data[name] for name in ("release", "cause", "since", "times")}
    return rest | {data["replica"]: told | {"seq": record["seq"]}}


def stricter(kills: list[Kill | None]) -> str:
    """What answers under these switches: `nothing`, `baseline`, or an empty text where none is pulled."""
    answers = {kill["answer"] for kill in kills if kill}
    return "nothing" if "nothing" in answers else "baseline" if answers else ""
