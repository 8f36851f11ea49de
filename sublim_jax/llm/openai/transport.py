"""Requests to one server through the openai client: many at a time, with retries and translated errors.

When a request fails for good, no new one begins; the responses to those that are already sent are still returned, and
the error is raised last. Keys are read from the environment and occur in no message.
"""

import asyncio
import contextlib
import email.utils
import functools
import math
import os
import queue
import random
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from typing import Any, NamedTuple

from sublim_jax import errors, specs
from sublim_jax.llm import addresses

KEY_VARIABLE = "OPENAI_API_KEY"
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before the second try, doubled up to the longest
PATIENCE = 600.0  # seconds that one request may take with all its tries
REFUSING = ("content_filter", "content_policy_violation", "invalid_prompt")
"""Codes that are about one prompt, which OpenAI and Azure refuse before the model reads it."""
NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


class ErrorResponse(NamedTuple):
    """The error that a server sent."""

    status: int
    code: str | None
    message: str  # without the key


class ErrorReply(Exception):
    """An error that was sent with the status of a success, with what `openai.APIStatusError` says of it."""

    def __init__(self, body: dict[str, Any]):
        super().__init__(str(body.get("message") or "an error without a message"))
        self.body, self.message, self.response = body, str(self), None
        self.code, self.type = (value if isinstance(value, str) else None for value in map(body.get, ("code", "type")))
        number = body.get("code")
        self.status_code = number if type(number) is int and 400 <= number < 600 else 500


class Client:
    """Sends a request, and sends it again while that may help."""

    def __init__(self, transport: "Transport", client: Any):
        self._transport, self._client = transport, client

    async def send(
        self,
        request: Callable[[Any], Awaitable[Any]],
        *,
        repeatable: bool = True,
        explain: Callable[[ErrorResponse], errors.LanguageError | None] | None = None,
    ) -> Any:
        """Send a request and return the response.

        Args:
            request: a call of the openai client that it is given.
            repeatable: whether sending it twice is harmless. If not, it is retried only if it surely had no effect.
            explain: the error to raise for an error response, or None for the usual one.
        """
        transport, cause = self._transport, None
        deadline = time.monotonic() + transport.patience

        async def once() -> Any:
            nonlocal cause
            left = deadline - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, min(transport.timeout, left))):
                    reply = await request(self._client)
                transport.has_answered = True
                # A job has an error among its fields; a reply that should have none has it beside them.
                beside = getattr(reply, "model_extra", None) or {}
                if isinstance(beside.get("error"), dict):
                    raise ErrorReply(beside["error"])
                return reply
            except _failures() as error:
                if cause is None or not isinstance(error, TimeoutError) or left > transport.timeout:
                    cause = error  # what was there before, if only the time was up
                raise

        retrying = transport.retrying(repeatable=repeatable)
        try:
            return await retrying(once)
        except _failures():
            # Not "from" the cause: it quotes the server, which may quote the key.
            raise transport.explained(cause, retrying.statistics["attempt_number"], explain) from None


Task = Callable[[Client], Awaitable[Any]]


