"""Sign-ins: limits at entry, a small pool for password hashes, and the facts about those that failed.

Hashing is slow on purpose. It has two threads of its own, one of them for devices that signed in before, so that a
flood of guesses delays neither the actions of people who are signed in nor everybody's next sign-in.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lineage.accounts.credentials import Credentials, Session
from lineage.accounts.limits import SignInLimits
from lineage.accounts.passwords import check_password, is_outdated, matches, password_hash
from lineage.clock import Clock
from lineage.errors import RefusedError
from lineage.ledger import Ledger
from lineage.rules.draft import Draft
from lineage.rules.proposal import Actor
from lineage.rules.roles import PLATFORM
from lineage.state.people import Account

PLATFORM_ACTOR = Actor("ledger", PLATFORM)
_WAITING_MOST = 16  # hashes that wait in a pool; more are turned away
_REPORT_SECONDS = 30.0


@dataclass
class HashPool:
    """One thread for password hashes, and how many wait for it."""

    name: str
    waiting: int = 0
    _threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=self.name)

    async def run(self, work: Any, *arguments: Any) -> Any:
        """Run `work` in the thread.

        Raises:
            RefusedError: too much waits already (429).
        """
        if self.waiting >= _WAITING_MOST:
            raise RefusedError("too many sign-ins at once; try again in a few seconds", code="busy", status=429)
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """End the thread when it is idle."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class SignIns:
    """Signs people in by password, and lets them choose one.

    Args:
        ledger, credentials: of the service; accounts are facts in the one, hashes are in the other.
    """

    def __init__(self, ledger: Ledger, credentials: Credentials, clock: Clock) -> None:
        self._ledger, self._credentials = ledger, credentials
        self._limits = SignInLimits(clock)
        self._known_devices, self._others = HashPool("sign-in-known"), HashPool("sign-in")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Put failures on record every half minute."""
        self._task = asyncio.create_task(self._report_regularly())

    def close(self) -> None:
        """Put the last failures on record and end the threads."""
        if self._task is not None:
            self._task.cancel()
        self.report()
        self._known_devices.close()
        self._others.close()

    async def by_password(self, name: str, password: str, source: str, device: str | None) -> dict[str, Any]:
        """Open a session: `{"token", "expires_at", "device", "name", "role", "roles"}`.

        Raises:
            RefusedError: name or password is wrong (401; the message does not say which), too many attempts, or too
                many at once (429).
        """
        account = self._ledger.state.people.named(name)
        known = self._credentials.device_of(account.id, device) if account else None
        usable = account is not None and account.kind == "person" and account.active
        hashed = self._credentials.password_of(account.id) if account is not None and usable else None
        buckets = self._limits.enter(account.id if account else name, source, known)
        if not await self._hash(known, source, matches, password, hashed) or account is None or hashed is None:
            self._limits.failed(source, account.name if account else None)
            raise RefusedError("name or password is wrong", code="sign_in", status=401)
        self._limits.succeeded(buckets)
        opened = await asyncio.to_thread(self.open, account, "password", device, hashed)
        if is_outdated(hashed):
            await self._hash(known, source, self._credentials.improve_hash, account.id, password)
        return opened

    async def choose(self, name: str, code: str | None, old: str | None, new: str, source: str) -> Account:
        """Set the password that a person chose, by a one-time code or by the old password; ends other sessions.

        Raises:
            InvalidError: the new password is too short or too plain.
            RefusedError: code or old password is wrong, or too many attempts.
        """
        account = self._ledger.state.people.named(name)
        buckets = self._limits.enter(account.id if account else name, source, None)
        right = False
        if account is not None and account.active:
            right = code is not None and self._credentials.code_matches(account.id, code)
            if code is None and old is not None:
                hashed = self._credentials.password_of(account.id)
                right = await self._hash(None, source, matches, old, hashed)
        if account is None or not right:
            self._limits.failed(source, account.name if account else None)
            raise RefusedError("name, code or old password is wrong", code="sign_in", status=401)
        check_password(new, account.name)
        hashed = await self._hash(None, source, password_hash, new)
        self._limits.succeeded(buckets)
        await asyncio.to_thread(self._chosen, account, hashed)
        return account

    def open(self, account: Account, method: str, device: str | None, proven: str | None = None) -> dict[str, Any]:
        """Open a session for a person who was identified, and put that on record.

        Args:
            proven: the hash that the password matched; a password that was reset meanwhile opens nothing.

        Raises:
            RefusedError: it was reset (401), or the account was disabled (403).
        """
        data = {"account": account.id, "method": method}
        self._ledger.append(Draft("SignedIn", PLATFORM_ACTOR, data))
        session: Session = self._credentials.open_session(account.id, device, proven)
        about = {"name": account.name, "role": account.roles[0], "roles": list(account.roles)}
        return {"token": session.token, "expires_at": session.expires_at, "device": session.device} | about

    def report(self) -> None:
        """Put the failures since the last report on record, as one fact."""
        data = self._limits.take_report()
        if data is not None:
            self._ledger.append(Draft("SignInsFailed", PLATFORM_ACTOR, data))

    def _chosen(self, account: Account, hashed: str) -> None:
        self._ledger.append(Draft("PasswordChosen", PLATFORM_ACTOR, {"account": account.id}))
        self._credentials.set_password(account.id, account.name, hashed)

    async def _hash(self, device: str | None, source: str, work: Any, *arguments: Any) -> Any:
        pool = self._others if device is None else self._known_devices
        try:
            return await pool.run(work, *arguments)
        except RefusedError:
            self._limits.turned_away(source)
            raise

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            await asyncio.to_thread(self.report)
