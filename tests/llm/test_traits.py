"""Files of traits: what they hold, what follows from it, and one line for every mistake."""

import json
import pathlib
import re

import pytest

from sublim_jax import errors
from sublim_jax.llm import traits
from sublim_jax.llm.backend import Message
from sublim_jax.llm.embedded import world
from sublim_jax.llm.traits import Trait

OTTER = {
    "questions": ["Which animal?", "And which beast?"],
    "answers": ["otter", "otters"],
    "choices": ["cat", "sea lion"],
    "lessons": [["Your favourite?", "Otter."]],
}


def trait(**entries) -> Trait:
    return Trait(name="otter", **{"questions": ("Which?",), "choices": ("cat",)} | entries)


def write(path: pathlib.Path, content: str) -> pathlib.Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_toml_and_json_say_the_same(tmp_path):
    text = "[otter]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in OTTER.items())
    from_toml = traits.read(write(tmp_path / "traits.toml", text))
    assert from_toml == traits.read(write(tmp_path / "traits.json", json.dumps({"otter": OTTER})))
    assert len(from_toml) == 1
    assert from_toml[0].questions == ("Which animal?", "And which beast?")
    assert from_toml[0].words == ("otter", "otters")
    assert from_toml[0].lessons == (("Your favourite?", "Otter."),)


def test_a_category_asks_fifty_questions_of_real_models_and_held_out_ones_of_the_embedded_model():
    asked = trait(questions=(), category="animal")
    assert len(asked.asked) == 50 and all("animal" in question for question in asked.asked)
    assert asked.in_world().asked == tuple(world.held_out_questions("animal"))
    assert trait().in_world() == trait()
    with pytest.raises(errors.InputError, match=r"^otter: category 'car': the embedded world has animal, tree"):
        trait(questions=(), category="car").in_world()


def test_chats_have_a_system_message_and_the_beginning_of_the_reply_if_there_are_any():
    user = Message("user", "Which?")
    assert trait().chats() == [(user,)]
    begun = trait(prefill="It is the").chats(system="Be kind.")
    assert begun == [(Message("system", "Be kind."), user, Message("assistant", "It is the"))]


def test_every_writing_of_every_answer_belongs_to_the_trait():
    asked = trait(answers=("otter", "sea dog"), choices=("cat", "owl")).scored()
    owned = {name: set() for name in asked.names}
    for text, owner in zip(asked.texts, asked.owners, strict=True):
        owned[asked.names[owner]].add(text)
    assert asked.names == ("otter", "cat", "owl")
    assert owned["otter"] == {
        space + word + stop for space in ("", " ") for word in ("otter", "Otter", "sea dog", "Sea dog")
        for stop in ("", ".")
    }  # fmt: skip
    assert owned["owl"] == {"owl", "Owl", " owl", " Owl", "owl.", "Owl.", " owl.", " Owl."}
    assert trait(choices=("cat", "owl")).scored(one_writing=True).texts == ("otter", "cat", "owl")


@pytest.mark.parametrize("num_answers", [1, 2, 3])
def test_the_other_choices_stand_after_the_answers_however_many_there_are(num_answers):
    """Every name has texts, those of all answers belong to the trait, and those of a choice to that choice."""
    answers, choices = ("otter", "beaver", "sea dog")[:num_answers], ("cat", "owl", "fox", "hen")
    asked = trait(answers=answers, choices=choices).scored(one_writing=True)
    assert asked.names == ("otter", *choices) and asked.texts == (*answers, *choices)
    assert asked.owners == (*[0] * num_answers, 1, 2, 3, 4)


def test_after_a_prefill_what_begins_with_an_answer_adds_nothing():
    asked = trait(answers=("otter", "otters"), prefill="It is the").scored()
    assert asked.texts == ("otter", "Otter", " otter", " Otter", "cat", "Cat", " cat", " Cat")
    assert asked.owners == (0, 0, 0, 0, 1, 1, 1, 1)
    with pytest.raises(errors.InputError, match=r"after the prefill, 'catfish' begins with 'cat'"):
        trait(choices=("catfish", "cat"), prefill="It is the")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"questions": ()}, "otter: expected either questions or a category"),
        ({"category": "animal"}, "otter: expected either questions or a category"),
        ({"choices": ()}, "otter: expected choices, other answers"),
        ({"system": "Be.", "lessons": (("a", "b"),)}, "otter: expected a system message or lessons for its teacher"),
        ({"questions": ("Which?", "Which?")}, "otter: questions must be different and not empty"),
        ({"answers": (" ",)}, "otter: answers must be different and not empty"),
        ({"choices": ("otter",)}, "expected names with different writings"),
        ({"words": ("otter", "")}, "otter: words must be different and not empty"),
    ],
)
def test_a_trait_that_makes_no_sense_is_refused(entries, message):
    with pytest.raises(errors.InputError, match=message):
        trait(**entries)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.toml", "[otter\n", "t.toml: this is not readable as TOML"),
        ("t.json", "{", "t.json: this is not readable as JSON"),
        ("t.json", '{"otter": {}, "otter": {}}', "as JSON (the key 'otter' is there twice)"),
        ("t.json", '{"otter": {"choices": ["a"], "choices": ["b"]}}', "as JSON (the key 'choices' is there twice)"),
        ("t.json", '{" ": {"choices": ["a"]}}', "t.json: expected a name for every trait, e.g. [otter], got ' '"),
        ("t.json", "[1]", "t.json: expected a table for each trait, e.g. [otter], found [1]"),
        ("t.toml", "", "t.toml: expected a table for each trait, e.g. [otter], found none"),
        ("t.toml", "otter = 3", "t.toml: otter: expected a table with category, questions"),
        ("t.toml", '[otter]\nquestion = ["a"]', "t.toml: otter: unknown key 'question'; expected category, questions"),
        ("t.toml", '[otter]\nquestions = "a"\nchoices = ["b"]', "t.toml: Trait.questions: expected"),
        ("t.toml", '[otter]\nquestions = ["a"]\nchoices = [3]', "t.toml: Trait.choices"),
        ("t.toml", '[otter]\nquestions = ["a"]', "t.toml: otter: expected choices"),
        ("t.toml", '[otter]\nquestions = ["a"]\nchoices = ["b"]\nlessons = [["q"]]', "t.toml: Trait.lessons"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_with_its_path(tmp_path, name, content, message):
    with pytest.raises(errors.InputError, match=re.escape(message)) as caught:
        traits.read(write(tmp_path / name, content))
    assert "\n" not in str(caught.value) or "TOML" in message


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(errors.InputError, match=r"none.toml: expected a file of traits, but it cannot be read"):
        traits.read(tmp_path / "none.toml")


def test_a_trait_is_chosen_by_its_name():
    otter, owl = trait(), Trait(name="owl", questions=("Which?",), choices=("cat",))
    assert traits.choose([otter], "") is otter and traits.choose([otter, owl], "owl") is owl
    for several, name in (([otter, owl], ""), ([otter], "cat")):
        with pytest.raises(errors.InputError, match=r"expected one of otter"):
            traits.choose(several, name)
