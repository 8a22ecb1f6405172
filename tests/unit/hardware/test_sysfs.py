# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A sysfs tree and a recording of it answer alike, and what is no recording is refused with a sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epa_orchestrator.hardware.discovery import read_machine
from epa_orchestrator.hardware.hugepages import read_hugepages
from epa_orchestrator.hardware.sysfs import (
    CUT,
    FORMAT,
    CutShortError,
    RecordedSysfs,
    Recorder,
    Sysfs,
    SysfsTree,
    dump_recording,
    load_recording,
)
from tests.unit.hardware.recordings import NAMES, PATHS, TEXTS
from tools.synthetic import Shape, build, write_tree

SHAPES = {
    "smallest": Shape(cores_per_l3=1),
    "two threads, an offline CPU": Shape(packages=2, threads_per_core=2, isolated="1-3,5-7", offline="3"),
    "sub-NUMA clustering": Shape(packages=2, nodes_per_package=2, l3_scope="package", siblings="adjacent"),
    "memory-only node, hugepages": Shape(memory_only_nodes=1, hugepages={2048: (8, 4), 1048576: (1, 0)}),
    "no L3": Shape(l3_scope="none", isolated="2-3"),
}


def recording_of(source: Sysfs) -> str:
    """What `machine --record` writes."""
    recorder = Recorder(source)
    for node_id in read_machine(recorder).node_ids:
        read_hugepages(recorder, node_id)
    return dump_recording("test", "made for a test", recorder.files, recorder.entries)


def document(**changes: Any) -> dict[str, Any]:
    """A small valid recording with other members."""
    return {"format": FORMAT, "name": "n", "description": "d", "files": {"devices/system/cpu/online": "0"}} | changes


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_recording_answers_as_the_tree_it_was_made_from(shape: Shape, tmp_path: Path) -> None:
    files = build(shape)
    write_tree(files, tmp_path)
    tree, recorded = SysfsTree(tmp_path), load_recording(recording_of(SysfsTree(tmp_path)))
    machine = read_machine(tree)
    assert read_machine(recorded) == machine
    for node_id in machine.node_ids:
        assert read_hugepages(recorded, node_id) == read_hugepages(tree, node_id)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_recording_of_a_recording_is_the_same(shape: Shape, tmp_path: Path) -> None:
    write_tree(build(shape), tmp_path)
    first = recording_of(SysfsTree(tmp_path))
    assert recording_of(load_recording(first)) == first


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_tree_and_its_files_in_memory_agree_on_every_path(shape: Shape, tmp_path: Path) -> None:
    files = build(shape)
    write_tree(files, tmp_path)
    tree, recorded = SysfsTree(tmp_path), RecordedSysfs(files)
    directories = {str(parent) for path in files for parent in Path(path).parents} - {"."}
    for path in [*files, *directories, "devices/nothing", "nothing"]:
        assert tree.read(path) == recorded.read(path) == files.get(path), path
        assert sorted(tree.names(path) or ()) == sorted(recorded.names(path) or ()), path


def test_a_tree_strips_white_space_and_only_that(tmp_path: Path) -> None:
    write_tree({"a": "", "b": "0-3", "c": "line one\nline two", "d": " \t 0-3 "}, tmp_path)
    tree = SysfsTree(tmp_path)
    assert [tree.read(name) for name in "abcd"] == ["", "0-3", "line one\nline two", "0-3"]


def test_a_tree_does_not_stumble_over_odd_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff\x000\n")
    assert SysfsTree(tmp_path).read("file") == "\N{REPLACEMENT CHARACTER}\x000"


def test_an_unreadable_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    tree = SysfsTree(tmp_path)
    for path in ("missing", "directory", "dangling", "loop", "file/below", "x" * 300):
        assert tree.read(path) is None, path
    for path in ("missing", "file", "dangling", "loop"):
        assert tree.names(path) == [], path


def test_a_tree_reads_the_file_every_time(tmp_path: Path) -> None:
    tree = SysfsTree(str(tmp_path))
    (tmp_path / "online").write_text("0-3\n")
    assert tree.read("online") == "0-3"
    (tmp_path / "online").write_text("0\n")
    assert tree.read("online") == "0"
    (tmp_path / "online").unlink()
    assert tree.read("online") is None


def test_a_long_list_is_read_whole(tmp_path: Path) -> None:
    text = ",".join(str(cpu) for cpu in range(0, 8192, 2))
    write_tree({"online": text}, tmp_path)
    assert SysfsTree(tmp_path).read("online") == text


