"""Requests to one server through the openai client: many at a time, again where that helps, errors in our words.

What failed is never lost among what did not: when a request fails for good, no new one begins, those on their way are
waited for and handed on, and the error comes last. Keys are read from the environment and stand in no message.
"""

import asyncio
import contextlib
import email.utils
import ipaddress
import itertools
import os
import queue
import random
import re
import threading
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from typing import Any, NamedTuple

from sublim_jax import errors

KEY_VARIABLE = "OPENAI_API_KEY"
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0  # seconds before the second try, doubled up to the longest
LONGEST_RETRY_AFTER = 120.0  # seconds that a server may ask to wait; longer ends the run
NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


class Refusal(NamedTuple):
    """What a server said when it did not answer."""

    status: int
    code: str | None
    message: str  # without the key


class Ask:
    """Sends a request until it is answered or it is clear that it will not be."""

    def __init__(self, transport: "Transport", client: Any):
        self._transport, self._client = transport, client

    async def __call__(
        self,
        request: Callable[[Any], Awaitable[Any]],
        *,
        repeatable: bool = True,
        explain: Callable[[Refusal], errors.LanguageError | None] | None = None,
    ) -> Any:
        """The reply.

        Args:
            request: what to do with the client.
            repeatable: whether it does no harm twice; if not, only what was surely not done is tried again.
            explain: an error for a refusal, or None for the usual one.
        """
        openai = package()
        for attempt in itertools.count():
            try:
                reply = await request(self._client)
            except openai.APIError as error:
                wait = self._transport.wait_before_retry(error, attempt, repeatable=repeatable)
                if wait is None:
                    # Not "from error": it quotes the server, which may quote the key.
                    raise self._transport.explained(error, attempt + 1, explain) from None
                await asyncio.sleep(wait)
            except ValueError:
                raise self._transport.not_our_api("a reply that is not JSON") from None
            else:
                self._transport.heard = True
                return reply


Task = Callable[[Ask], Awaitable[Any]]


