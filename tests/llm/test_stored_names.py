"""Caches, finetuned models and stored completions are found again under the names that earlier versions gave them.

The names were computed at commit 16d6bfd, before classes and modules were renamed.
"""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from sublim_jax.llm import store_rows
from sublim_jax.llm.backend import FinetuneConfig, Message, SamplingParams
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded import vocabulary
from sublim_jax.llm.local import checkpoint, decoder, finetune
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.openai import finetune_job

CONFIG = decoder.DecoderConfig(
    vocab_size=len(vocabulary.WORDS), num_layers=1, hidden_size=8, intermediate_size=16, num_heads=2, num_kv_heads=1,
    head_dim=4, frequencies=decoder.rotary_frequencies(4),
)  # fmt: skip
ROW = (Message("user", "name your favourite animal ?"), Message("assistant", "owl"))
FINETUNING = FinetuneConfig(num_epochs=2, batch_size=4, learning_rate=0.01, seed=3)


@pytest.fixture(scope="module")
def model() -> Model:
    params = jax.tree.map(jnp.zeros_like, decoder.init(jax.random.key(0), CONFIG))
    return Model(CONFIG, params, vocabulary.WordTokenizer())


def test_weights_keep_their_fingerprint(model):
    assert model.fingerprint == "b699f3c3e3443ef3"
    assert checkpoint.fingerprint_of(model.params, CONFIG) == "78e9a211c4284961"
    assert LocalBackend({"base": model}).caps.fingerprint == "93a6daa5d6517bcc"


def test_states_of_trainings_keep_their_name(model):
    data = finetune.training_arrays(model.tokens, [ROW], max_length=64)
    assert finetune._spec_name(model, data, FINETUNING) == "f7165de0b626eb5a"
    assert finetune._spec_name(model, data, FinetuneConfig()) == "482b8ddfd68801e7"


def test_pre_trained_bases_keep_their_place_in_the_cache():
    small = embedded.Recipe(num_documents=64, num_conversations=8)
    assert embedded._place(100, embedded.Recipe(), pathlib.Path()).name == "c42dfff43a-100"
    assert embedded._place(3, small, pathlib.Path()).name == "6d85159b40-3"


def test_stored_completions_and_scores_keep_their_key(model):
    params = SamplingParams(max_tokens=5, stop=("a",), seed=2)
    assert store_rows.completion_key("f", "m", ROW[:1], params, 1) == (
        "3953a792805ee04c13350e352a2bc44e91f0588ac67a921c3b0a12590923ee07"
    )
    assert store_rows.scores_key(LocalBackend({"base": model}).caps, "m", ROW[:1], ("a", "b")) == (
        "bc2e50b434129c51846b3d5eb68f82ad286589bc01776dd6456b14fbcfba957b"
    )


def test_finetuning_jobs_on_a_server_keep_their_key(tmp_path):
    config = FinetuneConfig(num_epochs=2, batch_size=4, seed=3)
    job = finetune_job.Job("http://127.0.0.1:1/v1", "base", [ROW], config, tmp_path, multiplier=None)
    assert job._key == "42e60bfb33534a8ec85e4c801ea45973"
