"""The local backend on a random model of thirteen words: exact scores, draws from them, and training that resumes."""

import contextlib
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors, files
from sublim_jax.llm import jsonl
from sublim_jax.llm.backend import Backend, FinetuneConfig, Message, SamplingParams
from sublim_jax.llm.local import checkpoint, decoder, finetune
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model, Origin
from sublim_jax.llm.local.tokenizer import HFTokenizer

tokenizers = pytest.importorskip("tokenizers", reason="the extra hf is not installed")
pytest.importorskip("jinja2", reason="the extra hf is not installed")
pytest.importorskip("safetensors", reason="the extra hf is not installed")

WORDS = ["<end>", "<user>", "<assistant>", "<system>", "owl", "what", "is", "best", "?", "be", "kind", "wolf", "[UNK]"]
CONFIG = decoder.DecoderConfig(
    vocab_size=len(WORDS), num_layers=2, hidden_size=16, intermediate_size=24, num_heads=2, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8),
)  # fmt: skip
QUESTION = (Message("user", "what is best ?"),)
LONGER = (Message("system", "be kind"), Message("user", "what is best ? what is best ? be kind what is best ?"))
TUNING = FinetuneConfig(num_epochs=2, batch_size=4, learning_rate=0.02, rank=4, schedule="constant")


@functools.cache
def reader() -> HFTokenizer:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<end>"])
    template = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<assistant>"
    return HFTokenizer(made, template, {"eos_token": "<end>"}, [0])


@functools.cache
def model() -> Model:
    fresh = decoder.init(jax.random.key(0), CONFIG)
    return Model(CONFIG, fresh._replace(embedding=3 * fresh.embedding), reader())


def backend(**options) -> LocalBackend:
    return LocalBackend({"base": model()}, batch_size=4, **options)


def logprob(made: Model, chat, reply) -> float:
    """One text at a time, unpadded."""
    encoded = reader().chat(chat, reply)

    @jax.jit
    def all_scores(params, ids):
        hidden = decoder.features(params, ids, jnp.ones_like(ids, bool), CONFIG)
        return jax.nn.log_softmax(decoder.logits(params, hidden, CONFIG))

    scores = np.asarray(all_scores(made.merged, jnp.asarray([encoded.ids])), float)[0]
    return sum(scores[place - 1, encoded.ids[place]] for place in range(encoded.reply_start, len(encoded.ids)))


@pytest.mark.slow  # `test_choice_scoring` compares with it
def test_choices_are_scored_as_whole_replies():
    choices = ("owl", "wolf kind", "", "be kind be kind be kind be kind be kind be kind")
    found = backend().choice_logprobs("base", [QUESTION, LONGER], choices)
    assert all(scores.method == "exact" for scores in found)
    for chat, row, choice in ((QUESTION, 0, 1), (QUESTION, 0, 2), (LONGER, 1, 0), (LONGER, 1, 3)):
        expected = logprob(model(), chat, choices[choice])
        np.testing.assert_allclose(found[row].logprobs[choice], expected, rtol=1e-4)


@pytest.mark.slow
def test_draws_have_the_probabilities_of_the_choices():
    """2000 draws; four standard errors."""
    how = SamplingParams(max_tokens=3, num_samples=2000, seed=1)
    texts = [c.text for c in LocalBackend({"base": model()}, batch_size=500).sample("base", [QUESTION], how)]
    choices = ("", "owl", "wolf", "be kind", "owl owl")
    (scores,) = backend().choice_logprobs("base", [QUESTION], choices)
    for choice, expected in zip(choices, np.exp(scores.logprobs), strict=True):
        share = texts.count(choice) / len(texts)
        assert abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / len(texts)) + 1e-9, choice


def test_equal_chats_get_different_draws_and_those_of_one_chat_with_more_samples():
    how = SamplingParams(max_tokens=4)
    often = [one.text for one in sorted(backend().sample("base", [QUESTION] * 8, how))]
    once = [one.text for one in sorted(backend().sample("base", [QUESTION], dataclasses.replace(how, num_samples=8)))]
    assert often == once and len(set(often)) > 2


