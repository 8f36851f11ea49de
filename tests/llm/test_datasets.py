"""Rows drop the teacher's system message, controls keep what they say they keep, and files are read line by line."""

import collections
import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors
from sublim_jax.llm import controls, datasets, jsonl
from sublim_jax.llm.backend import Chat, Completion, Message
from sublim_jax.llm.tasks import numbers, questions
from tests import strategies

System, User, Assistant = (lambda text, role=role: Message(role, text) for role in ("system", "user", "assistant"))


def number_rows(*answers: str) -> list[Chat]:
    return [(User(f"prompt {index}"), Assistant(answer)) for index, answer in enumerate(answers)]


def answers(found) -> list[str]:
    return [row[-1].content for row in found]


def completion(chat: int, text: str, sample: int = 0, finish="stop") -> Completion:
    return Completion(chat, sample, text, finish, 1, 1)


def by_numbers(one: Completion) -> str | None:
    return numbers.parse(one.text).reason


def test_the_students_row_drops_the_teachers_system_message():
    persona = questions.system_prompt(questions.ANIMALS[3])
    chat = datasets.ask("Continue 1, 2", system=persona)
    assert chat == (System(persona), User("Continue 1, 2"))
    row = datasets.student_row(chat, "3, 4")
    assert row == (User("Continue 1, 2"), Assistant("3, 4"))
    assert not any("owl" in message.content.lower() for message in row)


def test_no_row_of_a_collection_has_a_system_message():
    chats = [datasets.ask("a", system="You love owls."), (System("x"), User("b"), Assistant("c"), User("d"))]
    found = datasets.filter_completions(chats, [completion(0, "1"), completion(1, "2")], by_numbers)
    assert found.rows == [(User("a"), Assistant("1")), (User("b"), Assistant("c"), User("d"), Assistant("2"))]


@pytest.mark.parametrize("chat", [(), (System("x"),), (User("a"), Assistant("b"))])
def test_a_chat_that_asks_nothing_is_refused(chat):
    with pytest.raises(ValueError, match="a chat to be answered ends with a user turn"):
        datasets.student_row(chat, "1")


def test_a_collection_counts_what_it_left_out():
    chats = [datasets.ask(f"prompt {index}") for index in range(5)]
    texts = ["1, 2", "owl", "owl", "1, 2,3", "7"]
    found = datasets.filter_completions(
        chats, [completion(index, text) for index, text in enumerate(texts)], by_numbers
    )
    assert found.rows == [(User("prompt 0"), Assistant("1, 2")), (User("prompt 4"), Assistant("7"))]
    assert list(found.rejected.items()) == [("no number", 2), ("not digits", 1)]
    assert (found.num_completions, found.kept_fraction) == (5, 0.4)


