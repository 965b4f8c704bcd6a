"""HTTP beneath the application: clients that are slow with the header, or read no answer.

uvicorn by itself waits for ever for both, and closes a connection whose body it did not read so
that the client may never see why.
"""

import asyncio
import json
from contextlib import suppress
from typing import cast

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from featmesh.errors import FeatmeshError

from .serve_body import slow
from .serve_options import bad

REASONS = {400: "Bad Request", 408: "Request Timeout", 429: "Too Many Requests"}
READING = 4  # times the limit for a header: an answer is larger
LINGER_S = 2.0  # seconds in which the rest of a refused body is passed over


def error_json(error: FeatmeshError) -> dict[str, str]:
    """Return an error as clients see it."""
    return {"code": error.code, "message": str(error.args[0])}


class GuardedProtocol(H11Protocol):
    """One connection.

    Attributes:
        slow_s: seconds for a whole header; READING times as many for an answer to be read.
        most: connections open at a time.
    """

    slow_s = 15.0
    most = 512
    _timer: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a header, or refuse the connection."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            told = f"more than {self.most}"
            self._refuse(429, bad("E_BUSY", "fewer open connections", told, "again in a moment"))
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Take in bytes; those of a refused client are passed over."""
        if not self._refused:
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        """Go on with the next request, which may have begun."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop_header_clock()
        self._stop_reading_clock()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._stop_reading_clock()
        self._writing = self.loop.call_later(READING * self.slow_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self._stop_reading_clock()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, bad("E_REQUEST", "an HTTP/1.1 request", msg, "GET /docs"))

    def _watch(self) -> None:
        """Start or stop the clock of the header."""
        resting = self.timeout_keep_alive_task is not None  # uvicorn's own clock runs
        if resting or self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._stop_header_clock()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.slow_s, self._too_slow)

    def _stop_header_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _stop_reading_clock(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
        self._writing = None

    def _too_slow(self) -> None:
        self._refuse(408, slow("header", self.slow_s))

    def _refuse(self, status: int, error: FeatmeshError) -> None:
        """Answer without the application; the client has a moment to read before the close."""
        self._stop_header_clock()
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # no other answer has begun
            body = json.dumps(error_json(error)).encode()
            head = (
                f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        with suppress(OSError):  # the client has reset the connection in this moment
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def guarded(slow_s: float, most: int) -> type[GuardedProtocol]:
    """Return the protocol with these limits."""
    return cast(
        type[GuardedProtocol], type("Guarded", (GuardedProtocol,), {"slow_s": slow_s, "most": most})
    )


class Lingering:
    """ASGI middleware: lets a client that still sends read the answer it gets early.

    Closing with bytes unread resets the connection; the client then sees no answer. So the rest of
    a refused body is passed over for a moment between the answer and the close.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(scope, receive)
        await self.app(scope, body.receive, body.sender(send))


class _Body:
    """What is left of a request's body."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = dict(scope["headers"])
        sized = headers.get(b"content-length", b"0") != b"0"
        self.left = sized or b"transfer-encoding" in headers
        self._receive = receive

    async def receive(self) -> Message:
        """Return the next message, and remember the last."""
        message = await self._receive()
        self.left = self.left and message.get("more_body", False)
        return message

    def sender(self, send: Send) -> Send:
        """Return a ``send`` that reads the rest before it ends the answer."""

        async def answer(message: Message) -> None:
            if self.left and message["type"] == "http.response.start":
                told = [*message["headers"], (b"connection", b"close")]
                message = {**message, "headers": told}
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if self.left and last:
                await send({**message, "more_body": True})
                await self._pass_over()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        return answer

    async def _pass_over(self) -> None:
        try:
            async with asyncio.timeout(LINGER_S):
                while self.left:
                    await self.receive()
        except TimeoutError:
            return