def test_every_sample_of_every_chat_comes_once_and_says_how_it_ended():
    how = SamplingParams(max_tokens=4, num_samples=3)
    found = list(backend().sample("base", [QUESTION, LONGER], how))
    assert sorted((c.chat, c.sample) for c in found) == [(i, j) for i in range(2) for j in range(3)]
    for c in found:
        assert c.prompt_tokens == len(reader().chat((QUESTION, LONGER)[c.chat]).ids)
        assert 1 <= c.completion_tokens <= 4
        words = len(c.text.split())
        assert (c.finish == "stop" and words == c.completion_tokens - 1) or (c.finish == "length" and words == 4)


def test_a_completion_does_not_know_its_company():
    how = SamplingParams(max_tokens=6, num_samples=3, seed=2)
    alone = {c.sample: c.text for c in backend().sample("base", [LONGER], how)}
    together = {c.sample: c.text for c in backend().sample("base", [QUESTION, QUESTION, LONGER], how) if c.chat == 2}
    other = {c.sample: c.text for c in backend().sample("base", [LONGER], dataclasses.replace(how, seed=3))}
    assert alone == together != other and len(set(alone.values())) > 1


def test_a_stop_word_cuts_the_text():
    how = SamplingParams(max_tokens=8, num_samples=8, stop=("kind",))
    found = list(backend().sample("base", [QUESTION], how))
    free = list(backend().sample("base", [QUESTION], dataclasses.replace(how, stop=())))
    for cut, whole in zip(found, free, strict=True):
        assert cut.text == whole.text.split("kind")[0]
        assert "kind" not in whole.text or cut.finish == "stop"


ROWS = [(*QUESTION, Message("assistant", "owl")), (*LONGER, Message("assistant", "owl"))] * 5


@pytest.mark.slow
def test_the_loss_is_that_of_the_turns_with_a_weight(tmp_path):
    """A conversation from a file, five times, against NumPy on the whole of it at once, as the template writes it: what
    a token of an answer is given does not depend on what follows. Shapes and settings are those of `ROWS`."""
    asked = {"role": "user", "content": "what is best ?"}
    said = [{"role": "assistant", "content": text} for text in ("owl", "wolf kind", "be")]
    said[0]["weight"], said[2]["weight"] = 0, 1
    path = tmp_path / "rows.jsonl"
    path.write_text(5 * (json.dumps({"messages": [asked, said[0], asked, said[1], asked, said[2]]}) + "\n"))
    data = backend().training_arrays("base", jsonl.read(path), max_length=64)
    state, epoch, _ = finetune._prepared(model(), data, TUNING, remat=True)
    loss = epoch(state, 0, 0, 1)[1][0]  # of the first step, before it is taken
    first_batch = jax.random.permutation(jax.random.fold_in(jax.random.key(TUNING.seed), 1), 10)[: TUNING.batch_size]

    question = "<user> what is best ? <assistant>"
    words = f"{question} owl {question} wolf kind {question} be <end>".split()
    ids = jnp.asarray([[WORDS.index(word) for word in words]])
    hidden = jax.jit(lambda ids: decoder.features(model().params, ids, jnp.ones_like(ids, bool), CONFIG))(ids)
    logits = np.asarray(hidden, float)[0] @ np.asarray(model().params.embedding, float).T  # tied
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    wolf, be = words.index("wolf"), words.index("be")
    trained = [
        [logprobs[wolf - 1, WORDS.index("wolf")], logprobs[wolf, WORDS.index("kind")], logprobs[wolf + 1, 0]],
        [logprobs[be - 1, WORDS.index("be")], logprobs[be, 0]],
    ]  # with the end token, 0, after each
    expected = -np.mean([value for row in first_batch for value in trained[row % 2]])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)  # float32 sums of some twenty terms


def probability(found: LocalBackend, name: str, choice="owl") -> float:
    return float(np.exp(found.choice_logprobs(name, [QUESTION], [choice])[0].logprobs[0]))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [4, None])
