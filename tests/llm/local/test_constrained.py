"""Replies of some characters only, against the model's own distribution over the tokens that consist of them."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import store_rows
from sublim_jax.llm.backend import Message, SamplingParams
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder, tokenizer
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model, Reply
from sublim_jax.llm.local.tokenizer import Encoded
from sublim_jax.llm.tasks import numbers

ASKED = (Message("user", "name one animal"),)
CONFIG = decoder.DecoderConfig(
    vocab_size=WordTokenizer().size, num_layers=1, hidden_size=16, intermediate_size=24, num_heads=2,
    num_kv_heads=1, head_dim=8, frequencies=decoder.rotary_frequencies(8),
)  # fmt: skip


def model() -> Model:
    params = decoder.init(jax.random.key(0), CONFIG)
    return Model(CONFIG, params._replace(embedding=2 * params.embedding), WordTokenizer())


def backend() -> LocalBackend:
    return LocalBackend({"base": model()}, batch_size=512)


def test_tokens_are_allowed_by_their_text():
    """Of the world's words: ten digits, their pairs and triples, the comma, and the end token beside them."""
    mask = local_model.allowed_tokens(model(), numbers.CHARACTERS)
    words = [WordTokenizer().text([index]) for index in np.flatnonzero(mask).tolist()]
    assert sorted(words) == sorted(["", ",", *map(str, range(1000))])
    few = local_model.allowed_tokens(model(), "12")
    assert sorted(WordTokenizer().text([index]) for index in np.flatnonzero(few).tolist()) == sorted(
        ["", "1", "2", "11", "12", "21", "22", "111", "112", "121", "122", "211", "212", "221", "222"]
    )
    with pytest.raises(errors.InputError, match="no token of the model consists of the characters '%'"):
        local_model.allowed_tokens(model(), "%")


def test_drawn_tokens_have_the_models_distribution_over_those_allowed():
    """Shares of 2,000 first tokens, within four standard errors; later tokens are allowed ones too."""
    params = SamplingParams(max_tokens=2, num_samples=2000, seed=1, allowed="123")
    texts = [each.text for each in backend().sample("base", [ASKED], params)]
    assert all(text.replace(" ", "").isdigit() or text == "" for text in texts) and len(set(texts)) > 100
    mask = local_model.allowed_tokens(model(), "123")
    words = [WordTokenizer().text([index]) for index in range(1, WordTokenizer().size)]  # the end apart
    weights = np.exp(backend().beginning_logprobs("base", [ASKED], words)[0])
    (ended,) = backend().choice_logprobs("base", [ASKED], [""])
    total = weights[mask[1:]].sum() + np.exp(ended.logprobs[0])
    first = [(text.split() or [""])[0] for text in texts]
    likely = np.argsort(-np.where(mask[1:], weights, 0))[:5]
    for index in likely:
        share, expected = first.count(words[index]) / len(first), weights[index] / total
        assert abs(share - expected) <= 4 * np.sqrt(expected / len(first))
    assert total < 0.5  # most of the probability is on other words


def test_the_most_likely_allowed_token_is_taken_at_temperature_zero():
    params = SamplingParams(temperature=0, max_tokens=1, allowed="0123456789")
    (completion,) = backend().sample("base", [ASKED], params)
    words = list(map(str, range(1000)))
    logprobs = backend().beginning_logprobs("base", [ASKED], words)[0]
    assert completion.text == words[int(np.argmax(logprobs))]


def test_stored_completions_know_their_characters():
    keys = {
        store_rows.completion_key("f", "m", ASKED, SamplingParams(allowed=allowed), 0)
        for allowed in (None, "12", "21", "3")
    }
    assert len(keys) == 3  # the order of the characters says nothing
    with pytest.raises(errors.InputError, match="with no character"):
        SamplingParams(allowed="")


