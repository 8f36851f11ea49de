"""The store: nothing is paid for twice, nothing is lost but what was in flight, and the budget is never overdrawn."""

import collections
import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sublim_jax import errors
from sublim_jax.llm import budget as budgets
from sublim_jax.llm import store, types


def say(*contents: str) -> types.Chat:
    """A chat whose turns alternate, ended by the user."""
    roles = ("user", "assistant")
    return tuple(types.Message(roles[(len(contents) - 1 - i) % 2], text) for i, text in enumerate(contents))


class Fake:
    """A backend whose texts are functions of everything they may depend on, and that remembers what it was asked.

    It answers in an order of its own. A text does not depend on the other chats, as `caps.seeds` promises.
    """

    def __init__(self, fingerprint="weights", *, tokens=5, prompt_tokens=7, die_after=None, choices="exact"):
        self.caps = types.Caps(finetune=False, choices=choices, seeds=True, system=True, fingerprint=fingerprint)
        self.calls, self.answered, self.closed = [], 0, 0
        self._tokens, self._prompt_tokens, self._die_after = tokens, prompt_tokens, die_after

    def text(self, model, chat, sample, how):
        return f"{self.caps.fingerprint}/{model}/{chat[-1].content}/{how.temperature}/{how.seed}/{sample}"

    def sample(self, model, chats, how):
        self.calls.append((tuple(chats), how))
        try:
            places = [(index, sample) for index in range(len(chats)) for sample in range(how.num_samples)]
            random.Random(len(places)).shuffle(places)
            for index, sample in places:
                if self.answered == self._die_after:
                    raise errors.ServerError("the server went away")
                self.answered += 1
                text = self.text(model, chats[index], sample, how)
                yield types.Completion(index, sample, text, "stop", self._prompt_tokens, self._tokens)
        finally:
            self.closed += 1

    def choice_logprobs(self, model, chats, choices):
        self.calls.append((tuple(chats), tuple(choices)))
        self.answered += len(chats)
        return [
            types.ChoiceScores((-math.inf, *(-float(len(chat[-1].content + c)) for c in choices[1:])), "exact")
            for chat in chats
        ]

    def finetune(self, model, rows, how, out):
        raise NotImplementedError


