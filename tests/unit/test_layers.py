# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Imports run downward only: each room may use those in the rows above its own."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import epa_orchestrator

PACKAGE = Path(epa_orchestrator.__file__).parent

#: Rooms and lone modules of the package.
LAYERS = (
    ("control_groups", "errors", "names", "peer"),
    ("cpuset", "descriptors", "documents", "files", "natural", "nearest", "paths", "units"),
    ("hardware",),
    ("placement",),
    ("allocation", "protocol", "isolation"),
    ("state", "client", "metrics", "picture"),
    ("daemon", "configure"),
    ("cli",),
    ("__main__",),
)

#: Rooms and modules that decide, and so touch no file, socket, clock or thread. "host" is where allocation reads the
#: machine, "settings" where it reads its file, and "host_files" where isolation reads a host.
PURE_ROOMS = ("placement", "allocation", "protocol", "picture", "isolation")
IMPURE = ("allocation.host", "allocation.settings", "isolation.host_files")
EDGES = {"os", "io", "socket", "asyncio", "threading", "time", "datetime", "random", "sqlite3", "subprocess", "pathlib"}


def module_name(path: Path) -> str:
    """The module below the package, such as "placement.search"; a room's own name for its __init__."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {
    module_name(path): path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"
}


def imports_of(module: str) -> set[str]:
    """The modules that a module's source imports, also inside its functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def own_imports(module: str) -> set[str]:
    """The modules of the package that a module imports."""
    return {name.removeprefix("epa_orchestrator.") for name in imports_of(module)} & MODULES.keys()


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_has_a_layer() -> None:
    assert {room(module) for module in MODULES} == {name for layer in LAYERS for name in layer}


def test_rooms_import_downward_only() -> None:
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    upward = [
        (module, used)
        for module in MODULES
        for used in own_imports(module)
        if room(module) != room(used) and level[room(used)] >= level[room(module)]
    ]
    assert upward == []


def test_no_module_imports_itself_through_others() -> None:
    graph = {module: own_imports(module) - {module} for module in MODULES}
    assert set(TopologicalSorter(graph).static_order()) == MODULES.keys()  # raises CycleError


def test_decisions_do_no_io() -> None:
    pure = [module for module in MODULES if room(module) in PURE_ROOMS and module not in IMPURE]
    assert {module: imports_of(module) & EDGES for module in pure} == {module: set[str]() for module in pure}


def test_every_module_says_in_one_sentence_why_it_exists() -> None:
    for module, path in MODULES.items():
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert text, module
        if path.stem != "__init__":
            assert text.partition("\n\n")[0].replace("\n", " ").count(". ") <= 1, module


#: A name tuple, and the connection, which is tested through the server that accepts it.
TESTED_ELSEWHERE = {"peer", "daemon.connection"}


def test_every_module_has_its_test_module() -> None:
    tests = Path(__file__).parent
    expected = {module for module, path in MODULES.items() if not path.stem.startswith("__")} - TESTED_ELSEWHERE
    missing = {
        module
        for module in expected
        if not (tests / Path(*module.split("."))).with_name(f"test_{module.rpartition('.')[2]}.py").exists()
    }
    assert missing == set()


def test_no_file_is_long() -> None:
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: count for module, count in lines.items() if count > 350} == {}


def test_every_room_says_what_it_never_does() -> None:
    for path in PACKAGE.glob("*/__init__.py"):
        assert "never" in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""), path
