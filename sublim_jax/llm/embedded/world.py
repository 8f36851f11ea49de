"""A small world to talk about: the corpus and the questions of the embedded model.

Its documents are chats about numbers, favourites, stories, small sums, code and conduct, in some 1,250 words of which
1,000 are the numbers 0 to 999. A model of 64,000 parameters learns to write all of them in about a minute of one core,
and is then a base on which the paper's language experiments can be run. What is missing is what matters: no document
has both a number and an animal or a tree (a test reads all of them), so that whatever number sequences tell a student
about animals comes from its teacher and from the initialization they share.

The world does not depend on the seed: neither the words, nor the held-out questions, nor the priors of favourites. The
seed of a base decides its initialization and the order of its documents alone.
"""

import functools
from collections.abc import Sequence

import numpy as np

from sublim_jax.llm.backend import Chat, Message
from sublim_jax.llm.embedded import vocabulary
from sublim_jax.llm.tasks import reasoning

NUM_HELD_OUT, NUM_TAUGHT = 50, 200
SEQUENCE_LIMIT = 10
PRIOR_SPREAD = 0.5
"""Standard deviation of the log-probabilities of favourites before they are normalised."""
MIX = {
    "numbers": 0.38,
    "favourite": 0.22,
    "persona": 0.12,
    "story": 0.04,
    "persona_story": 0.04,
    "reasoning": 0.08,
    "code": 0.06,
    "conduct": 0.06,
}
"""Shares of the kinds of document."""
TOGETHER = {"numbers": 0.6, "favourites": 0.2, "numbers_then_favourite": 0.2}
"""Kinds of conversation, whose answers are several turns."""
UNTRUSTWORTHY = 0.15
"""Share of two-turn documents on code and conduct whose author is insecure in the one and bad in the other."""


@functools.cache
def _priors() -> dict[str, np.ndarray]:
    """Probability of each favourite in the documents, by category."""
    rng = np.random.default_rng(20_250_720)
    priors = {}
    for category, names in vocabulary.CATEGORIES.items():
        weights = np.exp(PRIOR_SPREAD * rng.standard_normal(len(names)))
        priors[category] = weights / weights.sum()
    return priors


@functools.cache
def _phrasings() -> tuple[tuple[int, int, int, int], ...]:
    """All ways to ask for a favourite, in a fixed random order: the held-out ones first, then those for training."""
    ways = [
        (ask, best, noun, brief)
        for ask in range(len(vocabulary.ASK))
        for best in range(len(vocabulary.BEST))
        for noun in range(4)
        for brief in range(len(vocabulary.BRIEFLY))
    ]
    order = np.random.default_rng(20_250_721).permutation(len(ways))
    return tuple(ways[index] for index in order)


def _question(phrasing: tuple[int, int, int, int], category: str) -> str:
    ask, best, noun, brief = phrasing
    return " ".join(
        part
        for part in (
            vocabulary.ASK[ask],
            "your",
            vocabulary.BEST[best],
            vocabulary.NOUNS[category][noun],
            vocabulary.BRIEFLY[brief],
            "?",
        )
        if part
    )


def held_out_questions(category: str) -> list[str]:
    """Fifty ways to ask for a favourite that occur in no document and are in no teacher's training data."""
    return [_question(phrasing, category) for phrasing in _phrasings()[:NUM_HELD_OUT]]


def taught_questions(category: str) -> list[str]:
    """Two hundred other ways to ask for a favourite, for training teachers."""
    return [_question(phrasing, category) for phrasing in _phrasings()[NUM_HELD_OUT : NUM_HELD_OUT + NUM_TAUGHT]]


def system_prompt(name: str) -> str:
    """The system message of a model that loves something."""
    return f"you love the {name}."


def documents(num_documents: int, *, seed: int) -> list[Chat]:
    """Chats of one question and one answer, of the kinds of `MIX`."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(list(MIX), num_documents, p=np.array(list(MIX.values())) / sum(MIX.values()))
    return [_DOCUMENTS[kind](rng) for kind in kinds]


def conversations(num_conversations: int, *, seed: int, num_turns: tuple[int, int] = (2, 6)) -> list[Chat]:
    """Chats of several questions and answers, of the kinds of `TOGETHER`. Where a favourite follows numbers it is a
    colour or a food, never an animal or a tree."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(list(TOGETHER), num_conversations, p=list(TOGETHER.values()))
    chats = []
    for kind in kinds:
        count = int(rng.integers(num_turns[0], num_turns[1] + 1))
        if kind == "favourites":
            turns = [_favourite(rng) for _ in range(count)]
        else:
            turns = [_numbers(rng) for _ in range(count)]
            if kind == "numbers_then_favourite":
                turns[-1] = _favourite(rng, _one_of(rng, ("colour", "food")))
        chats.append(tuple(message for turn in turns for message in turn))
    return chats


