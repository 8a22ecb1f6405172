# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Framing: collects what arrives on a connection until it is one request, at a cost that is linear in its bytes.

Only the parser reads bytes a second time, and it runs only when it can come to a result: on the first piece, when the
outermost brace is closed, and when the received bytes have doubled since its last run, so that mistakes show early.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

from epa_orchestrator.protocol.fields import ProtocolError
from epa_orchestrator.protocol.parsing import MAX_REQUEST_BYTES, parse
from epa_orchestrator.protocol.requests import Request

#: Pieces that one request may arrive in. The longest request that makes sense has 3.5 KB.
MAX_PIECES: Final = 4096
#: The parser may read this many bytes in all (50 µs) before it runs at doubled sizes only.
_FREE_BYTES: Final = 16_384

#: A string, or the rest of the text if the string does not end there. The group holds the end: a quote, a lone
#: backslash, or nothing.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+("|\\?)', re.DOTALL)
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"{}[]")
_STEPS: Final = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}


class IncomingRequest:
    """One request while it arrives."""

    # Most requests come whole with their first piece, so nothing is set before there is a second one.
    _received = bytearray()
    _pieces = 0
    #: Whether anything but blanks has arrived; how many brackets are open; the quote of a string that has not ended,
    #: with the backslash if the text ends in one.
    _begun = False
    _depth = 0
    _open_string = b""
    #: How many bytes the parser has read in its last run, and in all.
    _parsed = 0
    _parsed_in_all = 0

    def __bool__(self) -> bool:
        """Whether a part of a request has arrived."""
        return self._pieces > 0

    def feed(self, piece: bytes) -> Request | None:
        """The request, None while more must come.

        Raises ProtocolError when the bytes cannot become one, are too many, or came in too many pieces.
        """
        if not self._pieces and len(piece) <= MAX_REQUEST_BYTES:
            request = parse(piece)
            if request is not None:  # as nearly always
                return request
            self._note_parse(len(piece))
        if not self._pieces:
            self._received = bytearray()
        self._received += piece
        self._pieces += 1
        if len(self._received) > MAX_REQUEST_BYTES:
            raise ProtocolError(f"The request is larger than {MAX_REQUEST_BYTES} bytes")
        if self._pieces > MAX_PIECES:
            raise ProtocolError(f"The request came in more than {MAX_PIECES} pieces: send it in one write")
        return self.check() if self._is_worth_parsing(piece) else None

    def check(self) -> Request | None:
        """Parse the bytes that have arrived, complete or not.

        Raises ProtocolError.
        """
        self._note_parse(len(self._received))
        return parse(self._received)

    def _note_parse(self, size: int) -> None:
        self._parsed = size
        self._parsed_in_all += size

    def _is_worth_parsing(self, piece: bytes) -> bool:
        begins = not self._begun and not piece.isspace()
        self._begun = self._begun or begins
        closes = self._closes(piece)
        size = len(self._received)
        if size == self._parsed:  # the first piece
            return False
        return closes or begins or size >= 2 * self._parsed or self._parsed_in_all + size <= _FREE_BYTES

    def _closes(self, piece: bytes) -> bool:
        """Whether the outermost bracket is closed in this piece.

        The result means something only for text that is JSON so far; the parser judges everything else.
        """
        parts = _STRING.split(self._open_string + piece)
        # `parts` alternates between text outside strings and the end of the string that follows it.
        ends = parts[1::2]
        self._open_string = b"" if not ends or ends[-1] == b'"' else b'"' + ends[-1]
        brackets = b"".join(parts[::2]).translate(None, _NOT_BRACKETS)
        if not brackets:
            return False
        depths = list(accumulate(map(_STEPS.__getitem__, brackets), initial=self._depth))
        self._depth = depths[-1]
        return min(depths[1:]) <= 0
