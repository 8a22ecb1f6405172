"""Errors whose message is one sentence for a person: for a client on the wire, an operator, or the log."""

from __future__ import annotations


class EpaError(Exception):
    """The base of our own errors; what others wrote into the message (names, file contents) is made harmless in it.

    ```
    EpaError
    ├── MachineError         the sysfs tree does not describe a machine
    ├── SysfsError           the host cannot be read at the moment
    ├── SettingsError        settings that cannot be used
    ├── UnsuitableFileError  not a regular file of a reasonable size
    ├── Refused              a request that is not granted
    ├── ProtocolError        a request that cannot be served as it is
    ├── LegacyStateError     the older daemon's state cannot be imported
    ├── StateError           the database cannot be used
    │   └── InUse            another daemon writes it
    ├── CommitError          changes could not be made durable and were undone
    │   └── DatabaseChanged  another process has changed or replaced the database
    ├── Locked               another daemon uses the state directory
    ├── ListenError          the socket cannot be served
    ├── StartError           the daemon cannot start
    └── DaemonError          the daemon that a client asked
        ├── Unreachable      does not answer
        └── RefusedByDaemon  does not do it
    ```
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


def printable(text: str) -> str:
    """The text on one line, with nothing in it that a terminal would act on."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
