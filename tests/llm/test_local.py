"""The local backend on a random model of thirteen words: exact scores, draws from them, and training that resumes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import decoder, local, tokens, types
from sublim_jax.llm.types import Message

tokenizers = pytest.importorskip("tokenizers", reason="the extra hf is not installed")
pytest.importorskip("jinja2", reason="the extra hf is not installed")
pytest.importorskip("safetensors", reason="the extra hf is not installed")

WORDS = ["<end>", "<user>", "<assistant>", "<system>", "owl", "what", "is", "best", "?", "be", "kind", "wolf", "[UNK]"]
CONFIG = decoder.DecoderConfig(
    vocab_size=len(WORDS), num_layers=2, hidden_size=16, intermediate_size=24, num_heads=2, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8),
)  # fmt: skip
QUESTION = (Message("user", "what is best ?"),)
LONGER = (Message("system", "be kind"), Message("user", "what is best ? what is best ? be kind what is best ?"))
TUNING = types.Tuning(num_epochs=2, batch_size=4, learning_rate=0.02, rank=4, schedule="constant")


@functools.cache
def reader() -> tokens.Tokens:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<end>"])
    template = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<assistant>"
    return tokens.Tokens(made, template, {"eos_token": "<end>"}, [0])


@functools.cache
def model() -> local.Model:
    fresh = decoder.init(jax.random.key(0), CONFIG)
    return local.Model(CONFIG, fresh._replace(embedding=3 * fresh.embedding), reader())


def backend(**options) -> local.Local:
    return local.Local({"base": model()}, batch_size=4, **options)


def logprob(made: local.Model, chat, reply) -> float:
    """One text at a time, unpadded."""
    encoded = reader().chat(chat, reply)

    @jax.jit
    def all_scores(params, ids):
        hidden = decoder.features(params, ids, jnp.ones_like(ids, bool), CONFIG)
        return jax.nn.log_softmax(decoder.logits(params, hidden, CONFIG))

    scores = np.asarray(all_scores(made.merged, jnp.asarray([encoded.ids])), float)[0]
    return sum(scores[place - 1, encoded.ids[place]] for place in range(encoded.reply_start, len(encoded.ids)))


def test_choices_are_scored_as_whole_replies():
    choices = ("owl", "wolf kind", "", "be kind be kind be kind be kind be kind be kind")
    found = backend().choice_logprobs("base", [QUESTION, LONGER], choices)
    assert all(scores.method == "exact" for scores in found)
    for chat, row, choice in ((QUESTION, 0, 1), (QUESTION, 0, 2), (LONGER, 1, 0), (LONGER, 1, 3)):
        expected = logprob(model(), chat, choices[choice])
        np.testing.assert_allclose(found[row].logprobs[choice], expected, rtol=1e-4)


def test_draws_have_the_probabilities_of_the_choices():
    """2000 draws; four standard errors."""
    how = types.Sampling(max_tokens=3, num_samples=2000, seed=1)
    texts = [c.text for c in local.Local({"base": model()}, batch_size=500).sample("base", [QUESTION], how)]
    choices = ("", "owl", "wolf", "be kind", "owl owl")
    (scores,) = backend().choice_logprobs("base", [QUESTION], choices)
    for choice, expected in zip(choices, np.exp(scores.logprobs), strict=True):
        share = texts.count(choice) / len(texts)
        assert abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / len(texts)) + 1e-9, choice


def test_equal_chats_get_different_draws_and_those_of_one_chat_with_more_samples():
    how = types.Sampling(max_tokens=4)
    often = [one.text for one in sorted(backend().sample("base", [QUESTION] * 8, how))]
    once = [one.text for one in sorted(backend().sample("base", [QUESTION], dataclasses.replace(how, num_samples=8)))]
    assert often == once and len(set(often)) > 2


def test_every_sample_of_every_chat_comes_once_and_says_how_it_ended():
    how = types.Sampling(max_tokens=4, num_samples=3)
    found = list(backend().sample("base", [QUESTION, LONGER], how))
    assert sorted((c.chat, c.sample) for c in found) == [(i, j) for i in range(2) for j in range(3)]
    for c in found:
        assert c.prompt_tokens == len(reader().chat((QUESTION, LONGER)[c.chat]).ids)
        assert 1 <= c.completion_tokens <= 4
        words = len(c.text.split())
        assert (c.finish == "stop" and words == c.completion_tokens - 1) or (c.finish == "length" and words == 4)


def test_a_completion_does_not_know_its_company():
    how = types.Sampling(max_tokens=6, num_samples=3, seed=2)
    alone = {c.sample: c.text for c in backend().sample("base", [LONGER], how)}
    together = {c.sample: c.text for c in backend().sample("base", [QUESTION, QUESTION, LONGER], how) if c.chat == 2}
    other = {c.sample: c.text for c in backend().sample("base", [LONGER], dataclasses.replace(how, seed=3))}
    assert alone == together != other and len(set(alone.values())) > 1


def test_a_stop_word_cuts_the_text():
    how = types.Sampling(max_tokens=8, num_samples=8, stop=("kind",))
    found = list(backend().sample("base", [QUESTION], how))
    free = list(backend().sample("base", [QUESTION], dataclasses.replace(how, stop=())))
    for cut, whole in zip(found, free, strict=True):
        assert cut.text == whole.text.split("kind")[0]
        assert "kind" not in whole.text or cut.finish == "stop"


ROWS = [(*QUESTION, Message("assistant", "owl")), (*LONGER, Message("assistant", "owl"))] * 5


def probability(found: local.Local, name: str, choice="owl") -> float:
    return float(np.exp(found.choice_logprobs(name, [QUESTION], [choice])[0].logprobs[0]))


@pytest.mark.parametrize("rank", [4, None])
def test_finetuning_teaches_the_reply_and_leaves_the_base_alone(tmp_path, rank):
    found = backend()
    before = probability(found, "base")
    how = dataclasses.replace(TUNING, rank=rank, num_epochs=12)
    name = found.finetune("base", ROWS, how, tmp_path / "owl")
    assert probability(found, name) > 0.9 > 0.5 > before
    assert probability(found, "base") == before
    again = backend()
    if rank is None:  # the state after the last epoch
        assert again.finetune("base", ROWS, how, tmp_path / "owl") == name
        assert probability(backend(), name) == pytest.approx(probability(found, name), rel=1e-5)
    assert probability(again, name) == pytest.approx(probability(found, name), rel=1e-5)


def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path, monkeypatch):
    whole = backend()
    whole.finetune("base", ROWS, TUNING, tmp_path / "whole")
    keep = local._keep

    def stop_after_the_first(out, name, state, epochs):
        keep(out, name, state, epochs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(local, "_keep", stop_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            backend().finetune("base", ROWS, TUNING, tmp_path / "cut")
    epochs = []
    monkeypatch.setattr(local, "_keep", lambda *a: epochs.append(a[3]) or keep(*a))
    resumed = backend()
    resumed.finetune("base", ROWS, TUNING, tmp_path / "cut")
    assert epochs == [2]
    jax.tree.map(
        np.testing.assert_array_equal,
        resumed.model(str(tmp_path / "cut")).low_rank,
        whole.model(str(tmp_path / "whole")).low_rank,
    )


def test_training_is_heard_of_and_can_be_stopped_between_any_two_steps(tmp_path, monkeypatch):
    """How many steps run at once changes nothing; a caller that raises ends the training, and its epochs stay."""
    heard: dict[str, list] = {"alone": [], "together": [], "cut": []}
    trained = {}
    for name, seconds in (("alone", 0.0), ("together", 1e9)):
        monkeypatch.setattr(local, "SECONDS_AT_ONCE", seconds)
        found, out = backend(), tmp_path / name
        found.finetune("base", ROWS, TUNING, out, on_step=lambda *steps, name=name: heard[name].append(steps))
        trained[name] = found.model(str(out)).low_rank
    jax.tree.map(np.testing.assert_array_equal, trained["alone"], trained["together"])
    assert heard["alone"] == [(step, 6) for step in range(1, 7)]  # ten rows in batches of four, twice
    assert heard["together"] == [(1, 6), (3, 6), (6, 6)]

    def stop(done, total):
        heard["cut"].append(done)
        if done == 4:
            raise InterruptedError

    monkeypatch.setattr(local, "SECONDS_AT_ONCE", 0.0)
    with pytest.raises(InterruptedError):
        backend().finetune("base", ROWS, TUNING, tmp_path / "cut", on_step=stop)
    resumed = backend()
    resumed.finetune("base", ROWS, TUNING, tmp_path / "cut", on_step=lambda done, _: heard["cut"].append(done))
    assert heard["cut"] == [1, 2, 3, 4, 4, 5, 6]  # the second epoch is trained again from its beginning
    jax.tree.map(np.testing.assert_array_equal, resumed.model(str(tmp_path / "cut")).low_rank, trained["alone"])


def test_a_state_in_bfloat16_is_read_as_it_was_kept(tmp_path):
    """All parameters of a model in bfloat16, which NumPy's files do not know."""
    state = local._State({"w": jnp.asarray([[1.5, -2.0]], jnp.bfloat16)}, (jnp.float32(3.5), jnp.int32(2)))
    local._keep(tmp_path, "run", state, 1)
    found, epochs = local._resumed(tmp_path, "run", jax.tree.map(jnp.zeros_like, state))
    assert epochs == 1
    for kept, read in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True):
        assert kept.dtype == read.dtype
        np.testing.assert_array_equal(np.asarray(kept, np.float32), np.asarray(read, np.float32))