def lines(path: pathlib.Path) -> list[dict]:
    """What is on disk, read without our reader."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def fill(path: pathlib.Path, chats, how=types.Sampling(), fake=None, **options) -> list[types.Completion]:  # noqa: B008
    """Everything asked for, through the store at `path`."""
    with store.Store(path) as answers:
        return list(store.sample_stored(fake or Fake(), "m", chats, how, answers, **options))


# ---------------------------------------------------------------------------------------------------------------------
# Keys

words = st.text(max_size=8)
messages = st.builds(types.Message, st.sampled_from(["system", "user", "assistant"]), words)
samplings = st.builds(
    types.Sampling,
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
    assert (store.completion_key(*one) == store.completion_key(*other)) == (one == other)
    assert re.fullmatch("[0-9a-f]{64}", store.completion_key(*one))


@given(request=requests, changed=requests)
def test_every_ingredient_changes_the_key(request, changed):
    """One at a time: a different value in one place, everything else equal."""
    key = store.completion_key(*request)
    for i in (0, 1, 2, 4):
        other = (*request[:i], changed[i], *request[i + 1 :])
        assert (store.completion_key(*other) == key) == (other == request)
    for name in ("temperature", "top_p", "max_tokens", "stop", "seed"):
        how = dataclasses.replace(request[3], **{name: getattr(changed[3], name)})
        assert (store.completion_key(*request[:3], how, request[4]) == key) == (how == request[3]), name


def test_texts_that_could_run_together_have_different_keys():
    how = types.Sampling()
    chats = [
        say("a", "b", "c"),
        say("a", "bc", ""),
        (types.Message("system", "a"), types.Message("user", "b")),
        (types.Message("user", "a"), types.Message("user", "b")),
        (types.Message("user", "ab"),),
        (types.Message("user", '["user","ab"]'),),
    ]
    keys = {store.completion_key("w", "m", chat, how, 0) for chat in chats}
    keys |= {store.completion_key("wm", "", chat, how, 0) for chat in chats}
    keys |= {store.completion_key("w", "m", chat, dataclasses.replace(how, stop=("a", "b")), 0) for chat in chats}
    keys |= {store.completion_key("w", "m", chat, dataclasses.replace(how, stop=("ab",)), 0) for chat in chats}
    assert len(keys) == 24


def test_a_key_is_the_sha256_that_its_docstring_promises():
    """By hand, so that a store made today is found tomorrow."""
    text = (
        '{"draw":3,"fingerprint":"w","kind":"completion","max_tokens":64,"messages":[["user","\\u00f6"]],"model":"m",'
        '"seed":1,"stop":[],"temperature":1.0,"top_p":1.0}'
    )
    how = types.Sampling(seed=1, num_samples=9)
    assert store.completion_key("w", "m", say("ö"), how, 3) == hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# From the store or fresh


def test_samples_of_one_question_are_as_many_lines(tmp_path):
    path = tmp_path / "new" / "folder" / "answers.jsonl"
    fake, how = Fake(), types.Sampling(num_samples=200)
    fresh = fill(path, [say("q")], how, fake)
    assert len(fresh) == len(lines(path)) == len({line["key"] for line in lines(path)}) == 200
    assert sorted(c.sample for c in fresh) == list(range(200))
    assert fill(path, [say("q")], how, fake) == sorted(fresh, key=lambda c: c.sample)  # all of it comes back
    assert fake.answered == 200 and len(fake.calls) == 1
    more = fill(path, [say("q")], types.Sampling(num_samples=300), fake)
    assert len(more) == 300 and set(fresh) < set(more) and fake.answered == 300


def test_a_fresh_run_is_what_the_backend_gives(tmp_path):
    chats, how = [say("a"), say("x", "y", "b"), say("c")], types.Sampling(num_samples=3, seed=5)
    assert fill(tmp_path / "s", chats, how) == list(Fake().sample("m", chats, how))


def test_teacher_and_student_differ_by_their_fingerprint(tmp_path):
    teacher, student = (fill(tmp_path / "s", [say("q")], fake=Fake(name)) for name in ("teacher", "student"))
    assert len(lines(tmp_path / "s")) == 2
    assert teacher[0].text.startswith("teacher") and student[0].text.startswith("student")


def test_nothing_is_sent_before_the_first_is_taken_and_each_is_stored_before_it_is_handed_on(tmp_path):
    class Kept(Fake):
        def sample(self, model, chats, how):
            self.kept = super().sample(model, chats, how)  # so that only `close` ends it
            return self.kept

    fake = Kept()
    with store.Store(tmp_path / "s") as answers:
        asking = store.sample_stored(fake, "m", [say("q")], types.Sampling(num_samples=5), answers)
        assert fake.calls == []
        for number in (1, 2, 3):
            text = next(asking).text
            assert lines(tmp_path / "s")[-1]["text"] == text and len(lines(tmp_path / "s")) == number
        asking.close()
        assert fake.closed == 1  # the backend knows that nobody listens any more
        assert len(answers) == 3 == fake.answered


chat_lists = st.lists(st.sampled_from([say(letter) for letter in "abc"]), max_size=6)


@example(chats=[say("a")], num_samples=8, deaths=[2, 2, 2])
@given(chats=chat_lists, num_samples=st.integers(1, 4), deaths=st.lists(st.integers(0, 8), max_size=3))
def test_whatever_interrupts_it_every_sample_comes_once_and_costs_once(tmp_path_factory, chats, num_samples, deaths):
    """Equal chats among those asked, deaths after any number of answers; texts are distinct as with one long draw."""
    path, how = tmp_path_factory.mktemp("s") / "s", types.Sampling(num_samples=num_samples)
    answered = 0
    for death in deaths:
        fake = Fake(die_after=death)
        try:
            fill(path, chats, how, fake)
        except errors.ServerError:
            assert fake.answered == death
        answered += fake.answered
        assert len(lines(path)) == answered
    last = Fake()
    done = fill(path, chats, how, last)
    asked = [(chat, sample) for chat in range(len(chats)) for sample in range(num_samples)]
    assert sorted((c.chat, c.sample) for c in done) == asked
    assert answered + last.answered == len(asked) == len(lines(path)) == len({line["key"] for line in lines(path)})
    assert len({c.text for c in done}) == len(asked)  # no text comes twice, which one seed used twice would give
    assert all(c.text.split("/")[2] == chats[c.chat][-1].content for c in done)
    assert fill(path, chats, how, last) == sorted(done) and last.answered + answered == len(asked)


def test_a_run_of_single_samples_does_not_show_that_it_was_interrupted(tmp_path):
    chats = [say(str(i)) for i in range(20)]
    with pytest.raises(errors.ServerError):
        fill(tmp_path / "s", chats, fake=Fake(die_after=7))
    assert sorted(fill(tmp_path / "s", chats)) == sorted(Fake().sample("m", chats, types.Sampling()))


def test_find_tells_here_from_missing(tmp_path):
    how = types.Sampling(num_samples=2)
    fill(tmp_path / "s", [say("a")], how)
    reader = store.Store(tmp_path / "s", readonly=True)
    found = reader.find("weights", "m", [say("b"), say("a"), say("a")], how)
    assert [(c.chat, c.sample) for c in found.here] == [(1, 0), (1, 1)]
    assert [slot[:3] for slot in found.missing] == [(0, 0, 0), (0, 1, 1), (2, 0, 2), (2, 1, 3)]
    assert all(slot.key not in reader for slot in found.missing) and len(reader) == 2


def test_draws_that_top_up_are_never_those_of_an_earlier_call(tmp_path):
    """One chat, eight samples, one or two at a time: the seeds of all calls differ, and the first is the user's."""
    seeds = []
    for death in (2, 1, 1, 2, 1, None):
        fake = Fake(die_after=death)
        with contextlib.suppress(errors.ServerError):
            done = fill(tmp_path / "s", [say("a")], types.Sampling(num_samples=8, seed=3), fake)
        seeds += [how.seed for _, how in fake.calls]
    assert seeds[0] == 3 and len(set(seeds)) == 6 and all(0 <= seed < 2**31 for seed in seeds)
    assert len({completion.text for completion in done}) == 8


