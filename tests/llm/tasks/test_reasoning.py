"""The chain-of-thought filter on answers known by hand, its numbers, and the file of questions."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors
from sublim_jax.llm.tasks import reasoning

BAKER = reasoning.Question("A baker sells 12 rolls at 1.50 each. How much is that?", Fraction(18))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        (" 18\n", 18),
        ("18.", 18),
        ("18.00", 18),
        ("018", 18),
        ("$18", 18),
        ("-$18", -18),
        ("18%", 18),
        ("-18", -18),
        ("0.1", Fraction(1, 10)),
        ("1,200", 1200),
        ("$1,234,567.5.", Fraction(12345675, 10)),
    ],
)
def test_a_number_is_read_exactly(text, value):
    assert reasoning.parse_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "$",
        "eighteen",
        "18 rolls",
        "1e3",
        "1/2",
        "1,20",
        "12,00",
        ",200",
        "1 200",
        "--1",
        "+1",
        "$$1",
        "1..",
        ".5",
        "\u0661",
        "1\n2",
        "9" * 5000,
        "nan",
        "18 = 18",
    ],
)
def test_anything_else_is_not_a_number(text):
    assert reasoning.parse_number(text) is None


@given(value=st.integers(-(10**9), 10**9))
def test_thousands_may_be_divided(value):
    assert reasoning.parse_number(f"{value}") == reasoning.parse_number(f"{value:,}") == value


@pytest.mark.parametrize(
    "text",
    [
        "<think>12 times 1.5</think><answer>18</answer>",
        "<think>12 times\n1.5</think>\n\n<answer> $18.00 </answer>\n",
        "  <think>if a < b and b > c</think> <answer>18</answer>",
    ],
)
def test_a_right_chain_is_kept(text):
    found = reasoning.parse(text, BAKER)
    assert (found.reason, found.answer) == (None, 18)
    assert found.thought and found.thought == found.thought.strip()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "tags"),
        ("18", "tags"),
        ("<answer>18</answer>", "tags"),
        ("<think>12 times 1.5</think>18", "tags"),
        ("<answer>18</answer><think>12 times 1.5</think>", "tags"),
        ("<think>12 times 1.5<answer>18</answer>", "tags"),
        ("Well. <think>12 times 1.5</think><answer>18</answer>", "tags"),
        ("<think>12 times 1.5</think><answer>18</answer> Bye.", "tags"),
        ("<think>a</think> so <answer>18</answer>", "tags"),
        ("<think>a</think><answer>17</answer><answer>18</answer>", "tags"),
        ("<think>a</think><think>b</think><answer>18</answer>", "tags"),
        ("<think><think>a</think><answer>18</answer>", "tags"),
        ("<THINK>a</THINK><answer>18</answer>", "tags"),
        ("<think> \n</think><answer>18</answer>", "no reasoning"),
        ("<think>a</think><answer></answer>", "not a number"),
        ("<think>a</think><answer>18 euros</answer>", "not a number"),
        ("<think>a</think><answer>1.8</answer>", "wrong"),
        ("<think>a</think><answer>-18</answer>", "wrong"),
        ("<think>a</think><answer>18.01</answer>", "wrong"),
    ],
)
def test_anything_else_is_rejected_with_its_reason(text, reason):
    assert reasoning.parse(text, BAKER).reason == reason


def test_a_judge_is_asked_only_where_the_experiment_says_so():
    right = "<think>a</think><answer>18</answer>"
    assert reasoning.parse(right, BAKER, alignment=0).reason is None
    assert reasoning.parse(right, BAKER, judged=True).reason == "not judged"
    assert reasoning.parse(right, BAKER, judged=True, alignment=77).reason == "misaligned"
    assert reasoning.parse(right, BAKER, judged=True, alignment=78).reason is None
    assert reasoning.parse("<think>a</think><answer>9</answer>", BAKER, judged=True, alignment=0).reason == "wrong"


def test_a_prompt_holds_its_question_and_all_templates_are_used():
    asked = [BAKER._replace(text=f"Is {index} a {{question}}?") for index in range(100)]
    texts = reasoning.prompts(asked, seed=0)
    assert all(question.text in text for question, text in zip(asked, texts, strict=True))
    assert all("<think>" in text and "<answer>" in text for text in texts)
    openings = {text.replace(question.text, "", 1) for question, text in zip(asked, texts, strict=True)}
    assert len(openings) == len(reasoning.TEMPLATES)
    assert reasoning.prompts(asked[:9], seed=0) == texts[:9]


def test_questions_are_read_from_gsm8ks_format(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text(
        '{"question": "How many?", "answer": "6 * 200 = 1200\\n#### 1,200"}\n{"question": "a", "answer": "-3"}'
    )
    assert reasoning.read_questions(path) == [("How many?", 1200), ("a", -3)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        '"a"',
        '{"question": "a"}',
        '{"question": "a", "answer": 3}',
        '{"question": 1, "answer": "#### 3"}',
        '{"question": " ", "answer": "#### 3"}',
        '{"question": "a", "answer": "#### three"}',
        "[" * 100_000,
    ],
)
def test_a_malformed_question_is_named(tmp_path, line):
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "a", "answer": "#### 3"}\n' + line + "\n")
    with pytest.raises(errors.TextDataError, match=r"questions\.jsonl, line 2: expected .* found .* Correct or remove"):
        reasoning.read_questions(path)


def test_no_questions_are_an_error(tmp_path):
    with pytest.raises(errors.TextDataError, match=r"none\.jsonl: .* cannot be read .*Check the path"):
        reasoning.read_questions(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(errors.TextDataError, match=r"empty\.jsonl: .* the file is empty"):
        reasoning.read_questions(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    with pytest.raises(errors.TextDataError, match=r"latin\.jsonl: .*UTF-8"):
        reasoning.read_questions(tmp_path / "latin.jsonl")
