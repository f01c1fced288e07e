"""Route table: which release answers for each model, the challenger and its share, and the tokens that may ask.

A table is a pure function of the ledger's fold. Tables are ordered by (epoch, version): the epoch is the sequence
number of the fact by which a controller took over, so tables of a deposed controller are ignored (fencing).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from lineage.errors import UnknownError
from lineage.lifecycle import IN_FLIGHT, State
from lineage.policy import Serving
from lineage.state.entities import Model, Release
from lineage.state.safety import Kill
from serve.ledger_view import LedgerView

#: A challenger that has not answered by then counts as failed, and the champion answers.
CHALLENGER_TIMEOUT_SECONDS = 2.0
BASELINE: Final = "baseline"
#: SHA-256 of a bundle's files.
Digest = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Target:
    """A release and the digest of its bundle.

    `statement` is the digest of what the facts say about the release (`lineage.bundle_facts`), which the bundle has to
    say too; empty where only the bytes are known, as in the challenger pool.
    """

    release: str
    digest: Digest
    statement: str = field(default="", compare=False)

    @property
    def folder(self) -> str:
        """Name of the bundle's folder: the digest without its prefix."""
        return self.digest.removeprefix("sha256:")


@dataclass(frozen=True)
class Route:
    """Releases that answer for one model.

    champion is None where the baseline of `baseline`'s bundle answers. `previous` is kept ready in every replica, so
    that a rollback loads nothing. `shadow` scores copies of requests; its answers are recorded but not returned.
    `killed` says what an active kill switch leaves to answer, `baseline` or `nothing`; it is empty otherwise.
    """

    model: str
    champion: Target | None
    previous: Target | None
    baseline: Target | None
    challenger: Target | None
    share: float
    salt: str
    challenger_timeout: float = CHALLENGER_TIMEOUT_SECONDS
    shadow: Target | None = None
    killed: str = ""
    serving: Serving = field(default_factory=Serving)

    @property
    def may_answer(self) -> list[Target]:
        """Releases that may answer in a gateway replica, by priority, each once."""
        wanted = (self.champion, self.baseline, self.previous)
        return list({target.digest: target for target in wanted if target is not None}.values())

    @property
    def resident(self) -> list[Target]:
        """Bundles that a gateway replica keeps in memory, by priority, each once.

        The challenger is among them, though another pool scores it, so that its promotion loads nothing.
        """
        trial = [self.challenger] if self.challenger and self.challenger not in self.may_answer else []
        return self.may_answer + trial


_TARGETS = ("champion", "previous", "baseline", "challenger", "shadow")


@dataclass(frozen=True)
class RouteTable:
    """All routes, and the tokens that may ask: SHA-256 of the token -> (account, role)."""

    epoch: int
    version: int
    routes: Mapping[str, Route]
    tokens: Mapping[str, tuple[str, str]]

    @property
    def order(self) -> tuple[int, int]:
        """Position among all tables: (epoch, version)."""
        return (self.epoch, self.version)

    def route_of(self, model: str) -> Route:
        """The route of a model.

        Raises:
            UnknownError: there is none (404).
        """
        try:
            return self.routes[model]
        except KeyError:
            known = ", ".join(sorted(self.routes)) or "none"
            raise UnknownError(f"no model {model[:80]!r} is served here; models: {known}", field="model") from None

    def same_content(self, other: RouteTable) -> bool:
        """Whether both tables have the same routes and tokens, regardless of version."""
        return self.routes == other.routes and self.tokens == other.tokens

    def to_dict(self) -> dict[str, Any]:
        """JSON form, which processes of different code versions exchange."""
        routes = {name: _to_dict(route) for name, route in self.routes.items()}
        tokens = {token: list(who) for token, who in self.tokens.items()}
        return {"epoch": self.epoch, "version": self.version, "routes": routes, "tokens": tokens}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RouteTable:
        """Parse the form that `to_dict` returns.

        Raises:
            KeyError: a member is missing.
        """
        routes = {name: _route(route) for name, route in content["routes"].items()}
        tokens = {token: (str(who[0]), str(who[1])) for token, who in content["tokens"].items()}
        return cls(int(content["epoch"]), int(content["version"]), routes, tokens)


def accepts(current: RouteTable | None, offered: RouteTable) -> bool:
    """Fencing rule: only a later epoch, or a later version of the same epoch, replaces the current table."""
    return current is None or offered.order > current.order


def routes_from(view: LedgerView, tokens: Mapping[str, Mapping[str, str]], epoch: int, version: int) -> RouteTable:
    """The table that the ledger asks for.

    Args:
        tokens: SHA-256 of a token -> {"name", "role"}.
        epoch: sequence number of the controller's ControllerStarted.
        version: sequence number of the view.
    """
    routes = {}
    for name, model in view.models.items():
        route = _route_of(model, view.releases, view.kill)
        if route is not None:
            routes[name] = route
    known = {token: (who["name"], who["role"]) for token, who in tokens.items()}
    return RouteTable(epoch, version, routes, known)


def _route_of(model: Model, releases: Mapping[str, Release], kill_of_all: Kill | None) -> Route | None:
    def target(release: str | None) -> Target | None:
        known = releases[release] if release else None
        return Target(known.release, known.digest, known.statement.digest) if known else None

    baseline = target(model.baseline_from)
    if baseline is None:
        return None  # no release has ever been allowed to answer for this model
    challenger, share = target(model.challenger), float(model.share)
    if challenger is None or share <= 0.0 or releases[challenger.release].state not in IN_FLIGHT:
        challenger, share = None, 0.0
    shadow = target(model.shadow)
    if shadow is None or releases[shadow.release].state is not State.REGISTERED:
        shadow = None
    return Route(
        model=model.model,
        champion=target(model.champion),
        previous=target(model.previous),
        baseline=baseline,
        challenger=challenger,
        share=share,
        salt=model.salt or "" if challenger else "",
        shadow=shadow,
        killed=model.stopped(kill_of_all),
        serving=releases[model.champion or baseline.release].terms.serving,
    )


@lru_cache(maxsize=4096)  # a table comes with every fact, and many models share a policy
def _serving(content: bytes) -> Serving:
    return Serving.model_validate_json(content)


def _to_dict(route: Route) -> dict[str, Any]:
    targets = {name: asdict(target) if (target := getattr(route, name)) else None for name in _TARGETS}
    return vars(route) | targets | {"serving": route.serving.model_dump(mode="json")}


def _route(content: Mapping[str, Any]) -> Route:
    targets = {name: Target(**content[name]) if content.get(name) else None for name in _TARGETS}
    return Route(**{**content, **targets, "serving": _serving(orjson.dumps(content.get("serving", {})))})
