# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The library as a file that charms copy, and its decisions without a server."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from charmcraft.utils import charmlibs

from charms.epa_orchestrator.v0 import epa
from epa_orchestrator.protocol.answers import FEATURES
from epa_orchestrator.protocol.requests import AllocationFields

ROOT = Path(__file__).parents[3]
SOURCE = Path(epa.__file__).read_text(encoding="utf-8")

#: Fields of the first daemons; and those for operators, which the library does not send.
FIRST = {"version", "service_name"}
FOR_OPERATORS = {"explain", "make_room"}


@pytest.mark.parametrize(
    ("text", "ids"),
    [("", ()), ("0", (0,)), ("0-3,8", (0, 1, 2, 3, 8)), ("8,0-1", (0, 1, 8)), ("65535", (65535,)), ("1,1-2", (1, 2))],
)
def test_cpu_list_is_read(text: str, ids: tuple[int, ...]) -> None:
    assert epa.Cpus.parse(text).ids == ids


@pytest.mark.parametrize("text", ["3-1", "a", "1,", ",", "-1", "1-", "65536", "0-99999", "1 ", "٣", "1--2", "1-2-3"])
def test_other_texts_are_no_cpu_list(text: str) -> None:
    with pytest.raises(ValueError, match="is not a CPU or a range of CPUs up to 65535"):
        epa.Cpus.parse(text)


def test_cpus_print_in_the_kernels_notation() -> None:
    cpus = epa.Cpus((0, 1, 2, 5, 7, 8))
    assert str(cpus) == "0-2,5,7-8"
    assert (len(cpus), list(cpus), 5 in cpus, 6 in cpus, bool(epa.Cpus())) == (6, list(cpus.ids), True, False, False)
    assert str(epa.Cpus()) == ""


MISTAKES: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "no size": (TypeError, {}),
    "two sizes": (TypeError, {"count": 1, "percent": 5}),
    "no CPUs": (ValueError, {"count": 0}),
    "fewer than no CPUs": (ValueError, {"count": -5}),
    "no percent": (ValueError, {"percent": 0}),
    "101 percent": (ValueError, {"percent": 101}),
    "a percentage of a node": (TypeError, {"percent": 5, "numa_node": 0}),
    "an unknown pool": (ValueError, {"count": 1, "pool": "isolatd"}),
    "no pool": (ValueError, {"count": 1, "pool": None}),
}


@pytest.mark.parametrize(("kind", "arguments"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_in_a_call_is_found_before_anything_is_sent(
    tmp_path: Path, kind: type[Exception], arguments: dict[str, Any]
) -> None:
    with pytest.raises(kind):
        epa.Client(tmp_path / "none.sock").allocate("a", **arguments)


@pytest.mark.parametrize("service", ["\ud800", b"a"])
def test_name_that_is_no_text_is_a_mistake_of_the_caller(tmp_path: Path, service: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        epa.Client(tmp_path / "none.sock").allocate(service, 1)


def test_record_of_no_hugepages_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"remove_hugepages\(\) removes the record"):
        epa.Client(tmp_path / "none.sock").record_hugepages("a", 0, 2048, 0)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_timeout_must_be_a_time(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be a number of seconds over 0"):
        epa.Client("/x", timeout)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_wait_must_be_a_time(seconds: float) -> None:
    client = epa.Client("/x")
    with pytest.raises(ValueError, match="must be a number of seconds from 0"):
        client.wait_until_ready(seconds)
    with pytest.raises(ValueError, match="must be a number of seconds from 0"), client.watch(seconds):
        pass


@pytest.mark.parametrize("path", ["", "/" + "x" * 107, "/a\0b", b"/" + b"x" * 107])
def test_path_must_fit_a_socket(path: Any) -> None:
    with pytest.raises(ValueError, match="path must have 1 to 107 bytes and no null byte"):
        epa.Client(path)


def test_file_that_is_no_socket_is_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    os.mkfifo("fifo")
    for path in ("file", "fifo", "."):
        with pytest.raises(epa.NoSocket, match=f"^There is no socket {re.escape(path)}: "):
            epa.Client(path).listing()


def test_socket_is_that_of_the_plug_in_a_snap_and_that_of_the_host_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAP_DATA", "/var/snap/mine/7")
    assert epa.Client().path == "/var/snap/mine/7/data/epa.sock"
    monkeypatch.setenv("SNAP_DATA", "")
    assert epa.Client().path == epa.HOST_SOCKET
    monkeypatch.delenv("SNAP_DATA")
    assert epa.Client().path == "/var/snap/epa-orchestrator/current/data/epa.sock"


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("No CPUs available: No Isolated CPUs configured", epa.NoIsolatedCpus),
        ("No Isolated CPUs configured", epa.NoIsolatedCpus),
        ("No CPUs available", epa.NoIsolatedCpus),
        ("No CPUs available in pool general", epa.Refused),
        ("CPUs 2-3 are held by No Isolated CPUs configured", epa.Refused),
        ("User 5 may only read: …", epa.NotPermitted),
        ("", epa.Refused),
    ],
)
def test_sentence_of_a_refusal_decides_its_kind(sentence: str, kind: type[epa.EpaError]) -> None:
    with pytest.raises(epa.EpaError) as caught:
        epa._decode(f'{{"version": "1.0", "error": "{sentence}"}}'.encode())
    assert type(caught.value) is kind
    assert str(caught.value)


def test_null_error_of_the_oldest_daemon_is_none() -> None:
    assert epa._decode(b'{"version": "1.0", "error": null}')["version"] == "1.0"


def test_every_newer_field_of_a_request_needs_a_feature() -> None:
    assert set(epa._FEATURES) == set(AllocationFields.model_fields) - FIRST - FOR_OPERATORS - {"action"}
    assert {*epa._FEATURES.values(), "watch"} <= set(FEATURES)


def test_tree_of_errors_in_the_docstring_is_the_real_one() -> None:
    drawn = re.findall(r"^\s*(?:[│ ]*[├└]── )?(\w+)  +\w", (epa.EpaError.__doc__ or ""), re.MULTILINE)
    real = {name for name, value in vars(epa).items() if isinstance(value, type) and issubclass(value, epa.EpaError)}
    assert {*drawn, "EpaError"} == real


def test_library_needs_only_python_3_10() -> None:
    tree = ast.parse(SOURCE, feature_version=(3, 10))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert imported <= sys.stdlib_module_names


def test_charmcraft_reads_the_file_as_a_charm_library() -> None:
    """charmcraft does so when it packs a charm that contains the file."""
    (library,) = charmlibs.get_libs_from_tree("epa-orchestrator", ROOT)
    assert (library.lib_id, library.api, library.patch) == ("not-registered", 0, 1)


def test_file_stays_short_enough_to_be_read() -> None:
    """A charm library is one file, so it has more lines than a module of the daemon may have."""
    assert len(SOURCE.splitlines()) <= 850
