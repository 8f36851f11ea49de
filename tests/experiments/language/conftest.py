"""Real models and judges have stand-ins."""

from collections.abc import Callable

import pytest

from sublim_jax.llm import open as open_llm
from tests.experiments.language import fakes

MODEL, JUDGE = "openai:base@http://127.0.0.1:1/v1", "openai:judge@http://127.0.0.1:2/v1"


@pytest.fixture
def opened(monkeypatch, tmp_path) -> Callable[..., tuple[fakes.Model, fakes.Judge]]:
    """Puts a model and a judge that replies so where their names are opened; runs are kept in a temporary folder."""
    monkeypatch.chdir(tmp_path)

    def open_them(reply: Callable[[str], str]) -> tuple[fakes.Model, fakes.Judge]:
        model, judge = fakes.Model(), fakes.Judge(reply)
        known = {MODEL: open_llm.OpenedBackend(model, "base"), JUDGE: open_llm.OpenedBackend(judge, "judge")}
        monkeypatch.setattr(open_llm, "open_backend", lambda name, **_: known[name])
        return model, judge

    return open_them
