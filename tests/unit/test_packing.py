# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tools.packing import PackError, architecture, check_architecture, python_environment

#: The first bytes of a library, by architecture: s390x alone stores the higher byte first.
HEADERS = {
    "amd64": b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0",
    "arm64": b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\xb7\0",
    "s390x": b"\x7fELF\2\2\1" + bytes(9) + b"\0\3\0\x16",
}

OTHERS = [(target, other) for target in HEADERS for other in HEADERS if other != target]


@pytest.mark.parametrize("target", HEADERS)
def test_library_for_the_architecture_passes(tmp_path: Path, target: str) -> None:
    (tmp_path / "core.so").write_bytes(HEADERS[target])
    check_architecture(tmp_path, target)


@pytest.mark.parametrize(("target", "other"), OTHERS)
def test_library_for_another_architecture_is_refused(tmp_path: Path, target: str, other: str) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "core.cpython-312.so").write_bytes(HEADERS[other])
    with pytest.raises(PackError, match=rf"^lib/core\.cpython-312\.so is no library for {target}: "):
        check_architecture(tmp_path, target)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", bytes(64)])
def test_file_without_elf_header_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "core.so.1").write_bytes(content)
    with pytest.raises(PackError, match=r"core\.so\.1 is no library for arm64"):
        check_architecture(tmp_path, "arm64")


@pytest.mark.parametrize(("machine", "expected"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("s390x", "s390x")])
def test_architecture_has_debians_name(monkeypatch: pytest.MonkeyPatch, machine: str, expected: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert architecture() == expected


def test_unsupported_architecture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(PackError, match="unsupported architecture riscv64: use one of amd64, arm64, s390x"):
        architecture()


def test_other_architecture_takes_its_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    environment = python_environment("3.12", "arm64", tmp_path)
    platforms = environment["PIP_PLATFORM"].split()
    assert platforms[0] == "manylinux_2_39_aarch64"
    assert platforms[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]
    assert environment["PIP_PYTHON_VERSION"] == "3.12"
    assert environment["PIP_ONLY_BINARY"] == ":all:"


def test_own_architecture_names_no_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "PIP_PLATFORM" not in python_environment("3.12", "arm64", tmp_path)
