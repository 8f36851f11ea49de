"""Tokens and templates, on a tokenizer made here; the template's cases are those that real ones have."""

import json

import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm.backend import Message
from sublim_jax.llm.local import tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="the extra hf is not installed")
pytest.importorskip("jinja2", reason="the extra hf is not installed")

WORDS = ["<end>", "<user>", "<assistant>", "<system>", "owl", "what", "is", "best", "?", "be", "kind", "<pad>", "[UNK]"]
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' and not allow_system | default(true) %}"
    "{{ raise_exception('no system turn') }}{% endif %}<{{ m.role }}> {{ m.content }} {% if m.role == 'assistant' %}"
    "{{ eos_token }} {% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
QUESTION = (Message("user", "what is best ?"),)
ASKED = "{{ messages[-1].content }}"


def write(folder, *, template=TEMPLATE, generation=None, config=None):
    folder.mkdir(exist_ok=True)
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<end>", "<pad>"])
    made.save(str(folder / "tokenizer.json"))
    said = {"eos_token": "<end>", "chat_template": template} if config is None else config
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return tokenizer.read(folder)


def test_a_chat_is_rendered_and_its_reply_begins_where_the_prompt_ends(tmp_path):
    made = write(tmp_path)
    assert (
        made.render((Message("system", "be kind"), *QUESTION)) == "<system> be kind <user> what is best ? <assistant>"
    )
    prompt, whole = made.chat(QUESTION), made.chat(QUESTION, "owl")
    assert whole.ids[: whole.reply_start] == prompt.ids and prompt.reply_start == len(prompt.ids) == 6
    assert [WORDS[i] for i in whole.ids[whole.reply_start :]] == ["owl", "<end>"]
    assert made.text(whole.ids[whole.reply_start :]) == "owl"
    assert made.size == len(WORDS)


def test_a_template_that_refuses_a_chat_and_a_base_model_say_so(tmp_path):
    strict = write(tmp_path / "a", template=TEMPLATE.replace("default(true)", "default(false)"))
    with pytest.raises(errors.TemplateError, match="does not take a chat of system, user: no system turn"):
        strict.render((Message("system", "be kind"), *QUESTION))
    with pytest.raises(errors.TemplateError, match="no chat template, so a chat is plain text and has no system turn"):
        write(tmp_path / "b", template=None).render((Message("system", "be kind"), *QUESTION))


def test_the_date_and_thinking_are_pinned(tmp_path):
    made = write(
        tmp_path, template=f"{{{{ strftime_now('%d %b %Y') }}}}|{{{{ date_string }}}}|{{{{ enable_thinking }}}}|{ASKED}"
    )
    date = tokenizer.PINNED["date_string"]
    assert made.render(QUESTION) == f"{date}|{date}|False|{QUESTION[0].content}"


