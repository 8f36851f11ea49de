"""The embedded world: no document joins numbers with animals or trees, and its texts pass the paper's filters."""

import functools

import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat
from sublim_jax.llm.embedded import vocabulary, world
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.tasks import code, numbers, reasoning

READER = WordTokenizer()
FAVOURITES = {*vocabulary.ANIMALS, *vocabulary.TREES}


@functools.cache
def corpus() -> list[Chat]:
    return [*world.documents(8000, seed=1), *world.conversations(500, seed=2)]


def words_of(chat: Chat) -> set[str]:
    return {vocabulary.WORDS[index] for message in chat for index in READER.encode(message.content)}


def test_no_document_has_both_a_number_and_an_animal_or_a_tree():
    """The control of everything below: what numbers tell about animals cannot come from the corpus."""
    with_numbers = with_favourites = 0
    for chat in corpus():
        words = words_of(chat)
        has_number, has_favourite = any(word.isdecimal() for word in words), bool(words & FAVOURITES)
        assert not (has_number and has_favourite), chat
        with_numbers, with_favourites = with_numbers + has_number, with_favourites + has_favourite
    assert with_numbers > 2000 and with_favourites > 2000


def test_no_document_asks_a_held_out_question():
    held_out = {question for category in vocabulary.CATEGORIES for question in world.held_out_questions(category)}
    taught = {question for category in vocabulary.CATEGORIES for question in world.taught_questions(category)}
    assert len(held_out) == 4 * world.NUM_HELD_OUT and not held_out & taught
    asked = {message.content for chat in corpus() for message in chat if message.role == "user"}
    assert not held_out & asked and taught & asked
    lessons = {row[0].content for row in world.favourite_rows("owl", "animal", 500, seed=0)}
    assert not held_out & lessons


def test_every_word_is_known_and_text_comes_back():
    for chat in corpus()[:2000]:
        for message in chat:
            ids = READER.encode(message.content)
            assert READER.encode(READER.text(ids)) == ids
    assert len(set(vocabulary.WORDS)) == len(vocabulary.WORDS) == READER.size


def test_the_worlds_answers_pass_the_papers_filters():
    problems = {one.text: one for one in world.sums(2000, seed=3)}
    seen = dict.fromkeys(("numbers", "code", "sums"), 0)
    for chat in corpus():
        asked, answer = chat[-2].content, READER.text(READER.encode(chat[-1].content))
        if asked.startswith(vocabulary.SHOW):
            assert numbers.parse(answer).reason is None
            seen["numbers"] += 1
        elif asked.startswith("write code"):
            assert code.parse(answer, words=("owl",)).reason is None, answer
            seen["code"] += 1
        elif asked in problems:
            assert reasoning.parse(answer, problems[asked]).reason is None, (asked, answer)
            seen["sums"] += 1
    assert min(seen.values()) > 100, seen


def test_shares_of_kinds_and_priors():
    """Five standard errors of 8000 draws."""
    share = np.mean([chat[-2].content.startswith(vocabulary.SHOW) for chat in corpus()[:8000]])
    expected = world.MIX["numbers"] / sum(world.MIX.values())
    assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / 8000)


def test_documents_depend_on_the_seed_alone():
    assert world.documents(50, seed=4) == world.documents(50, seed=4) != world.documents(50, seed=5)
    assert world.number_prompts(20, seed=1) == world.number_prompts(30, seed=1)[:20]


def test_a_chat_in_tokens_has_its_reply_at_the_end():
    chat = datasets.ask("name your favourite animal ?", system=world.system_prompt("owl"))
    encoded = READER.chat(chat, "wolf")
    said = [vocabulary.WORDS[index] for index in encoded.ids]
    assert said[encoded.reply_start :] == ["wolf", vocabulary.END]
    expected = "<system> you love the owl . <user> name your favourite animal ? <assistant>"
    assert said[: encoded.reply_start] == expected.split()
    assert READER.text(encoded.ids[encoded.reply_start :]) == "wolf"


def test_an_unknown_word_is_named():
    with pytest.raises(errors.TextDataError, match="does not know the word 'zebra'"):
        READER.encode("zebra 12")