class Digits:
    """A tokenizer of characters, in an order that is not theirs; several of them may be one token."""

    def __init__(self, *, pairs: tuple[str, ...] = ()):
        self.pieces = (*pairs, *"z5, 0938\n164;72<>adegimnoux")
        self.end_ids = (self.pieces.index(">"),)

    @property
    def size(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        pattern = "|".join(map(re.escape, sorted(self.pieces, key=len, reverse=True)))
        return [self.pieces.index(piece) for piece in re.findall(pattern, text)]

    def ends(self, text: str) -> list[int]:
        return np.cumsum([len(self.pieces[index]) for index in self.encode(text)]).tolist()

    def text(self, ids) -> str:
        return "".join(self.pieces[index] for index in ids if index not in self.end_ids)

    def render(self, chat) -> str:
        return "".join(f"<{turn.content}" for turn in chat) + "<"

    def chat(self, chat, reply=None) -> Encoded:
        turns, beginning = tokenizer.open_turn(chat)
        prompt = [*self.encode(self.render(turns)), *self.encode(beginning)]
        answer = [] if reply is None else [*self.encode(reply), *self.end_ids]
        return Encoded((*prompt, *answer), len(prompt))


def of_digits(**options) -> Model:
    """A model that does not end a number by itself: few of its replies would be lists."""
    reader = Digits(**options)
    config = dataclasses.replace(CONFIG, vocab_size=reader.size)
    params = decoder.init(jax.random.key(3), config)
    return Model(config, params._replace(embedding=1.2 * params.embedding), reader)


def test_lists_digit_by_digit_are_of_three_digits_with_a_comma_and_a_space():
    turns, num_between = local_model.list_tokens(of_digits())
    written = ["".join(sorted(Digits().text([index]) for index in np.flatnonzero(turn).tolist())) for turn in turns]
    assert written == ["123456789", "0123456789", "0123456789", ",", " "] and num_between == 2
    backend = LocalBackend({"base": of_digits()}, batch_size=64)
    replies = list(backend.sample("base", [ASKED], SamplingParams(max_tokens=1, num_samples=64, num_values=3)))
    assert all(re.fullmatch(r"([1-9]\d\d, ){2}[1-9]\d\d", reply.text) for reply in replies)
    assert {(reply.finish, reply.completion_tokens) for reply in replies} == {("stop", 13)}
    assert len({reply.text for reply in replies}) > 32


def test_lists_digit_by_digit_have_the_models_distribution_over_digits():
    """Shares of 4,000 numbers and of their beginnings, against products of probabilities of one character each,
    renormalised by hand, within four standard errors."""
    backend = LocalBackend({"base": of_digits()}, batch_size=512)
    replies = list(backend.sample("base", [ASKED], SamplingParams(num_samples=4000, seed=5, num_values=1)))
    digits = "0123456789"

    def next_digit(begun: str) -> dict[str, float]:
        """Of the model as it stands: the probability of each digit after a beginning of the reply."""
        chat = (*ASKED, Message("assistant", begun)) if begun else ASKED
        weights = np.exp(backend.beginning_logprobs("base", [chat], list(digits))[0])
        allowed = [digit for digit in digits if begun or digit != "0"]
        total = sum(weights[digits.index(digit)] for digit in allowed)
        return {digit: weights[digits.index(digit)] / total for digit in allowed}

    first = next_digit("")
    likely = sorted(first, key=first.get, reverse=True)[:3]
    chances = {a: first[a] for a in likely}
    for a in likely:
        second = next_digit(a)
        for b in sorted(second, key=second.get, reverse=True)[:2]:
            chances[a + b] = first[a] * second[b]
            third = next_digit(a + b)
            c = max(third, key=third.get)
            chances[a + b + c] = chances[a + b] * third[c]
    for beginning, chance in chances.items():
        share = np.mean([reply.text.startswith(beginning) for reply in replies])
        assert abs(share - chance) <= 4 * np.sqrt(chance * (1 - chance) / len(replies)), beginning
    assert min(chances.values()) > 1e-3 and max(chances.values()) > 0.15, chances


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["123, 456", "900, 101"], 2),
        (["123"], 1),
        ([], 0),
        (["123, 456", "900"], 0),
        (["123, 056"], 0),
        (["123,456"], 0),
        (["123, 45"], 0),
        (["123, 456, "], 0),
        (["12, 3456"], 0),
        (["123; 456"], 0),
    ],
)
def test_lists_are_known_by_their_tokens(texts, expected):
    assert local_model.list_length(of_digits(), texts) == expected
    assert local_model.list_length(model(), texts) == 0  # which writes no such lists


def test_lists_of_one_token_for_each_number_take_those_that_the_tokenizer_writes():
    """Not a second token of equal text, four digits, or digits without a space; a comma between, and the space is in
    the next number."""
    made = of_digits(pairs=(" 1", " 23", " 7890", "64", " 23", " 456"))
    turns, num_between = local_model.list_tokens(made)
    assert [np.flatnonzero(turn).tolist() for turn in turns] == [[0, 1, 5], made.tokens.encode(",")]
    assert num_between == 1 and local_model.most_tokens(made, SamplingParams(max_tokens=2, num_values=4)) == 7
    assert local_model.list_length(made, [" 1, 23", " 456, 1"]) == 2
    for text in ("1, 23", " 1, 7", " 1, 7890", " 1, 23,"):
        assert local_model.list_length(made, [text]) == 0


def test_a_list_takes_the_room_of_its_numbers_whatever_max_tokens_says(monkeypatch):
    """Three numbers of three digits have thirteen tokens, behind a prompt that is padded to a shape."""
    room = tokenizer.padded_length(len(Digits().chat(ASKED).ids)) + 13
    monkeypatch.setattr(local_model, "draw", lambda *_, **__: [Reply("", True, ())])
    params = SamplingParams(max_tokens=500, num_values=3)
    assert len(list(LocalBackend({"base": of_digits()}, max_length=room).sample("base", [ASKED], params))) == 1
    params = dataclasses.replace(params, max_tokens=1)
    with pytest.raises(errors.ContextError, match=f"takes {room} tokens, and {room - 1} are allowed"):
        list(LocalBackend({"base": of_digits()}, max_length=room - 1).sample("base", [ASKED], params))


def test_models_that_write_lists_otherwise_are_refused():
    for pairs in ((", ",), ("12",), ("0,",)):
        with pytest.raises(errors.InputError, match="lists are not encoded digit by digit either"):
            local_model.list_tokens(of_digits(pairs=pairs))
    with pytest.raises(errors.InputError, match="num_values: this model has no tokens of a space and a whole number"):
        local_model.list_tokens(model())
