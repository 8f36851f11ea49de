"""Clients of our server that are slow, many, odd or gone, and a machine without the server's packages."""

import concurrent.futures
import itertools
import json
import socket
import threading
import time

import pytest

from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.server import http, responses, scoring
from tests.llm.server.test_serve import FORM, QUESTION, backend, messages, raw, upload
from tests.llm.server.test_serve_life import until

CHAT = json.dumps({"model": "base", "messages": messages(QUESTION), "max_tokens": 6}).encode()


def connect(server) -> socket.socket:
    host, port = server.url.removeprefix("http://").removesuffix("/v1").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def test_a_body_that_trickles_in_ends_at_the_deadline_of_the_whole():
    """Every byte comes in time, and all of them would take an hour."""
    with http.Server(backend(), ["base"], timeout=0.5) as server, connect(server) as slow:
        slow.sendall(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 36000\r\n\r\n")
        start = time.monotonic()
        slow.settimeout(0.1)
        while time.monotonic() < start + 20:
            try:
                slow.sendall(b"a")
                assert slow.recv(100) == b""
                break
            except TimeoutError:
                pass
            except ConnectionError:
                break
        assert 0.3 < time.monotonic() - start < 10
        until(lambda: server.files._arriving == 0)
        assert raw(server, "GET", "/health")[0] == 200


def test_a_response_that_is_not_taken_ends_its_connection_and_delays_nobody():
    content = b"a" * 2**24
    with http.Server(backend(), ["base"], timeout=1.0) as server:
        name = upload(server, FORM.replace(b"PURPOSE", b"fine-tune").replace(b"{}", content))[1]["id"]
        with connect(server) as slow:
            slow.sendall(f"GET /v1/files/{name}/content HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert slow.recv(15) == b"HTTP/1.1 200 OK"
            assert raw(server, "GET", "/health")[0] == 200
            until(lambda: not server._uvicorn.server_state.connections)
            assert len(rest(slow)) < len(content)


def test_a_stream_that_is_not_taken_ends_its_connection(monkeypatch):
    """It is sent in parts, so the server would wait with the rest of them for ever."""
    monkeypatch.setattr(responses, "chunks", lambda *arguments, **options: itertools.repeat({"a": "b" * 2**16}, 400))
    body = json.dumps(json.loads(CHAT) | {"stream": True, "n": 4}).encode()
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with http.Server(backend(), ["base"], timeout=1.0) as server, connect(server) as slow:
        slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n" + head + body)
        assert slow.recv(15) == b"HTTP/1.1 200 OK"
        assert raw(server, "GET", "/health")[0] == 200
        until(lambda: not server._uvicorn.server_state.connections)
        assert b"[DONE]" not in rest(slow)


def test_whoever_sends_a_body_that_is_refused_can_read_why(server_of_few_bytes):
    """As most clients do, it reads nothing before it has sent all."""
    for length in (10**6, 2**23):
        status, body = raw(server_of_few_bytes, "POST", "/v1/chat/completions", b"a" * length)
        assert status == 413 and f"the body has {length:,} bytes" in body["error"]["message"]


def rest(connection) -> bytes:
    """What still arrives until the end of a connection."""
    parts = []
    try:
        while part := connection.recv(2**16):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def test_closing_does_not_wait_for_a_body_that_is_arriving():
    server = http.Server(backend(), ["base"], timeout=60.0)
    with connect(server) as slow, connect(server) as silent:
        slow.sendall(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")
        silent.sendall(b"POST /v1/chat")
        until(lambda: server.files._arriving)
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < 20
        assert slow.recv(100) == silent.recv(100) == b""


def test_one_request_computes_at_a_time_and_the_others_are_answered_meanwhile(monkeypatch):
    """More of them wait than there are threads; a request that computes when the server closes is answered."""
    computing, most, released, draw = [0], [0], threading.Event(), scoring.draw

    def observed(*arguments):
        computing[0] += 1
        most[0] = max(most[0], computing[0])
        assert released.wait(60)
        drawn = draw(*arguments)
        computing[0] -= 1
        return drawn

    monkeypatch.setattr(scoring, "draw", observed)
    server = http.Server(backend(), ["base"])
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        replies = [pool.submit(raw, server, "POST", "/v1/chat/completions", CHAT) for _ in range(40)]
        until(lambda: computing[0] == 1 and server._completions._computing._work_queue.qsize() == 39)
        assert raw(server, "GET", "/v1/fine_tuning/jobs")[0] == raw(server, "GET", "/health")[0] == 200
        assert raw(server, "POST", "/v1/chat/completions", b"{}")[0] == 400
        closing = pool.submit(server.close)
        released.set()
        assert {reply.result()[0] for reply in replies} == {200} and closing.result() is None
    assert most == [1]


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(server_of_few_bytes):
    """As curl does with large bodies. Where the body is refused, the reason comes instead."""
    head = b"POST /v1/%b HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n"
    with connect(server_of_few_bytes) as asking:
        asking.sendall(head % b"chat/completions" + b"Content-Length: 2\r\n\r\n")
        assert asking.recv(100).startswith(b"HTTP/1.1 100 ")
        asking.sendall(b"{}")
        assert asking.recv(13) == b"HTTP/1.1 400 "
    with connect(server_of_few_bytes) as asking:
        asking.sendall(head % b"chat/completions" + b"Content-Length: 2000000\r\n\r\n")
        assert asking.recv(13) == b"HTTP/1.1 413 "


@pytest.fixture(scope="module")
def server_of_few_bytes():
    with http.Server(backend(), ["base"], max_body=1000, timeout=5.0) as running:
        yield running


@pytest.mark.parametrize(("method", "path"), [("PUT", "/v1/models"), ("GET", "/v1/chat"), ("DELETE", "/v1/files")])
def test_what_is_nowhere_is_404_in_the_form_of_the_rest(server_of_few_bytes, method, path):
    status, body = raw(server_of_few_bytes, method, path)
    assert status == 404 and body["error"]["code"] == "unknown_url"
    assert body["error"]["message"] == f"there is nothing at {method} {path}"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_server_is_at_its_url(host):
    try:
        server = http.Server(backend(), ["base"], host=host)
    except Exception as error:
        pytest.skip(f"this machine has no {host}: {error}")
    import urllib.request

    with server, urllib.request.urlopen(f"{server.url}/models", timeout=30) as response:
        assert json.load(response)["data"][0]["id"] == "base"


PACKAGES = ("starlette", "uvicorn", "python_multipart", "pydantic")


@pytest.mark.parametrize("package", PACKAGES)
def test_without_its_packages_the_command_names_the_extra(run_python, package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from sublim_jax.llm import serve\n"
        "sys.argv = ['serve', '--model', 'tiny:100']\n"
        "serve.main()"
    )
    done = run_python("-c", code)
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        f"error: the server needs {package}, which is not installed: pip install 'sublim-jax[serve]'\n"
    )


def test_clients_and_the_command_s_flags_need_none_of_its_packages(run_python):
    code = (
        "import sys\n"
        "from sublim_jax.llm import serve\n"
        "from sublim_jax.llm.openai import backend\n"
        f"print([name for name in {PACKAGES} if name in sys.modules])"
    )
    done = run_python("-c", code)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_model_that_cannot_be_read_is_a_fault_of_ours_and_the_server_goes_on(monkeypatch, capsys):
    def broken(self, name):
        raise RuntimeError("broken {braces}")

    with http.Server(backend(), ["base"]) as server:
        with monkeypatch.context() as patch:
            patch.setattr(LocalBackend, "model", broken)
            status, body = raw(server, "POST", "/v1/chat/completions", CHAT)
        assert status == 500 and body["error"] == {
            "message": "RuntimeError: broken {braces}", "type": "server_error", "param": None, "code": None,
        }  # fmt: skip
        assert "broken {braces}" in until(lambda: capsys.readouterr().err)
        assert raw(server, "GET", "/health")[0] == 200
