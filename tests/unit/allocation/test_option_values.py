# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Option values: CPU lists, ids and hugepages as people and snapd write them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from epa_orchestrator.allocation.option_values import CpuList, CpuPool, Ids, ReservedHugepages, ReservedPages
from epa_orchestrator.cpuset import EMPTY, CpuSet


def adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config={"arbitrary_types_allowed": True})


@pytest.mark.parametrize("given", ["2-3, 8", "2 - 3,8"])
def test_cpu_list_may_have_blanks(given: str) -> None:
    assert adapter(CpuList).validate_python(given) == CpuSet([2, 3, 8])


def test_lone_cpu_may_be_a_number() -> None:
    assert adapter(CpuList).validate_python(4) == CpuSet([4])


def test_name_of_the_isolated_pool_means_no_general_pool() -> None:
    assert adapter(CpuPool).validate_python("isolated") == EMPTY


def test_ids_may_be_text() -> None:
    assert adapter(Ids).validate_python("1000, 1001") == (1000, 1001)


def test_reserved_hugepages_are_entries() -> None:
    assert adapter(ReservedPages).validate_python("0:2048:16") == (ReservedHugepages(0, 2048, 16),)


def test_sizes_of_reserved_hugepages_may_have_units() -> None:
    assert adapter(ReservedPages).validate_python("0:2M:16") == (ReservedHugepages(0, 2048, 16),)


@pytest.mark.parametrize(
    ("text", "written"), [("0:2048:16", "0:2M:16"), ("1:1024MB:2", "1:1G:2"), ("0:64:1", "0:64K:1")]
)
def test_reserved_hugepages_are_written_as_people_write_them(text: str, written: str) -> None:
    assert [str(entry) for entry in adapter(ReservedPages).validate_python(text)] == [written]


def test_node_and_size_may_be_named_once() -> None:
    with pytest.raises(ValidationError, match="named twice"):
        adapter(ReservedPages).validate_python("0:2048:16,0:2048:8")
