"""The rules of accounts: one admin requests, another confirms; an account in use is known, active and has the role."""

from __future__ import annotations

from collections.abc import Collection

from lineage.errors import InvalidError, RefusedError, UnknownError
from lineage.rules.account_names import account_name, check_unused
from lineage.rules.proposal import Actor, Proposal
from lineage.rules.roles import CALLER_ROLES, PEOPLE, PLATFORM, PLATFORM_MACHINES
from lineage.state.fold import LedgerState
from lineage.state.people import ADMIN, Account, AccountRequest

_CHANGE_OF = {"AccountAdded": "add", "RolesChanged": "roles", "PasswordReset": "reset", "AccountEnabled": "enable"}
#: Below this number of active admins no request can be confirmed in a way that leaves one to act.
ADMINS_LEAST = 2


def check_account(actor: Actor, state: LedgerState) -> None:
    """Refuse an actor that is no active account with the role in which it acts.

    Raises:
        RefusedError: there is no such account, it is disabled, or it does not have the role (403).
    """
    if actor.role == PLATFORM:
        return
    account = state.people.accounts.get(actor.id)
    if account is None or account.name != actor.name:
        raise _refused(f"there is no account {actor.name!r} with id {actor.id!r}", "account")
    if not account.active:
        raise _refused(f"the account {actor.name} is disabled", "account")
    if actor.role not in account.roles:
        raise _refused(f"{actor.name} does not have role {actor.role}; it has {', '.join(account.roles)}", "role")


def may_recover(state: LedgerState) -> None:
    """Refuse a recovery on the machine while there are admins who can act.

    Raises:
        RefusedError: two or more admins are active.
    """
    admins = [one.name for one in state.people.admins()]
    if len(admins) >= ADMINS_LEAST:
        raise RefusedError(
            f"{len(admins)} admins are active ({', '.join(admins)}); they use `plimsoll accounts`, "
            "nothing has to be recovered on the machine",
            code="admins",
        )


def name_is_free(p: Proposal) -> None:
    """Refuse a new account whose name or id exists, or whose name looks like an existing one."""
    if p.kind == "AccountRequested" and p.data["change"] != "add":
        return
    accounts = p.state.people.accounts
    if p.data["account"] in accounts:
        raise RefusedError(f"there is an account with id {p.data['account']!r} already", code="name")
    name = p.data["name"]
    if name != account_name(name):
        raise InvalidError(f"the name {name!r} is kept as {account_name(name)!r}", field="name")
    known = [one.name for one in accounts.values()]
    check_unused(name, known if _is_own_machine(p) else [*known, *PLATFORM_MACHINES])
    identity = p.data["identity"]
    if identity and p.state.people.identified(identity) is not None:
        raise RefusedError(f"{identity} belongs to another account", code="name")


def roles_fit(p: Proposal) -> None:
    """Refuse roles that do not exist, or that must not meet in one account."""
    account = p.state.people.accounts.get(p.data["account"])
    if account is None and _is_own_machine(p):
        return
    check_roles(p.data["roles"], account.kind if account else p.data.get("kind", "person"))


def check_roles(roles: Collection[str], kind: str) -> None:
    """Refuse roles that an account of this kind cannot have together.

    Raises:
        InvalidError: an unknown role, one twice, or admin beside another.
    """
    known = PEOPLE if kind == "person" else CALLER_ROLES
    unknown = [role for role in roles if role not in known]
    if unknown or len(set(roles)) != len(roles):
        raise InvalidError(
            f"roles {', '.join(roles)}: a {kind} has some of {', '.join(known)}, each once", field="roles"
        )
    if ADMIN in roles and len(roles) > 1:
        raise InvalidError(
            "an admin grants roles and has no other one, so that no account can grant itself", field="roles"
        )


def account_is_active(p: Proposal) -> None:
    """Refuse a sign-in of a disabled account, which a password that was checked before does not open."""
    account = _account(p)
    if not account.active:
        raise RefusedError(f"{account.name} is disabled", code="account", status=403)


def account_is_known(p: Proposal) -> None:
    """Refuse a fact about an account that does not exist; a request to add one is about a new one."""
    if p.kind == "AccountRequested" and p.data["change"] == "add":
        return
    known = _account(p)
    if "name" in p.data and known.name != p.data["name"]:
        raise RefusedError(f"the account {known.id} is named {known.name}, not {p.data['name']}", code="name")


def is_not_own(p: Proposal) -> None:
    """Refuse an admin's act about their own account."""
    if p.data["account"] == p.actor.person:
        raise RefusedError(
            f"{p.actor.name} cannot do this to their own account; another admin can", code="four_eyes", status=403
        )


def request_changes_something(p: Proposal) -> None:
    """Refuse a request that would change nothing, or that is open already."""
    change, account = p.data["change"], p.state.people.accounts.get(p.data["account"])
    if change == "enable" and account is not None and account.active:
        raise RefusedError(f"{account.name} is active", code="order")
    if change in ("roles", "reset") and account is not None and not account.active:
        raise RefusedError(f"{account.name} is disabled; ask for its return first", code="order")
    if change in ("reset", "roles") and account is not None and account.kind == "machine":
        raise RefusedError(f"{account.name} is a machine account: disable it and add another", code="order")
    for one in p.state.people.requests.values():
        if (one.change, one.account) == (change, p.data["account"]) or (change == "add" and one.name == p.data["name"]):
            raise RefusedError(
                f"record {one.seq} asks for this already ({one.change} {one.name}, by {one.by}); confirm it, or "
                "withdraw it and ask again",
                code="asked",
            )


