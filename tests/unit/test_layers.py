"""Imports run downward only: each module may use those in the rows above its own."""

from __future__ import annotations

import ast
from pathlib import Path

import epa_orchestrator

PACKAGE = Path(epa_orchestrator.__file__).parent

LAYERS = (
    ("errors",),
    ("cpuset", "files", "documents", "names", "paths", "lock", "worker", "event_rows", "descriptors"),
    ("systemd", "listening", "exchange", "unblocked"),
    ("database_files", "background"),
    ("sysfs", "policy", "logs"),
    ("settings", "peer_log"),
    ("machine", "peers"),
    ("domains", "describe", "devices", "probing", "quotas"),
    ("cost", "needs", "scopes", "pools"),
    ("tables", "host"),
    ("placement",),
    ("ledger",),
    ("rows",),
    ("protocol", "legacy_state", "store", "proposal", "review"),
    ("explanation", "answers", "display", "framing"),
    ("decisions", "client"),
    ("readings", "batch", "pace"),
    ("orchestrator",),
    ("connection",),
    ("server",),
    ("socket_keeper",),
    ("daemon",),
    ("cli", "configure"),
    ("__main__",),
)

#: Modules that decide and therefore touch no file, socket, clock or thread.
PURE = (
    *("cpuset", "documents", "names", "policy", "domains", "describe", "cost", "needs", "scopes", "tables"),
    *(
        "answers",
        "event_rows",
        "placement",
        "pools",
        "ledger",
        "proposal",
        "review",
        "protocol",
        "framing",
        "explanation",
        "rows",
    ),
)
EDGES = {"os", "io", "socket", "asyncio", "threading", "time", "datetime", "random", "sqlite3", "subprocess", "pathlib"}


def imports_of(module: str) -> set[str]:
    """The modules that a module's source imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
            if node.module == "epa_orchestrator":
                names.update(f"epa_orchestrator.{alias.name}" for alias in node.names)
    return names


def own_imports(module: str) -> set[str]:
    prefix = "epa_orchestrator."
    known = {name for layer in LAYERS for name in layer}
    return {name.removeprefix(prefix) for name in imports_of(module) if name.startswith(prefix)} & known


def test_every_module_has_a_layer() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert modules == {name for layer in LAYERS for name in layer}


def test_imports_run_downward_only() -> None:
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    upward = [(module, used) for module in level for used in own_imports(module) if level[used] >= level[module]]
    assert upward == []


def test_decisions_do_no_io() -> None:
    impure = {module: imports_of(module) & EDGES for module in PURE}
    assert impure == {module: set[str]() for module in PURE}


def test_every_module_says_in_one_sentence_why_it_exists() -> None:
    for path in PACKAGE.glob("*.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert text.partition("\n\n")[0].replace("\n", " ").count(". ") <= 1, path.name
        assert text, path.name
