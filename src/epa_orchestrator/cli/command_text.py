# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Command text: the commands that a person is told to run, safe for root's shell whatever names are in them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def command_text(name: str, *words: object, options: Sequence[object] = ()) -> str:
    """A command of the orchestrator with its arguments and options, quoted for a shell.

    Print it with `say`, after a colon at the end of a sentence, or with `print_line`: it stays on one line, because
    half of a folded command must not run.
    """
    arguments = [str(word) for word in words]
    # After "--" a name that begins with "-" is no option.
    is_option_like = any(word.startswith("-") for word in arguments)
    ordered = [*options, "--", *arguments] if is_option_like else [*arguments, *options]
    return shlex.join(["epa-orchestrator", name, *map(str, ordered)])
