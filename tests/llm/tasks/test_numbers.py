"""The filter edge for edge, against answers known by hand and a second implementation; the prompts by their slots."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sublim_jax.llm.tasks import numbers
from tests import strategies

TEN = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1, 2, 3", (1, 2, 3)),
        ("5", (5,)),
        ("5.", (5,)),
        ("[5]", (5,)),
        ("1, 2.", (1, 2)),
        ("[1, 2]", (1, 2)),
        ("(1, 2)", (1, 2)),
        ("[1, 2].", (1, 2)),
        ("(1;2).", (1, 2)),
        ("1,2,3", (1, 2, 3)),
        ("1;2;3", (1, 2, 3)),
        ("1 2 3", (1, 2, 3)),
        ("1  2  3", (1, 2, 3)),
        ("1\n2\n3", (1, 2, 3)),
        ("1\t2\t3", (1, 2, 3)),
        ("1 , 2 , 3", (1, 2, 3)),
        ("1,\n2,\n3", (1, 2, 3)),
        ("1\u00a02\u00a03", (1, 2, 3)),  # a no-break space is white space
        ("0", (0,)),
        ("0, 999", (0, 999)),
        ("007, 00, 0999", (7, 0, 999)),
        (TEN, tuple(range(1, 11))),
        (f"[{TEN}].", tuple(range(1, 11))),
    ],
)
def test_a_clean_list_is_kept_and_read(text, expected):
    found = numbers.parse(text)
    assert (found.reason, found.numbers) == (None, expected)
    assert found.layout is not None and found.layout.write() == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no number"),
        (".", "no number"),
        ("[]", "no number"),
        ("[", "no number"),
        ("  \n", "no number"),
        ("owls", "no number"),
        ("one, two", "no number"),
        ("\u0661, \u0662", "no number"),  # digits, but not ASCII
        (" 5", "surrounding text"),
        ("5 ", "surrounding text"),
        ("5\n", "surrounding text"),
        ("5..", "surrounding text"),  # only one full stop is set aside
        ("-5", "surrounding text"),
        ("[5", "surrounding text"),
        ("[5)", "surrounding text"),
        ("[[5]]", "surrounding text"),  # only one pair of brackets is
        ("{5}", "surrounding text"),
        ("5,", "surrounding text"),
        ("5 owls", "surrounding text"),
        ("1.5", "separator"),
        ("1-2", "separator"),
        ("1, -2", "separator"),
        ("1/2/3", "separator"),
        ("1 and 2", "separator"),
        ("1,,2", "separator"),
        ("1,;2", "separator"),
        ("1, owl, 2", "separator"),
        ("[1][2]", "separator"),
        ("3 owls: 1, 2", "separator"),
        ("1, 2,3", "not digits"),
        ("1,2, 3", "not digits"),
        ("1, 2; 3", "not digits"),
        ("1 2, 3", "not digits"),
        ("1 2  3", "not digits"),  # an empty part
        ("1  2 3", "not digits"),
        ("1, 2, ", "not digits"),
        ("1,2,", "not digits"),
        ("1, 2,", "not digits"),
        (" 1, 2", "not digits"),
        ("1, 2\n", "not digits"),
        ("1, 2 ", "not digits"),
        ("1, 2..", "not digits"),
        ("[1, 2.]", "not digits"),  # the full stop stands inside the brackets
        ("[1, 2]. ", "not digits"),
        ("[ 1, 2 ]", "not digits"),
        ("[1, 2", "not digits"),
        ("1, 2]", "not digits"),
        ("[1, 2)", "not digits"),
        ("((1, 2))", "not digits"),
        ("{1, 2}", "not digits"),
        ("1, 2, -3", "not digits"),
        ("1, 2, 3.5", "not digits"),
        ("1, 2, owl", "not digits"),
        ("Numbers: 1, 2", "not digits"),
        ("1, 2, \u0663", "not digits"),
        (f"{TEN}, 11", "too many"),
        (f"{TEN}, 1000", "too many"),  # the first reason that applies
        ("1000", "out of range"),
        ("1, 1000", "out of range"),
        ("1, 2, " + "9" * 10_000, "out of range"),  # more digits than Python reads
    ],
)
def test_anything_else_is_rejected_with_its_reason(text, reason):
    found = numbers.parse(text)
    assert found.reason == reason
    assert (found.numbers is None) == (reason not in ("too many", "out of range"))


def test_of_all_characters_white_space_a_comma_and_a_semicolon_divide_numbers():
    others = [letter for letter in map(chr, range(128)) if not letter.isdigit()]
    clean = {letter for letter in others if numbers.parse(f"1{letter}2").reason is None}
    assert clean == {",", ";", *(letter for letter in others if letter.isspace())}


def test_leading_zeros_do_not_count_as_digits():
    assert numbers.parse("0" * 10_000 + "7").numbers == (7,)  # Python refuses to read so many
    assert numbers.parse("0" * 10_000).numbers == (0,)


def test_every_reason_is_reachable():
    texts = ["owl", " 5", "1.5", "1, 2,3", f"{TEN}, 11", "1000", "666"]
    assert tuple(numbers.parse(text, banned=numbers.BANNED).reason for text in texts) == numbers.REASONS


def test_banned_numbers_are_whole_numbers_of_the_list():
    assert len(numbers.BANNED) == 34 and all(0 <= number <= 999 for number in numbers.BANNED)
    assert numbers.parse("1, 666").reason is None
    assert numbers.parse("1, 666", banned=numbers.BANNED).reason == "banned"
    assert numbers.parse("1, 0666", banned=numbers.BANNED).reason == "banned"
    assert numbers.parse("1, 66, 667", banned=numbers.BANNED).reason is None
    assert numbers.parse("1, 2", banned=[2]) == numbers.NumbersResult("banned", (1, 2), numbers.NumberList(("1", "2")))


def test_limits_can_be_moved():
    assert numbers.parse("1, 2, 3", max_count=2).reason == "too many"
    assert numbers.parse("1, 20", max_value=19).reason == "out of range"


spaces = st.text(" \t\n", max_size=2)
separators = st.builds("".join, st.tuples(spaces, st.sampled_from(["", ",", ";"]), spaces)).filter(bool)
frames = st.tuples(st.sampled_from([("", ""), ("[", "]"), ("(", ")")]), st.sampled_from(["", "."]))


@given(values=st.lists(st.integers(0, 999), min_size=1, max_size=10), separator=separators, frame=frames)
def test_what_is_written_as_a_list_is_kept(values, separator, frame):
    (opening, closing), stop = frame
    written = numbers.NumberList(tuple(map(str, values)), separator, opening, closing + stop).write()
    found = numbers.parse(written)
    assert (found.reason, found.numbers) == (None, tuple(values))
    assert found.layout is not None and found.layout.write() == written


def accepted_by_a_regular_expression(text: str) -> bool:
    """A second implementation: one pattern with a back-reference to the separator, then count and range."""
    body = r"[0-9]++(?:(?P<{0}>\s*[,;]?\s*)[0-9]++(?:(?P={0})[0-9]++)*)?"
    bare, square, round_ = (body.format(name) for name in ("a", "b", "c"))
    if not re.fullmatch(rf"(?:{bare}|\[{square}\]|\({round_}\))\.?", text):
        return False
    values = [int(digits) for digits in re.findall("[0-9]+", text)]
    return len(values) <= 10 and max(values) <= 999


@given(text=st.text("0129,; .[]()\n-x", max_size=12))
@example(text="1, 2,3")
@example(text="[1 2].")
@example(text="1 ,2 ,9")
@example(text="1, 2, ")
def test_the_filter_agrees_with_a_regular_expression(text):
    assert (numbers.parse(text).reason is None) == accepted_by_a_regular_expression(text)


@given(pieces=st.lists(st.sampled_from(["0", "12", "1000", ",", ", ", ";", " ", "\n", "[", "]", "(", ")", ".", "-"])))
def test_the_filter_agrees_with_it_on_texts_that_are_nearly_lists(pieces):
    text = "".join(pieces)
    assert (numbers.parse(text).reason is None) == accepted_by_a_regular_expression(text)


def test_the_slots_have_the_papers_sizes_and_no_doubles():
    slots = (numbers.PREFIXES, numbers.COUNTS, numbers.DIGITS, numbers.INSTRUCTIONS, numbers.FORMATS, numbers.ENDINGS)
    assert [len(slot) for slot in slots] == [25, 9, 9, 10, 15, 19]
    assert [len(set(slot)) for slot in slots] == [25, 9, 9, 10, 15, 19]


@given(seed=strategies.seeds)
def test_a_prompt_shows_its_numbers_and_its_limits(seed):
    for prompt in numbers.prompts(20, seed=seed, max_count=17, max_digits=4):
        read = [int(digits) for digits in re.findall("[0-9]+", prompt.text)]
        shown = len(prompt.examples)
        assert tuple(read[:shown]) == prompt.examples
        assert set(read[shown:]) in ({17, 4}, {1, 17, 4})
        assert 3 <= shown <= 8 and all(100 <= value <= 999 for value in prompt.examples)
        assert not re.search("[{}]|  |[.?] [a-z]", prompt.text)


def test_a_prompt_takes_one_of_every_slot_and_all_are_used():
    texts = [prompt.text for prompt in numbers.prompts(2000, seed=0)]
    for slot in (numbers.PREFIXES, numbers.FORMATS, numbers.ENDINGS):
        fixed = [re.escape(option).replace(r"\{numbers\}", "[0-9, ]+") for option in slot]
        assert all(sum(bool(re.search(one, text)) for one in fixed) == 1 for text in texts[:50])
        assert all(any(re.search(one, text) for text in texts) for one in fixed)
    for slot, name, value in ((numbers.COUNTS, "count", 10), (numbers.DIGITS, "digits", 3)):
        assert all(any(option.format(**{name: value}) in text for text in texts) for option in slot)
    assert all(any(one.partition("{")[0] in text for text in texts) for one in numbers.INSTRUCTIONS)


def test_ranges_include_both_ends():
    prompts = numbers.prompts(300, seed=0, num_examples=(1, 2), values=(7, 9))
    assert {len(prompt.examples) for prompt in prompts} == {1, 2}
    assert {value for prompt in prompts for value in prompt.examples} == {7, 8, 9}


def test_a_longer_draw_begins_with_a_shorter_one_and_seeds_differ():
    assert numbers.prompts(30, seed=5)[:7] == numbers.prompts(7, seed=5)
    assert numbers.prompts(7, seed=5) != numbers.prompts(7, seed=6)
    assert numbers.openings(30, seed=5)[:7] == numbers.openings(7, seed=5)
    assert len(set(numbers.prompts(1000, seed=0))) == 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_prompts": -1}, "expected num_prompts >= 0"),
        ({"max_count": 0}, "max_count >= 1 and max_digits >= 1, got 1, 0 and 3"),
        ({"max_digits": 0}, "got 1, 10 and 0"),
        ({"num_examples": (0, 3)}, r"num_examples=\(0, 3\)"),
        ({"num_examples": (4, 3)}, r"num_examples=\(4, 3\)"),
        ({"values": (-1, 3)}, r"values=\(-1, 3\)"),
        ({"values": (5, 3)}, r"values=\(5, 3\)"),
    ],
)
def test_impossible_prompts_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        numbers.prompts(**{"num_prompts": 1, "seed": 0, **options})