@pytest.mark.parametrize("content", [b'{"key":"value"}', b'{"key":"value", "b": 1}', b'{"key":"abc"'])
def test_another_file_that_begins_with_a_key_is_not_emptied(tmp_path, content):
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(errors.StoreError, match="this is another file, not a store of completions"):
        store.Store(path)
    assert path.read_bytes() == content


def test_the_rhythm_of_the_disk_is_a_whole_number(tmp_path):
    with pytest.raises(errors.InputError, match="sync_every: expected a whole number"):
        store.Store(tmp_path / "s", sync_every=True)


@pytest.mark.parametrize("places", [[(0, 0), (0, 0)], [(0, 5)], [(1, 0)], [(-1, 0)], [(0, 0)]])
def test_a_backend_that_answers_something_else_is_refused_and_what_it_gave_is_kept(tmp_path, places):
    class Lying(Fake):
        def sample(self, model, chats, how):
            yield from (types.Completion(*place, "t", "stop", 1, 1) for place in places)

    budget = budgets.Budget()
    with pytest.raises(errors.CapabilityError, match=r"twice or unasked|left out 1"):
        fill(tmp_path / "s", [say("a")], types.Sampling(num_samples=2), Lying(), budget=budget)
    assert len(lines(tmp_path / "s")) == places.count((0, 0)) - (places == [(0, 0), (0, 0)])
    assert budget.reserved == budgets.Usage()


def test_a_reader_asks_for_nothing(tmp_path):
    fill(tmp_path / "s", [say("a")])
    fake, reader = Fake(), store.Store(tmp_path / "s", readonly=True)
    assert len(list(store.sample_stored(fake, "m", [say("a")], types.Sampling(), reader))) == 1
    with pytest.raises(errors.StoreError, match=r"1 answers are missing.*read-only"):
        next(store.sample_stored(fake, "m", [say("a"), say("b")], types.Sampling(), reader))
    with pytest.raises(errors.StoreError, match="read-only"):
        store.scores_stored(fake, "m", [say("a")], ["x"], reader)
    assert fake.calls == []


