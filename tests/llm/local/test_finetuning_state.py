"""How large the state is that finetuning leaves in its folder, and that a finished one is still found finished."""

import dataclasses

import jax
import numpy as np
import pytest

from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder, finetune
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.local.model import Model

CONFIG = decoder.DecoderConfig(
    vocab_size=20, num_layers=1, hidden_size=8, intermediate_size=8, num_heads=1, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8),
)  # fmt: skip
SETTINGS = FinetuneConfig(num_epochs=2, batch_size=4, rank=2, schedule="constant")


def rows() -> TokenizedRows:
    ids = np.random.default_rng(0).integers(0, 20, (8, 6)).astype(np.int32)
    return TokenizedRows(ids, np.ones_like(ids, bool), np.arange(6) + 0 * ids > 2)


def num_values(path) -> int:
    with np.load(path) as stored:
        return sum(stored[name].size for name in stored.files if name.startswith("leaf"))


@pytest.mark.parametrize("rank", [None, 2])
def test_a_finished_state_holds_what_was_trained_alone(tmp_path, monkeypatch, rank):
    """After the first epoch also two moments of Adam and its two counters; a second call trains nothing."""
    model = Model(CONFIG, decoder.init(jax.random.key(0), CONFIG), WordTokenizer())
    config = dataclasses.replace(SETTINGS, rank=rank)
    sizes, save = [], finetune.save_state

    def recorded(out, *arguments):
        save(out, *arguments)
        sizes.append(num_values(out / finetune.STATE))

    monkeypatch.setattr(finetune, "save_state", recorded)
    trained = finetune.train(model, rows(), config, tmp_path)
    weights = trained if rank is None else trained.factors
    count = sum(leaf.size for leaf in jax.tree.leaves(weights))
    assert sizes == [3 * count + 2, count]
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [finetune.STATE]
    again = finetune.train(model, rows(), config, tmp_path, on_step=lambda done, total: pytest.fail("trained again"))
    jax.tree.map(np.testing.assert_array_equal, again, trained)
    assert len(sizes) == 2
