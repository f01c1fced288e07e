"""Documentation and code agree: links, commands, layers, files, words."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import typer

from console.terminal.app import app
from lineage.facts.registry import FACTS
from lineage.lifecycle import State
from lineage.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ARCHITECTURE, GLOSSARY, INDEX = DOCS / "architecture.md", DOCS / "glossary.md", DOCS / "index.md"
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
PAGES = [*(ROOT / name for name in TOP), *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
HOW_TOS = sorted((DOCS / "how-to").glob("*.md"))
PACKAGES = ("lineage", "validators", "training", "serve", "console", "plimsoll")
FENCE = re.compile(r"^\s*```.*?^\s*```", flags=re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
#: Modules, by what importing them lets code touch. Rooms may use others as they like.
TOUCHES = {
    "ray": "Ray",
    "duckdb": "DuckDB",
    "sqlite3": "SQLite",
    "subprocess": "processes",
    "multiprocessing": "processes",
    **dict.fromkeys(("httpx", "http", "socket", "socketserver", "urllib", "uvicorn"), "network"),
}
FILE_CALLS = {"read_bytes", "read_text", "write_bytes", "write_text", "mkdir", "unlink", "iterdir", "glob", "rglob"}
FILE_CALLS |= {"read_parquet", "write_parquet", "pread", "pwrite", "fsync"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#{1,6} (.+)$", FENCE.sub("", page.read_text()), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    return [link for link in LINK.findall(FENCE.sub("", page.read_text())) if "://" not in link]


def targets(page: Path) -> set[Path]:
    return {(page.parent / link.partition("#")[0]).resolve() for link in links(page) if not link.startswith("#")}


@each_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("front", [ROOT / "README.md", INDEX], ids=["README", "index"])
def test_every_how_to_is_linked(front: Path) -> None:
    assert [page.name for page in HOW_TOS if page not in targets(front)] == []


def test_every_page_is_linked_from_the_index() -> None:
    others = {page.resolve() for page in DOCS.rglob("*.md")} | {(ROOT / name).resolve() for name in TOP}
    assert sorted(page.name for page in others - targets(INDEX) - {INDEX}) == []


def commands(page: Path) -> Iterator[str]:
    """Each `plimsoll …` in code, up to what a shell would take for the end of the command."""
    text = page.read_text()
    for code in [*FENCE.findall(text), *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))]:
        yield from re.findall(r"(?:^|[\s`/(])(?<!from )plimsoll ([a-z][^\n`#|&;)]*)", code, flags=re.M)


def unknown(words: list[str]) -> str | None:
    """The first command or option among the words that does not exist."""
    command: Any = typer.main.get_command(app)
    path: list[str] = []
    for word in words:
        commands = getattr(command, "commands", None)
        if commands is not None and not word.startswith("-"):
            path.append(word)
            if word not in commands:
                return f"plimsoll {' '.join(path)}"
            command = commands[word]
        elif word.startswith("--"):
            options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            if word.partition("=")[0] not in {*options, "--help"}:
                return f"plimsoll {' '.join([*path, word])}"
    return None


@each_page
def test_every_command_exists(page: Path) -> None:
    strange = []
    for command in commands(page):
        bare = re.sub(r"\"[^\"]*\"|'[^']*'", "TEXT", command)
        found = unknown([word.strip(",.:") for word in bare.split() if word.strip("…,.:")])
        strange += [found] if found else []
    assert strange == []


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert unknown(["audit", "verify", "--json"]) is None
    assert unknown(["audit", "verfy"]) == "plimsoll audit verfy"
    assert unknown(["rollback", "credit-default", "--becuse", "TEXT"]) == "plimsoll rollback --becuse"


@each_page
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    text = page.read_text()
    code = "\n".join([*FENCE.findall(text), *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))])
    assert set(re.findall(r"(?:^|&& )make ([a-z][a-z-]*)", code, flags=re.M)) <= targets


def rows(page: Path, heading: str) -> list[list[str]]:
    """Cells of the tables under a heading, without the tables' heads."""
    section = re.split(rf"^#+ {re.escape(heading)}$", page.read_text(), maxsplit=1, flags=re.M)[1]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.M)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    bodies = [
        line for line, after in zip(lines, [*lines[1:], ""], strict=True) if not set(after) <= set("|-: ") or not after
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in bodies if not set(line) <= set("|-: ")]


