# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Errors whose message is one sentence: for a client on the wire, an operator, or the log."""

from __future__ import annotations


class EpaError(Exception):
    """The base of the package's own errors. Text of other programs in the message cannot act on a terminal.

    ```
    EpaError
    ├── UnsuitableFileError  the path leads to no regular file of a reasonable size
    ├── SysfsError           the host cannot be read at the moment
    │   └── UnsettledError   it changes while it is read
    ├── CutShortError        the end of a CPU list is missing
    ├── MachineError         the sysfs tree does not describe a machine
    ├── HiddenPagesError     this process may not read the hugepages of a node
    ├── DeviceError          the NUMA node of a device is not known
    ├── ContradictionError   two options contradict each other
    ├── SettingsError        settings cannot be used
    ├── Unplaceable          a rule of placement allows no choice of CPUs
    ├── Refused              a request is not granted
    ├── ProtocolError        a request is not valid
    ├── TooMuchUnread        a client has not read what the daemon keeps for it
    ├── SearchTooLong        the history is not searched any further for one request
    ├── StateError           the database cannot be used
    │   └── InUse            another daemon writes it
    ├── CommitError          changes could not be made durable and were undone
    │   └── DatabaseChanged  another process has changed or replaced the database
    ├── LegacyStateError     the older daemon's state cannot be imported
    ├── Locked               another daemon uses the state directory
    ├── ListenError          the socket cannot be served
    ├── StartError           the daemon cannot start
    ├── InvalidAnswerError   a server did not send a valid answer
    ├── DaemonError          the answer is invalid, or belongs to another request
    │   ├── Unreachable      no daemon answers, or not in time
    │   │   └── WatchEnded   the daemon ends a watch
    │   └── RefusedByDaemon  the daemon refuses the request
    ├── ConfigureError       the options cannot be applied
    └── NotAcceptable        the settings do not fit the host or its claims
    ```
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


def printable(text: str) -> str:
    """The text on one line, without characters that a terminal acts on."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
