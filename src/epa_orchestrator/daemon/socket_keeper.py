# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Socket keeper: makes the server listen, and puts the socket file back when it no longer leads to the daemon."""

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

#: The pause (seconds) between two checks of the socket file.
_CHECK_SECONDS: Final = 0.5
#: How long (seconds) a probe may wait behind other clients of ours. Probes in a foreign backlog are not waited for.
_PROOF_TIMEOUT: Final = 2.0
_PAUSE: Final = 0.01
#: How many sockets of our own are served at once: a client may have looked up the previous file, and connect later.
_MAX_OWN: Final = 2
#: How many checks in a row may stay in doubt before the file is put back.
_MAX_DOUBTS: Final = 10


class SocketKeeper:
    """The listening sockets of a server, and the file that leads to one of them."""

    def __init__(self, server: Server, file: SocketFile) -> None:
        self._server = server
        self._file = file
        self._handed_over: list[socket.socket] = []
        self._own: deque[socket.socket] = deque()
        #: The last problem that was logged.
        self._problem = ""
        #: The last file (O_PATH) that was proven to lead to us.
        self._proven: int | None = None
        #: The checks in doubt since then.
        self._doubts = 0

    async def start(self, handed_over: list[socket.socket]) -> None:
        """Serve the sockets that systemd handed over, and one of our own if there are none or the file leads to none.

        With handed-over sockets, a problem with the file is logged, and the next check tries again.

        Raises ListenError without handed-over sockets, when the file cannot be made.
        """
        self._handed_over = handed_over
        for listener in handed_over:
            self._server.listen(listener)
        if not handed_over:
            self._serve(self._file.bind())
        await self.check()

    async def watch(self) -> None:
        """Check the file again and again. Never ends."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            await self.check()

    async def check(self) -> None:
        """Put the file back if it does not lead to us. A problem is logged once, and the next check tries again."""
        try:
            if await self.leads_to_us():
                self._problem = ""
                return
            self._serve(self._file.put_back())
        except ListenError as error:
            self._log_problem(str(error))
        except OSError as error:
            self._log_problem(f"The socket file {self._file.path} cannot be checked: {error.strerror}")
        else:
            self._problem = ""
            log.warning("put back the socket file %s, which did not lead to this daemon", self._file.path)

    async def leads_to_us(self) -> bool:
        """Whether a connection to the file arrives at this server. Connects to find out.

        While clients keep our own backlog full, no probe arrives in time. Then the file counts as ours if it is the
        last one that was proven to be ours.

        Raises OSError when the process or the system has run out of something, which leaves the answer open.
        """
        fd = self._file.open()
        if fd is None:
            return False
        deadline = self._server.loop.time() + _PROOF_TIMEOUT
        try:
            probe = await self._send_probe(fd)
            if probe is not None and await self._arrival(probe) is not None:
                self._set_proven(os.dup(fd))
                return True
            return self._server.loop.time() >= deadline and self._is_probably_ours(fd)
        finally:
            os.close(fd)

    def _is_probably_ours(self, fd: int) -> bool:
        """Whether the file is the last proven one. Before the first proof, any file counts for some checks."""
        if self._proven is not None:
            return os.path.samestat(os.fstat(fd), os.fstat(self._proven))
        self._doubts += 1
        return self._doubts <= _MAX_DOUBTS

    def _set_proven(self, proven: int | None) -> None:
        """Keep a proven file open, so that its inode number is not used again. None: no file is proven any more."""
        if self._proven is not None:
            os.close(self._proven)
        self._proven, self._doubts = proven, 0

    async def remove(self) -> None:
        """Remove the file if it leads to a socket that this daemon made."""
        self._set_proven(None)
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
            log.warning("the socket file %s was not removed: %s", self._file.path, error.strerror)
        finally:
            os.close(fd)

    async def _send_probe(self, fd: int) -> Probe | None:
        """Send a probe to the listener at the file. None when there is no listener, or its backlog stays full."""
        deadline = self._server.loop.time() + _PROOF_TIMEOUT
        while True:
            try:
                return self._server.probes.send(fd)
            except BlockingIOError:  # a backlog of ours is full only while clients wait in it
                if not self._clients_wait() or self._server.loop.time() >= deadline:
                    return None
            await asyncio.sleep(_PAUSE)

    async def _arrival(self, probe: Probe) -> str | None:
        """The address of our listener where the probe arrives. None when it does not arrive at us.

        A connection is in the backlog of its listener when connect(2) returns. So once all our backlogs are empty, we
        have accepted the probe or never will, and a foreign server cannot make us wait.
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
        """Whether a client or a probe waits in a backlog of ours."""
        poll = select.poll()
        for listener in (*self._handed_over, *self._own):
            poll.register(listener, select.POLLIN)
        return bool(poll.poll(0))

    def _serve(self, listener: socket.socket) -> None:
        """Serve a socket of our own, and retire the oldest ones."""
        self._set_proven(None)
        self._own.append(listener)
        try:
            self._server.listen(listener)
        except OSError:  # the event loop cannot watch it: without this its clients would wait for ever
            self._own.pop()
            self._server.retire(listener)
            raise
        while len(self._own) > _MAX_OWN:
            self._server.retire(self._own.popleft())

    def _log_problem(self, sentence: str) -> None:
        if sentence != self._problem:
            log.error("%s; trying again", printable(sentence))
        self._problem = sentence