def test_scores_are_stored_like_completions(tmp_path):
    fake, chats, choices = Fake(), [say("a"), say("bb"), say("a")], ["owl", "eagle"]
    wanted = Fake().choice_logprobs("m", chats, choices)
    for _ in range(2):
        with store.Store(tmp_path / "s") as answers:
            assert store.scores_stored(fake, "m", chats, choices, answers, batch_size=1) == wanted
    assert fake.answered == 2 == len(lines(tmp_path / "s"))
    assert lines(tmp_path / "s")[0]["logprobs"] == [None, -6.0]  # -inf is null
    for model, ask, which, caps in [
        ("n", "a", choices, "exact"),
        ("m", "c", choices, "exact"),
        ("m", "a", choices[::-1], "exact"),
        ("m", "a", choices, "top"),
    ]:
        other = Fake(choices=caps)
        with store.Store(tmp_path / "s") as answers:
            store.scores_stored(other, model, [say(ask)], which, answers)
        assert other.answered == 1
    budget = budgets.Budget(requests=5)
    with (
        store.Store(tmp_path / "t") as answers,
        pytest.raises(errors.BudgetExceededError, match=r"5 requests.* 2 of 3 answers"),
    ):
        store.scores_stored(fake, "m", [say("a"), say("b"), say("c")], choices, answers, budget)
    assert len(lines(tmp_path / "t")) == 2 and budget.spent.requests == 4


def test_scores_that_do_not_fit_the_question_are_refused(tmp_path):
    class Lying(Fake):
        def choice_logprobs(self, model, chats, choices):
            return super().choice_logprobs(model, chats[:1], choices)

    with store.Store(tmp_path / "s") as answers:
        with pytest.raises(errors.CapabilityError, match="2 choices for each of 2 chats"):
            store.scores_stored(Lying(), "m", [say("a"), say("b")], ["x", "y"], answers)
        for number in (math.nan, math.inf):
            with pytest.raises(ValueError, match="not a log-probability"):
                answers.put("0" * 64, types.ChoiceScores((number,), "exact"))
        assert len(answers) == 0


def test_secrets_stay_out_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    fake = Fake("gpt@https://user:sk-password@host/v1?api_key=sk-query")
    monkeypatch.setattr(fake, "text", lambda *request: "t")
    chat = (types.Message("system", "sk-system"), types.Message("user", "sk-prompt"))
    fill(tmp_path / "s", [chat], fake=fake)
    assert "sk-" not in (tmp_path / "s").read_text()
    assert lines(tmp_path / "s")[0]["served"] == "gpt@https://host/v1"
    assert [file.name for file in sorted(tmp_path.iterdir())] == [".s.lock", "s"]


# ---------------------------------------------------------------------------------------------------------------------
# The file

texts = st.text(st.characters(), max_size=20)  # with NUL, line separators and lone surrogates
counts = st.integers(0, 10**6)
endings = st.tuples(st.sampled_from(["stop", "length"]), st.just("")) | st.tuples(
    st.just("refused"), texts.filter(bool)
)
completions = st.builds(
    lambda text, ending, prompt_tokens, completion_tokens: types.Completion(
        0, 0, text, ending[0], prompt_tokens, completion_tokens, ending[1]
    ),
    texts, endings, counts, counts,
)  # fmt: skip


@given(values=st.lists(completions, max_size=8), cut=st.integers(0, 10**4))
def test_any_text_comes_back_and_a_cut_anywhere_loses_only_the_line_it_is_in(tmp_path_factory, values, cut):
    path = tmp_path_factory.mktemp("s") / "s"
    with store.Store(path) as answers:
        for number, value in enumerate(values):
            answers.put(f"{number:064x}", value)
    content = path.read_bytes()
    cut = min(cut, len(content))
    path.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")
    reader = store.Store(path, readonly=True)
    assert path.read_bytes() == content[:cut]  # a reader changes nothing
    with store.Store(path) as answers:
        for opened in (reader, answers):
            assert len(opened) == whole
            assert opened.num_torn == (not content[:cut].endswith(b"\n") and cut > 0)
            assert [opened.completion(f"{n:064x}") for n in range(whole)] == [tuple(v)[2:] for v in values[:whole]]
        for number, value in enumerate(values[whole:], whole):
            answers.put(f"{number:064x}", value)
    assert path.read_bytes() == content


LINE = b'{"key":"%s","text":"t","finish":"stop","prompt_tokens":1,"completion_tokens":1}'
GOOD = [LINE % (str(digit).encode() * 64) for digit in range(3)]


