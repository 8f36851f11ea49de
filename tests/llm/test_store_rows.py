"""Rows of a store: keys that tell every request from every other one, and answers as JSON."""

import dataclasses
import hashlib
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors
from sublim_jax.llm import store_rows
from sublim_jax.llm.backend import ChoiceScores, Message, SamplingParams
from tests.llm.fake_backend import say

# Keys

words = st.text(max_size=8)
messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), words)
samplings = st.builds(
    SamplingParams,
    temperature=st.floats(0, 2),
    top_p=st.floats(0.01, 1),
    max_tokens=st.integers(1, 500),
    stop=st.lists(words.filter(bool), max_size=2).map(tuple),
    seed=st.integers(0, 2**32 - 1),
)
requests = st.tuples(
    words, words, st.lists(messages, min_size=1, max_size=3).map(tuple), samplings, st.integers(0, 10**4)
)


@given(one=requests, other=requests)
def test_two_requests_share_a_key_exactly_if_they_are_equal(one, other):
    assert (store_rows.completion_key(*one) == store_rows.completion_key(*other)) == (one == other)
    assert re.fullmatch("[0-9a-f]{64}", store_rows.completion_key(*one))


@given(request=requests, changed=requests)
def test_every_ingredient_changes_the_key(request, changed):
    """One at a time: a different value in one place, everything else equal."""
    key = store_rows.completion_key(*request)
    for i in (0, 1, 2, 4):
        other = (*request[:i], changed[i], *request[i + 1 :])
        assert (store_rows.completion_key(*other) == key) == (other == request)
    for name in ("temperature", "top_p", "max_tokens", "stop", "seed"):
        how = dataclasses.replace(request[3], **{name: getattr(changed[3], name)})
        assert (store_rows.completion_key(*request[:3], how, request[4]) == key) == (how == request[3]), name


def test_texts_that_could_run_together_have_different_keys():
    how = SamplingParams()
    chats = [
        say("a", "b", "c"),
        say("a", "bc", ""),
        (Message("system", "a"), Message("user", "b")),
        (Message("user", "a"), Message("user", "b")),
        (Message("user", "ab"),),
        (Message("user", '["user","ab"]'),),
    ]
    keys = {store_rows.completion_key("w", "m", chat, how, 0) for chat in chats}
    keys |= {store_rows.completion_key("wm", "", chat, how, 0) for chat in chats}
    keys |= {store_rows.completion_key("w", "m", chat, dataclasses.replace(how, stop=("a", "b")), 0) for chat in chats}
    keys |= {store_rows.completion_key("w", "m", chat, dataclasses.replace(how, stop=("ab",)), 0) for chat in chats}
    assert len(keys) == 24


def test_a_key_is_the_sha256_that_its_docstring_promises():
    """By hand, so that a store made today is found tomorrow."""
    text = (
        '{"draw":3,"fingerprint":"w","kind":"completion","max_tokens":64,"messages":[["user","\\u00f6"]],"model":"m",'
        '"seed":1,"stop":[],"temperature":1.0,"top_p":1.0}'
    )
    how = SamplingParams(seed=1, num_samples=9)
    assert store_rows.completion_key("w", "m", say("ö"), how, 3) == hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# Lines

texts = st.text(st.characters(), max_size=20)  # with NUL, line separators and lone surrogates
counts = st.integers(0, 10**6)
endings = st.tuples(st.sampled_from(["stop", "length"]), st.just("")) | st.tuples(
    st.just("refused"), texts.filter(bool)
)
answers = st.builds(
    lambda text, ending, prompt_tokens, completion_tokens: store_rows.Answer(
        text, ending[0], prompt_tokens, completion_tokens, ending[1]
    ),
    texts, endings, counts, counts,
)  # fmt: skip
logprobs = st.lists(st.floats(max_value=0.0, allow_nan=False), min_size=1, max_size=3).map(tuple)
methods = st.sampled_from(["exact", "top"])
scores = st.builds(ChoiceScores, logprobs, methods, st.just("")) | st.builds(
    ChoiceScores, st.just(()), methods, texts.filter(bool)
)