class Transport:
    """The way to one server.

    Args:
        url: up to and including /v1.
        key_variable: the environment variable with the key. By default OPENAI_API_KEY, and none for a server on this
            machine, which has no use for OpenAI's key.
        timeout: seconds for one answer.
        concurrency: requests on their way at a time.
        max_retries: of one request, after 408, 409, 429, 5xx, a lost connection or a timeout.

    Raises:
        InputError: not such an address, or one with a password in it.
        AuthenticationError: the variable is empty.
    """

    def __init__(self, url: str, *, key_variable: str | None, timeout: float, concurrency: int, max_retries: int):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise errors.InputError(
                f"expected an address like http://127.0.0.1:8000/v1, got {parts.scheme}:{parts.path}"
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise errors.InputError(
                f"the address of {parts.hostname} has a user, a password or a query in it; keys come from environment "
                f"variables only"
            )
        if timeout <= 0 or concurrency < 1 or max_retries < 0:
            raise errors.InputError(f"{timeout=}, {concurrency=} and {max_retries=} must be above 0, 0 and -1")
        self.url, self.heard = url.rstrip("/"), False  # whether the server has ever answered
        self._timeout, self._concurrency, self._max_retries = timeout, concurrency, max_retries
        self._local = is_loopback(parts.hostname)
        self._variable = key_variable or (None if self._local else KEY_VARIABLE)
        self._key = os.environ.get(self._variable, "") if self._variable else ""
        if self._variable and not self._key:
            raise errors.AuthenticationError(
                f"{self.url}: there is no key in the environment variable {self._variable}. Put it there, or name "
                f"another with key_variable; for a server that takes any key, any word will do."
            )

    def each(self, tasks: Iterable[Task]) -> Generator[Any, None, None]:
        """What the tasks return, as it arrives; if one fails, its error after all that arrived.

        Closing the iterator drops what is on its way.
        """
        arrived: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []
        ready = threading.Event()

        async def work() -> None:
            task = asyncio.current_task()
            assert task is not None
            running.append((asyncio.get_running_loop(), task))
            ready.set()
            await self._all(tasks, arrived)

        def run() -> None:
            try:
                asyncio.run(work())
            except BaseException as error:  # of the thread, to be raised by whoever waits
                arrived.put(("error", error))
            finally:
                ready.set()
                arrived.put(("end", None))

        thread = threading.Thread(target=run, name="requests", daemon=True)
        thread.start()
        failure: BaseException | None = None
        try:
            while (found := arrived.get())[0] != "end":
                if found[0] == "result":
                    yield found[1]
                elif failure is None:
                    failure = found[1]
        finally:
            ready.wait()
            for loop, task in running:
                with contextlib.suppress(RuntimeError):  # it has ended
                    loop.call_soon_threadsafe(task.cancel)
            thread.join()
        if failure is not None:
            raise failure

    def one(self, task: Task) -> Any:
        """What one task returns."""
        (found,) = self.each([task])
        return found

    async def _all(self, tasks: Iterable[Task], arrived: "queue.SimpleQueue[tuple[str, Any]]") -> None:
        todo, failed = iter(tasks), False

        async def work(ask: Ask) -> None:
            nonlocal failed
            for task in todo:
                try:
                    arrived.put(("result", await task(ask)))
                except Exception as error:
                    arrived.put(("error", error))
                    failed = True
                if failed:
                    return

        async with self._client() as client:
            ask = Ask(self, client)
            await asyncio.gather(*(work(ask) for _ in range(self._concurrency)))

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        openai = package()
        options = {"timeout": self._timeout, "max_retries": 0}  # its own retries include an empty account
        # A proxy of the environment leads away from this machine.
        http = openai.DefaultAsyncHttpxClient(timeout=self._timeout, trust_env=False) if self._local else None
        async with openai.AsyncOpenAI(
            api_key=self._key or "none", base_url=self.url, http_client=http, **options
        ) as client:
            yield client

    def wait_before_retry(self, error: Any, attempt: int, *, repeatable: bool) -> float | None:
        """Seconds to wait before the next try; None if there is none."""
        openai = package()
        usual = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(0.75, 1.0)
        if attempt >= self._max_retries:
            return None
        if isinstance(error, openai.APIStatusError):
            self.heard = True
            status = error.status_code
            if _no_credit(error) or not (status == 429 or (repeatable and (status in (408, 409) or status >= 500))):
                return None
            asked = _retry_after(error)
            return usual if asked is None else asked if asked <= LONGEST_RETRY_AFTER else None
        if isinstance(error, openai.APIConnectionError):
            absent = type(error.__cause__).__name__ == "ConnectError" and not self.heard
            return usual if repeatable and not absent else None
        return None

    def explained(
        self, error: Any, tries: int, explain: Callable[[Refusal], errors.LanguageError | None] | None
    ) -> errors.LanguageError:
        """What to raise for an error of the client that is not tried again."""
        openai = package()
        times = f"{tries} time{'s' if tries > 1 else ''}"
        if isinstance(error, openai.APITimeoutError):
            return errors.ServerError(
                f"{self.url}: no answer within {self._timeout:g} seconds, {times}. The server is overloaded or hangs; "
                f"raise timeout, or lower concurrency or max_tokens."
            )
        if isinstance(error, openai.APIConnectionError):
            why = type(error.__cause__).__name__ if error.__cause__ else "no connection"
            if self.heard:
                return errors.ServerError(
                    f"{self.url}: the connection was lost {times} ({why}). What came back is kept; see whether the "
                    f"server still runs, and run the same again."
                )
            return errors.ServerError(
                f"{self.url}: no server answers there ({why}). Start it, e.g. with python -m sublim_jax.llm.serve, or "
                f"correct base_url."
            )
        if not isinstance(error, openai.APIStatusError):
            return self.not_our_api(type(error).__name__)
        body = error.body if isinstance(error.body, dict) else {}
        said = Refusal(error.status_code, error.code, self._without_key(str(body.get("message") or error.message)))
        found = explain(said) if explain else None
        return found or self._usual(said, _no_credit(error), _retry_after(error), times)

    def not_our_api(self, found: str) -> errors.ServerError:
        """The error for an answer of another kind than this API's."""
        return errors.ServerError(
            f"{self.url}: expected an answer in OpenAI's form, found {found}. base_url is perhaps that of a web page; "
            f"it usually ends with /v1."
        )

    def _usual(self, said: Refusal, no_credit: bool, retry_after: float | None, times: str) -> errors.LanguageError:
        where, quoted = f"{self.url} (status {said.status})", f"The server says: {said.message}"
        if no_credit:
            return errors.QuotaError(f"{where}: the account has no credit left, and waiting does not help. {quoted}")
        if said.status in (401, 403):
            key = f"the key in {self._variable}" if self._variable else "a request without a key (give key_variable)"
            return errors.AuthenticationError(f"{where}: the server does not accept {key} for this. {quoted}")
        if said.status == 429:
            again = "" if retry_after is None else f" It asks to wait {retry_after:g} seconds."
            return errors.RateLimitError(
                f"{where}: too many requests, {times}.{again} Lower concurrency, or run the same again later. {quoted}"
            )
        if said.code == "context_length_exceeded":
            return errors.ContextError(f"{where}: a text is longer than the model reads. {quoted}")
        if said.status in (400, 422):
            return errors.CapabilityError(f"{where}: the server refuses the request as it is. {quoted}")
        if said.status == 404:
            return errors.ServerError(
                f"{where}: no such model or address; correct the model, or base_url, which usually ends with /v1. "
                f"{quoted}"
            )
        return errors.ServerError(f"{where}: the server failed, {times}. Run the same again later. {quoted}")

    def _without_key(self, text: str) -> str:
        text = text.replace(self._key, "[key]") if self._key else text
        text = re.sub(r"\b(sk|Bearer)[-_ ][\w*.-]{8,}", "[key]", text)
        return text if len(text) <= 300 else text[:297] + "..."


def package() -> Any:
    """The openai client's package.

    Raises:
        ExtraMissingError: it is not installed.
    """
    try:
        import openai
    except ImportError as error:
        raise errors.ExtraMissingError(
            "models behind a server need the openai client: pip install 'sublim-jax[openai]'"
        ) from error
    return openai


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by an address that only it reaches."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _no_credit(error: Any) -> bool:
    return error.code in NO_CREDIT or error.type in NO_CREDIT


def _retry_after(error: Any) -> float | None:
    """Seconds that the server asks to wait, if it does."""
    said = error.response.headers.get("retry-after")
    if said is None:
        return None
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None
