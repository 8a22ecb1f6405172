# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Shell settings: the values of variables that files of shell assignments set, read without executing anything.

Source: "Shell Command Language" in POSIX.1-2017, of which this reads comments, quotes, assignments and `$NAME`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_ASSIGNMENT: Final = re.compile(rf"(?:export[ \t]+)?({_NAME})(\+?)=")
_VARIABLE: Final = re.compile(rf"\$(?:({_NAME})|\{{({_NAME})\}})")
_NO_VALUE: Final = re.compile(rf"(unset|export)((?:[ \t]+{_NAME})+)[ \t]*(?=[\n;]|$)")
#: A line up to its end, in which quotes may hold line ends.
_REST: Final = re.compile(r"(?:\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"|[^\n\\'\"])*", re.DOTALL)
_BLANKS: Final = " \t"


@dataclass(frozen=True)
class Uncertain:
    """A file whose settings only a shell could evaluate."""

    path: str

    @property
    def needs(self) -> str:
        """How "not checked: needs …" goes on."""
        return f"a shell to evaluate /{self.path}"


def read_settings(texts: Mapping[str, str], names: Sequence[str]) -> list[str] | Uncertain:
    """The values of the variables `names` after all files, in their order, empty where nothing sets one.

    `texts` has the files by their paths, in the order in which a shell reads them.
    """
    values: dict[str, str | None] = {}
    for path, text in texts.items():
        reader = _Reader(text, values)
        if not reader.read(names) or any(values.get(name, "") is None for name in names):
            return Uncertain(path)
    return [values.get(name) or "" for name in names]


class _Reader:
    """Reads one file into `values`; a value that only a shell could know is None."""

    def __init__(self, text: str, values: dict[str, str | None]) -> None:
        self._text = text.replace("\\\n", "")
        self._values = values
        self._at = 0

    def read(self, names: Sequence[str]) -> bool:
        """Read all assignments; False if other commands could change one of `names`."""
        commands = False
        while self._at < len(self._text):
            self._skip(" \t\n;")
            if self._peek() == "#":
                self._skip_comment()
            elif match := _ASSIGNMENT.match(self._text, self._at):
                self._at = match.end()
                self._assign(match[1], append=match[2] == "+")
            elif match := _NO_VALUE.match(self._text, self._at):
                self._at = match.end()
                if match[1] == "unset":
                    self._values.update(dict.fromkeys(match[2].split(), ""))
            elif self._at < len(self._text):
                commands = True
                self._skip_rest()
        if not commands:
            return True
        sources_others = re.search(r"(?m)(?:^|[;&|])[ \t]*(?:\.|source|eval)[ \t]", self._text)
        return sources_others is None and not any(name in self._text for name in names)

    def _assign(self, name: str, *, append: bool) -> None:
        value = self._word()
        self._skip(_BLANKS)
        if self._peek() == "#":
            self._skip_comment()
        elif self._peek() not in ("", "\n", ";"):
            # A word after the value makes a command of the line, for which the value holds alone.
            value = None
            self._skip_rest()
        before = self._values.get(name, "") if append else ""
        self._values[name] = None if value is None or before is None else before + value

    def _word(self) -> str | None:
        """The word at this place, without quotes and with variables replaced; None if only a shell can read it."""
        parts: list[str] = []
        while (char := self._peek()) not in ("", "\n", ";", *_BLANKS):
            part = self._part(char)
            if part is None:
                self._skip_rest()
                return None
            parts.append(part)
        return "".join(parts)

    def _part(self, char: str) -> str | None:
        self._at += 1
        if char == "'":
            return self._up_to_quote()
        if char == '"':
            return self._double_quoted()
        if char == "\\":
            self._at += 1
            return self._text[self._at - 1 : self._at]
        if char == "$":
            return self._variable()
        return None if char in "`&|<>()" else char

    def _up_to_quote(self) -> str | None:
        end = self._text.find("'", self._at)
        if end < 0:
            return None
        start, self._at = self._at, end + 1
        return self._text[start:end]

    def _double_quoted(self) -> str | None:
        parts: list[str] = []
        while char := self._peek():
            self._at += 1
            part: str | None = char
            if char == '"':
                return "".join(parts)
            if char == "`":
                return None
            if char == "$":
                part = self._variable()
            elif char == "\\" and self._peek() in ("$", "`", '"', "\\"):
                part = self._peek()
                self._at += 1
            if part is None:
                return None
            parts.append(part)
        return None

    def _variable(self) -> str | None:
        """The value of the variable after a `$`; a `$` before anything else is itself or needs a shell."""
        match = _VARIABLE.match(self._text, self._at - 1)
        if match is None:
            return None if self._peek() in tuple("({0123456789@*#?-$!") else "$"
        self._at = match.end()
        return self._values.get(match[1] or match[2], "")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, characters: str) -> None:
        while (char := self._peek()) and char in characters:
            self._at += 1

    def _skip_comment(self) -> None:
        end = self._text.find("\n", self._at)
        self._at = len(self._text) if end < 0 else end

    def _skip_rest(self) -> None:
        """Skip up to the end of the line, at least one character of what is left."""
        match = _REST.match(self._text, self._at)
        end = match.end() if match else self._at
        self._at = max(end, self._at + 1) if self._at < len(self._text) else self._at
