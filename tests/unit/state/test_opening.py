# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Opening: a database is created whole or not at all, and one process writes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.state import opening
from epa_orchestrator.state.database_files import FILE_NAME, exists
from epa_orchestrator.state.errors import InUse, StateError
from epa_orchestrator.state.loading import Loaded, load
from epa_orchestrator.state.opening import create, is_in_use, open_store
from epa_orchestrator.state.store import Store
from tests.unit.state.builders import GROWN, LEDGER, PEER, commit, content, journal_of


def test_a_created_database_holds_the_ledger(path: Path) -> None:
    assert content(load(path).ledger) == content(LEDGER)


def test_a_created_database_is_one_private_file(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == [FILE_NAME]


def test_a_created_database_is_in_its_final_mode(path: Path) -> None:
    assert path.read_bytes()[18:20] == b"\x02\x02", "the file format version of the write-ahead log (fileformat2.html)"


def test_an_unfinished_database_does_not_count_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.with_name("state.db.new").write_bytes(b"half")
    assert not exists(path)
    create(path, LEDGER, PEER, 1.0)
    assert content(load(path).ledger) == content(LEDGER)


def test_the_journal_of_an_interrupted_first_start_is_not_applied(
    path: Path, interrupt_transaction: Callable[[], None], tmp_path: Path
) -> None:
    interrupt_transaction()
    place = tmp_path / "first"
    place.mkdir()
    path.rename(place / "state.db.new")
    journal_of(path).rename(place / "state.db.new-journal")
    create(place / FILE_NAME, LEDGER, PEER, 1.0)
    assert [file.name for file in place.iterdir()] == [FILE_NAME]
    assert content(load(place / FILE_NAME).ledger) == content(LEDGER)


def test_creating_never_replaces_a_file(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StateError, match="cannot be created: File exists"):
        create(path, Ledger.of([], {}), PEER, 1.0)
    assert path.read_bytes() == before


def test_creating_names_the_reason_when_the_directory_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be created: Not a directory"):
        create(tmp_path / "file" / "x" / FILE_NAME, LEDGER, PEER, 1.0)


def test_a_second_process_cannot_open_the_database(path: Path, opened: Store) -> None:
    with pytest.raises(InUse, match=r"^is in use by another daemon$"):
        open_store(path)
    commit(opened, GROWN)


def test_a_closed_database_can_be_opened_again(path: Path) -> None:
    for _ in range(2):
        opened, _ = open_store(path)
        opened.close()


def test_a_database_is_in_use_while_it_is_open(path: Path) -> None:
    assert not is_in_use(path)
    opened, _ = open_store(path)
    assert is_in_use(path)
    opened.close()
    assert not is_in_use(path)


def test_a_missing_database_is_not_in_use(tmp_path: Path) -> None:
    assert not is_in_use(tmp_path / FILE_NAME)


def test_opening_takes_write_permission_from_other_users(path: Path) -> None:
    path.chmod(0o666)
    opened, _ = open_store(path)
    opened.close()
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_database_that_is_replaced_while_it_is_opened_is_not_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace_and_load(path: Path) -> Loaded:
        shutil.copyfile(path, path.with_name("copy")).rename(path)
        return load(path)

    with monkeypatch.context() as patch:
        patch.setattr(opening, "load", replace_and_load)
        with pytest.raises(StateError, match=r"^was replaced by another file while it was opened$"):
            open_store(path)
    opened, _ = open_store(path)
    opened.close()


def test_a_directory_named_like_an_unfinished_database_does_not_stop_a_start(path: Path) -> None:
    path.with_name("state.db.new").mkdir()
    opened, _ = open_store(path)
    commit(opened, GROWN)
    opened.close()
