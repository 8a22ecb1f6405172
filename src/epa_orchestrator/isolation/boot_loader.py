# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Boot loader: the kernel lines that the boot loader's files will give to the next boots.

Nothing of the files is executed: what only a shell could evaluate counts as unknown. Sources: grub-mkconfig(8) and
/etc/grub.d/10_linux of GRUB 2.12, and https://www.raspberrypi.com/documentation/computers/configuration.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from epa_orchestrator.isolation.host_files import HostFiles, Unread
from epa_orchestrator.isolation.shell_settings import Uncertain, read_settings

_DEFAULTS: Final = "etc/default/grub"
_DROP_INS: Final = "etc/default/grub.d"
_GRUB_CFG: Final = "boot/grub/grub.cfg"
_PI_LINE: Final = "boot/firmware/cmdline.txt"

_SECTION: Final = re.compile(r"### (BEGIN|END) (?:/\S*/)?(\S+) ###")
_LINUX: Final = re.compile(r"\s*linux(?:16|efi)?\s+(\S+)(?:\s+(.*))?$")
_SET: Final = re.compile(r"\s*set\s+([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_MATTERS: Final = re.compile(r"isolcpus|nohz|rcu_nocbs|irqaffinity|hugepages")
#: Words of Ubuntu's and Debian's recovery entries.
_RECOVERY: Final = frozenset({"recovery", "single"})


@dataclass(frozen=True)
class Entry:
    """A kernel line in grub.cfg, without the kernel's path.

    `normal` entries are those that 10_linux makes for this system, except recovery entries.
    """

    line: str
    normal: bool


@dataclass(frozen=True)
class BootLoader:
    """What the boot loader's files say.

    `configured` is the line that update-grub would write, as far as the files of /etc/default set it. `pi_line` is the
    text of a Raspberry Pi's cmdline.txt.
    """

    configured: str | Unread | Uncertain
    entries: tuple[Entry, ...] | Unread
    pi_line: str | Unread


def read_boot_loader(files: HostFiles) -> BootLoader:
    """Read the files of GRUB and of the Raspberry Pi's firmware."""
    grub_cfg = files.read(_GRUB_CFG)
    variables = {} if isinstance(grub_cfg, Unread) else _grub_variables(grub_cfg)
    configured = _read_configured(files)
    return BootLoader(
        configured=_expanded(configured, variables) if isinstance(configured, str) else configured,
        entries=grub_cfg if isinstance(grub_cfg, Unread) else tuple(_entries(grub_cfg, variables)),
        pi_line=files.read(_PI_LINE),
    )


def _read_configured(files: HostFiles) -> str | Unread | Uncertain:
    """GRUB_CMDLINE_LINUX and GRUB_CMDLINE_LINUX_DEFAULT, joined as 10_linux joins them."""
    paths = [_DEFAULTS]
    names = files.names(_DROP_INS)
    if isinstance(names, Unread):
        if names.reason == "denied":
            return names
        names = []
    paths += [f"{_DROP_INS}/{name}" for name in sorted(names) if name.endswith(".cfg") and not name.startswith(".")]
    texts: dict[str, str] = {}
    missing: Unread | None = None
    for path in paths:
        text = files.read(path)
        if not isinstance(text, Unread):
            texts[path] = text
        elif text.reason == "denied":
            return text
        else:
            missing = missing or text
    if missing is not None and not texts:
        return missing
    settings = read_settings(texts, ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"))
    return settings if isinstance(settings, Uncertain) else " ".join(settings)


def _grub_variables(text: str) -> dict[str, str | None]:
    """The variables that grub.cfg sets, None for one that gets different values of which one isolates CPUs."""
    values: dict[str, set[str]] = {}
    for line in text.splitlines():
        if match := _SET.match(line):
            values.setdefault(match[1], set()).add(match[2].strip().strip("'\""))
    return {name: _only(texts) for name, texts in values.items()}


def _only(texts: set[str]) -> str | None:
    if len(texts) == 1:
        return next(iter(texts))
    return None if any(_MATTERS.search(text) for text in texts) else ""


def _expanded(line: str, variables: dict[str, str | None]) -> str:
    """The line with GRUB's variables replaced, and `$NAME` left for one that may have different values."""

    def value(match: re.Match[str]) -> str:
        known = variables.get(match[1] or match[2], "")
        return match[0] if known is None else known

    return _VARIABLE.sub(value, line)


def _entries(text: str, variables: dict[str, str | None]) -> Iterator[Entry]:
    """The entries, in their order. Those of other systems on the same disks are left out."""
    section = ""
    for line in text.splitlines():
        if marker := _SECTION.match(line):
            section = marker[2] if marker[1] == "BEGIN" else ""
        elif section != "30_os-prober" and (match := _LINUX.match(line)):
            arguments = _expanded(match[2] or "", variables).strip()
            is_own = section == "" or section.startswith("10_linux")
            yield Entry(arguments, normal=is_own and not _RECOVERY & set(arguments.split()))
