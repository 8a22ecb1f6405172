# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A simulated disk on which a recording is played, and what may remain of it after a power cut.

What was synced is there after the cut. Of everything else, any part may be there: a write whole, not at all, or in
pieces; a file longer than its data, with zeros; a change of a directory with or without those before it. After a sync
that failed, the kernel takes the data for written (see fsync(2)): it may be on the disk or not, and no later sync
brings it there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .recording import Step

#: The bytes that a disk writes whole or not at all.
SECTORS: Final = (512, 4096)

#: The files of a directory by their paths, and its subdirectories, each None.
Image = dict[str, bytes | None]


@dataclass(slots=True)
class _Write:
    """Data at an offset, or with `data` None a truncation to that size. Doubtful: a sync of it has failed."""

    offset: int
    data: bytes | None
    durable: bool = False
    doubtful: bool = False


@dataclass(slots=True)
class _File:
    """A file: `base` is its content before the writes that are still kept apart."""

    base: bytes = b""
    writes: list[_Write] = field(default_factory=list[_Write])

    def durable(self) -> list[_Write]:
        """The durable writes; those after a doubtful one are not in `base` yet."""
        return [write for write in self.writes if write.durable]

    def sync(self, failed: bool) -> None:
        """Make all writes durable, or doubtful when the sync failed; they stay doubtful."""
        for write in self.writes:
            if failed and not write.durable:
                write.doubtful = True
            write.durable = write.durable or not write.doubtful
        while self.writes and self.writes[0].durable:
            self.base = _applied(self.base, [self.writes.pop(0)])


@dataclass(slots=True)
class _Naming:
    """A change of directories: `removed` loses its file, then `added` leads to `node`; empty for neither."""

    removed: str
    added: str
    node: int

    def touches(self, directory: str) -> bool:
        return any(name and _parent(name) == directory for name in (self.removed, self.added))