def layers(container: str) -> list[set[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = [one for one in contracts if one.get("containers") == [container]]
    return [set(re.split(r" [|:] ", layer)) for layer in found["layers"]]


@pytest.mark.parametrize("container", ["lineage", "serve"])
def test_the_layers_are_those_of_the_contract(container: str) -> None:
    told = [
        (row[0], row[1].strip("`").removeprefix(f"{container}/"))
        for row in rows(ARCHITECTURE, f"Rooms of `{container}`")
    ]
    grouped = [{room for _, room in group} for _, group in groupby(told, key=lambda row: row[0])]
    assert grouped == layers(container)


def room_files(room: str) -> list[Path]:
    place = ROOT / room
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def touched(path: Path) -> set[str]:
    """What a module touches beside memory, by its imports and calls."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {TOUCHES.get(alias.name.partition(".")[0]) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(TOUCHES.get(node.module.partition(".")[0]))
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in FILE_CALLS or (isinstance(node.func, ast.Name) and name == "open"):
                found.add("files")
    return {what for what in found if what}


def allowed() -> dict[str, set[str]]:
    """By room: what the tables of architecture.md let it touch."""
    sections = ("Rooms of `lineage`", "Rooms of `serve`", "The other packages")
    cells = [
        (row[-1], row[-len(row) + (1 if len(row) > 2 else 0)]) for name in sections for row in rows(ARCHITECTURE, name)
    ]
    words = {"Ray", "DuckDB", "SQLite", "network", "files", "processes"}
    return {
        room.strip("`"): set() if may.startswith("nothing") else {word for word in words if word in may}
        for may, room in cells
    }


def test_no_room_touches_more_than_the_page_allows() -> None:
    may = allowed()
    assert len(may) > 30
    wrong = {
        path.relative_to(ROOT).as_posix(): sorted(more)
        for room, may_touch in may.items()
        for path in room_files(room)
        if (more := touched(path) - may_touch)
    }
    assert wrong == {}


def test_the_tables_cover_all_code() -> None:
    covered = {path for room in allowed() for path in room_files(room)}
    exempt = {ROOT / "lineage/examiner/verify.py"}
    code = {path for name in PACKAGES for path in (ROOT / name).rglob("*.py") if path.name != "__init__.py"}
    assert sorted(path.relative_to(ROOT).as_posix() for path in code - covered - exempt) == []


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    places = "|".join((*PACKAGES, "tests", "docs", "benchmarks", "examples"))
    named = set(re.findall(rf"`((?:{places})/[\w/.-]*)`", FENCE.sub("", page.read_text())))
    named = {name for name in named if "VERSION" not in name}
    assert named or page not in (ARCHITECTURE, GLOSSARY)
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists()]
    if page.name.startswith("add-a-"):  # names the file that its reader writes into a folder that exists
        missing = [name for name in missing if not (ROOT / name).parent.is_dir()]
    assert sorted(missing) == []


def test_the_state_folders_are_named() -> None:
    settings = Settings(home=Path("var"))
    folders = ("log_folder", "lineage_store", "vault", "accounts_file", "secrets", "artefacts", "datasets", "spool")
    folders += ("decisions", "reports", "mlflow", "logs", "run", "witness_pin")
    text = "".join(row[0] for row in rows(ARCHITECTURE, "State on disk"))
    places = [getattr(settings, name).relative_to(settings.root).as_posix() for name in folders]
    assert [place for place in places if place not in text] == []


def test_every_state_and_every_fact_is_in_the_glossary() -> None:
    text = GLOSSARY.read_text()
    missing = [name for name in (*(str(state) for state in State), *FACTS) if f"`{name}`" not in text]
    assert missing == []


def test_each_word_is_in_the_glossary_once() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\*", GLOSSARY.read_text(), flags=re.M)
    assert len(words) > 50
    assert sorted(words, key=str.lower) == sorted(set(words), key=str.lower)