def is_granted_by_two(p: Proposal) -> None:
    """Refuse what gives an account rights unless it confirms the open request of another admin, word for word.

    The first accounts are made by the platform itself; see `first_accounts_only`. Fewer roles take no request.
    """
    requested = p.data["requested"]
    if requested is None:
        if p.actor.role != PLATFORM and not _takes_away(p):
            raise RefusedError(f"{p.kind} takes two admins: request it, then another one confirms", code="two_admins")
        return
    request = open_request(p.state, requested)
    if request.by_id == p.actor.person:
        raise RefusedError(
            f"{p.actor.name} made request {requested}; another admin has to confirm it", code="four_eyes", status=403
        )
    wanted: dict[str, object] = {
        "account": request.account,
        "name": request.name,
        "kind": request.kind,
        "roles": list(request.roles),
    }
    wanted |= {"identity": request.identity}
    differs = [name for name, value in wanted.items() if name in p.data and p.data[name] != value]
    if request.change != _CHANGE_OF[p.kind] or request.account != p.data["account"] or differs:
        raise RefusedError(
            f"request {requested} asks to {request.change} {request.name}, not for this; differs: "
            f"{', '.join(differs) or p.kind}",
            code="request",
        )


def first_accounts_only(p: Proposal) -> None:
    """Refuse an account made by the platform itself, except people before there is an admin, and its own machines."""
    if p.data["requested"] is not None:
        if p.data["bootstrap"]:
            raise RefusedError("an account that was requested is none of the first start", code="bootstrap")
        return
    people = p.state.people
    if _is_own_machine(p):
        return
    # The first start makes its people in one go, the admins last.
    made = [one for one in people.accounts.values() if ADMIN in one.roles]
    if p.data["kind"] != "person" or not p.data["bootstrap"] or len(made) >= ADMINS_LEAST:
        raise RefusedError(
            "the platform makes accounts of people only at its first start; later two admins do", code="bootstrap"
        )


def is_active(p: Proposal) -> None:
    """Refuse to disable what is disabled."""
    account = _account(p)
    if not account.active:
        raise RefusedError(f"{account.name} is disabled already", code="order")
    if account.kind == "machine" and not set(account.roles) <= set(CALLER_ROLES):
        raise RefusedError(f"the platform works as {account.name}; rotate its token instead", code="machine")


def confirms_roles(p: Proposal) -> None:
    """Refuse a recertification of other roles than those of the account."""
    account = _account(p)
    if list(account.roles) != p.data["roles"]:
        raise RefusedError(f"{account.name} has {', '.join(account.roles)}; look again, then confirm", code="stale")


def is_open_request(p: Proposal) -> None:
    """Refuse to withdraw a request that is not open."""
    open_request(p.state, p.data["requested"])


def recovers_admin(p: Proposal) -> None:
    """Refuse a recovery while two admins are active, or of an account that is no admin's."""
    may_recover(p.state)
    known = p.state.people.accounts.get(p.data["account"])
    if known is None:
        check_unused(p.data["name"], [one.name for one in p.state.people.accounts.values()])
    elif ADMIN not in known.roles or known.name != p.data["name"]:
        raise RefusedError(f"{known.name} is no admin; name an admin or a new account", code="role")


def confirms_recovery(p: Proposal) -> None:
    """Refuse to confirm a recovery that is not open, or one's own."""
    seq = p.data["recovered"]
    account = next((one for one in p.state.people.accounts.values() if one.recovered == seq), None)
    if account is None:
        raise RefusedError(f"record {seq} is no recovery that waits for a confirmation", code="order")
    if account.id == p.actor.person:
        raise RefusedError(f"{p.actor.name} was recovered; another admin confirms it", code="four_eyes", status=403)


def open_request(state: LedgerState, seq: int) -> AccountRequest:
    """The open request of that record.

    Raises:
        UnknownError: there is none; it was confirmed, withdrawn or never made.
    """
    request = state.people.requests.get(seq)
    if request is None:
        known = ", ".join(str(one) for one in state.people.requests) or "none"
        raise UnknownError(f"record {seq} is no open request about an account; open: {known}", field="requested")
    return request


def account_named(state: LedgerState, name: str) -> Account:
    """The account with that name or id.

    Raises:
        UnknownError: there is none.
    """
    found = state.people.named(name) or state.people.accounts.get(name)
    if found is None:
        raise UnknownError(f"there is no account {name!r:.120}; `plimsoll accounts list` shows them", field="account")
    return found


def _account(p: Proposal) -> Account:
    found = p.state.people.accounts.get(p.data["account"])
    if found is None:
        raise UnknownError(f"there is no account with id {p.data['account']!r}", field="account")
    return found


def _is_own_machine(p: Proposal) -> bool:
    """Whether the account is one under which the platform itself works."""
    roles = PLATFORM_MACHINES.get(p.data.get("name", ""))
    return p.actor.role == PLATFORM and p.data.get("kind") == "machine" and tuple(p.data["roles"]) == roles


def _takes_away(p: Proposal) -> bool:
    """Whether a change of roles gives none that the account does not have."""
    return p.kind == "RolesChanged" and set(p.data["roles"]) <= set(_account(p).roles)


def _refused(message: str, code: str) -> RefusedError:
    return RefusedError(message, code=code, status=403)