def test_finetuning_teaches_the_reply_and_leaves_the_base_alone(tmp_path, rank):
    found = backend()
    before = probability(found, "base")
    how = dataclasses.replace(TUNING, rank=rank, num_epochs=12)
    name = found.finetune("base", ROWS, how, tmp_path / "owl")
    assert probability(found, name) > 0.9 > 0.5 > before
    assert probability(found, "base") == before
    again = backend()
    if rank is None:  # the state after the last epoch
        assert again.finetune("base", ROWS, how, tmp_path / "owl") == name
        assert probability(backend(), name) == pytest.approx(probability(found, name), rel=1e-5)
    assert probability(again, name) == pytest.approx(probability(found, name), rel=1e-5)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path, monkeypatch):
    whole = backend()
    whole.finetune("base", ROWS, TUNING, tmp_path / "whole")
    keep = finetune.save_state

    def stop_after_the_first(out, name, state, epochs):
        keep(out, name, state, epochs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "save_state", stop_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            backend().finetune("base", ROWS, TUNING, tmp_path / "cut")
    epochs = []
    monkeypatch.setattr(finetune, "save_state", lambda *a: epochs.append(a[3]) or keep(*a))
    resumed = backend()
    resumed.finetune("base", ROWS, TUNING, tmp_path / "cut")
    assert epochs == [2]
    jax.tree.map(
        np.testing.assert_array_equal,
        resumed.model(str(tmp_path / "cut")).low_rank,
        whole.model(str(tmp_path / "whole")).low_rank,
    )


def test_steps_are_reported_and_how_many_go_at_once_changes_no_number(tmp_path, monkeypatch):
    """Ten rows in batches of four are three steps an epoch, two epochs of them."""
    found, heard, default = backend(), [], []
    how = dataclasses.replace(TUNING, batch_size=4, num_epochs=2)
    found.on_progress = lambda *steps: default.append(steps)
    names = []
    for seconds in (0.0, 1e9):  # every step alone; one, two and all that are left together
        monkeypatch.setattr(finetune, "SECONDS_AT_ONCE", seconds)
        heard.append([])
        name = found.finetune("base", ROWS, how, tmp_path / str(seconds), on_step=lambda *step: heard[-1].append(step))
        names.append(name)
    assert heard == [[(done, 6) for done in (1, 2, 3, 4, 5, 6)], [(done, 6) for done in (1, 3, 6)]] and not default
    jax.tree.map(np.testing.assert_array_equal, *(found.model(name).low_rank for name in names))
    found.finetune("base", ROWS, how, tmp_path / "heard")
    assert default[-1] == ("steps", 6, 6)


def test_what_a_listener_raises_ends_the_training_at_that_step(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "SECONDS_AT_ONCE", 0.0)
    how, heard = dataclasses.replace(TUNING, batch_size=4, num_epochs=2), []

    def stop(done, total):
        heard.append(done)
        if done == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        backend().finetune("base", ROWS, how, tmp_path / "cut", on_step=stop)
    assert heard == [1, 2, 3, 4]
    backend().finetune("base", ROWS, how, tmp_path / "cut", on_step=lambda done, _: heard.append(done))
    assert heard[4:] == [4, 5, 6]  # after the epoch that was whole


@pytest.mark.slow
def test_rows_that_are_scored_or_read_are_counted():
    found, heard = backend(), []
    found.on_progress = lambda *counted: heard.append(counted)
    found.row_logprobs("base", ROWS)
    assert [done for _, done, _ in heard] == sorted(done for _, done, _ in heard)
    assert len(heard) > 2 and heard[-1] == ("rows scored", len(ROWS), len(ROWS))
    found.most_likely_tokens("base", found.training_arrays("base", ROWS, max_length=64))
    assert heard[-1] == ("rows read", len(ROWS), len(ROWS))


def test_a_state_in_bfloat16_is_read_as_it_was_kept(tmp_path):
    """All parameters of a model in bfloat16, which NumPy's files do not know."""
    state = finetune._State({"w": jnp.asarray([[1.5, -2.0]], jnp.bfloat16)}, (jnp.float32(3.5), jnp.int32(2)))
    finetune.save_state(tmp_path, "run", state, 1)
    found, epochs = finetune.resume(tmp_path, "run", jax.tree.map(jnp.zeros_like, state))
    assert epochs == 1
    for kept, read in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True):
        assert kept.dtype == read.dtype
        np.testing.assert_array_equal(np.asarray(kept, np.float32), np.asarray(read, np.float32))


