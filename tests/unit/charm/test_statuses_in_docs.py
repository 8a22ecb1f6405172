# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""docs/reference/charm.md shows every message that the unit's status can have, and the endpoints as they are."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

ROOT: Final = Path(__file__).parents[3]
SOURCES: Final = ROOT / "src"
PAGE: Final = (ROOT / "docs" / "reference" / "charm.md").read_text(encoding="utf-8")
KINDS: Final = ("Maintenance", "Active", "Waiting", "Blocked")

#: Modules whose sentences reach no status: results and failures of actions, other programs' data, exceptions.
NO_STATUSES: Final = {"actions", "charm_record", "command_line", "cos_agent", "errors", "juju_texts", "snapd_api"}
#: Functions of the other modules whose sentences do not, each with where they go.
ELSEWHERE: Final = {
    "audit": "words that the action replaces",
    "audit._failed.rest": "the log",
    "charm.EpaOrchestratorCharm._settle_claims": "the action settle-claims",
    "charm.EpaOrchestratorCharm._on_remove": "the log of the removal",
    "config.AuditParams._long_enough": "the action audit-isolation",
    "daemon_health.holdings": "actions and the removal",
    "daemon_health.reason_to_keep_snap": "the log of the removal",
    "daemon_health.release": "the action release",
    "daemon_health.warnings": "the action get-status",
    "findings.Findings": "a failure of the action refresh-snap",
    "isolation.Isolation.notes": "the action show-machine",
    "older_daemon._links": "'snapd is busy or slow (…)'",
    "older_daemon.take_over": "the action settle-claims",
    "snap_sources.FileSource.__str__": "the name of a source in other messages",
    "snap_sources.StoreSource.__str__": "the name of a source in other messages",
    "snapd._call": "'snapd is busy or slow (…)'",
    "snapd._run": "'snapd is busy or slow (…)'",
    "snapd.connections": "'snapd is busy or slow (…)'",
}
#: Calls whose text is no message, and words that are searched for.
NO_MESSAGES: Final = ("log.", "re.", "time.strftime")
SEARCHED: Final = {"no such resource"}


class Text(NamedTuple):
    """A text in the sources, with `…` for each value that it contains."""

    function: str
    text: str

    def is_in(self, message: str) -> bool:
        """Whether the message has all words of the text, in this order."""
        return re.search(".*".join(map(re.escape, self.text.split("…"))), message) is not None


def texts(path: Path) -> Iterator[Text]:
    """The texts of a module that have at least three words and are no documentation."""
    module = importlib.import_module(path.stem) if path.parent == SOURCES else None

    def walk(node: ast.AST, where: tuple[str, ...]) -> Iterator[Text]:
        for child in ast.iter_child_nodes(node):
            name = where + ((child.name,) if isinstance(child, ast.FunctionDef | ast.ClassDef) else ())
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            if isinstance(child, ast.Call) and ast.unparse(child.func).startswith(NO_MESSAGES):
                continue
            text = _text(child, module)
            if text is None:
                yield from walk(child, name)
            elif text.count(" ") >= 2:
                yield Text(".".join(where), " ".join(text.split()))

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), (path.stem,))


def _text(node: ast.AST, module: Any) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if not isinstance(node, ast.JoinedStr):
        return None
    return "".join(str(each.value) if isinstance(each, ast.Constant) else _value(each, module) for each in node.values)


def _value(node: ast.AST, module: Any) -> str:
    """The value of a constant of the module; `…` for any other expression."""
    expression = node.value if isinstance(node, ast.FormattedValue) else None
    constant = getattr(module, expression.id, None) if isinstance(expression, ast.Name) else None
    return constant if isinstance(constant, str) else "…"


def messages(kind: str) -> list[str]:
    """The messages in the page's table of this kind of status."""
    section = re.split(r"^#+ ", PAGE.split(f"\n### {kind}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


CHARM_TEXTS: Final = [each for path in sorted(SOURCES.glob("*.py")) for each in texts(path)]
STATUS_TEXTS: Final = [
    each
    for each in CHARM_TEXTS
    if each.function.partition(".")[0] not in NO_STATUSES
    and each.function not in ELSEWHERE
    and each.text not in SEARCHED
]
MESSAGES: Final = [message for kind in KINDS for message in messages(kind)]


@pytest.mark.parametrize("text", STATUS_TEXTS, ids=lambda text: f"{text.function}: {text.text[:50]}")
def test_text_of_a_status_is_on_the_page(text: Text) -> None:
    assert any(text.is_in(message) for message in MESSAGES), text.text


def test_every_message_on_the_page_has_a_text_in_the_sources() -> None:
    package = (each for path in sorted((SOURCES / "epa_orchestrator").rglob("*.py")) for each in texts(path))
    known = [*STATUS_TEXTS, *package]
    assert [message for message in MESSAGES if not any(text.is_in(message) for text in known)] == []


def test_no_message_is_shown_twice() -> None:
    for kind in KINDS:
        found = messages(kind)
        assert len(set(found)) == len(found) > 0, kind


def test_exceptions_name_functions_that_have_texts() -> None:
    assert ELSEWHERE.keys() <= {each.function for each in CHARM_TEXTS}
    assert {path.stem for path in SOURCES.glob("*.py")} >= NO_STATUSES


def test_changed_text_is_missed() -> None:
    text = Text("snapd", "snapd is not installed: run '…'")
    assert text.is_in("snapd is not installed: run 'sudo apt install snapd'")
    assert not text.is_in("snapd is missing: run 'sudo apt install snapd'")


def test_endpoints_are_those_of_the_charm() -> None:
    charm = yaml.safe_load((ROOT / "charmcraft.yaml").read_text(encoding="utf-8"))
    endpoints = {
        (name, side, each["interface"], "yes" if each["optional"] else "no")
        for side in ("requires", "provides")
        for name, each in charm[side].items()
    }
    rows = re.findall(r"^\| `([a-z-]+)` \| (requires|provides) \| `([a-z_-]+)` \| (yes|no) \|", PAGE, re.MULTILINE)
    assert set(rows) == endpoints
    assert {each["limit"] for side in ("requires", "provides") for each in charm[side].values()} == {1}