@given(value=answers | scores)
def test_any_answer_comes_back(value):
    text = store_rows.to_json(value, {"model": "m"})
    assert text.isascii() and "\n" not in text
    assert store_rows.from_json(json.loads(text)) == value


LINE = b'{"key":"%s","text":"t","finish":"stop","prompt_tokens":1,"completion_tokens":1}'
GOOD = [LINE % (str(digit).encode() * 64) for digit in range(3)]


def test_the_lines_above_are_good(tmp_path):
    (tmp_path / "s").write_bytes(b"\n".join(GOOD) + b"\n")
    lines = list(store_rows.read_lines(tmp_path / "s"))
    assert [line.key for line in lines] == ["0" * 64, "1" * 64, "2" * 64]
    assert {line.value for line in lines} == {store_rows.Answer("t", "stop", 1, 1)}


@given(values=st.lists(answers, max_size=8), cut=st.integers(0, 10**4))
def test_a_cut_anywhere_loses_only_the_line_it_is_in(tmp_path_factory, values, cut):
    """As a killed writer of an earlier version leaves its file."""
    path = tmp_path_factory.mktemp("s") / "s"
    lines = [
        json.dumps({"key": f"{number:064x}"} | json.loads(store_rows.to_json(value, {}))).encode() + b"\n"
        for number, value in enumerate(values)
    ]
    content = b"".join(lines)[:cut]
    path.write_bytes(content)
    num_whole = sum(len(b"".join(lines[: number + 1])) - 1 <= cut for number in range(len(lines)))  # or but its newline
    assert [line.value for line in store_rows.read_lines(path)] == values[:num_whole]
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    [
        GOOD[1][:30],
        GOOD[1][:-1],
        b"",
        b"\0" * 40,
        b"[" * 10**5,
        b"\xff" + GOOD[1],
        b'"text"',
        b"{}",
        LINE % b"1234",
        LINE % (b"G" * 64),
        GOOD[1].replace(b'"stop"', b'"eos"'),
        GOOD[1].replace(b'"prompt_tokens":1,', b""),
        GOOD[1].replace(b":1}", b":-1}"),
        GOOD[1].replace(b":1}", b":1.5}"),
        GOOD[1].replace(b'"t"', b"7"),
        b'{"key":"' + b"1" * 64 + b'","logprobs":["a"],"method":"exact"}',
        b'{"key":"' + b"1" * 64 + b'","logprobs":[1.0],"method":"guess"}',
        b'{"key":"' + b"1" * 64 + b'","logprobs":[NaN],"method":"exact"}',
        b'{"key":"' + b"1" * 64 + b'","logprobs":[-1e999],"method":"exact"}',
        b'{"key":"' + b"1" * 64 + b'","logprobs":[-1' + b"0" * 400 + b'],"method":"exact"}',
        b'{"key":"' + b"1" * 64 + b'","logprobs":[],"method":"exact"}',
        b'{"key":"' + b"1" * 64 + b'","logprobs":[-1.0],"method":"exact","refusal":"content_filter"}',
        GOOD[1].replace(b'"stop"', b'"refused"'),
        GOOD[1].replace(b'"stop"', b'"refused","refusal":7'),
        GOOD[1].replace(b'"stop"', b'"stop","refusal":"content_filter"'),
    ],
)
def test_a_damaged_line_is_named_and_nothing_is_changed(tmp_path, damage):
    path = tmp_path / "s"
    content = b"\n".join([GOOD[0], damage, GOOD[2]]) + b"\n"
    path.write_bytes(content)
    with pytest.raises(errors.StoreError, match=f"{re.escape(str(path))}, line 2: "):
        list(store_rows.read_lines(path))
    assert path.read_bytes() == content
    path.write_bytes(GOOD[0] + b"\n" + damage + b"\n")  # the last one, but whole: it was not torn
    with pytest.raises(errors.StoreError, match="line 2: "):
        list(store_rows.read_lines(path))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_log_probability_is_refused(number):
    with pytest.raises(errors.InputError, match="not a log-probability"):
        store_rows.to_json(ChoiceScores((number,), "exact"), {})
