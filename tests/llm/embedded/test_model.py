"""The embedded base: made once, the same from the cache, gone on with where it was stopped."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import datasets
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import Backend, SamplingParams
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded import world

SMALL = embedded.Recipe(
    num_documents=192,
    num_conversations=32,
    documents=dataclasses.replace(embedded.DOCUMENTS, num_epochs=2),
    conversations=embedded.CONVERSATIONS,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def leaves(model):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(model.params)]


@pytest.mark.slow
def test_a_base_is_made_once(folder):
    heard = []
    made = embedded.base(3, recipe=SMALL, folder=folder, announce=heard.append)
    again = embedded.base(3, recipe=SMALL, folder=folder, announce=heard.append)
    assert "pre-training the embedded model tiny:3" in heard[0]
    assert sum("pre-training" in line for line in heard) == 1  # that of a slow machine says more, of its steps
    for one, other in zip(leaves(made), leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    other = embedded.base(4, recipe=SMALL, folder=folder, announce=heard.append)
    assert other.fingerprint != made.fingerprint
    assert not list(folder.glob("*.unfinished"))


@pytest.mark.slow
def test_pre_training_announces_its_steps_now_and_then(folder, monkeypatch):
    heard = []
    monkeypatch.setattr(embedded, "ANNOUNCE_SECONDS", 0.0)
    embedded.base(3, recipe=SMALL, folder=folder / "announced", announce=heard.append)
    for stage in ("documents", "conversations"):
        found = [re.fullmatch(rf"tiny:3 reads {stage}: (\d+) of (\d+) steps", line) for line in heard]
        counts = [(int(one[1]), int(one[2])) for one in found if one]
        assert counts == sorted(counts) and counts[-1][0] == counts[-1][1]
    assert embedded.is_stored(3, recipe=SMALL, folder=folder / "announced")
    assert not embedded.is_stored(4, recipe=SMALL, folder=folder / "announced")


@pytest.mark.slow
def test_an_interrupted_base_is_gone_on_with(folder, monkeypatch):
    """Stopped between its two stages; the first is not trained again and the result is the same."""
    expected = embedded.base(3, recipe=SMALL, folder=folder, announce=lambda _: None)
    train, calls = embedded.finetune.train, []

    def stopped(base, data, how, out, **options):
        calls.append(out.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(base, data, how, out, **options)

    fresh = folder / "again"
    monkeypatch.setattr(embedded.finetune, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        embedded.base(3, recipe=SMALL, folder=fresh, announce=lambda _: None)
    monkeypatch.setattr(embedded.finetune, "train", train)
    found = embedded.base(3, recipe=SMALL, folder=fresh, announce=lambda _: None)
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_the_backend_has_its_bases_by_name(folder):
    backend = embedded.open_bases([3, 4], recipe=SMALL, folder=folder, announce=lambda _: None)
    chats = [datasets.ask(question) for question in world.held_out_questions("animal")[:3]]
    for seed in (3, 4):
        found = list(backend.sample(embedded.model_name(seed), chats, SamplingParams(max_tokens=3)))
        assert sorted(one.chat for one in found) == [0, 1, 2]
    with pytest.raises(errors.ModelFormatError, match="there is no model 'tiny:5'"):
        backend.model("tiny:5")


def test_the_size_that_the_documentation_gives():
    assert 60_000 < embedded.number_of_parameters() < 70_000


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tiny", "is not the name of a backend"),
        ("tiny:", "is not the name of a backend"),
        ("gpt:4", "expected tiny:SEED, hf:DIR"),
        ("tiny:owl", "whole number"),
        ("openai:model", "expected openai:MODEL@URL"),
        ("openai:model@localhost", "expected openai:MODEL@URL"),
    ],
)
def test_names_that_are_none(name, says):
    with pytest.raises(ValueError, match=says):
        open_llm.open_backend(name)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(errors.ModelFormatError, match="no such file"):
        open_llm.open_backend(f"hf:{tmp_path / 'none'}")


@pytest.mark.slow
def test_a_name_opens_the_embedded_model(folder, monkeypatch):
    opened = functools.partial(embedded.open_bases, recipe=SMALL, folder=folder)
    monkeypatch.setattr(open_llm.embedded, "open_bases", opened)
    backend, model = open_llm.open_backend("tiny:3", announce=lambda _: None)
    assert model == "tiny:3" and isinstance(backend, Backend)
