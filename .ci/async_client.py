"""Write the asynchronous twin of the Python client from its source: the two never differ. `--check` only compares.

Every method that asks something over the network becomes `async def`, and every call of one is awaited; nothing else
changes. `plimsoll/client.py` and `plimsoll/wire.py` are the source, `plimsoll/async_*.py` the twins.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PLIMSOLL = Path(__file__).parent.parent / "plimsoll"
RENAMED = {"Client": "AsyncClient", "Wire": "AsyncWire"}
MODULES = {"plimsoll.client": "plimsoll.async_client", "plimsoll.wire": "plimsoll.async_wire"}
DUNDERS = {"__enter__": "__aenter__", "__exit__": "__aexit__"}
POOLS = {"_gateway", "_ledger", "_http"}  # attributes that hold connections
KEPT = {"is_closed"}
HEAD = "# Written by .ci/async_client.py from plimsoll/{name}.py; change that one, then run `make format`.\n"


class Twin(ast.NodeTransformer):
    """Turns the methods that wait for the network into coroutines."""

    def __init__(self, tree: ast.Module) -> None:
        methods = [node for owner in tree.body if isinstance(owner, ast.ClassDef) for node in owner.body]
        functions = [node for node in methods if isinstance(node, ast.FunctionDef) and node.name != "__init__"]
        self.waiting: set[str] = set()
        before = -1
        while before != len(self.waiting):
            before = len(self.waiting)
            self.waiting |= {one.name for one in functions if any(self._waits(node) for node in ast.walk(one))}

    def _waits(self, node: ast.AST) -> bool:
        """Whether this is a call that asks the network, or one of a method that does."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return False
        owner, name = node.func.value, node.func.attr
        if isinstance(owner, ast.Name) and (owner.id, name) == ("time", "sleep"):
            return True
        if isinstance(owner, ast.Attribute) and owner.attr in POOLS:
            return name not in {"build_request", *KEPT}
        return isinstance(owner, ast.Name) and owner.id in ("self", "guest") and name in self.waiting

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        waits = node.name in self.waiting or node.name in DUNDERS
        self.generic_visit(node)
        if not waits:
            return node
        fields = {name: value for name, value in ast.iter_fields(node) if name != "name"}
        return ast.AsyncFunctionDef(name=DUNDERS.get(node.name, node.name), **fields)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        waits = self._waits(node)
        self.generic_visit(node)
        if waits and isinstance(node.func, ast.Attribute) and node.func.attr == "close":
            owner = node.func.value
            if isinstance(owner, ast.Attribute) and owner.attr == "_http":
                node.func.attr = "aclose"
        return ast.Await(node) if waits else node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.name = RENAMED.get(node.name, node.name)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = RENAMED.get(node.id, node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        asynchronous = {"Client": "AsyncClient", "BaseTransport": "AsyncBaseTransport"}
        if isinstance(node.value, ast.Name) and node.value.id == "httpx":
            node.attr = asynchronous.get(node.attr, node.attr)
        if isinstance(node.value, ast.Name) and (node.value.id, node.attr) == ("time", "sleep"):
            node.value.id = "asyncio"
        return node

    def visit_Import(self, node: ast.Import) -> ast.AST:
        for one in node.names:
            one.name = {"time": "asyncio"}.get(one.name, one.name)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.ImportFrom]:
        twins = [ast.alias(RENAMED[one.name]) for one in node.names if one.name in RENAMED]
        others = [one for one in node.names if one.name not in RENAMED]
        split = [(MODULES.get(node.module or "", node.module), twins), (node.module, others)]
        return [ast.ImportFrom(module, names, 0) for module, names in split if names]

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and "`Client" in node.value:
            node.value = node.value.replace("`Client", "`AsyncClient")
        return node


#: What the twin takes from the source instead of having it twice.
SHARED: dict[str, tuple[str, ...]] = {"client": (), "wire": ("part", "pause_before_again", "_content", "_json_of")}


def twin_of(name: str) -> str:
    """The source of the twin of one module, formatted."""
    tree = ast.parse((PLIMSOLL / f"{name}.py").read_text())
    shared = SHARED[name]
    body = [node for node in tree.body if getattr(node, "name", None) not in shared]
    made = Twin(tree).visit(ast.Module(body, []))
    if shared:
        last_import = max(at for at, node in enumerate(made.body) if isinstance(node, ast.Import | ast.ImportFrom))
        made.body.insert(last_import + 1, ast.ImportFrom(f"plimsoll.{name}", [ast.alias(one) for one in shared], 0))
    text = HEAD.format(name=name) + ast.unparse(ast.fix_missing_locations(made)) + "\n"
    return _formatted(text)


def _formatted(text: str) -> str:
    ruff = Path(sys.executable).with_name("ruff")
    fix = [str(ruff), "check", "--quiet", "--fix", "--unsafe-fixes", "--select", "F401,I", "--stdin-filename"]
    for command in ([*fix, "plimsoll/twin.py", "-"], [str(ruff), "format", "--quiet", "-"]):
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd=PLIMSOLL.parent)
        text = done.stdout
    return text


if __name__ == "__main__":
    for source in SHARED:
        path, text = PLIMSOLL / f"async_{source}.py", twin_of(source)
        if "--check" in sys.argv:
            if not path.is_file() or path.read_text() != text:
                sys.exit(f"{path.name} is not the twin of {source}.py; run `make format`")
        else:
            path.write_text(text)
