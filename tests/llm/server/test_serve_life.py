"""Our server begins and ends: signals, cancelled jobs, folders of earlier servers, and who may ask it.

What trains here only counts steps, so nothing is compiled; `test_serve` trains.
"""

import dataclasses
import json
import math
import os
import pathlib
import shutil
import signal
import socket
import threading
import time
from unittest import mock

import jax
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import open as open_llm
from sublim_jax.llm import serve
from sublim_jax.llm.backend import FinetuneConfig, Message
from sublim_jax.llm.local import decoder, finetune
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.server import access, heartbeat, http
from tests.llm.server import test_serve
from tests.llm.server.test_serve import FORM, backend, jsonl, model, raw, upload

pytest.importorskip("safetensors", reason="the extra hf is not installed")
JSON = "application/json"


class Counting(LocalBackend):
    """Training counts the steps that it is given, one in every millisecond, and moves the weights by a hair."""

    def __init__(self, num_steps: int = 5, listens: bool = True):
        super().__init__({"base": model()}, batch_size=4)
        self.num_steps, self.listens, self.released = num_steps, listens, threading.Event()
        self.trained: list[tuple] = []

    def finetune(self, model, rows, config, out, *, on_step=None):
        with mock.patch.object(finetune, "train", self._train):
            name = super().finetune(model, rows, config, out, on_step=on_step)
        self.trained.append((model, len(rows), config))
        return name

    def _train(self, base, data, how, out, *, remat, on_step, objective=None):
        if not self.listens:
            self.released.wait(60)
        for done in range(1, self.num_steps + 1):
            time.sleep(0.001)
            on_step(done, self.num_steps)
        if how.rank is None:
            return jax.tree.map(lambda leaf: np.asarray(leaf) + 0.5, base.merged)
        factors = decoder.Factors(np.ones((1, 8, how.rank), "f"), np.full((1, how.rank, 8), 0.25, "f"))
        return decoder.LowRank({"query": factors}, np.float32(0.7))


def call(server, method, path, content=None) -> dict:
    status, reply = raw(server, method, path, b"" if content is None else json.dumps(content).encode())
    assert status == 200, reply
    return reply


def begin(server, model="base", rows=test_serve.OWLS, **fields) -> dict:
    """A job of these rows."""
    status, file = upload(server, FORM.replace(b"PURPOSE", b"fine-tune").replace(b"{}", jsonl(rows)))
    assert status == 200, file
    return call(server, "POST", "/v1/fine_tuning/jobs", {"model": model, "training_file": file["id"]} | fields)


