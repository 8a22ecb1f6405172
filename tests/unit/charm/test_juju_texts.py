"""Texts for Juju: whole as long as a hook tool can take them, cut otherwise."""

from __future__ import annotations

import json
import subprocess

import pytest

from juju_texts import action_results, truncate


@pytest.mark.parametrize("text", ["", "all is well", "é" * 65_000])
def test_a_text_that_fits_stays_as_it_is(text: str) -> None:
    assert truncate(text) == text


@pytest.mark.parametrize("letter", ["a", "é", "\N{OK HAND SIGN}", "\ud800"])
def test_a_long_text_is_cut_to_what_one_argument_may_be(letter: str) -> None:
    cut = truncate(letter * 140_000)
    subprocess.run(["true", f"text={cut}"], check=True)
    assert cut.endswith(" … (cut: too long for Juju)")
    assert len(cut.encode()) > 130_900


def test_results_have_text_and_json() -> None:
    assert action_results("two CPUs", {"cpus": "2-3"}) == {"text": "two CPUs", "json": '{"cpus": "2-3"}'}


def test_a_document_that_is_too_long_is_left_out_whole() -> None:
    found = action_results("many", {"cpus": "0," * 70_000})
    assert found.keys() == {"text"}
    assert found["text"].endswith("\nmany")
    assert len(json.dumps({"cpus": "0," * 60_000})) < 131_000
    assert "json" in action_results("fewer", {"cpus": "0," * 60_000})