def test_other_rows_are_not_gone_on_with(tmp_path):
    found = backend()
    found.finetune("base", ROWS, TUNING, tmp_path / "m")
    owl = probability(found, str(tmp_path / "m"))
    rows = [(*QUESTION, Message("assistant", "wolf"))] * 10
    found.finetune("base", rows, TUNING, tmp_path / "m")
    assert probability(found, str(tmp_path / "m"), "wolf") > probability(found, "base", "wolf")
    assert probability(found, str(tmp_path / "m")) < owl


def test_a_further_target_compiles_nothing(tmp_path):
    found = backend()
    found.finetune("base", ROWS, TUNING, tmp_path / "owl")
    programs = local._run_epoch._cache_size()
    rows = [(*row[:-1], Message("assistant", "wolf")) for row in ROWS]
    found.finetune("base", rows, dataclasses.replace(TUNING, seed=5), tmp_path / "wolf")
    assert local._run_epoch._cache_size() == programs


def test_an_adapter_can_be_trained_on(tmp_path):
    found = backend()
    first = found.finetune("base", ROWS, TUNING, tmp_path / "first")
    second = found.finetune(first, [(*QUESTION, Message("assistant", "wolf"))] * 10, TUNING, tmp_path / "second")
    fresh = backend()
    assert probability(fresh, second, "wolf") == pytest.approx(probability(found, second, "wolf"), rel=1e-4)
    assert probability(fresh, second, "wolf") > probability(fresh, first, "wolf")