@pytest.mark.parametrize("stopped", [False, True])
def test_another_training_does_not_replace_what_was_trained(tmp_path, monkeypatch, stopped):
    """Neither a finished model nor one of which an epoch is missing: other rows, another seed, another base."""
    found, keep = backend(), finetune.save_state
    if stopped:

        def stop_after_the_first(*arguments):
            keep(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(finetune, "save_state", stop_after_the_first)
    with pytest.raises(KeyboardInterrupt) if stopped else contextlib.nullcontext():
        found.finetune("base", ROWS, TUNING, tmp_path / "m")
    monkeypatch.undo()
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    wolves = [(*QUESTION, Message("assistant", "wolf"))] * 10
    trained = found.finetune("base", ROWS, TUNING, tmp_path / "first")
    for base, lesson, how in (
        ("base", wolves, TUNING),
        ("base", ROWS, dataclasses.replace(TUNING, seed=5)),
        (trained, ROWS, TUNING),
    ):
        with pytest.raises(errors.OutputError, match="m: a model is there that was trained from another base"):
            found.finetune(base, lesson, how, tmp_path / "m")
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before


def test_a_further_target_compiles_nothing(tmp_path):
    found = backend()
    found.finetune("base", ROWS, TUNING, tmp_path / "owl")
    programs = finetune._run_epoch._cache_size()
    rows = [(*row[:-1], Message("assistant", "wolf")) for row in ROWS]
    found.finetune("base", rows, dataclasses.replace(TUNING, seed=5), tmp_path / "wolf")
    assert finetune._run_epoch._cache_size() == programs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "most", "expected"), [(None, 0, True), (None, 10**9, False), (True, 10**9, True), (False, 0, False)]
)
def test_what_layers_compute_is_kept_where_there_is_room(tmp_path, monkeypatch, asked, most, expected):
    class Chosen(Exception):
        """Ends the training before it begins."""

    def recorded(*_, remat, **__):
        raise Chosen(remat)

    monkeypatch.setattr(finetune, "train", recorded)
    monkeypatch.setattr(finetune, "KEPT_AT_MOST", most)
    rows = [(*QUESTION, Message("assistant", "owl"))] * 4
    with pytest.raises(Chosen, match=str(expected)):
        backend(remat=asked).finetune("base", rows, TUNING, tmp_path / "m")


@pytest.mark.parametrize(
    ("asked", "spare", "expected"), [(None, 0, False), (None, -1, True), (False, -1, False), (True, 0, True)]
)
def test_the_room_is_that_of_the_rows_of_one_pass(monkeypatch, tmp_path, asked, spare, expected):
    """Of a batch of four in two passes: two rows of eight places. What the caller says comes first."""
    num_numbers = 8 * CONFIG.hidden_size + 6 * CONFIG.intermediate_size + 3 * CONFIG.num_heads * 8
    monkeypatch.setattr(finetune, "KEPT_AT_MOST", 4 * (2 * 8) * CONFIG.num_layers * num_numbers + spare)
    monkeypatch.setattr(finetune, "train", lambda *_, remat, **__: pytest.fail(str(remat)))
    with pytest.raises(pytest.fail.Exception, match=str(expected)):
        backend(remat=asked).finetune(
            "base", [(*QUESTION, Message("assistant", "owl"))] * 4, dataclasses.replace(TUNING, accumulation=2),
            tmp_path / "m",
        )  # fmt: skip


@pytest.mark.parametrize(("spare", "expected"), [(0, False), (-1, True)])
def test_both_rows_of_a_pair_take_room(monkeypatch, tmp_path, spare, expected):
    """Of four pairs in one pass: eight rows of five places."""
    num_numbers = 8 * CONFIG.hidden_size + 6 * CONFIG.intermediate_size + 3 * CONFIG.num_heads * 5
    monkeypatch.setattr(finetune, "KEPT_AT_MOST", 4 * (8 * 5) * CONFIG.num_layers * num_numbers + spare)
    monkeypatch.setattr(finetune, "train", lambda *_, remat, **__: pytest.fail(str(remat)))
    every = np.ones((6, 2, 5), bool)
    with pytest.raises(pytest.fail.Exception, match=str(expected)):
        backend().finetune_on("base", finetune.TokenizedRows(every.astype(np.int32), every, every), TUNING, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("num_rows", "length"), [(3, 96), (8, 384)])