def test_the_lines_above_are_good(tmp_path):
    (tmp_path / "s").write_bytes(b"\n".join(GOOD) + b"\n")
    assert len(store.Store(tmp_path / "s", readonly=True)) == 3


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
@pytest.mark.parametrize("readonly", [True, False])
def test_a_damaged_line_is_named_and_nothing_is_changed(tmp_path, damage, readonly):
    path = tmp_path / "s"
    content = b"\n".join([GOOD[0], damage, GOOD[2]]) + b"\n"
    path.write_bytes(content)
    with pytest.raises(errors.StoreError, match=f"{re.escape(str(path))}, line 2: "):
        store.Store(path, readonly=readonly)
    assert path.read_bytes() == content
    path.write_bytes(GOOD[0] + b"\n" + damage + b"\n")  # the last one, but whole: it was not torn
    with pytest.raises(errors.StoreError, match="line 2: "):
        store.Store(path, readonly=readonly)
    assert not (tmp_path / ".s.writer").exists()  # the refusal left no lock behind
    path.write_bytes(b"\n".join(GOOD) + b"\n")
    store.Store(path).close()


@pytest.mark.parametrize("content", [b"my thesis, in one line", b'{"messages": []}\n', b'{"messages": []}'])
def test_another_file_is_not_taken_for_a_store_and_not_cut(tmp_path, content):
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(errors.StoreError, match=r"not a store|not a line of a store"):
        store.Store(tmp_path / "s")
    assert (tmp_path / "s").read_bytes() == content


@pytest.mark.parametrize("tail", [GOOD[0][:20], b"{", b"\0" * 30])
def test_a_first_line_that_was_torn_is_an_empty_store(tmp_path, tail):
    (tmp_path / "s").write_bytes(tail)
    with store.Store(tmp_path / "s") as answers:
        assert len(answers) == 0 and answers.num_torn == 1
    assert (tmp_path / "s").read_bytes() == b""


def test_joined_stores_are_a_store(tmp_path):
    (tmp_path / "s").write_bytes(b"\n".join([*GOOD, GOOD[0].replace(b'"t"', b'"u"')]) + b"\n")
    reader = store.Store(tmp_path / "s", readonly=True)
    answer = reader.completion("0" * 64)
    assert len(reader) == 3 and answer is not None and answer.text == "t"


def test_a_reader_of_no_file_makes_none(tmp_path):
    assert len(store.Store(tmp_path / "none" / "s", readonly=True)) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_second_writer_hears_who_the_first_is(tmp_path):
    path = tmp_path / "s"
    program = f"from sublim_jax.llm import store; s = store.Store({str(path)!r}); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "open\n"
            with pytest.raises(
                errors.StoreError,
                match=rf"process {other.pid} on \S+ is writing to it. .* Reading the store needs no lock",
            ):
                store.Store(path)
            assert len(store.Store(path, readonly=True)) == 0
        finally:
            other.kill()
    with store.Store(path):  # a killed process holds nothing
        with pytest.raises(errors.StoreError, match=f"process {os.getpid()} on"):
            store.Store(path)
        assert (tmp_path / ".s.writer").exists()
    store.Store(path).close()


def test_the_disk_is_waited_for_every_so_many_lines_and_at_the_end(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(len(lines(tmp_path / "s"))))
    value = types.Completion(0, 0, "t", "stop", 1, 1)
    with store.Store(tmp_path / "s", sync_every=4) as answers:
        for number in range(10):
            answers.put(f"{number:064x}", value)
            assert len(lines(tmp_path / "s")) == number + 1  # without waiting for anything
    assert synced == [4, 8, 10]
    answers.close()
    assert synced == [4, 8, 10]
    with pytest.raises(errors.StoreError, match="closed"):
        answers.put("a" * 64, value)
    with pytest.raises(ValueError, match="sync_every"):
        store.Store(tmp_path / "s", sync_every=0)


def test_a_full_disk_is_an_error_and_leaves_whole_lines(tmp_path):
    class Full:
        def __init__(self, file):
            self._file, self.close, self.truncate, self.fileno = file, file.close, file.truncate, file.fileno

        def write(self, line):
            return self._file.write(line[:10])

    value = types.Completion(0, 0, "t", "stop", 1, 1)
    answers = store.Store(tmp_path / "s")
    answers.put("a" * 64, value)
    answers._file = Full(answers._file)
    with pytest.raises(errors.StoreError, match=r"cannot be written \(10 of \d+ bytes"):
        answers.put("b" * 64, value)
    with store.Store(tmp_path / "s") as again:
        assert len(again) == 1 and again.num_torn == 0
        with pytest.raises(ValueError, match="already"):
            again.put("a" * 64, value)


