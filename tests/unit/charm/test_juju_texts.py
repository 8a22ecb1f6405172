# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Texts for Juju are cut to the size that its hook tools take."""

from __future__ import annotations

import json
import subprocess

import pytest

from juju_texts import action_results, truncate


@pytest.mark.parametrize("text", ["", "all is well", "é" * 65_000])
def test_short_text_is_unchanged(text: str) -> None:
    assert truncate(text) == text


@pytest.mark.parametrize("letter", ["a", "é", "\N{OK HAND SIGN}", "\ud800"])
def test_long_text_is_cut_to_the_size_of_one_argument(letter: str) -> None:
    cut = truncate(letter * 140_000)
    subprocess.run(["true", f"text={cut}"], check=True)
    assert cut.endswith(" … (cut: too long for Juju)")
    assert len(cut.encode()) > 130_900


def test_results_have_text_and_json() -> None:
    assert action_results("two CPUs", {"cpus": "2-3"}) == {"text": "two CPUs", "json": '{"cpus": "2-3"}'}


def test_overlong_document_is_left_out() -> None:
    found = action_results("many", {"cpus": "0," * 70_000})
    assert found.keys() == {"text"}
    assert found["text"].endswith("\nmany")
    assert len(json.dumps({"cpus": "0," * 60_000})) < 131_000
    assert "json" in action_results("fewer", {"cpus": "0," * 60_000})
