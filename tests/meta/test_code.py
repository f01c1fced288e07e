"""House rules that a reader would check by eye, checked by machine."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("lineage", "validators", "training", "serve", "console", "plimsoll")
NO_SILENCE = ("lineage", "validators", "training", "serve", "plimsoll")
MODULE_LINES, FUNCTION_LINES = 350, 60
FILES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def who_imports(package: str) -> set[str]:
    return {name(path) for path in FILES if package in {module.partition(".")[0] for module in imports(path)}}


def test_each_module_says_what_it_is_for() -> None:
    silent = [name(path) for path in FILES if path.stat().st_size and not ast.get_docstring(tree(path))]
    assert silent == []


def test_no_module_is_too_long() -> None:
    #: One file, so that an examiner reads one; classes that are one idea: the client, the store, the witness.
    whole = ("lineage/examiner/verify.py", "plimsoll/client.py", "plimsoll/async_client.py")
    most = dict.fromkeys((*whole, "lineage/store/duckdb_store.py", "lineage/witness/server.py"), 400)
    lines = {name(path): len(path.read_text().splitlines()) for path in FILES}
    long = {path: count for path, count in lines.items() if count > most.get(path, MODULE_LINES)}
    assert long == {}


def test_no_function_is_too_long() -> None:
    long = {
        f"{name(path)}:{node.name}": length
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    }
    assert long == {}


def too_broad(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")) for kind in kinds
    )


def test_no_error_is_swallowed() -> None:
    silent = [
        f"{name(path)}:{node.lineno}"
        for path in FILES
        if name(path).split("/")[0] in NO_SILENCE
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and too_broad(node)
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    ]
    assert silent == []


def test_heavy_libraries_stay_in_their_places() -> None:
    assert {path.split("/")[0] for path in who_imports("ray")} <= {"serve", "training"}
    assert who_imports("duckdb") == {"lineage/store/duckdb_store.py"}
    assert {path.split("/")[0] for path in who_imports("dash")} <= {"console"}
    assert {path.split("/")[0] for path in who_imports("mlflow")} <= {"training", "serve"}


def test_the_client_imports_httpx_and_the_standard_library() -> None:

    used = {
        module.partition(".")[0] for path in FILES if name(path).startswith("plimsoll/") for module in imports(path)
    }
    assert used - set(sys.stdlib_module_names) == {"httpx", "plimsoll"}


@pytest.mark.parametrize("module", ["pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"])
def test_nothing_is_pickled(module: str) -> None:
    assert who_imports(module) == set()


def test_imports_of_serve_by_ray_cannot_be_confused_with_ours() -> None:
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node.module == "ray":
                names = [(alias.name, alias.asname) for alias in node.names]
                assert ("serve", None) not in names, f"{name(path)}:{node.lineno}: from ray import serve as ray_serve"


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for line in listed.stdout.split("\0") if line and (path := ROOT / line).is_file()]


def test_files_name_no_machine_and_leave_nothing_to_do() -> None:
    forbidden = ["/wo" + "rk/", "/ho" + "me/", "/ro" + "ot/", "TO" + "DO", "FIX" + "ME", "X" + "XX"]
    found = []
    for path in tracked():
        if path.suffix in {".lock", ".png", ".ico", ".svg", ".woff2", ".parquet", ".xls", ".csv", ".gz", ".xz"}:
            continue
        text = path.read_text(errors="replace")
        found += [f"{name(path)}: {word}" for word in forbidden if word in text]
    assert found == []


def test_no_names_that_say_nothing() -> None:
    empty = {"utils", "util", "common", "misc", "manager", "core", "legacy", "v2"}
    assert [name(path) for path in FILES if empty & set(path.relative_to(ROOT).with_suffix("").parts)] == []
