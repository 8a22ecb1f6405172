# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Folding of text to a width: a CPU list is broken only after a comma, and no number loses its noun."""

from __future__ import annotations

import re
from typing import Final

#: A place inside a word where a line may end: after a comma of a CPU list.
_AFTER_COMMA: Final = re.compile(r"(?<=[0-9],)(?=[0-9])")
#: A word after what is between it and the word before.
_WORD: Final = re.compile(r"(\s*)(\S+)")
#: A number with commas, which is not broken, and at the end of a sentence has a full stop.
_THOUSANDS: Final = re.compile(r"\(?[1-9][0-9]{0,2}(?:,[0-9]{3}){1,2}[).,;:]?")
_NUMBER: Final = re.compile(r"\(?[0-9]+")
#: A name that is too long for a line is broken after one of these if it can be.
_JOINTS: Final = "-_./:@"
#: The further indentation of a line that goes on.
_HANGING: Final = "  "
#: The first words of commands that sentences end with.
COMMANDS: Final = ("epa-orchestrator", "echo", "sudo", "taskset", "snap", "systemctl")
#: A command at the end of a sentence. Half of it must not run, so it is never folded.
_COMMAND: Final = re.compile(rf"(?<=: )(?:{'|'.join(COMMANDS)}) .*")
#: Words that stay with the number after them, as in "4 against 8".
_JOINING: Final = ("against", "of", "x")


def ends_in_command(sentence: str) -> bool:
    """Whether a sentence ends in a command to copy, which a full stop would change."""
    return _COMMAND.search(sentence) is not None


def width_of(text: str) -> int:
    """The cells of a terminal that the text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def pieces(text: str) -> list[tuple[str, str]]:
    """The parts of a text that stay whole, each with what is between it and the part before: blanks or nothing."""
    return [
        ("" if inner else gap if gap.strip(" ") == "" else " ", piece)
        for gap, word in _WORD.findall(text)
        for inner, piece in enumerate([word] if _THOUSANDS.fullmatch(word) else _AFTER_COMMA.split(word))
    ]


def fold(text: str, width: int) -> list[str]:
    """The text as lines of at most `width` cells. A part that is wider than a line is broken anyway."""
    return _fill(pieces(text), max(width, 1))


def fold_indented(text: str, width: int) -> list[str]:
    """A line of text as a sentence: its indentation stays, and its further lines are indented more.

    A command at its end gets a line of its own, of any width.
    """
    if width_of(text) <= width:
        return [text]
    indent = text[: len(text) - len(text.lstrip(" "))]
    hanging = f"{indent}{_HANGING}"
    if command := _COMMAND.search(text):
        return [*fold_indented(text[: command.start()].rstrip(), width), f"{hanging}{command[0]}"]
    if width_of(hanging) > width // 2:
        return fold_sentence(text, width)
    lines = fold_sentence(text, width - width_of(hanging), width - width_of(indent))
    return [f"{hanging if number else indent}{line}" for number, line in enumerate(lines)]


def fold_sentence(text: str, width: int, first: int | None = None) -> list[str]:
    """The same for a sentence, where a number and its noun also stay on one line; `first` is the first line's width."""
    joined: list[tuple[str, str]] = []
    for gap, piece in pieces(text):
        last = joined[-1][1].rpartition(" ")[2] if joined else ""
        stays = gap and (_NUMBER.fullmatch(last) or (last in _JOINING and piece[:1].isdecimal()))
        if stays and width_of(joined[-1][1]) + width_of(piece) < width // 2:
            joined[-1] = joined[-1][0], f"{joined[-1][1]}{gap}{piece}"
        else:
            joined.append((gap, piece))
    return _fill(joined, max(width, 1), first)


def _fill(parts: list[tuple[str, str]], width: int, first: int | None = None) -> list[str]:
    lines = [""]
    room = first or width
    for gap, piece in parts:
        before = gap if lines[-1] else ""
        needed = width_of(piece)
        if len(before) + needed <= room:
            lines[-1] += before + piece
            room -= len(before) + needed
            continue
        if lines[-1]:
            lines.append("")
        *whole, rest = _cut(piece, width)
        lines[-1:] = [*whole, rest]
        room = width - width_of(rest)
    return lines


def _cut(piece: str, width: int) -> list[str]:
    """A part in pieces that fit: usually one, the part itself."""
    cut = [""]
    room = width
    for char in piece:
        needed = width_of(char)
        if needed > room and cut[-1]:
            joint = max(map(cut[-1].rfind, _JOINTS)) + 1 or len(cut[-1])
            cut[-1:] = [cut[-1][:joint], cut[-1][joint:]]
            room = width - width_of(cut[-1])
        cut[-1] += char
        room -= needed
    return cut