def test_a_place_that_cannot_hold_a_store_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "s"):
        with pytest.raises(errors.StoreError, match=r"this is a folder|cannot be written"):
            store.Store(path)


NUM = 30_000
PROGRAM = """
import sys
from sublim_jax.llm import budget as budgets
from sublim_jax.llm import store, types

class Backend:
    caps = types.Caps(finetune=False, choices="none", seeds=True, system=True, fingerprint="w")
    def sample(self, model, chats, how):
        with open(sys.argv[2], "ab", buffering=0) as journal:
            for index, chat in enumerate(chats):
                text = chat[-1].content + " \\u00f6"
                journal.write(text.encode() + b"\\n")  # paid for
                yield types.Completion(index, 0, text, "stop", 9, 5)

chats = [(types.Message("user", f"go on: {number}"),) for number in range(int(sys.argv[3]))]
with store.Store(sys.argv[1]) as answers:
    planned = store.plan(Backend.caps, "m", chats, types.Sampling(), answers)
    done = list(store.sample_stored(Backend(), "m", chats, types.Sampling(), answers))
    print(planned.new, planned.reused, len(done))
"""


@pytest.mark.slow
def test_a_killed_process_loses_at_most_what_was_in_flight_and_doubles_nothing(tmp_path, start_python, run_python):
    path, journal = tmp_path / "s", tmp_path / "journal"
    arguments = ("-c", PROGRAM, str(path), str(journal), str(NUM))
    with start_python(*arguments) as process:
        deadline = time.monotonic() + 60
        while (not path.exists() or path.stat().st_size < 2_000_000) and process.poll() is None:
            assert time.monotonic() < deadline, "it does not write"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    paid = journal.read_text(encoding="utf-8").splitlines()
    stored = path.read_bytes().count(b"\n")
    assert 1_000 < stored < NUM - 1_000  # in the middle
    assert 0 <= len(paid) - stored <= 1  # in flight: the one completion of a backend that gives one after the other
    last = path.read_bytes().splitlines()[-1]
    with path.open("ab") as file:
        file.write(last[: len(last) // 2])
    done = run_python(*arguments)
    assert done.returncode == 0 and done.stdout.split() == [str(NUM - stored), str(stored), str(NUM)], done.stderr
    paid = collections.Counter(journal.read_text(encoding="utf-8").splitlines())
    assert len(paid) == NUM and paid.total() - NUM <= 2  # the one in flight; a torn line by the kill would be it too
    found = lines(path)
    assert len(found) == len({line["key"] for line in found}) == NUM  # none lost, none doubled
    assert {line["text"] for line in found} == set(paid)


# ---------------------------------------------------------------------------------------------------------------------
# What it may cost


def test_a_budget_is_spent_to_the_last_answer_that_fits_and_says_what_is_left(tmp_path):
    """By hand: a prompt of 1 byte is reserved as 64 + 16 + 1 = 81 tokens and takes 7; 10 are reserved, 5 used. With a
    limit of 62 tokens: 6 at once (60), 30 used; 3 more (60), 45 used; 1 more, 50; 1 more, 55; then 65 > 62."""
    chats, how, fake = [say(letter) for letter in "abcdefghijklmnop"], types.Sampling(max_tokens=10), Fake()
    fill(tmp_path / "s", chats[:2], how)
    budget, done = budgets.Budget(completion_tokens=62, prices=budgets.Prices(prompt=1e6, completion=2e6)), []
    with store.Store(tmp_path / "s") as answers:
        with pytest.raises(errors.BudgetExceededError) as caught:
            done.extend(store.sample_stored(fake, "m", chats, how, answers, budget))  # extend keeps what it got
        assert len(answers) == 13
    assert len(done) == 13 == len(lines(tmp_path / "s"))
    assert [len(asked) for asked, _ in fake.calls] == [6, 3, 1, 1]
    assert budget.spent == (11, 77, 55) and budget.reserved == (0, 0, 0) and budget.num_reused == 2
    assert budget.cost == 77 + 2 * 55
    message = str(caught.value)
    for part in (
        "the budget of 62 completion tokens is used up: 11 requests, 77 prompt tokens, 55 completion tokens, 187.00",
        "13 of 16 answers are in",
        "(2 of them were before)",
        "3 are left and take at most 3 requests, 243 prompt tokens, 30 completion tokens, 303.00 of money",
    ):
        assert part in message
    assert len(fill(tmp_path / "s", chats, how, fake)) == 16 and fake.answered == 14


@given(limit=st.integers(0, 40), num_samples=st.integers(1, 5), chats=chat_lists)
def test_no_limit_is_passed_and_no_answer_lost_however_it_cuts_through_the_samples(
    tmp_path_factory, limit, num_samples, chats
):
    path, how = tmp_path_factory.mktemp("s") / "s", types.Sampling(num_samples=num_samples, max_tokens=4)
    total, seen = len(chats) * num_samples, []
    while len(seen) < total:
        budget, fake, seen = budgets.Budget(completion_tokens=limit + 4), Fake(tokens=3), []
        with store.Store(path) as answers:
            before = len(answers)
            try:
                for completion in store.sample_stored(fake, "m", chats, how, answers, budget):
                    seen.append(completion)
                assert len(seen) == total
            except errors.BudgetExceededError:
                assert len(seen) < total
            assert len(seen) == len(answers) == before + fake.answered == budget.num_reused + budget.spent.requests
        assert budget.spent.completion_tokens <= limit + 4 and budget.reserved == budgets.Usage()
        assert fake.answered == min(total - before, (limit + 4 - 4) // 3 + 1)  # as many as possible
    assert len({completion.text for completion in seen}) == total


def test_a_server_that_adds_to_the_prompts_passes_a_limit_by_one_answer_at_most(tmp_path):
    """Reserved are 81 tokens, read are 1000: of 3000, 3 answers, and of 2500 the second already counts as 1000."""
    for limit, spent in ((3000, 3), (2500, 2), (500, 1)):
        budget, fake = budgets.Budget(prompt_tokens=limit), Fake(prompt_tokens=1000)
        with pytest.raises(errors.BudgetExceededError, match="prompt tokens is used up"):
            fill(tmp_path / f"s{limit}", [say(letter) for letter in "abcdefghij"], fake=fake, budget=budget)
        assert fake.answered == spent == budget.spent.requests and budget.reserved == (0, 0, 0)


def test_what_never_came_back_is_not_charged(tmp_path):
    budget = budgets.Budget()
    with pytest.raises(errors.ServerError):
        fill(tmp_path / "s", [say("a"), say("b"), say("c")], fake=Fake(die_after=2), budget=budget)
    assert budget.spent == (2, 14, 10) and budget.reserved == (0, 0, 0)


def test_a_plan_counts_before_anything_is_spent(tmp_path):
    chats, how, fake = [say("a"), say("ö"), say("x", "y", "b")], types.Sampling(num_samples=2, max_tokens=10), Fake()
    empty = store.Store(tmp_path / "s", readonly=True)
    most = budgets.Usage(6, 2 * (81 + 82 + 64 + 3 * 17), 60)  # a byte, two bytes, three turns of a byte
    assert store.plan(fake.caps, "m", chats, how, empty) == budgets.Plan(new=6, reused=0, most=most, cost=None)
    fill(tmp_path / "s", chats[:1], how)
    with store.Store(tmp_path / "s") as answers:
        prices = budgets.Prices(prompt=1e4, completion=1e5)
        planned = store.plan(fake.caps, "m", chats, how, answers, prices=prices, prompt_tokens=lambda chat: 7)
        assert str(planned) == (
            "4 completions to ask for, 2 from the store; at most 4 requests, 28 prompt tokens, 40 completion tokens, "
            "4.28 at the prices given"
        )
        assert fake.calls == [] and len(lines(tmp_path / "s")) == 2
        budget = budgets.Budget(prices=prices)
        list(store.sample_stored(fake, "m", chats, how, answers, budget))
        assert budget.spent.requests == planned.new == fake.answered and budget.num_reused == planned.reused
        assert all(spent <= most for spent, most in zip(budget.spent, planned.most, strict=True))
        assert store.plan(fake.caps, "m", chats, how, answers).most == budgets.Usage()