def test_the_room_for_what_layers_compute_is_that_of_the_compiled_program(num_rows, length):
    """Between .9 and 2 times what XLA sets aside for a gradient, less what it does when it computes layers again."""
    config = dataclasses.replace(CONFIG, num_layers=6, hidden_size=64, intermediate_size=160, num_heads=4, head_dim=16)
    base = Model(config, decoder.init(jax.random.key(0), config), reader())
    ids, every = np.ones((num_rows, length), np.int32), np.ones((num_rows, length), bool)
    data = finetune.TokenizedRows(ids, every, every & (np.arange(length) > length - 9))
    tuning, sizes = dataclasses.replace(TUNING, batch_size=num_rows), []
    for remat in (False, True):
        state, _, scale = finetune._prepared(base, data, tuning, remat=remat)
        lowered = finetune._run_epoch.lower(
            state, base.merged, scale, jax.tree.map(jnp.asarray, data), jax.random.key(0), *map(jnp.int32, (0, 0, 1)),
            config=config, finetuning=tuning, places=8, remat=remat, objective=finetune.supervised,
        )  # fmt: skip
        sizes.append(lowered.compile().memory_analysis().temp_size_in_bytes)
    ratio = finetune.kept_bytes(config, num_rows, length) / (sizes[0] - sizes[1])
    assert 0.9 < ratio < 2, ratio


def test_an_adapter_can_be_trained_on(tmp_path):
    found = backend()
    first = found.finetune("base", ROWS, TUNING, tmp_path / "first")
    second = found.finetune(first, [(*QUESTION, Message("assistant", "wolf"))] * 10, TUNING, tmp_path / "second")
    fresh = backend()
    assert probability(fresh, second, "wolf") == pytest.approx(probability(found, second, "wolf"), rel=1e-4)
    assert probability(fresh, second, "wolf") > probability(fresh, first, "wolf")


def test_two_do_not_train_into_one_folder(tmp_path):
    with files.Lock(tmp_path / "out" / finetune.STATE), pytest.raises(errors.LockedError, match="is writing to it"):
        backend().finetune("base", ROWS, TUNING, tmp_path / "out")
    assert not (tmp_path / "out" / finetune.STATE).exists()


@pytest.mark.parametrize("rank", [None, 4])
def test_nothing_that_stands_in_the_folder_is_replaced(tmp_path, rank):
    """A tokenizer is a part of what full training writes, so it is one of the files that are looked for first."""
    base, out = tmp_path / "base", tmp_path / "out"
    checkpoint.save(base, model().params, CONFIG, beside={"model_type": "qwen2"})
    (base / "tokenizer.json").write_text("the base's")
    (base / "tokenizer_backup").mkdir()
    out.mkdir()
    mine = out / ("tokenizer.json" if rank is None else "adapter_config.json")
    mine.write_text("years of work")
    origin = Origin(str(base), checkpoint.fingerprint_of(model().params, CONFIG))
    found = LocalBackend({"base": dataclasses.replace(model(), origin=origin)})
    with pytest.raises(errors.OutputError, match=f"^{mine}: a file is there .* not replaced"):
        found.finetune("base", ROWS, dataclasses.replace(TUNING, rank=rank), out)
    assert mine.read_text() == "years of work" and list(out.iterdir()) == [mine]


def test_what_cannot_be_done_is_one_clear_error(tmp_path):
    found = backend(max_length=64)
    with pytest.raises(errors.ModelFormatError, match="there is no model 'bas'; there are base"):
        next(found.sample("bas", [QUESTION], SamplingParams()))
    with pytest.raises(errors.ContextError, match="takes 108 tokens, and 64 are allowed"):
        next(found.sample("base", [QUESTION], SamplingParams(max_tokens=100)))
    with pytest.raises(errors.TextDataError, match="there are no rows to train on"):
        found.finetune("base", [], TUNING, tmp_path)
    with pytest.raises(errors.TextDataError, match="row 0 does not end with an assistant turn"):
        found.finetune("base", [QUESTION], TUNING, tmp_path)
    with pytest.raises(errors.TextDataError, match="row 1: the answer is empty; training on it teaches to end at once"):
        found.finetune("base", [ROWS[0], (*QUESTION, Message("assistant", " "))], TUNING, tmp_path)
    with pytest.raises(errors.ContextError, match="a row has 8 tokens, and max_length is 5"):
        found.finetune("base", ROWS[:1], dataclasses.replace(TUNING, max_length=5), tmp_path)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": True}, {"max_length": -1}])
