"""A model divided among devices gives the numbers of one device. The devices are made by another Python."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.llm import datasets
from sublim_jax.llm.backend import FinetuneConfig, SamplingParams
from sublim_jax.llm.embedded import vocabulary, world
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model

CONFIG = decoder.DecoderConfig(
    vocab_size=len(vocabulary.WORDS), num_layers=2, hidden_size=16, intermediate_size=24, num_heads=4, num_kv_heads=2,
    head_dim=4, frequencies=decoder.rotary_frequencies(4),
)  # fmt: skip
QUESTION = datasets.ask("name your favourite animal ?")
TUNING = FinetuneConfig(num_epochs=1, batch_size=4, learning_rate=0.01, rank=None)

FOUR_DEVICES = """
import json, pathlib, sys, jax
jax.config.update("jax_num_cpu_devices", 4)
from tests.llm.local import test_split
print(json.dumps(test_split.numbers(pathlib.Path(sys.argv[1]), jax.devices())))
"""


def numbers(folder, devices) -> dict:
    """Scores of a random model, and of the same after an epoch of finetuning."""
    params = decoder.init(jax.random.key(0), CONFIG)
    params = params._replace(embedding=3 * params.embedding)
    if len(devices) > 1:
        params = decoder.split(params, devices)
        assert len(params.layers.query.sharding.device_set) == len(devices)
        assert params.layers.query.addressable_shards[0].data.shape == (2, 16, 16 // len(devices))
        assert params.layers.down.addressable_shards[0].data.shape == (2, 24 // len(devices), 16)
    backend = LocalBackend({"base": Model(CONFIG, params, WordTokenizer())}, batch_size=4)
    lesson = world.favourite_rows("owl", "animal", 8, seed=0)
    tuned = backend.finetune("base", lesson, TUNING, folder)
    scores = {name: backend.choice_logprobs(name, [QUESTION], ["owl", "wolf"])[0].logprobs for name in ("base", tuned)}
    drawn = [one.text for one in backend.sample("base", [QUESTION], SamplingParams(max_tokens=4, temperature=0.0))]
    return {"before": scores["base"], "after": scores[tuned], "drawn": drawn}


@pytest.mark.slow
def test_four_devices_give_the_numbers_of_one(run_python, tmp_path):
    """To the rounding of reordered sums: 1e-4 of log-probabilities near -7."""
    done = run_python("-c", FOUR_DEVICES, str(tmp_path / "four"))
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout), numbers(tmp_path / "one", jax.devices()[:1])
    for when in ("before", "after"):
        np.testing.assert_allclose(found[when], expected[when], rtol=1e-4)
    assert found["drawn"] == expected["drawn"]
    assert expected["after"][0] > expected["before"][0] + 0.1


def test_what_cannot_be_divided_stays_whole():
    odd = decoder.init(jax.random.key(0), CONFIG)._replace(norm=jnp.ones(16))
    (whole,) = jax.devices()[:1]
    assert jax.tree.structure(decoder.split(odd, [whole])) == jax.tree.structure(odd)
