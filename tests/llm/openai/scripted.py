"""A server in OpenAI's form whose every reply is scripted, and that writes down what it is asked. It computes nothing.

By default a chat is answered like a good server would: with three words that depend on the chat, the seed and the
sample, with `n`, log-probabilities and vLLM's scores of the prompt, and with true counts, where a token is a word.
"""

import http.server
import json
import sys
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

Reply = dict[str, Any] | bytes | tuple[int, dict[str, Any], dict[str, str]] | None
"""A body; a status, a body and headers; or nothing, for which the connection is closed."""
TRICKLE = b"trickle"
"""A reply whose bytes come one by one, for ever."""


def words(messages: list[dict]) -> list[str]:
    """Tokens of a prompt: a word for each turn, and those of its text."""
    return [word for turn in messages for word in (turn["role"], *turn["content"].split())]


def answer(body: dict, **changes: Any) -> dict[str, Any]:
    """A good answer to a chat request.

    Args:
        changes: of every choice, e.g. finish_reason; `message` changes the message.
    """
    messages, count = body["messages"], body.get("n", 1)
    prompt = words(messages)
    if body.get("add_generation_prompt") is not False:
        prompt.append("assistant")
    elif not body.get("continue_final_message"):
        prompt.append("end")
    changed = changes.pop("message", {})
    choices = []
    for index in range(count):
        drawn = zlib.crc32(json.dumps([messages, body.get("seed"), index]).encode())
        text = f"{drawn % 1000}, {drawn // 1000 % 1000}, {drawn // 10**6 % 1000}"
        message = {"role": "assistant", "content": text, "refusal": None} | changed
        top = [{"token": "owl", "logprob": -1.0, "bytes": None}, {"token": "oak", "logprob": -2.0, "bytes": None}]
        scored = {"content": [top[0] | {"top_logprobs": top}]} if body.get("logprobs") else None
        choices.append({"index": index, "finish_reason": "stop", "message": message, "logprobs": scored} | changes)
    drawn = 3 * count if body.get("max_tokens", body.get("max_completion_tokens")) >= 3 else count
    usage = {"prompt_tokens": len(prompt), "completion_tokens": drawn, "total_tokens": len(prompt) + drawn}
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": choices}
    if body.get("prompt_logprobs") is not None:
        reply["prompt_logprobs"] = [None, *({word: {"logprob": -0.5}} for word in prompt[1:])]
    return reply | {"usage": usage}


class Server:
    """Answers with `script(method, path, body)`, or as `answer` where there is none."""

    def __init__(self, script: Callable[[str, str, Any], Reply] | None = None):
        self.script = script or (lambda method, path, body: default(method, path, body))
        self.asked: list[tuple[str, str, Any]] = []
        self._lock, self._closing = threading.Lock(), threading.Event()
        handler = type("Handler", (_Handler,), {"app": self})
        self._http = _Http(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def draws(self) -> int:
        """Samples that were asked for in all chat requests."""
        return sum(body.get("n", 1) for _, path, body in self.asked if path.endswith("/chat/completions"))

    def posts(self, end: str = "") -> int:
        """Requests of this path that were sent, each try."""
        return sum(method == "POST" and path.endswith(end) for method, path, _ in self.asked)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def default(method: str, path: str, body: Any) -> Reply:
    """What a good server without finetuning says."""
    if path.endswith("/chat/completions"):
        return answer(body)
    return 404, {"error": {"message": "there is no such thing"}}, {}


class _Http(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that left is no error
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    app: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        content = self.rfile.read(size)
        if len(content) < size:  # the client left in the middle
            self.close_connection = True
            return
        body = json.loads(content) if self.headers.get_content_type() == "application/json" and content else None
        path = self.path.partition("?")[0]
        with self.app._lock:
            self.app.asked.append((self.command, path, body))
        reply = self.app.script(self.command, path, body)
        if reply is None:
            self.close_connection = True
            return
        status, said, headers = reply if isinstance(reply, tuple) else (200, reply, {})
        sent = said if isinstance(said, bytes) else json.dumps(said).encode()
        length = 10**6 if sent == TRICKLE else len(sent)
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if sent != TRICKLE:
            self.wfile.write(sent)
            return
        try:
            while not self.app._closing.is_set():
                self.wfile.write(b" ")
                time.sleep(0.02)
        except OSError:
            self.close_connection = True
