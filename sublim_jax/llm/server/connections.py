"""Limits of connections: who may ask, and how slowly a request may arrive and a response be taken."""

import asyncio
import hmac
import traceback
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sublim_jax.llm.server import access
from sublim_jax.llm.server.api_error import APIError

SLOWEST = 1e6  # bytes per second that a body may take to arrive
DRAINED = 2**24  # bytes of a refused body that are read before the connection ends, so that its client sees the reason
HEALTH = "/health"  # needs no key


def body_length(headers: Headers) -> int:
    """The length of a request's body in bytes.

    Raises:
        APIError: it is not stated.
    """
    if "transfer-encoding" in headers:
        raise APIError(411, "expected a body with a Content-Length")
    return int(headers.get("content-length", "0"))  # h11 has refused what is no number


class Guard:
    """ASGI middleware around the application: who may ask, and how slowly.

    A body that does not arrive in time, or a response that is not taken in time, ends its connection.

    Args:
        names: of the server, in lower case.
        timeout: seconds for the body, with one more for each `SLOWEST` bytes, and for each part of the response.
    """

    def __init__(self, app: Starlette, *, names: set[str], timeout: float):
        self._app, self._names, self._timeout, self._key = app, names, timeout, access.key()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers, transport, loop = Headers(scope=scope), scope["state"]["transport"], asyncio.get_running_loop()
        length = int(headers.get("content-length", "0"))
        deadline = loop.time() + self._timeout + length / SLOWEST
        unread = length > 0 or "transfer-encoding" in headers

        async def receive_in_time() -> Message:
            nonlocal unread
            if not unread:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                message = {"type": "http.disconnect"}
            unread = message.get("more_body", False)
            return message

        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(self._timeout):
                    await send(message)
            except TimeoutError:
                transport.abort()

        async def send_and_drain(message: Message) -> None:
            """Ends a connection on which a body was not read, once its client can have seen why."""
            nonlocal deadline
            if unread and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            elif unread and not message.get("more_body", False):
                await send_in_time({**message, "more_body": True})
                num_bytes, message = 0, {"type": "http.response.body"}
                deadline = min(deadline, loop.time() + self._timeout)
                while unread and num_bytes < DRAINED:
                    num_bytes += len((await receive_in_time()).get("body", b""))
            await send_in_time(message)

        app: ASGIApp = self._app
        try:
            self.admit(headers)
            if scope["path"] != HEALTH:
                self.authorize(headers)
        except APIError as error:
            app = JSONResponse(error.body, error.status)
        try:
            await app(scope, receive_in_time, send_and_drain)
        except Exception as error:  # starlette has sent a response, and uvicorn does so otherwise
            traceback.print_exception(error)

    def admit(self, headers: Headers) -> None:
        """Refuse a request of a foreign web page.

        Raises:
            APIError: Host or Origin is none of the names of this machine, of the address that is served, or allowed.
        """
        for header in ("Host", "Origin"):
            for value in headers.getlist(header):
                if not access.is_own(value, self._names):
                    raise APIError(
                        403,
                        f"{header} {value!r} is none of the names of this server, so a foreign web page may be asking; "
                        f"if you know the name, start the server with --allow NAME",
                        code=f"forbidden_{header.lower()}",
                    )

    def authorize(self, headers: Headers) -> None:
        """Refuse a request without the key.

        Raises:
            APIError: there is a key in the environment, and the request does not bear it.
        """
        given = headers.get("authorization", "").encode("latin-1")
        if self._key is not None and not hmac.compare_digest(given, b"Bearer " + self._key):
            raise APIError(401, f"expected the key of {access.KEY_VARIABLE} as a bearer token", code="invalid_api_key")


class Connection(H11Protocol):
    """A connection of uvicorn's that waits a limited time for the head of each request, the first one included."""

    timeout = 30.0  # seconds

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self.app_state = {"transport": transport}
        self._patience = self.loop.call_later(self.timeout, self._give_up)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._patience.cancel()
        self._patience = self.loop.call_later(self.timeout, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._patience.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End the connection after its response, or at once where a request has not arrived whole."""
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body:
            self.transport.abort()
        else:
            super().shutdown()

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