@pytest.mark.parametrize(
    ("content", "text"),
    [("0-3\n", "0-3"), ("\n", ""), ("", ""), (" 0 \n", "0"), ("1," * 4000 + "1\n", "1," * 4000 + "1")],
)
def test_whole_list(content: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(content)
    assert SysfsTree(tmp_path).read_list("list") == text


@pytest.mark.parametrize("content", ["0-3", "0-3 ", "0\n1", "1" * 4095 + "\n", "1" * 4096, "1," * 4000 + "1"])
def test_list_without_its_end(content: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(content)
    with pytest.raises(CutShortError, match=r"^sysfs list is cut short after '") as caught:
        SysfsTree(tmp_path).read_list("list")
    assert caught.value.text == content.strip()


def test_list_of_a_recording_needs_no_newline() -> None:
    assert RecordedSysfs({"list": "0-3"}).read_list("list") == "0-3"


@pytest.mark.parametrize("text", [f"0-3,1{CUT}", "1" * 4095], ids=["marked", "a full page of an older recording"])
def test_cut_list_of_a_recording(text: str) -> None:
    with pytest.raises(CutShortError):
        RecordedSysfs({"list": text}).read_list("list")


def test_missing_list_is_none(tmp_path: Path) -> None:
    assert SysfsTree(tmp_path).read_list("list") is None
    assert RecordedSysfs({}).read_list("list") is None


def test_recorder_marks_a_cut_list(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("0-3,1")
    recorder = Recorder(SysfsTree(tmp_path))
    with pytest.raises(CutShortError):
        recorder.read_list("list")
    assert recorder.read("list") == "0-3,1"
    assert recorder.files == {"list": f"0-3,1{CUT}"}
    assert RecordedSysfs(recorder.files).read("list") == "0-3,1"


def test_contents_tell_a_whole_list_from_a_cut_one(tmp_path: Path) -> None:
    (tmp_path / "whole").write_text("0-3\n")
    (tmp_path / "cut").write_text("0-3")
    whole, cut, missing = SysfsTree(tmp_path).contents(["whole", "cut", "missing"])
    assert whole != cut
    assert missing is None


def test_recording_keeps_what_was_hidden() -> None:
    source = RecordedSysfs({"a/b": "1"}, {"a": ["c"]}, hidden=["a", "d/e"])
    recorder = Recorder(source)
    assert recorder.names("a") is None
    assert [recorder.exists(path) for path in ("a/b", "a/c", "d/e", "x")] == [True, True, None, False]
    recorder.read("a/b")
    served = load_recording(dump_recording("n", "d", recorder.files, recorder.entries, recorder.hidden))
    assert served.names("a") is None
    assert [served.exists(path) for path in ("a/b", "a/c", "d/e", "x")] == [True, True, None, False]


def test_paths_that_exist_in_a_tree(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    tree = SysfsTree(tmp_path)
    assert [tree.exists(path) for path in ("file", "dangling", "file/below", "missing")] == [True, True, False, False]


def test_entries_without_files_are_kept() -> None:
    """A node's directory that holds nothing but links to CPUs is such a case."""
    recorded = load_recording(json.dumps(document(entries={"devices/system/node": ["node0", "node7"]})))
    assert recorded.names("devices/system/node") == ["node0", "node7"]
    assert recorded.names("devices/system/cpu") == ["online"]
    assert recorded.read("devices/system/node/node0") is None


def test_the_recorder_remembers_only_existing_files() -> None:
    source = RecordedSysfs({"a/b": "1", "a/c": ""})
    recorder = Recorder(source)
    assert recorder.read("a/b") == "1"
    assert recorder.read("a/c") == ""
    assert recorder.read("a/d") is None
    assert sorted(recorder.names("a") or ()) == ["b", "c"]
    assert recorder.names("z") == []
    assert recorder.files == {"a/b": "1", "a/c": ""}
    assert recorder.entries == {"a": ["b", "c"]}


@settings(deadline=None)
@given(
    st.dictionaries(PATHS, TEXTS, max_size=12),
    st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=4, unique=True), max_size=4),
)
def test_load_undoes_dump(files: dict[str, str], entries: dict[str, list[str]]) -> None:
    text = dump_recording("name", "description", files, entries)
    loaded = load_recording(text)
    assert {path: loaded.read(path) for path in files} == files
    for directory, names in entries.items():
        assert set(loaded.names(directory) or ()) >= set(names)
    assert text.isascii(), "it can be mailed"


@settings(deadline=None)
@given(st.dictionaries(PATHS, TEXTS, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_questions_does_not_show_in_a_recording(files: dict[str, str], random: Any) -> None:
    paths = list(files)
    random.shuffle(paths)
    shuffled = {path: files[path] for path in paths}
    assert json.loads(dump_recording("n", "d", shuffled, {})) == json.loads(dump_recording("n", "d", files, {}))


MALFORMED: dict[str, str] = {
    "empty": "",
    "not JSON": "0-3",
    "cut": json.dumps(document())[:-1],
    "two documents": json.dumps(document()) * 2,
    "deeply nested": "[" * 100_000,
    "a number too long": "9" * 5000,
    "a list": "[]",
    "null": "null",
    "a string": '"text"',
    "no format": json.dumps({"files": {}}),
    "another format": json.dumps(document(format="cpu-topology-fixture/1")),
    "a newer format": json.dumps(document(format="epa-orchestrator-machine/2")),
    "the format is a list": json.dumps(document(format=[FORMAT])),
    "no files": json.dumps({"format": FORMAT}),
    "files is a list": json.dumps(document(files=["devices/system/cpu/online"])),
    "files is null": json.dumps(document(files=None)),
    "a file is a number": json.dumps(document(files={"devices/system/cpu/online": 0})),
    "a file is null": json.dumps(document(files={"devices/system/cpu/online": None})),
    "a file is a list": json.dumps(document(files={"devices/system/cpu/online": ["0"]})),
    "texts by CPU for a path without CPU": json.dumps(document(files={"devices/system/cpu/online": {"0": "0-3"}})),
    "texts by number": json.dumps(document(files={"devices/system/cpu/cpu{}/online": {"1": 3}})),
    "texts by a list of numbers": json.dumps(document(files={"devices/system/cpu/cpu{}/online": {"1": [3]}})),
    "texts by no CPU list": json.dumps(document(files={"devices/system/cpu/cpu{}/online": {"1": "three"}})),
    "texts by a reversed list": json.dumps(document(files={"devices/system/cpu/cpu{}/online": {"1": "3-0"}})),
    "texts by a huge list": json.dumps(document(files={"devices/system/cpu/cpu{}/online": {"1": "0-99999999"}})),
    "entries is a list": json.dumps(document(entries=["cpu0"])),
    "entries is null": json.dumps(document(entries=None)),
    "hidden is null": json.dumps(document(hidden=None)),
    "hidden is a string": json.dumps(document(hidden="devices")),
    "hidden are numbers": json.dumps(document(hidden=[0])),
    "names is a string": json.dumps(document(entries={"devices/system/cpu": "cpu0"})),
    "names are numbers": json.dumps(document(entries={"devices/system/cpu": [0]})),
    "names is an object": json.dumps(document(entries={"devices/system/cpu": {"cpu0": 1}})),
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_refuses_a_text_that_is_no_recording(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+") as caught:
        load_recording(text)
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert len(sentence) < 400


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "it is not JSON"),
        ("[]", "it is not a JSON object"),
        ("{}", "epa-orchestrator machine --record FILE"),
        (json.dumps(document(files=1)), "'files' and 'entries' are not JSON objects"),
        (json.dumps(document(files={"a/b": 1})), "'a/b' holds neither text nor texts by CPU list"),
        (json.dumps(document(entries={"a": 1})), "the entries of 'a' are not a list of names"),
        (json.dumps(document(files={"a/cpu{}/b": {"x": "5-4"}})), "5-4"),
    ],
)
def test_a_refusal_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        load_recording(text)


LISTS, OTHERS = ("", "0", "0-1", "3,5"), ("x", "3-0", "-1", "99999")


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["a/b", "a/cpu{}/b", "a/cpu{}/c", "cpu{}/a"]),
        st.one_of(
            st.text(max_size=8),
            st.dictionaries(st.text(max_size=3), st.sampled_from([*LISTS, *LISTS, *OTHERS]), max_size=2),
            st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.integers()), min_size=1, max_size=2),
            st.one_of(st.none(), st.booleans(), st.integers(), st.lists(st.text(max_size=2), max_size=2)),
        ),
    )
)
def test_any_files_are_loaded_or_refused(files: dict[str, Any]) -> None:
    """A file is a text, or where its path has the directory of a CPU an object of CPU lists."""

    def readable(path: str, value: object) -> bool:
        if isinstance(value, dict):
            return "/cpu{}/" in path and all(cpus in LISTS for cpus in cast("dict[str, object]", value).values())
        return isinstance(value, str)

    text = json.dumps(document(files=files))
    if all(readable(path, value) for path, value in files.items()):
        assert isinstance(load_recording(text), RecordedSysfs)
    else:
        with pytest.raises(ValueError, match=r"\w+ \w+"):
            load_recording(text)