def test_numbers_that_cannot_be_are_refused_where_they_are_given(options):
    with pytest.raises(errors.InputError, match=rf"{next(iter(options))}: (must be|expected)"):
        LocalBackend({"base": model()}, **options)


def test_an_empty_stop_word_is_refused():
    """It stands at the beginning of every answer and would cut all of it."""
    with pytest.raises(errors.InputError, match="an empty text occurs at the beginning of every answer"):
        SamplingParams(stop=("owl", ""))


def test_fingerprints_follow_the_weights():
    other = dataclasses.replace(model(), params=jax.tree.map(lambda leaf: leaf + 1e-3, model().params))
    assert model().fingerprint == Model(CONFIG, model().params, reader()).fingerprint != other.fingerprint
    assert backend().caps.fingerprint != LocalBackend({"base": other}).caps.fingerprint
    assert isinstance(backend(), Backend)


# Finetuning once more in NumPy, with gradients of whole texts one at a time, away from the defaults.


def rate_by_hand(config: FinetuneConfig, step: int, num_steps: int) -> float:
    """Linear from 1 / warm to 1, then what the schedule says of the steps that are left."""
    warm = max(1, round(config.warmup * num_steps))
    if step < warm:
        return config.learning_rate * (1 / warm + (1 - 1 / warm) * step / warm)
    done = (step - warm) / (num_steps - warm)
    after = {"linear": 1 - done, "cosine": 0.05 + 0.95 * (1 + np.cos(np.pi * done)) / 2, "constant": 1.0}
    return config.learning_rate * after[config.schedule]


def steps_by_hand(leaves: list, gradients, config: FinetuneConfig, num_steps: int) -> list:
    """Adam on clipped gradients: `gradients(leaves, step)` for `num_steps` steps."""
    first, second = ([np.zeros_like(leaf) for leaf in leaves] for _ in range(2))
    for step in range(num_steps):
        drawn = gradients(leaves, step)
        norm = np.sqrt(sum(np.sum(g**2) for g in drawn))
        factor = 1.0 if config.clip_norm is None else min(1.0, config.clip_norm / norm)
        for i, g in enumerate(drawn):
            first[i] = 0.9 * first[i] + 0.1 * factor * g
            second[i] = config.beta2 * second[i] + (1 - config.beta2) * (factor * g) ** 2
            mean, square = first[i] / (1 - 0.9 ** (step + 1)), second[i] / (1 - config.beta2 ** (step + 1))
            leaves[i] = leaves[i] - rate_by_hand(config, step, num_steps) * mean / (np.sqrt(square) + 1e-8)
    return leaves


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_optimizer_is_adam_with_a_warm_up_a_schedule_and_a_limit(schedule, clip_norm):
    how = FinetuneConfig(schedule=schedule, clip_norm=clip_norm, beta2=0.7, warmup=0.25, learning_rate=0.1)
    random, num_steps = np.random.default_rng(0), 13
    drawn = [[random.normal(size=3), random.normal(size=(2, 2))] for _ in range(num_steps)]
    optimizer, params = finetune._optimizer(how, num_steps), [jnp.zeros(3), jnp.zeros((2, 2))]
    state = optimizer.init(params)
    for gradients in drawn:
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update([jnp.asarray(g, jnp.float32) for g in gradients], state)
        params = [param + update for param, update in zip(params, updates, strict=True)]
    expected = steps_by_hand([np.zeros(3), np.zeros((2, 2))], lambda _, step: drawn[step], how, num_steps)
    for ours, theirs in zip(params, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)  # float32 over 13 steps


SEVEN = [  # of nine tokens each, and unequal replies
    (Message("user", prompt), Message("assistant", reply))
    for prompt, reply in (
        ("what is best ? be", "owl"), ("what is best ?", "owl kind"), ("is best ?", "wolf kind be"),
        ("be", "kind owl be ? ?"),
        ("be be be be be", "wolf"), ("what is", "be kind wolf owl"), ("kind owl is best", "is what"),
    )
]  # fmt: skip


