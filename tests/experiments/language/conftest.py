"""Fixtures that replace real models and judges by fakes."""

from collections.abc import Callable

import pytest

from sublim_jax.llm import backends
from tests.experiments.language import fakes

MODEL, JUDGE = "openai:base@http://127.0.0.1:1/v1", "openai:judge@http://127.0.0.1:2/v1"


@pytest.fixture
def opened(monkeypatch, tmp_path) -> Callable[..., tuple[fakes.Model, fakes.Judge]]:
    """Makes MODEL and JUDGE open a fake model and a fake judge with given replies; runs go to a temporary folder."""
    monkeypatch.chdir(tmp_path)

    def open_them(reply: Callable[[str], str]) -> tuple[fakes.Model, fakes.Judge]:
        model, judge = fakes.Model(), fakes.Judge(reply)
        known = {MODEL: backends.Opened(model, "base"), JUDGE: backends.Opened(judge, "judge")}
        monkeypatch.setattr(backends, "open_backend", lambda name, **_: known[name])
        return model, judge

    return open_them
