"""Socket keeper: makes the server listen, and keeps the socket file leading to it as long as the daemon runs."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
from collections import deque
from typing import Final

from epa_orchestrator.daemon.probes import Probe
from epa_orchestrator.daemon.server import Server
from epa_orchestrator.daemon.socket_file import ListenError, SocketFile
from epa_orchestrator.errors import printable

log = logging.getLogger(__name__)

#: How often (seconds) to look whether the socket file still leads to us.
_LOOK_EVERY: Final = 0.5
#: How long (seconds) a probe may wait behind other clients; nothing waits for one in a foreign backlog.
_PROOF_TIMEOUT: Final = 2.0
_PAUSE: Final = 0.01
#: How many sockets of our own are served at once: clients may have looked up the previous file and not yet connected.
_MOST_OWN: Final = 2
#: Looks in a row that may end in doubt before the file is put back.
_MOST_DOUBTS: Final = 10


class SocketKeeper:
    """The listening sockets of a server, and the file that leads to one of them."""

    def __init__(self, server: Server, file: SocketFile) -> None:
        self._server = server
        self._file = file
        self._handed_over: list[socket.socket] = []
        self._own: deque[socket.socket] = deque()
        self._complaint = ""
        #: The file (O_PATH) that was shown to lead to us the last time, and looks since then that have shown nothing.
        self._proven: int | None = None
        self._doubts = 0

    async def start(self, handed_over: list[socket.socket]) -> None:
        """Serve the sockets that systemd handed over, and one of our own if there are none or no file leads to them.

        With handed-over sockets a problem with the file does not stop the daemon, which tries again later. Without them
        this raises ListenError.
        """
        self._handed_over = handed_over
        for listener in handed_over:
            self._server.listen(listener)
        if not handed_over:
            self._serve(self._file.bind())
        await self.look()

    async def watch(self) -> None:
        """Put the file back whenever something has removed or replaced it. Never ends."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            await self.look()

    async def look(self) -> None:
        """Put the file back if it does not lead to us. A problem is logged once, and the next call tries again."""
        try:
            if await self.leads_to_us():
                self._complaint = ""
                return
            self._serve(self._file.put_back())
        except ListenError as error:
            self._complain(str(error))
        except OSError as error:
            self._complain(f"The socket file {self._file.path} cannot be checked: {error.strerror}")
        else:
            self._complaint = ""
            log.warning("the socket file %s did not lead to this daemon: it is back", self._file.path)

    async def leads_to_us(self) -> bool:
        """Whether a connection to the file arrives at this server; it makes one to find out.

        While clients keep our own queue full nothing is shown in time; then the file counts as ours as long as it is
        the one that was shown to be ours before. Raises OSError when the process or the system has run out of
        something, so that it cannot be known.
        """
        fd = self._file.open()
        if fd is None:
            return False
        deadline = self._server.loop.time() + _PROOF_TIMEOUT
        try:
            probe = await self._send_probe(fd)
            if probe is not None and await self._arrival(probe) is not None:
                self._remember(os.dup(fd))
                return True
            return self._server.loop.time() >= deadline and self._is_probably_ours(fd)
        finally:
            os.close(fd)

    def _is_probably_ours(self, fd: int) -> bool:
        """Whether the file is the one that was proven; before the first proof, whether to give it some more time."""
        if self._proven is not None:
            return os.path.samestat(os.fstat(fd), os.fstat(self._proven))
        self._doubts += 1
        return self._doubts <= _MOST_DOUBTS

    def _remember(self, proven: int | None) -> None:
        """Keep a proven file open, so that its inode number is not used again; None: what was proven may be stale."""
        if self._proven is not None:
            os.close(self._proven)
        self._proven, self._doubts = proven, 0

    async def remove(self) -> None:
        """Remove the file if it leads to a socket that this daemon made."""
        self._remember(None)
        try:
            fd = self._file.open() if self._own else None
        except OSError:
            return
        if fd is None:
            return
        try:
            probe = await self._send_probe(fd)
            own = {listener.getsockname() for listener in self._own}
            if probe is not None and await self._arrival(probe) in own:
                self._file.remove(fd)
        except OSError as error:
            log.warning("the socket file %s was left where it is: %s", self._file.path, error.strerror)
        finally:
            os.close(fd)

    async def _send_probe(self, fd: int) -> Probe | None:
        """A probe that is sent to the listener at the file; None when there is none, or its backlog stays full."""
        deadline = self._server.loop.time() + _PROOF_TIMEOUT
        while True:
            try:
                return self._server.probes.send(fd)
            except BlockingIOError:  # our own backlog is full only while clients wait there
                if not self._clients_wait() or self._server.loop.time() >= deadline:
                    return None
            await asyncio.sleep(_PAUSE)

    async def _arrival(self, probe: Probe) -> str | None:
        """The address of our listener where the probe arrives, None when it arrives elsewhere.

        A connection is in the listener's queue when connect(2) returns. So when all of our queues are empty, we have
        accepted the probe or never will: a foreign server cannot make us wait.
        """
        deadline = self._server.loop.time() + _PROOF_TIMEOUT
        pause = 0.0
        try:
            while probe.arrived_at is None and self._clients_wait() and self._server.loop.time() < deadline:
                await asyncio.sleep(pause)
                pause = _PAUSE
            return probe.arrived_at
        finally:
            probe.close()

    def _clients_wait(self) -> bool:
        """Whether a client or a probe waits to be accepted by us."""
        poll = select.poll()
        for listener in (*self._handed_over, *self._own):
            poll.register(listener, select.POLLIN)
        return bool(poll.poll(0))

    def _serve(self, listener: socket.socket) -> None:
        """Serve a socket of our own, and retire the oldest ones."""
        self._remember(None)
        self._own.append(listener)
        try:
            self._server.listen(listener)
        except OSError:  # the event loop cannot watch it: clients get an error instead of waiting for ever
            self._own.pop()
            self._server.retire(listener)
            raise
        while len(self._own) > _MOST_OWN:
            self._server.retire(self._own.popleft())

    def _complain(self, sentence: str) -> None:
        if sentence != self._complaint:
            log.error("%s; trying again", printable(sentence))
        self._complaint = sentence