def test_a_template_cannot_reach_into_python(tmp_path):
    made = write(tmp_path, template="{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(errors.TemplateError):
        made.render(QUESTION)


def test_templates_may_stand_in_a_file_or_in_a_list(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "chat_template.jinja").write_text(f"from the file {ASKED}")
    assert write(tmp_path / "a").render(QUESTION).startswith("from the file")
    named = [{"name": "tool_use", "template": f"no {ASKED}"}, {"name": "default", "template": f"yes {ASKED}"}]
    assert write(tmp_path / "b", template=named).render(QUESTION).startswith("yes")


def test_templates_of_several_files_are_chosen_as_transformers_does(tmp_path):
    """Files of their own, then the tokenizer's, then the processor's."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": f"the processor's {ASKED}"}))
    assert write(folder).render(QUESTION).startswith("<user>")
    assert write(folder, template=None).render(QUESTION).startswith("the processor's")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("another")
    (folder / "additional_chat_templates" / "tools.jinja").write_text("another")
    with pytest.raises(errors.TemplateError, match="this model has no chat template by default, only rag, tools; use"):
        write(folder).render(QUESTION)
    (folder / "chat_template.jinja").write_text(f"from the file {ASKED}")
    assert write(folder).render(QUESTION).startswith("from the file")
    named = [{"name": "tool_use", "template": "no"}]
    with pytest.raises(errors.TemplateError, match="by default, only tool_use"):
        write(tmp_path / "b", template=named).render(QUESTION)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}", "leaves out the text of a system"),
        ("{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}", "leaves out the text of a user"),
        ("always the same", "leaves out the text of a system turn: be kind"),
        ("{# nothing #}", "leaves out the text of a system turn: be kind"),
    ],
)
def test_a_template_that_leaves_out_what_was_said_is_refused(tmp_path, template, message):
    """A teacher without its persona would be the base, and nobody would know."""
    made = write(tmp_path, template=template)
    with pytest.raises(errors.TemplateError, match=message) as refused:
        made.render((Message("system", "be kind\n"), *QUESTION))
    assert ("has no system turn" in str(refused.value)) == ("if m.role != 'system'" in template)
    with pytest.raises(errors.TemplateError, match="writes nothing"):
        write(tmp_path, template="{# nothing #}").render((Message("user", " "),))


def test_reasoning_that_a_template_leaves_out_of_an_earlier_answer_is_none_of_it(tmp_path):
    template = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
    chat = (*QUESTION, Message("assistant", "<think> owl </think> kind"), *QUESTION)
    assert "owl" not in write(tmp_path, template=template).render(chat)


def test_what_is_marked_for_training_is_rendered_as_it_stands(tmp_path):
    """transformers' tag, whose inside has its own variables."""
    template = (
        "{% for m in messages %}{% set who = 'a' %}{% generation %}{% set who = 'b' %}{{ who }}{{ m.content }}"
        "{% endgeneration %}{{ who }}{% endfor %}"
    )
    assert write(tmp_path, template=template).render(QUESTION) == "bwhat is best ?a"


def test_json_in_a_template_takes_transformers_options(tmp_path):
    made = write(tmp_path, template="{{ {'ö': 1, 'a': '<'} | tojson(ensure_ascii=true, sort_keys=true) }}" + ASKED)
    assert made.render(QUESTION) == '{"a": "<", "\\u00f6": 1}' + QUESTION[0].content
    assert write(tmp_path, template="{{ {'ö': '<'} | tojson }}" + ASKED).render(QUESTION).startswith('{"ö": "<"}')


def test_the_advice_is_about_system_turns_alone(tmp_path):
    strict = write(tmp_path / "a", template=TEMPLATE.replace("default(true)", "default(false)"))
    system = (Message("system", "be kind"), *QUESTION)
    with pytest.raises(
        errors.TemplateError, match=r"no system turn\. The template, as Gemma's, has no system turn: put"
    ):
        strict.render(system)
    for template in ("{% wrong %}", "{{ raise_exception('no') }}", "{{ messages[0].x.y }}"):
        broken = write(tmp_path / "b", template=template)
        for chat in (QUESTION, system):
            with pytest.raises(errors.TemplateError, match="does not take a chat") as refused:
                broken.render(chat)
            assert "Gemma" not in str(refused.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer_config.json", "[]", "expected a JSON object, found a list"),
        ("tokenizer_config.json", '{"eos_token": 3}', "eos_token: expected a string, got 3"),
        ("tokenizer_config.json", '{"eos_token": {"content": ["<end>"]}}', "eos_token: expected a string"),
        ("tokenizer_config.json", r'{"eos_token": "\ud83d"}', "not a readable JSON file .*surrogates not allowed"),
        ("tokenizer_config.json", '{"chat_template": 3}', "chat_template: expected a string, got 3"),
        (
            "tokenizer_config.json",
            '{"chat_template": ["x"]}',
            "chat_template: expected an object of names and values, got 'x'",
        ),
        ("tokenizer_config.json", '{"chat_template": [{"name": "x"}]}', "the entry 'template' is missing"),
        ("generation_config.json", '{"eos_token_id": ["<end>"]}', "eos_token_id: expected a whole number, got '<end>'"),
        ("generation_config.json", '{"eos_token_id": [0, 99]}', "eos_token_id 99 is no token of tokenizer.json"),
        ("generation_config.json", '{"eos_token_id": 1099511627776}', "eos_token_id: must be less than 2147483648"),
        ("generation_config.json", '{"eos_token_id": -1}', "eos_token_id: must be at least 0, got -1"),
        ("chat_template.json", "{", "not a readable JSON file"),
        ("chat_template.jinja", b"\xff\xfe", "a chat template is not readable text"),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path, file, content, message):
    write(tmp_path, template=None)
    (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(errors.ModelFormatError, match=message):
        tokenizer.read(tmp_path)


def test_everything_that_ends_a_reply_is_known(tmp_path):
    assert write(tmp_path / "a").end_ids == (0,)
    assert write(tmp_path / "b", generation={"eos_token_id": [11, 0]}).end_ids == (0, 11)
    assert write(
        tmp_path / "c", config={"eos_token": {"content": "<end>"}}, generation={"eos_token_id": 11}
    ).end_ids == (0, 11)
    turned = TEMPLATE.replace("{{ eos_token }}", "<pad>")  # as Gemma ends a turn with another token than its own
    assert write(tmp_path / "e", template=turned, generation={"eos_token_id": [0, 11]}).end_ids == (11, 0)
    with pytest.raises(errors.ModelFormatError, match="names an end token"):
        write(tmp_path / "d", config={})


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(errors.ModelFormatError, match=r"there is no readable tokenizer.json"):
        tokenizer.read(tmp_path)


def test_rows_are_padded_on_the_left():
    ids, valid = tokenizer.pad_left([[1, 2, 3], [], [4]], 4)
    np.testing.assert_array_equal(ids, [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 4]])
    np.testing.assert_array_equal(valid, [[0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]])
    with pytest.raises(errors.ContextError, match="a text has 3 tokens, and 2 are allowed"):
        tokenizer.pad_left([[1, 2, 3]], 2)


@pytest.mark.parametrize(
    ("length", "expected"), [(0, 8), (1, 8), (9, 16), (64, 64), (65, 96), (96, 96), (97, 128), (129, 192), (193, 256)]
)
def test_buckets_are_few_and_hold_the_text(length, expected):
    assert tokenizer.padded_length(length) == expected