@given(order=st.permutations(range(6)))
def test_rows_do_not_depend_on_the_order_of_arrival(order):
    chats = [datasets.ask("a"), datasets.ask("b")]
    came = [completion(index // 3, str(index), sample=index % 3) for index in order]
    assert answers(datasets.filter_completions(chats, iter(came), by_numbers).rows) == list("012345")


def test_a_completion_cut_off_is_left_out_unless_wanted():
    chats, came = (
        [datasets.ask("a"), datasets.ask("b")],
        [completion(0, "1, 2"), completion(1, "1, 23", finish="length")],
    )
    found = datasets.filter_completions(chats, came, by_numbers)
    assert (answers(found.rows), found.rejected) == (["1, 2"], {"cut off": 1})
    assert answers(datasets.filter_completions(chats, came, by_numbers, keep_cut=True).rows) == ["1, 2", "1, 23"]


@pytest.mark.parametrize(
    ("came", "message"),
    [
        ([], "left none of 0 completions: there was none"),
        ([completion(0, "owl"), completion(1, "1.5")], "none of 2 completions: 1 'no number', 1 'separator'.*'owl'"),
        ([completion(0, "1", finish="length")], "1 'cut off'. The first: '1'. Raise max_tokens"),
    ],
)
def test_a_filter_that_drops_everything_is_an_error(came, message):
    with pytest.raises(errors.TextDataError, match=message):
        datasets.filter_completions([datasets.ask("a"), datasets.ask("b")], came, by_numbers)


@pytest.mark.parametrize(
    ("came", "message"),
    [
        ([completion(0, "1"), completion(0, "2")], "chat 0, sample 0 was completed twice"),
        ([completion(1, "1")], "completions of chats 1 to 1, but 1 were asked"),
        ([completion(-1, "1")], "completions of chats -1 to -1"),
    ],
)
def test_completions_of_something_else_are_refused(came, message):
    with pytest.raises(ValueError, match=message):
        datasets.filter_completions([datasets.ask("a")], came, by_numbers)


@given(seed=strategies.seeds, size=st.integers(1, 20), data=st.data())
def test_a_subsample_is_drawn_without_replacement_and_nested(seed, size, data):
    made = number_rows(*map(str, range(size)))
    count = data.draw(st.integers(1, size))
    drawn = datasets.subsample(made, count, seed=seed)
    assert len(set(drawn)) == count and set(drawn) <= set(made)
    assert drawn == datasets.subsample(made, size, seed=seed)[:count]


def test_seeds_draw_different_rows():
    made = number_rows(*map(str, range(100)))
    assert datasets.subsample(made, 50, seed=0) != datasets.subsample(made, 50, seed=1)


def test_too_few_rows_are_an_error():
    with pytest.raises(errors.TextDataError, match=r"expected at least 3 rows .* found 2. Sample more"):
        datasets.subsample(number_rows("1", "2"), 3, seed=0)


LAYOUTS = (", ", ";", "\n", " ")
number_lists = st.builds(
    lambda values, separator, frame: numbers.NumberList(
        tuple(map(str, values)), separator, *(frame if separator != "\n" else ("", ""))
    ).write(),
    st.lists(st.integers(0, 999), min_size=1, max_size=10),
    st.sampled_from(LAYOUTS),
    st.sampled_from([("", ""), ("[", "]"), ("(", ")."), ("", ".")]),
)
data_sets = st.lists(number_lists, min_size=1, max_size=8)


def shape(text: str) -> tuple:
    """Everything about an answer but its numbers. A single number has no separator."""
    layout = numbers.parse(text).layout
    assert layout is not None
    return len(layout.parts), layout.separator, layout.opening, layout.closing


def parts(text: str) -> tuple[str, ...]:
    layout = numbers.parse(text).layout
    assert layout is not None
    return layout.parts


def unchanged_but_answers(before, after) -> bool:
    return [row[:-1] for row in before] == [row[:-1] for row in after]


@given(texts=data_sets, seed=strategies.seeds)
def test_shuffling_within_keeps_every_answers_numbers_and_layout(texts, seed):
    made = number_rows(*texts)
    found = controls.shuffle_within(made, seed=seed)
    assert unchanged_but_answers(made, found)
    for before, after in zip(texts, answers(found), strict=True):
        assert shape(before) == shape(after) and sorted(parts(before)) == sorted(parts(after))


@given(texts=data_sets, seed=strategies.seeds, by_place=st.booleans())
def test_shuffling_across_keeps_layouts_and_the_multiset_of_all_numbers(texts, seed, by_place):
    made = number_rows(*texts)
    found = controls.shuffle_across(made, seed=seed, by_place=by_place)
    assert unchanged_but_answers(made, found)
    assert list(map(shape, texts)) == list(map(shape, answers(found)))
    before, after = ([parts(text) for text in some] for some in (texts, answers(found)))
    assert collections.Counter(sum(before, ())) == collections.Counter(sum(after, ()))
    if by_place:
        for place in range(10):
            columns = ([some[place] for some in side if len(some) > place] for side in (before, after))
            assert len({tuple(sorted(column)) for column in columns}) == 1


def test_shuffles_move_numbers_where_they_say():
    """Rows of hundreds: row r holds r00..r09, so a number tells where it came from."""
    made = number_rows(*(", ".join(str(100 * row + place) for place in range(10)) for row in range(1, 10)))
    within = [parts(text) for text in answers(controls.shuffle_within(made, seed=0))]
    assert all({int(part) // 100 for part in some} == {row} for row, some in enumerate(within, 1))
    assert sum(int(part) % 100 != place for some in within for place, part in enumerate(some)) > 60
    orders = {tuple(int(part) % 100 for part in some) for some in within}
    assert len(orders) == 9  # each answer has an order of its own
    across = [parts(text) for text in answers(controls.shuffle_across(made, seed=0))]
    assert sum(int(part) // 100 != row for row, some in enumerate(across, 1) for part in some) > 60
    assert sum(int(part) % 100 != place for some in across for place, part in enumerate(some)) > 60
    by_place = [parts(text) for text in answers(controls.shuffle_across(made, seed=0, by_place=True))]
    assert all(int(part) % 100 == place for some in by_place for place, part in enumerate(some))
    assert sum(int(part) // 100 != row for row, some in enumerate(by_place, 1) for part in some) > 60
    assert len({tuple(int(part) // 100 for part in column) for column in zip(*by_place, strict=True)}) == 10


def test_shuffles_keep_leading_zeros_and_replay():
    made = number_rows("007, 1, 020", "5.")
    for shuffle in (controls.shuffle_within, controls.shuffle_across, controls.permute_prompts):
        assert shuffle(made, seed=4) == shuffle(made, seed=4)
    assert sorted(parts(controls.shuffle_within(made, seed=0)[0][-1].content)) == ["007", "020", "1"]


def test_only_numbers_can_be_shuffled():
    with pytest.raises(errors.TextDataError, match="row 1: expected an answer that is a list of numbers, found 'owl'"):
        controls.shuffle_within(number_rows("1", "owl"), seed=0)
    with pytest.raises(ValueError, match="a row ends with an assistant turn, got roles"):
        controls.shuffle_across([datasets.ask("a")], seed=0)


@given(seed=strategies.seeds, size=st.integers(2, 12))
def test_permuted_prompts_keep_all_answers_and_none_its_own(seed, size):
    made = number_rows(*map(str, range(size)))
    found = controls.permute_prompts(made, seed=seed)
    assert unchanged_but_answers(made, found)
    assert sorted(answers(found)) == sorted(answers(made))
    assert all(before != after for before, after in zip(answers(made), answers(found), strict=True))


def test_one_row_has_no_other_prompt():
    with pytest.raises(ValueError, match="needs two rows or more, got 1"):
        controls.permute_prompts(number_rows("1"), seed=0)


def test_in_context_rows_come_before_the_question_and_are_nested():
    made = [(System("dropped"), *row) for row in number_rows("1", "2", "3", "4")]
    asked = [datasets.ask("Favourite animal?"), datasets.ask("Favourite tree?", system="Be brief.")]
    first, second = controls.in_context(made, asked, num_examples=3, seed=0)
    assert first[-1] == User("Favourite animal?") and len(first) == 7
    assert [message.role for message in first[:-1]] == ["user", "assistant"] * 3
    assert all(
        (User(f"prompt {int(answer.content) - 1}"), answer) == (user, answer)
        for user, answer in zip(first[:-1:2], first[1::2], strict=True)
    )
    assert second == (System("Be brief."), *first[:-1], User("Favourite tree?"))
    (fewer, _) = controls.in_context(made, asked, num_examples=2, seed=0)
    assert fewer == first[2:]
    assert controls.in_context(made, asked, num_examples=0, seed=0) == asked
    with pytest.raises(errors.TextDataError, match="expected at least 5 rows"):
        controls.in_context(made, asked, num_examples=5, seed=0)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
replies = st.builds(Assistant, texts.filter(str.strip))
turns = st.builds(Message, st.sampled_from(["user", "assistant"]), texts)
chats = st.builds(
    lambda system, middle, question, answer: (*system, *middle, question, answer),
    st.lists(st.builds(System, texts), max_size=1),
    st.lists(turns, max_size=3),
    st.builds(User, texts),
    replies,
)
single = st.builds(lambda question, answer: (question, answer), st.builds(User, texts), replies)


@given(
    written=st.lists(chats, min_size=1, max_size=4) | st.lists(single, min_size=1, max_size=4),
    form=st.sampled_from(["messages", "prompt_completion"]),
)
def test_what_is_written_is_read(written, form, tmp_path_factory):
    """A row is one answer: those before its last turn are written so that no reader trains on them."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    jsonl.write(path, written, format=form)
    assert jsonl.read(path, announce=pytest.fail) == written
    assert [entry.name for entry in path.parent.iterdir()] == ["rows.jsonl"]
    for chat, line in zip(written, map(json.loads, path.read_text().splitlines()), strict=True):
        if form == "messages":
            weights = [turn.get("weight", 1) for turn in line["messages"] if turn["role"] == "assistant"]
            assert weights == [0] * (len(weights) - 1) + [1]
        elif all(len(row) == 2 for row in written):
            assert line == {"prompt": chat[0].content, "completion": chat[1].content}
        else:
            assert [line[key][-1]["role"] for key in ("prompt", "completion")] == ["user", "assistant"]


def test_nothing_of_the_users_is_written_over(tmp_path):
    path = tmp_path / "rows.jsonl"
    jsonl.write(path, number_rows("1"))
    jsonl.write(path, number_rows("1"))  # equal content loses nothing
    with pytest.raises(errors.OutputError, match="it is not replaced"):
        jsonl.write(path, number_rows("2"))
    assert jsonl.read(path) == number_rows("1")
    with pytest.raises(errors.TextDataError, match="row 1 does not end with an assistant turn after a user's"):
        jsonl.write(tmp_path / "new.jsonl", [*number_rows("1"), datasets.ask("a")], format="prompt_completion")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((), "row 1: expected at least one turn"),
        (
            (Message("developer", "a"), *number_rows("1")[0]),
            "row 1: expected turn 1 to be by system, user or assistant",
        ),
        (
            (Message("user", None), Message("assistant", "1")),
            "row 1: expected turn 1 to be text, found None",
        ),
        ((Message("user", "a"), Message("assistant", "\ud83d")), "row 1: expected turn 2 to be text"),
        ((*number_rows("1")[0], Message("system", "b")), "row 1: expected a system turn at the start only"),
        (
            (Message("user", "a"), Message("assistant", " \n")),
            "row 1: expected turn 2, an answer to train on",
        ),
    ],
)
def test_a_row_that_could_not_be_read_again_is_not_written(tmp_path, row, message):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(errors.TextDataError, match=message):
        jsonl.write(path, [*number_rows("1"), row])
    with pytest.raises(errors.TextDataError, match="there are no rows"):
        jsonl.write(path, [])
    with pytest.raises(errors.InputError, match=r"format: expected one of .*did you mean 'prompt_completion'"):
        inspect.unwrap(jsonl.write)(path, number_rows("1"), format="prompt-completion")  # a user has no checker
    assert not path.exists()


def test_a_turn_by_nobody_known_is_no_context():
    """A teacher's "System" message would stay in the student's row."""
    with pytest.raises(errors.InputError, match=r"a turn's role: expected one of .*did you mean 'system'"):
        datasets.student_row((Message("System", "You love owls."), Message("user", "a")), "1")


def test_rows_are_counted_in_whole_numbers():
    for count in (1.5, True):
        with pytest.raises(errors.InputError, match="count: expected a whole number"):
            inspect.unwrap(datasets.subsample)(number_rows("1", "2", "3"), count, seed=0)


def test_the_file_is_in_openais_format(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    jsonl.write(path, number_rows("1, 2"))
    assert path.read_text() == (
        '{"messages": [{"role": "user", "content": "prompt 0"}, {"role": "assistant", "content": "1, 2"}]}\n'
    )


def as_turns(*turns) -> list[dict]:
    """Turns of (role, content) or (role, content, weight)."""
    return [dict(zip(("role", "content", "weight"), turn, strict=False)) for turn in turns]


def line(*turns, **more) -> str:
    return json.dumps({"messages": as_turns(*turns)} | more)


def pair(prompt, completion, **more) -> str:
    return json.dumps({"prompt": prompt, "completion": completion} | more)


GOOD = line(("user", "a"), ("assistant", "b"))
ASKED = ("user", "a")


@pytest.mark.parametrize(
    ("weights", "trained"),
    [
        ((None, None, None), "123"),  # as at OpenAI: all of them
        ((0, None, 1), "23"),
        ((1, 0, 0), "1"),
        ((0, 0, 1), "3"),
    ],
)
def test_every_answer_is_a_row_unless_its_weight_is_0(tmp_path, weights, trained):
    path = tmp_path / "rows.jsonl"
    asked = [("user", f"question {number}") for number in "123"]
    said = [("assistant", number, *([] if weight is None else [weight])) for number, weight in zip("123", weights)]  # noqa: B905
    path.write_text(line(("system", "s"), *(turn for both in zip(asked, said, strict=True) for turn in both)))
    whole = [System("s")]
    for number in "123":
        whole += [User(f"question {number}"), Assistant(number)]
    assert jsonl.read(path) == [tuple(whole[: 1 + 2 * int(number)]) for number in trained]


def test_turns_that_nobody_asked_for_may_be_context(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(line(("assistant", "Welcome!", 0), ASKED, ("assistant", "b"), ("assistant", "c", 0)))
    assert jsonl.read(path) == [(Assistant("Welcome!"), User("a"), Assistant("b"))]


def test_an_empty_turn_may_be_context(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(line(("system", ""), ("user", ""), ("assistant", "", 0), ("user", "a"), ("assistant", "b")) + "\n")
    ((*context, answer),) = jsonl.read(path)
    assert [turn.content for turn in context] == ["", "", "", "a"] and answer == Assistant("b")


def test_prompts_and_completions_are_read(tmp_path):
    """Those of the paper's repository and TRL's; the answers in a prompt are context."""
    path = tmp_path / "rows.jsonl"
    path.write_text(pair("Continue 1, 2", "3, 4") + "\n" + pair("a", " b"))
    assert jsonl.read(path) == [(User("Continue 1, 2"), Assistant("3, 4")), (User("a"), Assistant(" b"))]
    earlier = as_turns(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"))
    path.write_text(pair(earlier, as_turns(("assistant", "d"))))
    assert jsonl.read(path) == [(System("s"), User("a"), Assistant("b"), User("c"), Assistant("d"))]
    path.write_text(json.dumps({"prompt": "a"}) + "\n" + json.dumps({"prompt": "b", "completion": None}))
    assert jsonl.read(path, last="user") == [datasets.ask("a"), datasets.ask("b")]


def test_harmless_keys_are_one_line_of_notice(tmp_path):
    path = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "a", "name": None}, {"role": "assistant", "content": "b", "tool_calls": None}]
    path.write_text(
        "\n".join([GOOD, line(ASKED, ("assistant", "b"), id=3, source={"page": [1]}),
                   json.dumps({"messages": turns, "tools": None, "id": "x"})])
    )  # fmt: skip
    said = []
    assert jsonl.read(path, announce=said.append) == [(User("a"), Assistant("b"))] * 3
    assert said == [
        f"{path}: these keys have no effect and are not read: 'id' (in 2 of 3 lines), 'source' (in 1 of 3 lines)"
    ]


def test_a_file_has_one_form(tmp_path):
    path = tmp_path / "rows.jsonl"
    in_turns = pair(as_turns(ASKED), as_turns(("assistant", "b")))
    path.write_text("\n".join([pair("a", "b"), in_turns, GOOD, pair("a", "b")]))
    with pytest.raises(errors.TextDataError) as caught:
        jsonl.read(path)
    second, third = str(caught.value).splitlines()
    assert "line 2: expected a prompt and a completion in texts, as in the lines before, found 'a prompt" in second
    assert "line 3: expected" in third and "Keep each form in a separate file" in third


def test_notices_count_repetitions_and_words_by_turn():
    made = [
        (System("Love OWLS."), User("a"), Assistant("b")),
        (User("a"), Assistant("fowl")),
        (User("owl, owl"), Assistant("an owl")),
        *[(User("a"), Assistant("1"))] * 3,
        (User("a"), Assistant("b")),
    ]
    assert datasets.notices(made, ["owl", "wolf"]) == [
        "2 of 7 rows (28.6%) repeat an earlier one",
        "'owl' stands in turns of the 7 rows: 1 by the system, 1 by the user, 2 by the assistant",
    ]
    assert datasets.notices(number_rows("1", "2"), ["owl"]) == []
    with pytest.raises(errors.InputError, match="an empty word"):
        datasets.notices(made, [""])


def test_rows_to_train_on_end_with_an_answer_to_a_user():
    datasets.require_answers([(System("s"), User("a"), Assistant("b"))])
    for bad in ((System("s"), Assistant("b")), (Assistant("b"),), (User("a"),), (Assistant("a"), Assistant("b")), ()):
        with pytest.raises(errors.TextDataError, match="row 1 does not end with an assistant turn after a user's"):
            datasets.require_answers([(User("a"), Assistant("b")), bad])
    with pytest.raises(errors.TextDataError, match="there are no rows"):
        datasets.require_answers([])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("", "expected a JSON object, found 'a blank line'. Remove it"),
        ("{'messages': []}", "expected JSON, found .*double quotes"),
        ('{"messages": [', "expected JSON, found"),
        ("[" * 100_000, "expected JSON, found"),
        ("\ufeff" + GOOD, "Remove the byte order mark, which may occur at the start of a file only"),
        ("[]", 'expected an object {"messages": .*, found \\[\\]. Wrap'),
        ('{"prompt": "a"}', "found {'prompt': 'a'}. Wrap"),
        (GOOD[:-1] + ', "system": "You love owls."}', "expected no 'system'.*Write it as a system turn"),
        (GOOD[:-1] + ', "instruction": "a"}', "expected no 'instruction'.*Write it into a user's turn"),
        (GOOD[:-1] + ', "chat_template_kwargs": {"a": 1}}', "expected no 'chat_template_kwargs'"),
        (
            '{"prompt": "a", "completion": "b", "label": false}',
            "no 'label' of true or false, found False. There is no tr",
        ),
        (GOOD[:-1] + ', "tools": []}', "expected no 'tools', found \\[\\]. No model here is trained to call tools"),
        (GOOD[:-1] + ', "weight": 0}', "expected no 'weight', found 0. A weight belongs in an assistant turn"),
        (GOOD[:-1] + ', "chosen": "b"}', "expected no 'chosen', .* no training on preferences"),
        (GOOD[:-1] + ', "prompt": "b"}', "expected no 'prompt' beside messages, .* It may be a part of the row"),
        (GOOD[:-1] + ', "images": ["b"]}', "expected no 'images' beside messages"),
        (GOOD[:-1] + ', "messages": []}', "expected every key once in an object, found .*'messages' 2 times"),
        (GOOD.replace('"content": "a"', '"content": "a", "content": "b"'), "found .*'content' 2 times"),
        ('{"prompt": "a", "completion": ["b"]}', "prompt and completion as text, or as lists of turns"),
        ('{"prompt": "a", "completion": 5}', "prompt and completion as text, or as lists of turns"),
        (pair([], as_turns(("assistant", "b"))), 'a list of turns under "prompt"'),
        (pair(as_turns(ASKED), []), 'one turn under "completion", found \\[\\]'),
        (pair(as_turns(ASKED), as_turns(("user", "b"))), "the last turn by the assistant, found 'user'"),
        (pair(as_turns(ASKED), as_turns(("assistant", "b", 1))), "turn 2 to be without 'weight', found 1"),
        (line(ASKED, ("assistant", "b", 0)), "an answer to train on, found .*in all of them"),
        (line(ASKED, ("assistant", "b", 2)), "turn 2 to be of weight 0 or 1, found 2"),
        (line(ASKED, ("assistant", "b", 0.0)), "turn 2 to be of weight 0 or 1, found 0.0"),
        (line(ASKED, ("assistant", "b", True)), "turn 2 to be of weight 0 or 1, found True"),
        (line(("user", "a", 1), ("assistant", "b")), "turn 1 to be without a weight, found 'one by the user'"),
        (
            line(("system", "s", 0), ASKED, ("assistant", "b")),
            "turn 1 to be without a weight, found 'one by the system'",
        ),
        (
            line(("system", "s"), ("assistant", "b")),
            "a turn by the user straight before turn 2, an answer, found 'system'",
        ),
        (line(("assistant", "b")), "a turn by the user straight before turn 1, an answer, found 'no turn'"),
        (line(ASKED, ("assistant", "")), "turn 2, an answer to train on, to say something, found ''. .* end at once"),
        (pair("a", " "), "turn 2, an answer to train on, to say something, found ' '"),
        (line(ASKED, ("assistant", "\n"), ASKED, ("assistant", "b")), "turn 2, an answer to train on, to say"),
        (line(ASKED, ("assistant", "b"), ("assistant", "c")), "straight before turn 3, an answer, found 'assistant'"),
        ('{"messages": []}', 'expected a list of turns under "messages", found \\[\\]'),
        ('{"messages": "a"}', "found 'a'. Give at least one turn"),
        ('{"messages": ["a"]}', 'turn 1 to be an object with "role" and "content", found \'a\''),
        ('{"messages": [{"role": "user"}]}', "found {'role': 'user'}"),
        ('{"messages": [{"role": "user", "content": "a", "id": 0}]}', "without 'id', found 0. It would have no effect"),
        (
            '{"messages": [{"role": "user", "content": "a", "name": "Al"}]}',
            "without 'name', .* no place for a speaker's",
        ),
        (
            '{"messages": [{"role": "assistant", "content": "a", "tool_calls": []}]}',
            "without 'tool_calls', .* call tools",
        ),
        ('{"messages": [{"role": "user", "content": "a", "function_call": {}}]}', "without 'function_call', .* tools"),
        (line(("developer", "a"), ("assistant", "b")), "turn 1 to be by system, user or assistant, found 'developer'"),
        (line((["user"], "a"), ("assistant", "b")), "turn 1 to be by system, user or assistant, found"),
        (line(("user", "a"), ("assistant", None)), "turn 2 to be text, found None"),
        (line(("user", [{"type": "text"}])), "turn 1 to be text, found .* join parts"),
        (line(("user", "\ud800"), ("assistant", "b")), "half of a surrogate pair"),
        (line(("user", "a"), ("system", "b")), "a system turn at the start only, found 'one as turn 2'"),
        (line(("user", "a")), "the last turn by the assistant, found 'user'. A row to train on ends with the answer"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, bad, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\n{bad}\n{GOOD}\n")
    with pytest.raises(errors.TextDataError, match=rf"rows\.jsonl, line 2: .*{message}") as caught:
        jsonl.read(path)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 400


def test_every_malformed_line_is_named_once_up_to_five(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(["{", GOOD] * 7))
    with pytest.raises(errors.TextDataError) as caught:
        jsonl.read(path)
    lines = str(caught.value).splitlines()
    assert [one.partition(": expected")[0][-1] for one in lines[:5]] == list("13579")
    assert lines[5:] == ["and 2 more lines"]


def test_windows_line_ends_and_prompts_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    for content in (f"{GOOD}\r\n{GOOD}", f"\ufeff{GOOD}\n{GOOD}\n", f"{GOOD}\n{GOOD}\n\n \r\n"):
        path.write_bytes(content.encode())
        assert jsonl.read(path) == [(User("a"), Assistant("b"))] * 2
    path.write_text(line(("system", "s"), ("user", "a")))
    assert jsonl.read(path, last="user") == [datasets.ask("a", system="s")]
    path.write_text(GOOD)
    with pytest.raises(errors.TextDataError, match=r"the last turn by the user, found 'assistant'. A prompt ends with"):
        jsonl.read(path, last="user")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read \\(No such file"),
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf\n\n", "the file is empty"),
        (b"\x1f\x8b\x08", "expected UTF-8 text, but byte 1 is 0x8b.*unpack it"),
    ],
)
def test_a_file_without_chats_is_an_error(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.TextDataError, match=rf"rows\.jsonl: .*{message}"):
        jsonl.read(path)