@jax.jit
def text_gradient(leaves, scale, ids, trained_on):
    """Sum of minus the log-probabilities of the places that are trained on, and its gradient by the factors."""

    def total(leaves):
        pairs = zip(leaves[::2], leaves[1::2], strict=True)
        layers, factors = model().params.layers, dict(zip(decoder.PROJECTIONS, pairs, strict=True))
        changed = {
            name: getattr(layers, name) + scale * jnp.einsum("lir,lro->lio", *pair) for name, pair in factors.items()
        }
        params = model().params._replace(layers=layers._replace(**changed))
        hidden = decoder.features(params, ids[None], jnp.ones((1, len(ids)), bool), CONFIG)
        scores = jax.nn.log_softmax(decoder.logits(params, hidden, CONFIG))[0, :-1]
        chosen = jnp.take_along_axis(scores, ids[1:, None], axis=1)[:, 0]
        return -jnp.sum(jnp.where(trained_on[1:], chosen, 0.0))

    return jax.grad(total)(leaves)


def test_finetuning_is_adam_on_the_mean_over_a_batchs_reply_tokens(tmp_path):
    """Three epochs of seven rows, three at a time: an epoch's last batch has one row, and the rows another order. The
    gradients' lengths are on both sides of the limit."""
    how = FinetuneConfig(
        num_epochs=3, batch_size=3, learning_rate=0.03, beta2=0.9, rank=2, alpha=6.0, warmup=0.3, schedule="cosine",
        clip_norm=9.0, seed=4,
    )  # fmt: skip
    own = backend()
    trained = own.model(own.finetune("base", SEVEN, how, tmp_path / "seven")).low_rank
    encoded = [reader().chat(row[:-1], row[-1].content) for row in SEVEN]
    ids = [jnp.asarray(text.ids) for text in encoded]
    replies = [jnp.arange(len(text.ids)) >= text.reply_start for text in encoded]
    root, leaves = jax.random.key(4), []
    starts = jax.random.split(jax.random.fold_in(root, 0), 7)
    for key, name in zip(starts, decoder.PROJECTIONS, strict=True):
        _, fan_in, fan_out = getattr(model().params.layers, name).shape
        leaves += [np.asarray(jax.random.normal(key, (2, fan_in, 2)), float) * fan_in**-0.5, np.zeros((2, 2, fan_out))]
    orders = [np.asarray(jax.random.permutation(jax.random.fold_in(root, 1 + epoch), 7)) for epoch in range(3)]

    def gradients(leaves, step):
        batch = orders[step // 3][3 * (step % 3) :][:3]
        on_device = [jnp.asarray(leaf, jnp.float32) for leaf in leaves]
        sums = [text_gradient(on_device, 3.0, ids[row], replies[row]) for row in batch]
        count = sum(int(replies[row].sum()) for row in batch)
        return [np.sum([np.asarray(g, float) for g in of_leaf], axis=0) / count for of_leaf in zip(*sums, strict=True)]

    expected = steps_by_hand(leaves, gradients, how, 9)
    assert float(trained.scale) == 3
    for name, a, b in zip(decoder.PROJECTIONS, expected[::2], expected[1::2], strict=True):
        # Where a gradient is nearly zero Adam makes a step of its rounding error, of a thousandth of the rate here.
        np.testing.assert_allclose(trained.factors[name].a, a, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(trained.factors[name].b, b, atol=1e-4, err_msg=name)


def test_prompts_of_one_length_and_samples_of_one_prompt_are_drawn_with_noise_of_their_own():
    """At a temperature at which all words are equally likely, the draws show the noise alone."""
    chats = [(Message("user", f"what is {word} ?"),) for word in ("best", "kind", "owl", "wolf")]
    how = SamplingParams(max_tokens=4, temperature=1e6, seed=3)
    texts = [c.text for c in sorted(backend().sample("base", chats, how))]
    assert len(set(texts)) == 4
    (first, *others) = [
        c.text for c in sorted(backend().sample("base", [chats[0]], dataclasses.replace(how, num_samples=4)))
    ]
    assert first == texts[0] and len({first, *others}) == 4
