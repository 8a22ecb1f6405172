"""Errors whose message is one sentence for a person: for a client on the wire, an operator, or the log."""

from __future__ import annotations


class EpaError(Exception):
    """The base of our own errors; what others wrote into the message (names, file contents) is made harmless in it.

    ```
    EpaError
    ├── MachineError      the sysfs tree does not describe a machine
    ├── SettingsError     settings that cannot be used
    ├── UnsuitableFileError  no regular file of a reasonable size
    ├── Refused           a request that is not granted
    ├── ProtocolError     a request that cannot be served as it is
    ├── LegacyStateError  the older daemon's state cannot be imported
    ├── StateError        the database cannot be used
    ├── CommitError       changes could not be made durable and were undone
    ├── ListenError       the socket cannot be served
    └── DaemonError       the daemon cannot start
    ```
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


def printable(text: str) -> str:
    """The text on one line, with nothing in it that a terminal would act on."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