def until(condition, seconds=20.0):
    """What the condition gives when it holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError("it never held")


def send(number: int) -> None:
    """A signal to this process, when it listens."""
    until(lambda: callable(signal.getsignal(signal.SIGTERM)))
    os.kill(os.getpid(), number)


def job(server, name) -> dict:
    return call(server, "GET", f"/v1/fine_tuning/jobs/{name}")


def is_(server, name, *statuses):
    return until(lambda: (found := job(server, name))["status"] in statuses and found)


def models(server) -> set[str]:
    return {found["id"] for found in call(server, "GET", "/v1/models")["data"]}


def test_a_cancelled_job_ends_at_once_and_the_next_one_begins():
    lines: list[str] = []
    with http.Server(Counting(60_000), ["base"], announce=lines.append, seconds_between=0.01) as server:
        first, second = begin(server)["id"], begin(server)["id"]
        running = until(lambda: [name for name in (first, second) if job(server, name)["status"] == "running"])[0]
        until(lambda: any(f"{running}: " in line and "of 60,000 steps are done after" in line for line in lines))
        assert call(server, "POST", f"/v1/fine_tuning/jobs/{running}/cancel")["status"] == "cancelled"
        is_(server, first if running == second else second, "running")
        assert job(server, running)["fine_tuned_model"] is None
        until(lambda: not any(thread.name == running for thread in threading.enumerate()))
    assert any(line.startswith(f"{running}: the job was cancelled after ") for line in lines)
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("lasting", [False, True])
def test_a_signal_ends_the_server_while_it_trains(number, code, lasting, tmp_path):
    lines: list[str] = []
    folder = tmp_path / "jobs" if lasting else None
    server = http.Server(Counting(60_000), ["base"], folder=folder, announce=lines.append)
    name = begin(server)["id"]
    place = server.jobs._folder
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def end():
        try:
            until(lambda: job(server, name)["status"] == "running" and server.jobs._jobs[name].steps[0])
        finally:
            send(number)  # a test that fails ends

    threading.Thread(target=end).start()
    assert serve.until_signalled(server) == code
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    with pytest.raises(ConnectionError):
        raw(server, "GET", "/health")
    assert place.exists() == lasting
    (line,) = [line for line in lines if "was interrupted after" in line or "was cancelled after" in line]
    assert line.startswith(f"{name}: the job was {'interrupted' if lasting else 'cancelled'} after ")
    assert (str(folder) in line) == lasting


@pytest.mark.parametrize("again", [False, True])
def test_what_does_not_listen_is_not_waited_for(again, monkeypatch, capsys):
    """A program is compiled and cannot be stopped: after some time, or at a second signal, the process ends."""

    class Left(BaseException):
        pass

    def leave(code):
        raise Left(code, place.exists())

    stubborn = Counting(listens=False)
    server = http.Server(stubborn, ["base"])
    place = server.jobs._folder
    is_(server, begin(server)["id"], "running")
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(serve, "PATIENCE", 30.0 if again else 0.1)

    def end():
        send(signal.SIGTERM)
        if again:
            until(lambda: server._closed.is_set())
            send(signal.SIGINT)

    threading.Thread(target=end).start()
    with pytest.raises(Left, match=f"{130 if again else 143}, False"):
        serve.until_signalled(server)
    assert ("something still computes after 0.1 s" in capsys.readouterr().out) != again
    stubborn.released.set()
    until(lambda: not any(thread.name == "close" for thread in threading.enumerate()))


def test_opening_a_model_that_takes_long_is_not_silent(monkeypatch, capsys):
    said = []

    def slowly(name):
        until(
            lambda: said.append(capsys.readouterr().out) or "opening tiny:7: still loading after 0 s" in "".join(said)
        )
        raise errors.ModelFormatError("not here")

    monkeypatch.setattr(serve, "EVERY", 0.05)
    monkeypatch.setattr(open_llm, "open_backend", slowly)
    monkeypatch.setattr("sys.argv", ["serve", "--model", "tiny:7"])
    with pytest.raises(SystemExit):
        serve.main()
    assert "".join(said).startswith("opening tiny:7\n")
    assert not any(thread.name == "lines" for thread in threading.enumerate())


def test_repeated_lines_say_how_long_it_takes_by_now():
    lines: list[float] = []
    with heartbeat.repeated(lambda seconds: lines.append(seconds) or "", lambda line: None, every=0.02):
        until(lambda: len(lines) == 3)
    gaps = np.diff([0.0, *lines])
    assert len(lines) >= 3 and all(gaps > 0.01)  # half of what is asked for, as a clock may be coarse


def test_an_interruption_while_models_are_opened_is_one_line(monkeypatch, capsys):
    def opened(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(serve, "_opened", opened)
    monkeypatch.setattr("sys.argv", ["serve", "--model", "tiny:0"])
    with pytest.raises(SystemExit) as caught:
        serve.main()
    assert caught.value.code == 130 and capsys.readouterr().err == "interrupted before anything was served\n"


@pytest.mark.parametrize("rank", [None, 2])
def test_a_server_on_the_folder_of_an_earlier_one_serves_its_models(tmp_path, rank):
    """Also one that was trained on another, one by one; nothing is trained again."""
    first, tuning = Counting(), dataclasses.replace(http.DEFAULT_TUNING, rank=rank)
    with http.Server(first, ["base"], folder=tmp_path, tuning=tuning) as server:
        one = is_(server, begin(server, suffix="owl", metadata={"a": "ö"}, seed=3)["id"], "succeeded")
        two = is_(server, begin(server, model=one["fine_tuned_model"])["id"], "succeeded")
        bad = is_(server, begin(server, rows=[(Message("user", "a"),)])["id"], "failed")
        names = [job["fine_tuned_model"] for job in (one, two)]
        expected = [first.model(server._names[name]).merged for name in names]
        assert models(server) == {"base", *names}
        files = call(server, "GET", "/v1/files")["data"]
    weights = [np.asarray(params.layers.query) for params in (model().merged, *expected)]
    assert np.abs(weights[1] - weights[0]).min() > 0.3 and np.abs(weights[2] - weights[1]).min() > 0.3
    lines: list[str] = []
    second = Counting()
    with http.Server(second, ["base"], folder=tmp_path, tuning=tuning, announce=lines.append) as server:
        assert lines == [] and second.trained == []
        for name, params in zip(names, expected, strict=True):
            found = second.model(server._names[name]).merged  # up to the rounding of products in float32
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), found, params)
        assert models(server) == {"base", *names}
        assert call(server, "GET", "/v1/fine_tuning/jobs")["data"] == [bad, two, one]
        events = call(server, "GET", f"/v1/fine_tuning/jobs/{one['id']}/events")["data"]
        assert events[0]["message"] == "the job has succeeded"
        found = call(server, "GET", "/v1/files")["data"]
        assert sorted(found, key=lambda file: file["id"]) == sorted(files, key=lambda file: file["id"])
        content = (tmp_path / "uploads" / f"{files[0]['id']}.jsonl").read_bytes()
        assert content == jsonl([(Message("user", "a"),)])
        three = is_(server, begin(server, model=two["fine_tuned_model"])["id"], "succeeded")
        assert call(server, "GET", "/v1/fine_tuning/jobs?limit=1")["data"] == [three]


def killed(tmp_path) -> tuple[pathlib.Path, str]:
    """The folder of a server that was killed in the middle of a job, and the job."""
    stubborn = Counting(listens=False)
    with http.Server(stubborn, ["base"], folder=tmp_path / "alive") as server:
        name = is_(
            server, begin(server, hyperparameters={"n_epochs": 7, "learning_rate_multiplier": 0.3})["id"], "running"
        )
        shutil.copytree(tmp_path / "alive", tmp_path / "killed")
        stubborn.released.set()
    return tmp_path / "killed", name["id"]


def test_a_job_whose_server_was_killed_goes_on_until_it_has_killed_three(tmp_path):
    folder, name = killed(tmp_path)
    for _ in range(2):
        stubborn = Counting(listens=False)
        with http.Server(stubborn, ["base"], folder=folder) as server:
            is_(server, name, "running")
            shutil.copytree(folder, folder.with_name("next"))
            stubborn.released.set()
        shutil.rmtree(folder)
        folder.with_name("next").rename(folder)
    third = shutil.copytree(folder, tmp_path / "third")
    with http.Server(Counting(), ["base"], folder=folder) as server:
        failed = job(server, name)
        assert failed["status"] == "failed" and failed["error"]["code"] == "interrupted"
        assert "killed 3 times" in failed["error"]["message"]
    content = json.loads((third / name / "job.json").read_text())
    assert content["num_starts"] == 3
    (third / name / "job.json").write_text(json.dumps(content | {"num_starts": 2}))
    lines: list[str] = []
    counting = Counting()
    with http.Server(counting, ["base"], folder=third, announce=lines.append) as server:
        done = is_(server, name, "succeeded")
        assert done["fine_tuned_model"] in models(server) and done["hyperparameters"]["n_epochs"] == 7
        ((_, num_rows, how),) = counting.trained
        assert num_rows == 10 and (how.num_epochs, how.seed) == (7, done["seed"])
        assert how.learning_rate == 0.3 * FinetuneConfig().learning_rate
    assert lines[0] == f"{name}: the job was resumed, because the server was started again"


def test_a_job_that_was_interrupted_in_order_goes_on_every_time(tmp_path):
    for number in range(5):
        with http.Server(Counting(60_000), ["base"], folder=tmp_path) as server:
            name = job(server, name)["id"] if number else begin(server)["id"]
            is_(server, name, "running")
    with http.Server(Counting(), ["base"], folder=tmp_path) as server:
        is_(server, name, "succeeded")


def test_a_state_that_this_version_cannot_go_on_with_is_trained_anew(tmp_path):
    class Newer(Counting):
        def _train(self, base, data, how, out, *, remat, on_step, objective=None):
            finetune.resume(out, "of this version", finetune._State({}, ()))
            return super()._train(base, data, how, out, remat=remat, on_step=on_step)

    with http.Server(Counting(60_000), ["base"], folder=tmp_path) as server:
        name = begin(server)["id"]
        is_(server, name, "running")
    finetune.save_state(tmp_path / name, "of an earlier one", finetune._State({}, ()), 2)
    newer = Newer()
    with http.Server(newer, ["base"], folder=tmp_path) as server:
        is_(server, name, "succeeded")
        said = [event["message"] for event in call(server, "GET", f"/v1/fine_tuning/jobs/{name}/events")["data"]]
    assert len(newer.trained) == 1 and "what was trained so far cannot be resumed: the job begins again" in said


@pytest.mark.slow
def test_a_damaged_folder_is_one_line_and_the_rest_is_served(tmp_path):
    with http.Server(Counting(), ["base"], folder=tmp_path / "whole") as server:
        done = [is_(server, begin(server)["id"], "succeeded") for _ in range(2)]
    good, bad = done
    text = (tmp_path / "whole" / bad["id"] / "job.json").read_text()
    content = json.loads(text)
    weights = tmp_path / "whole" / bad["id"] / "adapter_model.safetensors"

    def without(path):
        path.unlink()

    damages = [
        ("job.json", without),
        ("job.json", lambda path: path.write_text(text[: len(text) // 2])),
        ("job.json", lambda path: path.write_bytes(b"\xff\x00")),
        ("adapter_model.safetensors", without),
        ("adapter_model.safetensors", lambda path: path.write_bytes(weights.read_bytes()[:100])),
    ]
    for change in (
        [], None, {}, content | {"job": None}, content | {"number": "1"}, content | {"events": [1]},
        content | {"tuning": {"rank": 2, "rnak": 3}}, content | {"tuning": content["tuning"] | {"learning_rate": -1}},
        content | {"base_fingerprint": "0" * 16}, content | {"job": content["job"] | {"id": good["id"]}},
        content | {"job": content["job"] | {"status": "done"}}, content | {"job": content["job"] | {"model": "bas"}},
        content | {"job": content["job"] | {"metadata": {"a": 1}}},
        content | {"job": content["job"] | {"fine_tuned_model": None}},
        content | {"job": content["job"] | {"trained_tokens": math.nan}},
    ):  # fmt: skip
        damages.append(("job.json", lambda path, change=change: path.write_text(json.dumps(change))))
    for number, (file, damage) in enumerate(damages):
        folder = shutil.copytree(tmp_path / "whole", tmp_path / str(number))
        damage(folder / bad["id"] / file)
        before = {path: path.read_bytes() for path in (folder / bad["id"]).iterdir()}
        lines: list[str] = []
        with http.Server(Counting(), ["base"], folder=folder, announce=lines.append) as server:
            assert models(server) == {"base", good["fine_tuned_model"]}, number
            assert call(server, "GET", "/v1/fine_tuning/jobs")["data"] == [good]
        assert len(lines) == 1 and bad["id"] in lines[0] and "left out" in lines[0] and "\n" not in lines[0], lines
        assert {path: path.read_bytes() for path in (folder / bad["id"]).iterdir()} == before
    file = next((tmp_path / "whole" / "uploads").glob("*.jsonl"))
    file.write_bytes(file.read_bytes()[1:])
    lines = []
    with http.Server(Counting(), ["base"], folder=tmp_path / "whole", announce=lines.append) as server:
        assert len(call(server, "GET", "/v1/files")["data"]) == 1
    assert len(lines) == 1 and file.stem in lines[0] and "damaged" in lines[0]


def test_a_folder_is_one_server_s_at_a_time(tmp_path):
    message = f"process {os.getpid()} on .* is writing to it"
    with http.Server(backend(), ["base"], folder=tmp_path), pytest.raises(errors.LockedError, match=message):
        http.Server(backend(), ["base"], folder=tmp_path)
    with http.Server(backend(), ["base"], folder=tmp_path):
        pass
    (tmp_path / "file").write_text("mine")
    with pytest.raises(errors.OutputError, match="cannot be written"):
        http.Server(backend(), ["base"], folder=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture(scope="module")
def small():
    """A server for few bytes, which has a name of its own."""
    with http.Server(
        backend(), ["base"], allow=["Lab.example"], max_file=1000, max_total=2500, max_body=5_000
    ) as found:
        yield found


OTHERS = ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "8.8.8.8", "", "[", "a b", "0.0.0.0")
OWN = ("127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.0.0.2", "[::1]", "lab.example")


@pytest.mark.parametrize("port", ["", ":8000"])
def test_only_by_its_own_names_and_to_its_own_pages_it_answers(small, port):
    requests = (
        ("GET", "/v1/models"),
        ("POST", "/v1/files"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/fine_tuning/jobs"),
        ("POST", "/v1/fine_tuning/jobs/ftjob-1/cancel"),
        ("DELETE", "/v1/files/file-1"),
        ("GET", "/v1/files/file-1/content"),
    )
    for method, path in requests:
        for name in OTHERS:
            for headers in ({"Host": name + port}, {"Origin": f"http://{name}{port}"}):
                if name or "Origin" in headers:
                    status, reply = raw(small, method, path, **headers)
                    assert status == 403 and reply["error"]["code"].startswith("forbidden_"), (path, headers)
        assert raw(small, method, path, Origin="null")[0] == 403
        for name in OWN:
            headers = {"Host": name + port, "Origin": f"https://{name}{port}"}
            assert raw(small, method, path, **headers)[0] in (200, 400, 404), (path, headers)
    assert call(small, "GET", "/v1/files")["data"] == []


def test_a_server_at_every_address_answers_to_addresses_and_to_names_that_are_allowed(monkeypatch):
    monkeypatch.setenv(access.KEY_VARIABLE, "secret")
    with http.Server(backend(), ["base"], host="0.0.0.0", allow=["lab.example"]) as server:
        for name, status in (("10.1.2.3", 200), ("lab.example:80", 200), ("evil.example", 403), ("localhost", 200)):
            assert raw(server, "GET", "/v1/models", Host=name, Authorization="Bearer secret")[0] == status


def test_files_have_a_limit_together_and_those_that_arrive_count(small):
    form = FORM.replace(b"PURPOSE", b"fine-tune").replace(b"{}", b"a" * 900)
    first, second = (upload(small, form)[1]["id"] for _ in range(2))
    status, reply = upload(small, form)
    assert status == 413 and "the files here take 1,800 bytes" in reply["error"]["message"]
    assert "2,500 are allowed" in reply["error"]["message"] and "delete files" in reply["error"]["message"]
    raw(small, "DELETE", f"/v1/files/{first}")
    raw(small, "DELETE", f"/v1/files/{second}")
    host, port = small.url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        slow.sendall(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n")
        until(lambda: small.files._arriving)
        assert upload(small, form)[0] == 413
    last = until(lambda: (answer := upload(small, form))[0] == 200 and answer[1]["id"])
    assert raw(small, "DELETE", f"/v1/files/{last}")[0] == 200
    assert list(small.files._folder.iterdir()) == []


def test_a_full_disk_is_said_and_is_no_fault_of_ours(monkeypatch, capsys):
    with http.Server(Counting(), ["base"]) as server:
        name = begin(server)["id"]
        is_(server, name, "succeeded")

        def full(*arguments, **options):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        status, reply = upload(server, FORM.replace(b"PURPOSE", b"fine-tune"))
        assert status == 500 and "No space left on device" in reply["error"]["message"]
    assert capsys.readouterr().err == ""
