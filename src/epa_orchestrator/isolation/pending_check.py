# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Pending check (A6): whether the boot loader's files ask for another isolation than the running kernel has."""

from __future__ import annotations

from typing import Final

from epa_orchestrator.errors import printable
from epa_orchestrator.isolation.boot_loader import BootLoader, Entry
from epa_orchestrator.isolation.case import Case
from epa_orchestrator.isolation.findings import Finding, bad, not_checked, passed
from epa_orchestrator.isolation.host_files import Unread
from epa_orchestrator.isolation.kernel_line import KernelLine
from epa_orchestrator.isolation.shell_settings import Uncertain

_ISOLATION: Final = ("isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity", "kthread_cpus")
#: Each hugepagesz= goes with the hugepages= after it, so the order of these counts.
_HUGEPAGES: Final = ("default_hugepagesz", "hugepagesz", "hugepages")

#: Words that GRUB adds by itself, or that depend on the screen.
_ADDED: Final = ("BOOT_IMAGE=", "initrd=", "vt.handoff=", "$")

_REBOOT: Final = "reboot"
_UPDATE_GRUB: Final = "run 'sudo update-grub', then reboot"

_Wanted = tuple[str, ...]


def check_pending(case: Case) -> Finding:
    """A6: compares /etc/default/grub with grub.cfg, and grub.cfg with the running kernel's line."""
    cmdline = case.now.line.cmdline
    loader = case.now.line.boot_loader
    if isinstance(cmdline, Unread):
        return not_checked("A6", cmdline.needs)
    if isinstance(loader.entries, Unread):
        if loader.entries.reason == "missing" and not isinstance(loader.pi_line, Unread):
            return _check_pi(loader.pi_line, cmdline)
        return not_checked("A6", loader.entries.needs)
    normal = [entry for entry in loader.entries if entry.normal]
    if not normal:
        return not_checked("A6", "an entry for this system in /boot/grub/grub.cfg")
    if any("$" in text for entry in normal for text in _wanted(entry.line, everything=True)):
        return not_checked("A6", "GRUB, to evaluate a variable in /boot/grub/grub.cfg")
    others = [entry for entry in loader.entries if not entry.normal]
    return _check_configured(loader, normal) or _check_running(loader, normal, others, cmdline)


def _check_pi(pi_line: str, cmdline: str) -> Finding:
    if _wanted(pi_line) == _wanted(cmdline):
        return passed("A6", "/boot/firmware/cmdline.txt asks for what the running kernel has")
    return bad("A6", f"/boot/firmware/cmdline.txt {_difference(pi_line, cmdline, 'the running kernel')}", _REBOOT)


def _check_configured(loader: BootLoader, normal: list[Entry]) -> Finding | None:
    """The finding if grub.cfg is older than the files that it is made from."""
    if not isinstance(loader.configured, str):
        return None
    for entry in normal:
        if _wanted(entry.line) != _wanted(loader.configured):
            difference = _difference(loader.configured, entry.line, "/boot/grub/grub.cfg")
            return bad("A6", f"/etc/default/grub and grub.d {_verb(difference)}", _UPDATE_GRUB)
    return None


def _check_running(loader: BootLoader, normal: list[Entry], others: list[Entry], cmdline: str) -> Finding:
    is_normal = any(_wanted(entry.line) == _wanted(cmdline) for entry in normal)
    is_other = any(_own_words(entry.line) == _own_words(cmdline) for entry in others)
    if not is_normal and not is_other:
        difference = _difference(normal[0].line, cmdline, "the running kernel")
        return bad("A6", f"/boot/grub/grub.cfg {difference}", _REBOOT)
    if isinstance(loader.configured, Uncertain) or (
        isinstance(loader.configured, Unread) and loader.configured.reason == "denied"
    ):
        return not_checked("A6", loader.configured.needs)
    if not is_normal:
        return passed("A6", "The running kernel was started by another entry of /boot/grub/grub.cfg")
    return passed("A6", "The boot loader's files ask for what the running kernel has")


def _wanted(line: str, *, everything: bool = False) -> _Wanted:
    """The parameters of a kernel line that matter here: those of isolation by name, then those of hugepages.

    With `everything`, also words that hold a variable of GRUB.
    """
    words = KernelLine(line).parameters
    isolation = [f"{word.name}={word.value}" for name in _ISOLATION for word in words if word.name == name]
    hugepages = [f"{word.name}={word.value}" for word in words if word.name in _HUGEPAGES]
    variables = [word.text for word in words if everything and word.text.startswith("$")]
    return (*isolation, *hugepages, *variables)


def _own_words(line: str) -> list[str]:
    return [word for word in line.split() if not word.startswith(_ADDED)]


def _difference(wanted: str, actual: str, where: str) -> str:
    """What one line has and the other has not, as the end of a sentence."""
    more = [text for text in _wanted(wanted) if text not in _wanted(actual)]
    less = [text for text in _wanted(actual) if text not in _wanted(wanted)]
    parts: list[str] = []
    if more:
        parts.append(f"has {_shown(more)}, which {where} has not")
    if less:
        parts.append(f"lacks {_shown(less)}, which {where} has")
    return " and ".join(parts) or f"has the same parameters as {where} in another order"


def _shown(texts: list[str]) -> str:
    return printable(" ".join(texts)[:200])


def _verb(difference: str) -> str:
    """The same with a subject in the plural."""
    plural = {"has ": "have ", "lacks ": "lack "}
    for singular, other in plural.items():
        if difference.startswith(singular):
            difference = other + difference.removeprefix(singular)
    return difference.replace(" and lacks ", " and lack ")
