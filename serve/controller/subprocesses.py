"""Niced child processes for work whose imports and computation must not delay decisions."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import orjson

from lineage.errors import UnavailableError

_NICE = ("nice", "-n", "10")
_LINE_MOST = 4 * 1024 * 1024


async def run_helper(module: str, *arguments: str, seconds: float = 120.0) -> bytes:
    """Run `python -m module` to its end and return what it printed.

    Raises:
        UnavailableError: it failed or took too long; the message ends with the last line of its stderr.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *_NICE, sys.executable, "-m", module, *arguments, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError as error:
        process.kill()
        raise UnavailableError(f"{module} did not end within {seconds:g} s") from error
    if process.returncode != 0:
        last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise UnavailableError(f"{module} ended with {process.returncode}: {last[0][:300]}")
    return out


class LineProcess:
    """Child process that answers JSON lines with JSON lines, so that it imports its libraries once."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    async def ask(self, request: dict[str, Any], seconds: float = 120.0) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Raises:
            UnavailableError: the process refused, ended or took too long; the next request starts a new one if need be.
        """
        async with self._lock:
            process = await self._running()
            assert process.stdin is not None  # noqa: S101  both are pipes
            assert process.stdout is not None  # noqa: S101
            try:
                process.stdin.write(orjson.dumps(request) + b"\n")
                async with asyncio.timeout(seconds):
                    await process.stdin.drain()
                    line = await process.stdout.readline()
            except (TimeoutError, ConnectionError, asyncio.CancelledError) as error:
                self._end()
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise UnavailableError(f"{self._module} does not answer: {type(error).__name__}") from error
        if not line:
            self._end()
            raise UnavailableError(f"{self._module} ended; the next request starts it again")
        reply = orjson.loads(line)
        if "answer" not in reply:
            raise UnavailableError(f"{self._module}: {reply.get('error', 'no answer')}")
        answer: dict[str, Any] = reply["answer"]
        return answer

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            pipe = asyncio.subprocess.PIPE
            self._process = await asyncio.create_subprocess_exec(
                *_NICE, sys.executable, "-m", self._module, "--desk", stdin=pipe, stdout=pipe, limit=_LINE_MOST
            )
        return self._process

    def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        self._process = None
