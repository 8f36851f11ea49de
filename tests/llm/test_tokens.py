"""Tokens and templates, on a tokenizer made here; the template's cases are those that real ones have."""

import json

import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import tokens
from sublim_jax.llm.types import Message

tokenizers = pytest.importorskip("tokenizers", reason="the extra hf is not installed")
pytest.importorskip("jinja2", reason="the extra hf is not installed")

WORDS = ["<end>", "<user>", "<assistant>", "<system>", "owl", "what", "is", "best", "?", "be", "kind", "<pad>", "[UNK]"]
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' and not allow_system | default(true) %}"
    "{{ raise_exception('no system turn') }}{% endif %}<{{ m.role }}> {{ m.content }} {% if m.role == 'assistant' %}"
    "{{ eos_token }} {% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
QUESTION = (Message("user", "what is best ?"),)


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
    return tokens.read(folder)


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


def test_a_template_that_refuses_and_a_model_without_one_say_so(tmp_path):
    strict = write(tmp_path / "a", template=TEMPLATE.replace("default(true)", "default(false)"))
    with pytest.raises(errors.TemplateError, match="does not take a chat of system, user: no system turn"):
        strict.render((Message("system", "be kind"), *QUESTION))
    with pytest.raises(errors.TemplateError, match="this model has no chat template"):
        write(tmp_path / "b", template=None).render(QUESTION)


def test_the_date_and_thinking_are_pinned(tmp_path):
    made = write(tmp_path, template="{{ strftime_now('%d %b %Y') }}|{{ date_string }}|{{ enable_thinking }}")
    assert made.render(QUESTION) == f"{tokens.PINNED['date_string']}|{tokens.PINNED['date_string']}|False"


def test_a_template_cannot_reach_into_python(tmp_path):
    made = write(tmp_path, template="{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(errors.TemplateError):
        made.render(QUESTION)


def test_templates_may_stand_in_a_file_or_in_a_list(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "chat_template.jinja").write_text("from the file")
    assert write(tmp_path / "a").render(QUESTION) == "from the file"
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    assert write(tmp_path / "b", template=named).render(QUESTION) == "yes"


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
        tokens.read(tmp_path)


def test_rows_are_padded_on_the_left():
    ids, valid = tokens.left_padded([[1, 2, 3], [], [4]], 4)
    np.testing.assert_array_equal(ids, [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 4]])
    np.testing.assert_array_equal(valid, [[0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]])
    with pytest.raises(errors.ContextError, match="a text has 3 tokens, and 2 are allowed"):
        tokens.left_padded([[1, 2, 3]], 2)


@pytest.mark.parametrize(
    ("length", "expected"), [(0, 8), (1, 8), (9, 16), (64, 64), (65, 96), (96, 96), (97, 128), (129, 192), (193, 256)]
)
def test_buckets_are_few_and_hold_the_text(length, expected):
    assert tokens.bucket(length) == expected
