# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Control groups of services, as the operator writes them, are paths below the root; anything else is refused."""

from __future__ import annotations

import pytest

from epa_orchestrator.allocation.option_values import OwnerCgroup
from epa_orchestrator.allocation.settings import Settings, SettingsError, parse_settings

OSD = "system.slice/ceph-osd.slice"


@pytest.mark.parametrize(
    ("written", "entries"),
    [
        ("", []),
        (" \n", []),
        ([], []),
        ("openstack-hypervisor=machine.slice", [("openstack-hypervisor", "machine.slice")]),
        (" osd = /system.slice/ceph-osd.slice/ ", [("osd", OSD)]),
        (f"osd=//{OSD}//", [("osd", OSD)]),
        (f"vm=machine.slice,osd={OSD}", [("vm", "machine.slice"), ("osd", OSD)]),
        ("osd=a.slice, osd=b.slice", [("osd", "a.slice"), ("osd", "b.slice")]),
        ("osd=a.slice,osd=/a.slice", [("osd", "a.slice")]),
        (["osd=a.slice", "osd=with,comma"], [("osd", "a.slice"), ("osd", "with,comma")]),
        ("osd=name=x", [("osd", "name=x")]),
        ("osd=...", [("osd", "...")]),
        ("Dienst ä=büro.slice", [("Dienst ä", "büro.slice")]),
    ],
)
def test_an_owner_cgroup_is_a_service_and_a_path(written: object, entries: list[tuple[str, str]]) -> None:
    assert parse_settings({"owner-cgroups": written}).owner_cgroups == tuple(OwnerCgroup(*each) for each in entries)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("machine.slice", "'machine.slice' is not service=cgroup, such as openstack-hypervisor=machine.slice"),
        ("=machine.slice", "'=machine.slice' is not service=cgroup"),
        ("osd=", "'osd=' is not service=cgroup"),
        ("osd=/", "'osd=/' is not service=cgroup"),
        ("osd=a,", "'' is not service=cgroup"),
        (",", "'' is not service=cgroup"),
        ("osd=..", "'..' is no path of a cgroup"),
        ("osd=a/../../etc", "'a/../../etc' is no path of a cgroup"),
        ("osd=a/./b", "'a/./b' is no path of a cgroup"),
        ("osd=a//b", "'a//b' is no path of a cgroup"),
        ("osd=a\nb", "the cgroup of 'osd' has control characters"),
        ("osd=a\x00b", "the cgroup of 'osd' has control characters"),
        ("o\x1b[2Jsd=a", "has control characters"),
        ([5], "'5' is not service=cgroup"),
        ([None], "'None' is not service=cgroup"),
        ([["osd=a"]], "is not service=cgroup"),
        (5, "give service=cgroup, such as openstack-hypervisor=machine.slice, separated by commas"),
        (True, "give service=cgroup"),
        ({"osd": "a"}, "give service=cgroup"),
        ("x" * 100_000, "is not service=cgroup"),
        (f"osd={'a/' * 50_000}../b", "is no path of a cgroup"),
    ],
)
def test_other_owner_cgroups_are_refused_in_one_sentence(written: object, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings({"owner-cgroups": written})
    sentence = str(caught.value)
    assert sentence.startswith("owner-cgroups=")
    assert says in sentence
    assert sentence.isprintable()
    assert len(sentence) < 400


def test_cgroups_of_a_service_are_those_that_name_it() -> None:
    settings = parse_settings({"owner-cgroups": "osd=a.slice,vm=machine.slice,osd=b.slice"})
    assert settings.cgroups_of("osd") == ("a.slice", "b.slice")
    assert settings.cgroups_of("vm") == ("machine.slice",)
    assert settings.cgroups_of("os") == ()


def test_virtual_machines_of_the_hypervisor_run_in_the_slice_of_libvirt() -> None:
    assert Settings().cgroups_of("openstack-hypervisor") == ("machine.slice",)
    assert parse_settings({"owner-cgroups": ""}).cgroups_of("openstack-hypervisor") == ()


def test_owner_cgroups_are_written_as_they_are_read() -> None:
    written = f"vm=machine.slice,osd={OSD}"
    entries = parse_settings({"owner-cgroups": written}).owner_cgroups
    assert ",".join(map(str, entries)) == written