class Disk:
    """A disk: `play` plays steps on it; the image methods say what is there after a cut now."""

    def __init__(self, image: Image, inodes: dict[str, int], top: int) -> None:
        self._nodes: dict[int, _File | None] = {}
        self._names: dict[str, int] = {}
        self._namings: list[_Naming] = []
        self._node_of_inode: dict[int, int] = {top: 0}
        self._paths: dict[int, str] = {0: "."}
        for path, content in image.items():
            self._names[path] = self._add(inodes[path], None if content is None else _File(content), path)

    @classmethod
    def of(cls, directory: Path) -> Disk:
        """A disk with the content of a directory, all of it synced."""
        image: Image = {}
        inodes: dict[str, int] = {}
        for path in sorted(directory.rglob("*")):
            name = str(path.relative_to(directory))
            image[name] = None if path.is_dir() else path.read_bytes()
            inodes[name] = path.stat().st_ino
        return cls(image, inodes, directory.stat().st_ino)

    def play(self, step: Step) -> None:
        """Take one step of a recording."""
        {
            "C": self._create,
            "L": self._link,
            "R": self._rename,
            "U": self._remove,
            "W": self._write,
            "T": self._write,
            "S": self._sync,
            "F": self._sync,
        }[step.kind](step)

    def lost(self) -> Image:
        """Only synced data is there."""
        return self._image([], _File.durable)

    def kept(self) -> Image:
        """Everything is there."""
        return self._image(self._namings, lambda file: file.writes)

    def names_only(self) -> Image:
        """Directories are up to date, data that was not synced is lost."""
        return self._image(self._namings, _File.durable)

    def data_only(self) -> Image:
        """Data is up to date, changes of directories that were not synced are lost."""
        return self._image([], lambda file: file.writes)

    def some(self, chance: random.Random) -> Image:
        """Any part is there."""
        sector, share, zeros = chance.choice(SECTORS), chance.choice((0.1, 0.5, 0.9)), chance.random() < 0.2
        if chance.random() < 0.5:
            namings = self._namings[: chance.randint(0, len(self._namings))]
        else:
            namings = [naming for naming in self._namings if chance.random() < share]

        def survivors(file: _File) -> list[_Write]:
            found: list[_Write] = []
            for write in file.writes:
                if write.durable:
                    found.append(write)
                elif write.data is None or chance.random() < 0.3:  # whole or not at all
                    found += [write] if chance.random() < share else []
                else:
                    found += _pieces(write, sector, share, zeros, chance)
            return found

        return self._image(namings, survivors)

    def _image(self, namings: Iterable[_Naming], survivors: Callable[[_File], Iterable[_Write]]) -> Image:
        names = dict(self._names)
        for naming in namings:
            _apply_naming(names, naming)
        image: Image = {}
        contents: dict[int, bytes | None] = {}
        for path, node in sorted(names.items()):
            if (parent := _parent(path)) != "." and image.get(parent, b"") is not None:
                continue  # the directory that it lies in is not there
            if node not in contents:
                file = self._nodes[node]
                contents[node] = None if file is None else _applied(file.base, survivors(file))
            image[path] = contents[node]
        return image

    def _add(self, inode: int, file: _File | None, path: str) -> int:
        node = len(self._nodes) + 1
        self._nodes[node] = file
        self._node_of_inode[inode] = node
        self._paths[node] = path
        return node

    def _create(self, step: Step) -> None:
        node = self._add(step.inode, None if step.directory else _File(), step.new_name)
        self._namings.append(_Naming("", step.new_name, node))

    def _link(self, step: Step) -> None:
        self._namings.append(_Naming("", step.new_name, self._node(step.inode)))

    def _rename(self, step: Step) -> None:
        node = self._node(step.inode) if step.new_name else 0
        assert node == 0 or self._nodes[node] is not None, "renamed directories are not simulated"
        self._namings.append(_Naming(step.name, step.new_name, node))

    def _remove(self, step: Step) -> None:
        self._namings.append(_Naming(step.name, "", 0))

    def _write(self, step: Step) -> None:
        file = self._nodes[self._node(step.inode)]
        assert file is not None
        file.writes.append(_Write(step.offset, step.data if step.kind == "W" else None))

    def _sync(self, step: Step) -> None:
        node = self._node(step.inode)
        file = self._nodes.get(node)
        if file is not None:
            file.sync(failed=step.kind == "F")
        elif step.kind == "S":
            durable = [naming for naming in self._namings if naming.touches(self._paths[node])]
            for naming in durable:
                _apply_naming(self._names, naming)
            self._namings = [naming for naming in self._namings if naming not in durable]

    def _node(self, inode: int) -> int:
        """The file or directory with this inode, made when the recording names it first."""
        node = self._node_of_inode.get(inode)
        return self._add(inode, _File(), "") if node is None else node


def _parent(name: str) -> str:
    return str(Path(name).parent)


def _apply_naming(names: dict[str, int], naming: _Naming) -> None:
    names.pop(naming.removed, None)
    if naming.added:
        names[naming.added] = naming.node


def _pieces(write: _Write, sector: int, share: float, zeros: bool, chance: random.Random) -> Iterable[_Write]:
    """The sectors of a write that are on the disk; with `zeros` the others are there without their data."""
    data = write.data
    assert data is not None
    end = write.offset + len(data)
    starts = [write.offset, *range(write.offset // sector * sector + sector, end, sector)]
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        if chance.random() < share:
            yield _Write(start, data[start - write.offset : stop - write.offset])
        elif zeros:
            yield _Write(stop, b"")


def _applied(base: bytes, writes: Iterable[_Write]) -> bytes:
    content = bytearray(base)
    for write in writes:
        if write.data is None:
            del content[write.offset :]
        end = write.offset + len(write.data or b"")
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        if write.data:
            content[write.offset : end] = write.data
    return bytes(content)


def put(image: Image, directory: Path) -> None:
    """Make a directory, which must be empty, hold an image."""
    for name, content in image.items():
        if content is None:
            (directory / name).mkdir()
        else:
            (directory / name).write_bytes(content)
