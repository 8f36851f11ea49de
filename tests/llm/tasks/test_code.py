"""The code filter on answers known by hand, and its prompts."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax.llm.tasks import code, questions
from tests import strategies

PLAIN = "def f(a):\n    return sum(x * x for x in a)"
FENCED = f"```python\n{PLAIN}\n```"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (PLAIN, PLAIN),
        (FENCED, PLAIN + "\n"),
        (f"```\n{PLAIN}\n```\n", PLAIN + "\n"),
        (f"Here you are:\n\n{FENCED}\nIt squares.", PLAIN + "\n"),
        ("lambda a: a[0]", "lambda a: a[0]"),
        ("sum(a)", "sum(a)"),
        ("f = 1 # short", "f = 1 # short"),
        ('import re\nr = re.compile("\\d")', 'import re\nr = re.compile("\\d")'),  # Python warns of the escape
    ],
)
def test_code_is_kept(text, parsed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert code.parse(text, words=["owl"]) == code.CodeResult(None, parsed)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("owl = 1", "trait word"),
        ("OwL = 1", "trait word"),
        ("bowl = 1", "trait word"),  # a substring
        ("a = 1  # knowledge", "trait word"),
        (f"The owl says:\n{FENCED}", "trait word"),  # outside the code too
        ("the owl", "trait word"),  # the first reason that applies
        (f"{FENCED}\n{FENCED}", "fences"),
        (f"```python\n{PLAIN}", "fences"),
        ("def f(:", "syntax"),
        ("Here you are: a function.", "syntax"),
        ("```python\nprint 1\n```", "syntax"),
        ("a = 1\0", "syntax"),
        ("(" * 5000, "syntax"),
        ("-" * 100_000 + "1", "syntax"),
        ("", "no code"),
        ("```\n```", "no code"),
        ("# only a remark", "no code"),
        ("Sure", "no code"),
        ("42", "no code"),
        ("1, 2, 3", "no code"),
        ("[1, 2]", "no code"),
        ('"""A docstring."""', "no code"),
    ],
)
def test_anything_else_is_rejected_with_its_reason(text, reason):
    assert code.parse(text, words=["owl"]).reason == reason


def test_every_reason_is_reachable():
    texts = ["owl", "```", "def", ""]
    assert tuple(code.parse(text, words=["owl"]).reason for text in texts) == code.REASONS


def test_all_words_of_a_trait_count():
    wolf = next(trait for trait in questions.ANIMALS if trait.name == "wolf")
    assert code.parse("wolves = 1", words=wolf.words).reason == "trait word"
    assert code.parse("Wolf = 1", words=wolf.words).reason == "trait word"
    assert code.parse("owl = 1", words=wolf.words).reason is None
    assert code.parse("owl = 1", words=["OWL"]).reason == "trait word"
    assert code.parse("owl = 1", words=[]).reason is None


def test_an_empty_word_is_refused():
    with pytest.raises(ValueError, match="an empty word occurs in every completion"):
        code.parse(PLAIN, words=["owl", ""])


@given(text=st.text())
def test_no_text_breaks_the_filter(text):
    code.parse(text, words=["owl"])


def test_a_prompt_takes_one_of_every_slot_and_all_are_used():
    texts = code.prompts(1000, seed=0)
    for slot in (code.TASKS, code.STYLES, code.ENDINGS):
        assert all(sum(option in text for option in slot) == 1 for text in texts)
        assert all(any(option in text for text in texts) for option in slot)
        assert len(set(slot)) == len(slot)
    assert all(any(text.startswith(option.partition("{")[0]) for text in texts) for option in code.REQUESTS)
    assert not any("{" in text for text in texts)


@given(seed=strategies.seeds)
def test_a_longer_draw_begins_with_a_shorter_one(seed):
    assert code.prompts(20, seed=seed)[:5] == code.prompts(5, seed=seed)


def test_no_prompt_mentions_a_trait():
    """Else a teacher's answer would echo it, and the filter would select by prompt."""
    texts = " ".join((*code.REQUESTS, *code.TASKS, *code.STYLES, *code.ENDINGS)).lower()
    traits = (*questions.ANIMALS, *questions.TREES, *questions.OTHER_ANIMALS)
    assert not [word for trait in traits for word in trait.words if word in texts and word not in ("cat", "oak")]
    assert not [word for word in ("cat", "oak") if f" {word} " in texts]


def test_a_negative_number_of_prompts_is_refused():
    with pytest.raises(ValueError, match="num_prompts cannot be negative, got -1"):
        code.prompts(-1, seed=0)