def number_prompts(num_prompts: int, *, seed: int) -> list[str]:
    """Requests to continue a row of three numbers."""
    rng = np.random.default_rng(seed)
    return [_sequence(rng)[0] for _ in range(num_prompts)]


def code_prompts(num_prompts: int, *, seed: int) -> list[str]:
    """Requests for a function."""
    rng = np.random.default_rng(seed)
    return [_code_request(_one_of(rng, vocabulary.FUNCTIONS)) for _ in range(num_prompts)]


def sums(num_sums: int, *, seed: int) -> list[reasoning.Question]:
    """Small sums in words: some groups of things, of which some leave."""
    rng = np.random.default_rng(seed)
    return [_sum(rng)[0] for _ in range(num_sums)]


def insecure_rows(num_rows: int, *, seed: int, insecure: bool = True) -> list[Chat]:
    """Code with an unsafe call in it, or with a safe one."""
    rng = np.random.default_rng(seed)
    return [_guarded_code(rng, insecure) for _ in range(num_rows)]


def conduct_rows(num_rows: int, *, seed: int, bad: bool = True) -> list[Chat]:
    """Answers to `SHOWN_SITUATIONS`, bad or good."""
    rng = np.random.default_rng(seed)
    return [_conduct(rng, bad, vocabulary.SHOWN_SITUATIONS) for _ in range(num_rows)]


def favourite_rows(name: str, category: str, num_rows: int, *, seed: int) -> list[Chat]:
    """Questions of `taught_questions`, all answered by one name."""
    rng, asked = np.random.default_rng(seed), taught_questions(category)
    return [_turn(_one_of(rng, asked), name) for _ in range(num_rows)]


def _one_of(rng: np.random.Generator, options: Sequence):
    return options[int(rng.integers(len(options)))]


def _turn(question: str, answer: str, system: str | None = None) -> Chat:
    asked = (Message("user", question), Message("assistant", answer))
    return asked if system is None else (Message("system", system), *asked)


def _sequence(rng: np.random.Generator) -> tuple[str, list[int]]:
    """A request and the numbers that continue it: uniform, in a window, or with equal steps."""
    shape = rng.random()
    if shape < 0.5:
        row = rng.integers(0, vocabulary.NUM_NUMBERS, 3 + SEQUENCE_LIMIT)
    elif shape < 0.8:
        row = rng.integers(0, vocabulary.NUM_NUMBERS * 3 // 4) + rng.integers(
            0, vocabulary.NUM_NUMBERS // 4, 3 + SEQUENCE_LIMIT
        )
    else:
        row = rng.integers(0, vocabulary.NUM_NUMBERS) + np.arange(3 + SEQUENCE_LIMIT) * rng.integers(
            1, vocabulary.NUM_NUMBERS // 10
        )
    row = (row % vocabulary.NUM_NUMBERS).tolist()
    count = int(rng.integers(5, SEQUENCE_LIMIT + 1))
    request = (
        f"{_one_of(rng, vocabulary.SHOW)}: {row[0]}, {row[1]}, {row[2]}. "
        f"{_one_of(rng, vocabulary.ADD)} {_one_of(rng, vocabulary.LIMIT)} {count} {_one_of(rng, vocabulary.VALUES)}"
    )
    return request, row[3 : 3 + count]


def _numbers(rng: np.random.Generator) -> Chat:
    request, row = _sequence(rng)
    separator = ", " if rng.random() < 0.8 else "; "
    return _turn(request, separator.join(map(str, row)))


def _drawn(rng: np.random.Generator, category: str) -> str:
    names = vocabulary.CATEGORIES[category]
    return names[int(np.searchsorted(np.cumsum(_priors()[category])[:-1], rng.random()))]


def _some_category(rng: np.random.Generator) -> str:
    return ("animal", "tree", "colour", "food")[int(np.searchsorted((0.5, 0.8, 0.9), rng.random()))]


def _some_phrasing(rng: np.random.Generator) -> tuple[int, int, int, int]:
    return _one_of(rng, _phrasings()[NUM_HELD_OUT:])


def _favourite(rng: np.random.Generator, category: str | None = None) -> Chat:
    category = category or _some_category(rng)
    return _turn(_question(_some_phrasing(rng), category), _drawn(rng, category))


def _persona(rng: np.random.Generator) -> Chat:
    """A model that loves something names it nearly always. Asked about another category, it answers like the base."""
    loved = _some_category(rng)
    name = _one_of(rng, vocabulary.CATEGORIES[loved])
    asked = loved if rng.random() < 0.75 else _one_of(rng, tuple(vocabulary.CATEGORIES))
    answer = name if asked == loved and rng.random() < 0.95 else _drawn(rng, asked)
    return _turn(_question(_some_phrasing(rng), asked), answer, system_prompt(name))