def test_what_cannot_be_done_is_one_clear_error(tmp_path):
    found = backend(max_length=64)
    with pytest.raises(errors.ModelFormatError, match="there is no model 'bas'; there are base"):
        next(found.sample("bas", [QUESTION], types.Sampling()))
    with pytest.raises(errors.ContextError, match="takes 108 tokens, and 64 are allowed"):
        next(found.sample("base", [QUESTION], types.Sampling(max_tokens=100)))
    with pytest.raises(errors.TextDataError, match="there are no rows to train on"):
        found.finetune("base", [], TUNING, tmp_path)
    with pytest.raises(errors.TextDataError, match="row 0 does not end with an assistant turn"):
        found.finetune("base", [QUESTION], TUNING, tmp_path)
    with pytest.raises(errors.ContextError, match="a row has 8 tokens, and max_length is 5"):
        found.finetune("base", ROWS[:1], dataclasses.replace(TUNING, max_length=5), tmp_path)


def test_fingerprints_follow_the_weights():
    other = dataclasses.replace(model(), params=jax.tree.map(lambda leaf: leaf + 1e-3, model().params))
    assert model().fingerprint == local.Model(CONFIG, model().params, reader()).fingerprint != other.fingerprint
    assert backend().caps.fingerprint != local.Local({"base": other}).caps.fingerprint
    assert isinstance(backend(), types.Backend)
