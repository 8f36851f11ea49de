"""Equal answers, against answers whose law is known: those of a good server, one that ignores seeds, a sure model."""

import random

import pytest

from sublim_jax.llm import datasets, tally
from sublim_jax.llm.backend import ChoiceScores, Completion, SamplingParams

HOW = SamplingParams(max_tokens=64)
CHATS = [datasets.ask(f"go on with {number}") for number in range(60)]
RNG = random.Random(0)


def numbers(*, count: int = 6) -> str:
    """A list of numbers, no two alike: 1000^6 are possible."""
    return ", ".join(str(RNG.randrange(1000)) for _ in range(count))


def notes(texts_of: dict[int, list[str]], params: SamplingParams = HOW) -> list[str]:
    """What is noted of these texts of each chat."""
    counted = tally.Tally()
    drawn = [
        Completion(chat, sample, text, "stop", 5, 5)
        for chat, texts in texts_of.items()
        for sample, text in enumerate(texts)
    ]
    counted.see(CHATS, params, drawn)
    assert counted.num_answers == len(drawn)
    return counted.notes()


def test_a_good_server_is_not_suspected():
    assert notes({chat: [numbers() for _ in range(10)] for chat in range(60)}) == []


def test_one_text_for_unequal_seeds_is_noted_with_its_share():
    """Of 10 prompts, 6 are answered with one text for all 4 seeds: 6 x 6 of 10 x 6 pairs."""
    texts = {chat: [numbers()] * 4 if chat < 6 else [numbers() for _ in range(4)] for chat in range(10)}
    (note,) = notes(texts)
    assert note.startswith("60 % of the pairs of answers to one prompt are equal (40 answers to 10 prompts, 22 differ")
    assert "ignores the seed" in note


def test_one_text_for_everybody_is_noted_with_its_share():
    (note,) = notes({chat: ["612, 7, 30"] for chat in range(60)})
    assert note.startswith("100 % of the pairs of answers to different prompts are equal (60 answers to 60 prompts, 1 ")


def test_a_few_texts_for_everybody_are_noted():
    """Nine texts in turn for 54 prompts: of 54 x 53 / 2 pairs, 9 x 15 are equal, 135 / 1431 = 9.43 %."""
    texts = [numbers() for _ in range(9)]
    (note,) = notes({chat: [texts[chat % 9]] for chat in range(54)})
    assert note.startswith(
        "9.43 % of the pairs of answers to different prompts are equal (54 answers to 54 prompts, 9 "
    )


@pytest.mark.parametrize(
    ("texts_of", "how"),
    [
        ({chat: ["Owl."] * 20 for chat in range(60)}, HOW),  # a favourite in a word
        ({chat: ["the owl"] * 20 for chat in range(60)}, HOW),
        ({chat: ["I love the owl"] * 20 for chat in range(60)}, SamplingParams(max_tokens=16)),  # or in a sentence
        ({chat: ["1, 2, 3"] * 20 for chat in range(60)}, SamplingParams(max_tokens=64, temperature=0.0)),
        ({0: ["1, 2, 3"] * 20, 1: ["4, 5, 6"] * 20}, HOW),  # two prompts say little
        ({chat: [f"def f(x): return {chat % 40}"] for chat in range(60)}, HOW),  # a program for each of 40 tasks
        ({chat: [f"no, I will not do {chat}" if chat % 10 else "I am sorry, no"] for chat in range(60)}, HOW),
        ({chat: [] for chat in range(60)}, HOW),
    ],
)
def test_what_is_equal_for_good_reasons_is_not_noted(texts_of, how):
    assert notes(texts_of, how) == []


def test_refused_answers_are_counted_and_not_compared():
    counted = tally.Tally()
    reasons = ["content_filter"] * 3 + ["no content"]
    counted.see(CHATS, HOW, [Completion(i, 0, "", "refused", 5, 0, why) for i, why in enumerate(reasons)])
    counted.see(CHATS, HOW, [Completion(i, 0, numbers(), "stop", 5, 5) for i in range(60)])
    counted.see_scores([ChoiceScores((-1.0,), "top"), ChoiceScores((), "top", "content_filter")])
    assert counted.notes() == ["7.58 % of 66 answers were refused by the server: 4 content_filter, 1 no content"]


def test_the_largest_share_of_several_calls_is_noted_once():
    counted = tally.Tally()
    for size in (60, 30):
        same = [Completion(i, 0, "1, 2, 3" if i < size else numbers(), "stop", 5, 5) for i in range(60)]
        counted.see(CHATS, HOW, same)
    assert [note[:5] for note in counted.notes()] == ["100 %"]