class Transport:
    """The connection to one server.

    Args:
        url: up to and including /v1.
        key_variable: the environment variable with the key. By default OPENAI_API_KEY, and none for a server on this
            machine, which has no use for OpenAI's key.
        timeout: seconds for one try.
        concurrency: requests on their way at a time.
        max_retries: of one request, after 408, 409, 429, 5xx, a lost connection, a cut reply or a timeout.
        patience: seconds for one request with all its tries and the waits between them. A server that asks to wait
            longer than what is left is not waited for.

    Raises:
        InputError: not such an address, or one with a password in it, or a number out of bounds.
        AuthenticationError: the variable is empty.
    """

    def __init__(
        self,
        url: str,
        *,
        key_variable: str | None,
        timeout: float,
        concurrency: int,
        max_retries: int,
        patience: float = PATIENCE,
    ):
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
        specs.check(timeout, specs.Positive, "timeout")
        specs.check(concurrency, specs.Count, "concurrency")
        specs.check(max_retries, specs.CountOrZero, "max_retries")
        specs.check(patience, specs.Positive, "patience")
        self.url, self.has_answered = url.rstrip("/"), False  # whether the server has ever answered
        self.timeout, self.patience = timeout, patience
        self._concurrency, self._max_retries = concurrency, max_retries
        self._local = addresses.is_loopback(parts.hostname)
        self._variable = key_variable or (None if self._local else KEY_VARIABLE)
        self._key = os.environ.get(self._variable, "") if self._variable else ""
        if self._variable and not self._key:
            raise errors.AuthenticationError(
                f"{self.url}: there is no key in the environment variable {self._variable}. Put it there, or name "
                f"another with key_variable; for a server that takes any key, any word will do."
            )

    def map(self, tasks: Iterable[Task]) -> Generator[Any, None, None]:
        """Results of the tasks in order of arrival. If a task fails, its error is raised after the results that
        arrived.

        Closing the iterator cancels the tasks that have not finished.
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
            except BaseException as error:  # raised again in the thread that waits
                arrived.put(("error", error))
            finally:
                ready.set()
                arrived.put(("end", None))

        thread = threading.Thread(target=run, name="requests", daemon=True)
        thread.start()
        failure: BaseException | None = None
        try:
            while (item := arrived.get())[0] != "end":
                if item[0] == "result":
                    yield item[1]
                elif failure is None:
                    failure = item[1]
        finally:
            ready.wait()
            for loop, task in running:
                with contextlib.suppress(RuntimeError):  # it has ended
                    loop.call_soon_threadsafe(task.cancel)
            thread.join()
        if failure is not None:
            raise failure

    def call(self, task: Task) -> Any:
        """The result of one task."""
        (result,) = self.map([task])
        return result

    async def _all(self, tasks: Iterable[Task], arrived: "queue.SimpleQueue[tuple[str, Any]]") -> None:
        todo, failed = iter(tasks), False

        async def work(client: Client) -> None:
            nonlocal failed
            for task in todo:
                try:
                    arrived.put(("result", await task(client)))
                except Exception as error:
                    arrived.put(("error", error))
                    failed = True
                if failed:
                    return

        async with self._openai_client() as openai_client:
            client = Client(self, openai_client)
            await asyncio.gather(*(work(client) for _ in range(self._concurrency)))

    @contextlib.asynccontextmanager
    async def _openai_client(self) -> AsyncIterator[Any]:
        openai = package()
        # Its own retries include an empty account, and its timeout is for each part of a reply, however many there are.
        options = {"timeout": None, "max_retries": 0}
        # A proxy of the environment leads away from this machine.
        http = None
        if self._local:
            http = openai.DefaultAsyncHttpxClient(timeout=None, trust_env=False, verify=_certificates())
        async with openai.AsyncOpenAI(
            api_key=self._key or "none", base_url=self.url, http_client=http, **options
        ) as client:
            yield client

    def retrying(self, *, repeatable: bool) -> Any:
        """The retry policy of one request (a `tenacity.AsyncRetrying`): at most `max_retries` times, while that may
        help, and only if the next try begins within `patience`.

        Args:
            repeatable: whether sending the request twice is harmless.
        """
        import tenacity

        backoff = tenacity.wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT)

        def wait(state: tenacity.RetryCallState) -> float:
            seconds = _retry_after(state.outcome.exception()) if state.outcome else None
            return backoff(state) * random.uniform(0.75, 1.0) + (seconds or 0.0)

        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, _failures()) and self._may_pass(error, repeatable)
            ),
            wait=wait,
            stop=tenacity.stop_after_attempt(self._max_retries + 1) | tenacity.stop_before_delay(self.patience),
            sleep=asyncio.sleep,
            reraise=True,
        )

    def _may_pass(self, error: Any, repeatable: bool) -> bool:
        """Whether sending the request again may help and is harmless."""
        if isinstance(error, package().APIStatusError | ErrorReply):
            self.has_answered = True
            if _no_credit(error) or error.code in REFUSING:
                return False
            return error.status_code == 429 or (
                repeatable and (error.status_code in (408, 409) or error.status_code >= 500)
            )
        if not self.has_answered and (
            isinstance(error, ValueError) or type(error.__cause__).__name__ == "ConnectError"
        ):
            return False  # perhaps another address than that of this API
        return repeatable

    def explained(
        self, error: Any, tries: int, explain: Callable[[ErrorResponse], errors.LanguageError | None] | None
    ) -> errors.LanguageError:
        """The exception for an error of the client that is not retried."""
        openai = package()
        times = f"{tries} time{'s' if tries > 1 else ''}"
        if isinstance(error, TimeoutError):
            within = min(self.timeout, self.patience)
            return errors.ServerError(
                f"{self.url}: no answer within {within:g} seconds, {times}. The server is overloaded or hangs; "
                f"raise timeout and patience ({self.patience:g} seconds), or lower concurrency or max_tokens."
            )
        if isinstance(error, openai.APIConnectionError):
            why = type(error.__cause__).__name__ if error.__cause__ else "no connection"
            if self.has_answered:
                return errors.ServerError(
                    f"{self.url}: the connection was lost {times} ({why}). What came back is kept; see whether the "
                    f"server still runs, and run the same again."
                )
            return errors.ServerError(
                f"{self.url}: no server answers there ({why}). Start it, e.g. with python -m sublim_jax.llm.serve, or "
                f"correct base_url."
            )
        if isinstance(error, ValueError):
            return self.not_our_api(f"a reply that is not JSON, {times}")
        if not isinstance(error, openai.APIStatusError | ErrorReply):
            return self.not_our_api(type(error).__name__)
        body = error.body if isinstance(error.body, dict) else {}
        response = ErrorResponse(
            error.status_code, error.code, self._without_key(str(body.get("message") or error.message))
        )
        special = explain(response) if explain else None
        return special or self._usual(response, _no_credit(error), _retry_after(error), times)

    def not_our_api(self, answer: str) -> errors.ServerError:
        """The error for an answer of another kind than this API's."""
        return errors.ServerError(
            f"{self.url}: expected an answer in OpenAI's form, found {answer}. base_url is perhaps that of a web page; "
            f"it usually ends with /v1."
        )

    def _usual(
        self, response: ErrorResponse, no_credit: bool, retry_after: float | None, times: str
    ) -> errors.LanguageError:
        where, quoted = f"{self.url} (status {response.status})", f"The server says: {response.message}"
        if no_credit:
            return errors.QuotaError(f"{where}: the account has no credit left, and waiting does not help. {quoted}")
        if response.status in (401, 403):
            key = f"the key in {self._variable}" if self._variable else "a request without a key (give key_variable)"
            return errors.AuthenticationError(f"{where}: the server does not accept {key} for this. {quoted}")
        if response.status == 429:
            again = "" if retry_after is None else f" It asks to wait {retry_after:g} seconds."
            if retry_after is not None and retry_after >= self.patience:
                again += f" A request may take {self.patience:g} with all its tries (patience)."
            return errors.RateLimitError(
                f"{where}: too many requests, {times}.{again} Lower concurrency, or run the same again later. {quoted}"
            )
        if response.code == "context_length_exceeded":
            return errors.ContextError(f"{where}: a text is longer than the model reads. {quoted}")
        if response.status in (400, 422):
            return errors.CapabilityError(f"{where}: the server refuses the request as it is. {quoted}")
        if response.status == 404:
            return errors.ServerError(
                f"{where}: no such model or address; correct the model, or base_url, which usually ends with /v1. "
                f"{quoted}"
            )
        return errors.ServerError(f"{where}: the server failed, {times}. Run the same again later. {quoted}")

    def _without_key(self, text: str) -> str:
        text = text.replace(self._key, "[key]") if self._key else text
        text = re.sub(r"\b(sk|Bearer)[-_ ][\w*.-]{8,}", "[key]", text)
        return text if len(text) <= 300 else text[:297] + "..."


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The system's certificates, read once: that takes longer than many requests to a server on this machine."""
    return ssl.create_default_context()


def package() -> Any:
    """The openai client's package.

    Raises:
        ExtraMissingError: it is not installed, or tenacity is not.
    """
    try:
        import openai
        import tenacity  # noqa: F401
    except ImportError as error:
        raise errors.ExtraMissingError(
            "models behind a server need the openai client and tenacity: pip install 'sublim-jax[openai]'"
        ) from error
    return openai


def _failures() -> tuple[type[Exception], ...]:
    """Exceptions of a request that are caused by the server or the connection."""
    return package().APIError, ErrorReply, TimeoutError, ValueError


def _no_credit(error: Any) -> bool:
    return error.code in NO_CREDIT or error.type in NO_CREDIT


def _retry_after(error: Any) -> float | None:
    """Seconds that the server asks to wait, if it does."""
    response = getattr(error, "response", None)
    header = response.headers.get("retry-after") if response is not None else None
    if header is None:
        return None
    try:
        seconds = float(header)
        return None if math.isnan(seconds) else max(0.0, seconds)
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):  # no date, or one beyond the calendar
        return None
