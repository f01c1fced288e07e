"""The console in front of a ledger whose answers come late: `python -m tests.support.slow_console FILE`.

FILE holds the seconds by which every answer is late but those to the follower, which waits for news anyway. It is read
at each request, so that a test changes the delay while the console runs.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import uvicorn

from console.server import build
from lineage.settings import Settings


class LateTransport(httpx.AsyncHTTPTransport):
    """Sends at once, and gives the answer later."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        if "wait" not in request.url.params:
            await asyncio.sleep(float(self._file.read_text()))
        return answer


def main(file: str) -> None:
    """Serve until stopped."""
    settings = Settings()
    app = build(settings, transport=LateTransport(Path(file)))
    uvicorn.run(app, host=settings.host, port=settings.console_port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1])
