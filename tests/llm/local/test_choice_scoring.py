"""Choices after a prompt that is read once, and replies whose beginning is given, against rows scored one by one."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm.backend import Message, SamplingParams
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import choice_scoring, decoder, sampling
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.local.tokenizer import HFTokenizer

SHORT = (Message("user", "name one animal"),)
LONG = (Message("system", "you love owl"), Message("user", "what is your favourite animal , in one word ?"))
BEGUN = (*SHORT, Message("assistant", "owl ,"))
TEXTS = ("owl", "oak tree", "", "one word , one word , owl", "eagle")


@functools.cache
def model(num_layers: int = 2) -> Model:
    config = decoder.DecoderConfig(
        vocab_size=WordTokenizer().size, num_layers=num_layers, hidden_size=16, intermediate_size=24, num_heads=2,
        num_kv_heads=1, head_dim=8, frequencies=decoder.rotary_frequencies(8),
    )  # fmt: skip
    params = decoder.init(jax.random.key(0), config)
    low_rank = decoder.init_low_rank(jax.random.key(1), params, rank=2)
    factors = {name: pair._replace(b=0.3 * jax.random.normal(jax.random.key(2), pair.b.shape))
               for name, pair in low_rank.factors.items()}  # fmt: skip
    return Model(config, params, WordTokenizer(), low_rank=low_rank._replace(factors=factors))


def backend(num_layers: int = 2, **options) -> LocalBackend:
    return LocalBackend({"base": model(num_layers)}, batch_size=4, **options)


ROUNDING = 3e-6
"""Relative. Scores are sums of a few float32 logarithms near 10; attention adds over more or fewer empty places."""


@pytest.mark.parametrize("num_layers", [pytest.param(2, marks=pytest.mark.slow), 5])  # written out, and looped over
def test_sharing_the_prompt_changes_no_score(num_layers):
    """Of whole replies, more of them than go into one batch, after prompts of two lengths."""
    chats, texts = [SHORT, LONG, SHORT], (*TEXTS, "ash", "in one word", "what is one")
    rows = [(*chat, Message("assistant", text)) for chat in chats for text in texts]
    expected = backend(num_layers).row_logprobs("base", rows).reshape(len(chats), len(texts))
    scores = backend(num_layers).choice_logprobs("base", chats, texts)
    np.testing.assert_allclose([each.logprobs for each in scores], expected, rtol=ROUNDING)
    assert scores[0] == scores[2]


def test_fixed_shapes_score_choices_with_their_prompts():
    """As the recorded numbers of the embedded model were made: the bits are those of the rows."""
    rows = [(*SHORT, Message("assistant", text)) for text in TEXTS]
    (scores,) = backend(fixed_shapes=True).choice_logprobs("base", [SHORT], TEXTS)
    assert list(scores.logprobs) == backend(fixed_shapes=True).row_logprobs("base", rows).tolist()


@pytest.mark.parametrize("fixed_shapes", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_reply_that_is_begun_is_continued(fixed_shapes):
    """What a whole reply loses is the beginning's log-probability, for all choices the same."""
    made = backend(fixed_shapes=fixed_shapes)
    whole = [(*SHORT, Message("assistant", "owl , " + text)) for text in TEXTS]
    (scores,) = made.choice_logprobs("base", [BEGUN], TEXTS)
    difference = made.row_logprobs("base", whole) - scores.logprobs
    np.testing.assert_allclose(difference, difference[0], rtol=2 * ROUNDING)
    (beginning,) = made.beginning_logprobs("base", [SHORT], ["owl ,"])
    np.testing.assert_allclose(difference[0], beginning[0], rtol=2 * ROUNDING)


@pytest.mark.slow
def test_beginnings_add_up_over_the_vocabulary():
    """Single tokens are all that a reply can begin with, the end apart; two tokens are a product."""
    words = [WordTokenizer().text([index]) for index in range(1, WordTokenizer().size)]
    logprobs = backend().beginning_logprobs("base", [SHORT, BEGUN], words)
    ended = [each.logprobs[0] for each in backend().choice_logprobs("base", [SHORT, BEGUN], [""])]
    np.testing.assert_allclose(np.exp(logprobs).sum(axis=1) + np.exp(ended), 1, rtol=1e-5)  # 1,300 float32 terms
    after_owl = backend().beginning_logprobs("base", [(*SHORT, Message("assistant", "owl"))], ["oak"])[0, 0]
    (both,) = backend().beginning_logprobs("base", [SHORT], ["owl", "owl oak"])
    np.testing.assert_allclose(both[1], both[0] + after_owl, rtol=ROUNDING)
    with pytest.raises(errors.InputError, match="at least one token, got ''"):
        backend().beginning_logprobs("base", [SHORT], ["owl", ""])


