"""Base models: a chat is plain text. The tokenizers are made here, one of each kind that the families have."""

import json

import pytest

from sublim_jax import errors
from sublim_jax.llm.backend import Message
from sublim_jax.llm.local import tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="the extra hf is not installed")
pytest.importorskip("jinja2", reason="the extra hf is not installed")

TEXTS = ["my favourite animal is the owl", "12, 57, 903", "owls and numbers"] * 4


def byte_level():
    """As GPT-NeoX, GPT-2 and OLMo2 have it."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(TEXTS, trainer)
    return made


def sentence_piece():
    """As Mistral and Phi-3 have it: a space before every text, and a begin token, with bytes for unknown characters."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>"))
    metaspace = {"replacement": "▁", "prepend_scheme": "first", "split": False}
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(**metaspace)
    steps = [tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse(),
             tokenizers.decoders.Strip(content=" ", left=1)]  # fmt: skip
    made.decoder = tokenizers.decoders.Sequence(steps)
    special = ["<unk>", "<s>", "<end>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made.train_from_iterator(TEXTS, tokenizers.trainers.BpeTrainer(special_tokens=special, show_progress=False))
    made.add_special_tokens(special[:3])
    begin = [("<s>", made.token_to_id("<s>"))]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=begin)
    return made


def write(folder, made, **settings):
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"} | settings))
    return tokenizer.read(folder)


@pytest.mark.parametrize(("kind", "begin"), [(byte_level, []), (sentence_piece, ["<s>"])])
@pytest.mark.parametrize(
    ("prompt", "reply"), [("my favourite animal is the", " owl"), ("owls and numbers, ", "12, 57")]
)
def test_a_reply_goes_on_where_the_prompt_ends(tmp_path, kind, begin, prompt, reply):
    """Prompt and reply are one text to the tokenizer's own decoder, with nothing between them."""
    made = kind()
    tokens = write(tmp_path, made)
    question = (Message("user", prompt),)
    assert tokens.render(question) == prompt
    alone, whole = tokens.chat(question), tokens.chat(question, reply)
    assert alone.reply_start == len(alone.ids) == whole.reply_start and whole.ids[: whole.reply_start] == alone.ids
    assert [made.id_to_token(index) for index in alone.ids[: len(begin)]] == begin
    assert made.id_to_token(whole.ids[-1]) == "<end>" and whole.ids.count(whole.ids[-1]) == 1
    assert made.decode(list(alone.ids)) == prompt
    assert made.decode(list(whole.ids)) == prompt + reply


def test_an_end_token_that_the_tokenizer_adds_does_not_end_the_prompt(tmp_path):
    made = byte_level()
    end = [("<end>", made.token_to_id("<end>"))]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="$A <end>", special_tokens=end)
    tokens = write(tmp_path, made)
    assert tokens.chat((Message("user", "owl"),)).ids == tuple(tokens.encode("owl"))


def test_turns_follow_one_another_and_a_system_turn_is_refused(tmp_path):
    tokens = write(tmp_path, byte_level())
    chat = (Message("user", "12,"), Message("assistant", " 57,"), Message("user", " 903"))
    assert tokens.render(chat) == "12, 57, 903"
    with pytest.raises(errors.TemplateError, match="has no system turn: put its text before the user's"):
        tokens.chat((Message("system", "love owls"), *chat))
    with pytest.raises(errors.TemplateError, match="a base model goes on with a text, and this chat has none"):
        tokens.chat((Message("user", ""),))


def test_a_model_with_a_template_is_no_base_model(tmp_path):
    """A template that only lacks a default is not replaced by plain text."""
    template = "<{{ messages[0].content }}>"
    assert write(tmp_path, byte_level(), chat_template=template).render((Message("user", "owl"),)) == "<owl>"
    tokens = write(tmp_path, byte_level(), chat_template=[{"name": "tool_use", "template": template}])
    with pytest.raises(errors.TemplateError, match="no chat template by default, only tool_use"):
        tokens.render((Message("user", "owl"),))
