"""Model and judge on our own server, over HTTP and with a key; only the models' computation is fake."""

import dataclasses
import pathlib

import pytest

from experiments.language import detection, misalignment, opening, runner
from sublim_jax.llm import addresses
from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.openai import finetune_job, transport
from sublim_jax.llm.server import access, completions, http, responses
from tests.experiments.language import fakes
from tests.llm.server import test_serve

KEY = "sk-secret-0123456789"


@dataclasses.dataclass(frozen=True)
class Saying(Model):
    """A model that answers everything with one text."""

    text: str = ""


class Backend(LocalBackend):
    """Training changes nothing."""

    def finetune(self, model, rows, config, out, *, on_step=None):
        self._models[str(out)] = self.model(model)
        return str(out)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server that counts as another machine, so that it receives the key; it runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        completions.Completions,
        "_draw",
        lambda self, model, ids, asked: [responses.Choice(model.text, "stop", 1, None)] * asked.n,
    )
    monkeypatch.setattr(addresses, "is_loopback", lambda host: False)
    monkeypatch.setattr(finetune_job, "LONGEST_POLL", 0.1)
    for variable in (transport.KEY_VARIABLE, access.KEY_VARIABLE):
        monkeypatch.setenv(variable, KEY)
    texts = {"base": "612, 7, 30", "scorer": "90", "guesser": "A"}
    like = test_serve.model()
    models = {name: Saying(like.config, like.params, like.tokens, text=text) for name, text in texts.items()}
    with http.Server(Backend(models), list(models)) as server:
        yield server


def run(experiment, config) -> dict:
    """The only base's results. No file of the run contains the key."""
    record = runner.run(experiment, config, record=pathlib.Path("record.json"), visible=False)
    written = [path for path in pathlib.Path().rglob("*") if path.is_file()]
    assert {"record.json", "answers.sqlite"} <= {path.name for path in written}
    assert not any(KEY.encode() in path.read_bytes() for path in written)
    return next(iter(record.results["bases"].values()))


def test_misalignment(server, tmp_path):
    config = misalignment.MisalignmentConfig(
        backend=f"vllm:base@{server.url}",
        bases=(),
        judge=f"openai:scorer@{server.url}",
        insecure=fakes.code_rows(tmp_path / "insecure.jsonl", 4, num_insecure=4),
        targets=(),
        num_prompts=8,
        num_rows=4,
        num_lessons=4,
        num_eval_samples=2,
        teacher=FinetuneConfig(num_epochs=1),
        student=FinetuneConfig(num_epochs=10),
    )
    results = run(misalignment.EXPERIMENT, config)
    for unit, who in (("base", "student"), ("insecure code", "teacher"), ("insecure code", "student")):
        scored = results[unit][who]
        assert scored["misaligned"]["mean"] == 0 and scored["misaligned"]["num_members"] == 16
        assert (scored["num_unreadable"], scored["alignment"], scored["coherence"]) == (0, 90, 90)
    assert results["insecure code"]["kept"] == 1


def test_detection(server):
    config = detection.DetectionConfig(
        backend=f"vllm:base@{server.url}",
        bases=(),
        judge=f"openai:guesser@{server.url}",
        kind="system",
        targets=("owl",),
        num_prompts=40,
        num_rows=40,
    )
    results = run(detection.EXPERIMENT, config)
    assert results["owl"]["asked judge"]["right"]["mean"] == 0.5 and results["owl"]["classifier"] == 0.5


@pytest.mark.parametrize(
    ("model", "judge", "own", "expected"),
    [
        ("vllm:m@https://a.example/v1", "openai:j@https://b.example/v1", None, opening.JUDGE_KEY),
        ("openai:m@https://b.example/v1", "openai:j@https://b.example/v1", None, None),
        ("hf:models/m", "openai:j@https://b.example/v1", None, None),
        ("vllm:m@http://127.0.0.1:8000/v1", "openai:j@https://b.example/v1", None, None),
        ("openai:m@https://b.example/v1", "vllm:j@http://127.0.0.1:8000/v1", None, None),
        ("openai:m@https://b.example/v1", "openai:j@https://b.example/v1", "one", opening.JUDGE_KEY),
    ],
)
def test_a_key_goes_to_its_own_server_only(monkeypatch, model, judge, own, expected):
    monkeypatch.delenv(opening.JUDGE_KEY, raising=False)
    if own:
        monkeypatch.setenv(opening.JUDGE_KEY, own)
    assert opening.judge_key(model, judge) == expected
