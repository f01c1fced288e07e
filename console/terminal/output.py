"""Output of the terminal commands: tables for people, JSON for programs, errors on stderr with an exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from console.formatting import NB
from lineage.errors import InvalidError, PlimsollError, RefusedError
from lineage.settings import Settings
from plimsoll.errors import Error, Invalid, Refused

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

#: Exit statuses: something failed or is unavailable, the input is invalid, a rule refused.
FAILED, INVALID, REFUSED = 1, 2, 3


@contextmanager
def errors_reported() -> Iterator[None]:
    """Print an error of the platform, or an invalid `PLIMSOLL_*` variable, on stderr and exit with its status.

    Raises:
        SystemExit: with `FAILED`, `INVALID` or `REFUSED`. Other exceptions pass unchanged.
    """
    try:
        yield
    except ValidationError as error:
        if error.title != Settings.__name__:
            raise
        for line in _invalid_settings(error):
            _print_error(line)
        sys.exit(INVALID)
    except (PlimsollError, Error) as error:
        _print_error(str(error))
        if isinstance(error, InvalidError | Invalid):
            sys.exit(INVALID)
        sys.exit(REFUSED if isinstance(error, RefusedError | Refused) else FAILED)


def print_missing(segments: list[dict[str, Any]]) -> None:
    """Name on stderr the decision segments that an answer lacks."""
    for one in segments:
        err.print(
            f"missing: segment {one['segment']} of {one['model']} (record {one['record']}): {one['problem']}",
            soft_wrap=True,
            markup=False,
        )


def _invalid_settings(error: ValidationError) -> list[str]:
    """One line for each invalid variable; a default that was not computed because of another one is no line."""
    return [
        f"PLIMSOLL_{str(one['loc'][0]).upper()} is {one['input']!r:.80}; "
        f"expected {one['msg'].removeprefix('Input should be ')}"
        for one in error.errors()
        if one["type"] != "default_factory_not_called"
    ]


def _print_error(message: str) -> None:
    err.print(Text("error: ", style="bold red").append(message, style="default"), soft_wrap=True)


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
    """Text without markup and control characters: reasons hold what people typed."""
    return Text("".join(char if char.isprintable() or char == NB else "�" for char in text), style=style)


def _cell(value: Any) -> Text:
    return plain("" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value))