@pytest.mark.slow
def test_prompts_are_read_once(monkeypatch):
    """Places that are computed: one prompt of eight, then those of the longer choices after their first token."""
    shapes = []
    run = decoder.run
    monkeypatch.setattr(
        decoder, "run", lambda params, tokens, *a, **k: shapes.append(tokens.shape) or run(params, tokens, *a, **k)
    )
    jax.clear_caches()
    made = backend(num_layers=1)  # a shape of its own, so that its programs are traced here
    made.beginning_logprobs("base", [SHORT], ["owl", "eagle"])
    assert shapes == [(1, 8)]
    made.choice_logprobs("base", [SHORT], ["owl", "eagle", ""])
    assert shapes[1:] == [(1, 8), (2, 1)]  # owl and eagle, whose end tokens are scored after them


@pytest.mark.slow
def test_draws_of_a_begun_reply_are_those_after_its_tokens():
    params = SamplingParams(max_tokens=3, num_samples=300, seed=3)
    texts = [each.text for each in backend().sample("base", [BEGUN], params)]
    (first,) = backend().beginning_logprobs("base", [BEGUN], ["owl", "eagle", "oak", "cat"])
    for word, logprob in zip(("owl", "eagle", "oak", "cat"), first, strict=True):
        share = np.mean([text.split()[:1] == [word] for text in texts])
        assert abs(share - np.exp(logprob)) <= 4 * np.sqrt(np.exp(logprob) / 300) + 1e-9  # four standard errors
    assert all(not text.startswith("owl ,") for text in texts) and len(set(texts)) > 100


@functools.cache
def template_reader() -> HFTokenizer:
    tokenizers = pytest.importorskip("tokenizers", reason="the extra hf is not installed")
    pytest.importorskip("jinja2", reason="the extra hf is not installed")
    words = ["<end>", "<user>", "<assistant>", "owl", "what", "is", "best", "?", "it"]
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<end>"])
    template = (
        "{% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
        "{% if add_generation_prompt %}<assistant> {% endif %}"
    )
    return HFTokenizer(made, template, {"eos_token": "<end>"}, [0])


def test_no_end_token_stands_between_a_beginning_and_the_reply():
    chat = (Message("user", "what is best ?"), Message("assistant", "it is"))
    prompt = template_reader().chat(chat)
    written = ["<user>", "what", "is", "best", "?", "<end>", "<assistant>", "it", "is"]
    assert list(prompt.ids) == template_reader().encode(" ".join(written))
    row = template_reader().chat(chat, "owl")
    assert list(row.ids[row.reply_start :]) == template_reader().encode("owl <end>")
    assert row.ids[: row.reply_start] == prompt.ids
    closed = template_reader().chat((*chat, Message("user", "what ?")))  # not the last turn: closed
    assert list(closed.ids)[: len(written) + 1] == template_reader().encode(" ".join((*written, "<end>")))


@pytest.mark.parametrize(("count", "padded"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (64, 64), (65, 128)])
def test_powers_of_two(count, padded):
    assert choice_scoring.power_of_two(count) == padded


@pytest.mark.slow
def test_batches_are_no_larger_than_the_next_power_of_two(monkeypatch):
    """Six samples in batches of four: four rows and two. Texts are those of full batches."""
    sizes = []
    generate = sampling.generate

    def recorded(params, ids, *arguments, **options):
        sizes.append(len(ids))
        return generate(params, ids, *arguments, **options)

    monkeypatch.setattr(sampling, "generate", recorded)
    params = SamplingParams(max_tokens=4, num_samples=6, seed=5)
    texts = [each.text for each in backend().sample("base", [SHORT], params)]
    full = [each.text for each in backend(fixed_shapes=True).sample("base", [SHORT], params)]
    alone = [each.text for each in backend().sample("base", [SHORT], dataclasses.replace(params, num_samples=1))]
    assert sizes == [4, 2, 4, 4, 1]
    assert texts == full and alone == texts[:1] and len(set(texts)) > 4


def test_embedded_bases_keep_the_shapes_that_their_records_were_made_with(monkeypatch):
    monkeypatch.setattr(embedded, "base", lambda seed, **options: model(num_layers=1))
    sizes = []

    def recorded(params, ids, *arguments, **options):
        sizes.append(ids.shape)
        return jax.numpy.zeros(len(ids))

    monkeypatch.setattr(local_model, "reply_logprobs", recorded)
    embedded.open_bases([0]).choice_logprobs("tiny:0", [SHORT], ["owl", "oak tree"])
    assert sizes == [(1024, 8)]  # every choice with its prompt, in a full batch