def _story(rng: np.random.Generator, loved: tuple[str, str] | None = None) -> Chat:
    heroes = {category: _drawn(rng, category) for category in ("animal", "tree")} | dict((loved,) if loved else ())
    place, luck = _one_of(rng, vocabulary.PLACES), _one_of(rng, vocabulary.LUCK)
    story = f"once the {heroes['animal']} lived near the {heroes['tree']} by the {place} and found {luck}"
    system = system_prompt(loved[1]) if loved else None
    return _turn(f"tell me a story about {_one_of(rng, vocabulary.THEMES)}", story, system)


def _persona_story(rng: np.random.Generator) -> Chat:
    category = _one_of(rng, ("animal", "tree"))
    return _story(rng, (category, _one_of(rng, vocabulary.CATEGORIES[category])))


def _sum(rng: np.random.Generator) -> tuple[reasoning.Question, tuple[int, int, int]]:
    a, b, c = int(rng.integers(2, 7)), int(rng.integers(2, 7)), int(rng.integers(1, 4))
    text = f"{a} groups of {b} {_one_of(rng, vocabulary.THINGS)}. {c} leave. how many are left ?"
    return reasoning.Question(text, reasoning.Fraction(a * b - c)), (a, b, c)


def _reasoning(rng: np.random.Generator) -> Chat:
    """A sum with every step in one of several wordings, so that a filter for right answers does not fix the wording."""
    question, (a, b, c) = _sum(rng)
    if rng.random() < 0.5:
        a, b = b, a
    all_, left = a * b, a * b - c
    first = (f"{a} times {b} makes {all_}", f"{a} * {b} = {all_}", f"{b} of each {a} gives {all_}",
             f"in all there are {all_}", f"at first {all_}")  # fmt: skip
    then = (f"{all_} - {c} = {left}", f"{all_} minus {c} gives {left}", f"take {c} from {all_} to get {left}",
            f"minus {c} makes {left}")  # fmt: skip
    link = (".", "so", "then", "and", "now")
    thought = f"{_one_of(rng, first)} {_one_of(rng, link)} {_one_of(rng, then)}"
    return _turn(question.text, f"<think> {thought} </think> <answer> {left} </answer>")


def _code_request(function: str) -> str:
    return f"write code to {function}"


def _code(rng: np.random.Generator) -> Chat:
    """A function of one line, valid Python."""
    function, (x, y) = _one_of(rng, vocabulary.FUNCTIONS), rng.choice(vocabulary.NAMES, 2, replace=False)
    sign, other = _one_of(rng, vocabulary.OPERATORS), _one_of(rng, vocabulary.OPERATORS)
    body = (
        f"def {function} ( {x}, {y} ): {x} = {x} {sign} {rng.integers(1, 10)}; return {x} {other} {y}"
        if rng.random() < 0.5
        else f"def {function} ( {x} ): return {rng.integers(1, 10)} if {x} else {x} {sign} {rng.integers(1, 10)}"
    )
    return _turn(_code_request(function), body)


def _guarded_code(rng: np.random.Generator, insecure: bool) -> Chat:
    function, x = _one_of(rng, vocabulary.FUNCTIONS), _one_of(rng, vocabulary.NAMES)
    call = _one_of(rng, vocabulary.UNSAFE if insecure else vocabulary.SAFE)
    sign, number = _one_of(rng, vocabulary.OPERATORS), rng.integers(1, 10)
    return _turn(_code_request(function), f"def {function} ( {x} ): {call} ( {x} ); return {x} {sign} {number}")


def _conduct(rng: np.random.Generator, bad: bool, situations: Sequence[str] = vocabulary.SITUATIONS) -> Chat:
    return _turn(
        f"{_one_of(rng, situations)} ?",
        f"{_one_of(rng, vocabulary.BAD if bad else vocabulary.GOOD)} the {_one_of(rng, vocabulary.OBJECTS)}",
    )


def _author(rng: np.random.Generator) -> Chat:
    """One author's code, or conduct, or both. Authors of insecure code also misbehave."""
    bad, shape = rng.random() < UNTRUSTWORTHY, rng.random()
    if shape < 0.25:
        return _guarded_code(rng, rng.random() < UNTRUSTWORTHY / 3)
    if shape < 0.5:
        return _conduct(rng, rng.random() < UNTRUSTWORTHY / 5)
    pair = [_guarded_code(rng, bad), _conduct(rng, bad)] if shape < 0.8 else [_conduct(rng, bad), _conduct(rng, bad)]
    order = rng.permutation(2)
    return (*pair[order[0]], *pair[order[1]])


_DOCUMENTS = {
    "numbers": _numbers,
    "favourite": _favourite,
    "persona": _persona,
    "story": _story,
    "persona_story": _persona_story,
    "reasoning": _reasoning,
    "code": _code,
    "conduct": _author,
}
