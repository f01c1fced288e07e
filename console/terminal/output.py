"""How the terminal shows things: tables for people, JSON for programs, errors on standard error with an exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from console.formatting import NB
from lineage.errors import InvalidError, PlimsollError, RefusedError
from plimsoll.errors import Error, Invalid, Refused

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

#: Exit statuses: what a script can tell apart.
WORLD_FAILED, CALLERS_BUG, REFUSED = 1, 2, 3


@contextmanager
def told() -> Iterator[None]:
    """Turn our errors into one line on standard error and an exit status: 1 world, 2 caller's bug, 3 refused."""
    try:
        yield
    except (PlimsollError, Error) as error:
        err.print(Text("error: ", style="bold red").append(str(error), style="default"), soft_wrap=True)
        if isinstance(error, InvalidError | Invalid):
            sys.exit(CALLERS_BUG)
        sys.exit(REFUSED if isinstance(error, RefusedError | Refused) else WORLD_FAILED)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_rows(rows: Sequence[dict[str, Any]], columns: dict[str, str], *, empty: str) -> None:
    """Print rows as a table; `columns` maps a key to its heading; `empty` says what to do when there are none."""
    if not rows:
        out.print(empty)
        return
    table = Table(box=None, pad_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    out.print(table)


def plain(text: str, style: str = "") -> Text:
    """Text, not markup: a reason may hold brackets, and control characters must not reach the terminal."""
    return Text("".join(char if char.isprintable() or char == NB else "�" for char in text), style=style)


def _cell(value: Any) -> Text:
    return plain("" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value))
