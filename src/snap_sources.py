# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Where the snap can come from: a file, or a channel of the store."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class FileSource(NamedTuple):
    """The snap in a file: the attached resource, or the file inside the charm."""

    path: Path

    def __str__(self) -> str:
        """The source in a status message."""
        return f"the file {self.path.name}"


class StoreSource(NamedTuple):
    """The snap in a store channel (track/risk, as snapd writes it); revision 0 stands for the newest."""

    channel: str
    revision: int = 0

    def __str__(self) -> str:
        """The source in a status message."""
        return (f"revision {self.revision} in " if self.revision else "") + f"{self.channel} in the store"


Source = FileSource | StoreSource
