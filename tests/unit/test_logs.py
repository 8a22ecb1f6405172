"""Logs: lines of one turn leave together, warnings at once."""

from __future__ import annotations

import asyncio
import io
import logging

import pytest

from epa_orchestrator.logs import LEVELS, TurnHandler, log_to_stderr, set_level


def line(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord("x", level, "", 0, "%s", (text,), None)


def test_without_a_loop_a_line_is_written_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    TurnHandler().emit(line(logging.INFO, "one"))
    assert capsys.readouterr().err == "INFO one\n"


def test_lines_of_a_turn_leave_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    async def turn() -> None:
        handler = TurnHandler()
        handler.emit(line(logging.INFO, "one"))
        handler.emit(line(logging.INFO, "two"))
        assert capsys.readouterr().err == ""
        await asyncio.sleep(0)
        assert capsys.readouterr().err == "INFO one\nINFO two\n"
        handler.emit(line(logging.INFO, "three"))
        handler.emit(line(logging.ERROR, "four"))
        assert capsys.readouterr().err == "INFO three\nERROR four\n"

    asyncio.run(turn())


def test_a_closed_stderr_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    TurnHandler().emit(line(logging.ERROR, "lost"))


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="the log level 'loud' is not known: set it to one of debug, info, warning"):
        log_to_stderr("loud")


@pytest.mark.parametrize("level", LEVELS)
def test_from_now_on_only_what_is_at_least_so_grave_is_written(
    level: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [TurnHandler()])
    before = root.level
    try:
        for kept in ("error", level):
            set_level(kept)
            for each in LEVELS:
                logging.getLogger("x").log(logging.getLevelNamesMapping()[each.upper()], "line")
            expected = [f"{each.upper()} line" for each in LEVELS[LEVELS.index(kept) :]]
            assert capsys.readouterr().err.splitlines() == expected
    finally:
        root.setLevel(before)
