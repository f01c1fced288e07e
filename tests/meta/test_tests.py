"""The tests mirror the tree: a test's folder is the folder of the module that it tests, and helpers have one place."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.support.groups import SLOW

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
#: Folders with no counterpart in the tree: stories and running platforms cross all rooms, the rest is about the tests.
ACROSS = {"acceptance", "earlier", "meta", "stories", "support"}
RECORDER = "earlier/record.py"  # writes the archives of earlier/, by hand, once for each version
FILES = sorted(path.relative_to(TESTS) for path in TESTS.rglob("*.py"))


def test_every_folder_of_tests_is_a_folder_of_the_tree() -> None:
    folders = {path.parent for path in FILES if len(path.parts) > 1 and path.parts[0] not in ACROSS}
    assert sorted(str(folder) for folder in folders if not (ROOT / folder / "__init__.py").is_file()) == []


def test_helpers_are_in_support_only() -> None:
    elsewhere = [
        path.as_posix()
        for path in FILES
        if path.parts[0] != "support"
        and not path.name.startswith("test_")
        and path.name not in ("__init__.py", "conftest.py")
    ]
    assert elsewhere == [RECORDER]


def test_no_test_imports_a_test() -> None:
    importing = [
        f"{path.as_posix()}: {node.module}"
        for path in FILES
        for node in ast.walk(ast.parse((TESTS / path).read_text()))
        if isinstance(node, ast.ImportFrom) and re.match(r"tests\.(?!support\.)", f"{node.module}.")
    ]
    assert importing == []


def test_no_test_lies_in_support() -> None:
    assert [path.as_posix() for path in FILES if path.parts[0] == "support" and path.name.startswith("test_")] == []


def test_what_is_named_as_slow_or_as_sharing_is_there() -> None:
    assert [name for name in SLOW if not (TESTS / name).exists()] == []
