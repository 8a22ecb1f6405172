# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Fields that requests have in common: what they accept, and what they are when left out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .builders import ACTIONS, LONGEST_NAME, MUTATIONS, WITH_POLICY, WITH_POOL, accept, encode, refusal


@pytest.mark.parametrize("action", ACTIONS)
def test_version_may_be_left_out(action: str) -> None:
    assert accept(encode(action)).action == action
    without = json.dumps({"action": action, **ACTIONS[action]}).encode()
    assert accept(without) == accept(encode(action))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("version", ["1", "1.1", "2.0", "", " 1.0", 1.0, 1, None, True, ["1.0"], {}])
def test_refuses_other_versions(action: str, version: object) -> None:
    sentence = refusal(encode(action, version=version))
    assert "'version'" in sentence
    assert "1.0" in sentence


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        ("free_cores", "free_cores"),
        ("", ""),
        ("ALLOCATE_CORES", "ALLOCATE_CORES"),
        (" list_allocations", " list_allocations"),
        ("list_allocations\0", "list_allocations\N{REPLACEMENT CHARACTER}"),
        ("__class__", "__class__"),
        (5, "5"),
        (None, "null"),
        (True, "true"),
        (["allocate_cores"], '["allocate_cores"]'),
        ({"a": 1}, '{"a": 1}'),
        (1.5, "1.5"),
    ],
)
def test_names_an_unknown_action(action: object, shown: str) -> None:
    assert refusal(json.dumps({"action": action}).encode()) == f"Unknown action: {shown}"


@pytest.mark.parametrize("document", [{}, {"version": "1.0", "service_name": "a"}, {"Action": "list_allocations"}])
def test_refuses_a_missing_action(document: dict[str, Any]) -> None:
    assert refusal(json.dumps(document).encode()) == "Field 'action' is missing"


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "name",
    [
        "a",
        " ",
        "x" * 255,
        LONGEST_NAME,
        "nova-compute/0 (blue)",
        "\u00fcn\u00efc\u00f6d\u00e9",
        "[red]'\"\\{}$(x)",
        "\u4e2d\u6587",
    ],
)
def test_accepts_1_to_255_printable_characters_as_service_name(action: str, name: str) -> None:
    assert accept(encode(action, service_name=name)).service_name == name


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "must have 1 to 255 characters"),
        ("x" * 256, "must have 1 to 255 characters"),
        ("x" * 10_000, "must have 1 to 255 characters"),
        ("\0", "must hold printable characters only"),
        ("a\nb", "must hold printable characters only"),
        ("a\tb", "must hold printable characters only"),
        ("a\x7f", "must hold printable characters only"),
        ("\x1b[31mred", "must hold printable characters only"),
        ("\x9b31m", "must hold printable characters only"),
        ("a\u00a0b", "must hold printable characters only"),
        ("\u202egnp.exe", "must hold printable characters only"),
        ("a\u2028b", "must hold printable characters only"),
        ("\ufeffa", "must hold printable characters only"),
        (5, "must be a string"),
        (True, "must be a string"),
        (1.5, "must be a string"),
        (["a"], "must be a string"),
        ({"a": "b"}, "must be a string"),
    ],
)
def test_refuses_other_service_names(action: str, name: object, says: str) -> None:
    sentence = refusal(encode(action, service_name=name))
    assert sentence.startswith("Field 'service_name' ")
    assert says in sentence


@settings(deadline=None)
@given(st.sampled_from(list(ACTIONS)), st.text(max_size=300))
def test_never_changes_a_service_name(action: str, name: str) -> None:
    if name and len(name) <= 255 and name.isprintable():
        assert accept(encode(action, service_name=name)).service_name == name
    else:
        refusal(encode(action, service_name=name))


@pytest.mark.parametrize("action", MUTATIONS)
def test_other_actions_need_a_service_name(action: str) -> None:
    fields = {name: value for name, value in ACTIONS[action].items() if name != "service_name"}
    assert refusal(json.dumps({"action": action, **fields}).encode()) == "Field 'service_name' is missing"
    assert "'service_name' must be a string" in refusal(encode(action, service_name=None))


@pytest.mark.parametrize("action", WITH_POOL)
def test_pool_is_isolated_by_default(action: str) -> None:
    assert getattr(accept(encode(action)), "pool", None) == "isolated"
    for pool in ("isolated", "general"):
        assert getattr(accept(encode(action, pool=pool)), "pool", None) == pool


@pytest.mark.parametrize("action", WITH_POOL)
@pytest.mark.parametrize("pool", [None, "", "Isolated", "shared", "isolated ", 0, True, ["isolated"], {}])
def test_refuses_other_pools(action: str, pool: object) -> None:
    sentence = refusal(encode(action, pool=pool))
    assert sentence.startswith("Field 'pool' must be 'isolated' or 'general'")


@pytest.mark.parametrize("action", WITH_POLICY)
def test_preemption_policy_is_null_by_default(action: str) -> None:
    assert getattr(accept(encode(action)), "preemption_policy", 0) is None
    for policy in (None, "legacy", "non-preemptive"):
        assert getattr(accept(encode(action, preemption_policy=policy)), "preemption_policy", 0) == policy


@pytest.mark.parametrize("action", WITH_POLICY)
@pytest.mark.parametrize("policy", ["", "Legacy", "nonpreemptive", "non_preemptive", 0, False, ["legacy"], {}])
def test_refuses_other_preemption_policies(action: str, policy: object) -> None:
    sentence = refusal(encode(action, preemption_policy=policy))
    assert "'preemption_policy'" in sentence
    assert "'legacy'" in sentence
    assert "'non-preemptive'" in sentence
