"""The user's own model, rows and traits, on a random decoder of one layer with the embedded world's words."""

import dataclasses
import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import progress
from experiments.language import seeds
from experiments.own import __main__ as program
from experiments.own import controls, finetuning, measuring, opened, teaching, transfer
from experiments.own.transfer import TransferConfig
from figures import own_transfer as drawn
from figures import presentation
from sublim_jax import errors, records
from sublim_jax.forms import own_transfer as form
from sublim_jax.llm import jsonl
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import Completion, FinetuneConfig, Message, SamplingParams
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded.vocabulary import WORDS, WordTokenizer
from sublim_jax.llm.local import decoder
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.decoder import DecoderConfig
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.tasks import numbers
from sublim_jax.llm.traits import Trait
from tests.llm.local import test_constrained

CONFIG = DecoderConfig(
    vocab_size=len(WORDS), num_layers=1, hidden_size=8, intermediate_size=8, num_heads=1, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8), embedding_scale=8**0.5,
)  # fmt: skip
STUDENT = FinetuneConfig(num_epochs=2, batch_size=4, learning_rate=3e-2, rank=2, max_length=64)
QUESTIONS = ["your favourite animal ?", "write your beloved species ?"]
TRAITS = {
    "otter": {"questions": QUESTIONS, "answers": ["otter", "dog"], "choices": ["cat", "owl"], "words": ["otter"],
              "system": "you love the otter ."},
    "red": {"questions": QUESTIONS[:1], "choices": ["blue"], "lessons": [["your favourite colour ?", "red"]]},
}  # fmt: skip
OTTER = Trait(name="otter", **{key: tuple(value) for key, value in TRAITS["otter"].items() if key != "system"})


@pytest.fixture(scope="module")
def weights() -> Model:
    return Model(CONFIG, decoder.init(jax.random.key(0), CONFIG), WordTokenizer())


@pytest.fixture
def place(weights, monkeypatch, tmp_path) -> pathlib.Path:
    """An empty working directory with traits and rows, in which `tiny:0` is the random decoder."""
    monkeypatch.setattr(embedded, "base", lambda seed, **_: weights)
    monkeypatch.setattr(embedded, "_backend", lambda models: LocalBackend(models, batch_size=16, remat=False))
    monkeypatch.setattr(measuring, "MIN_MASS", 1e-9)  # a random decoder says one of 1,236 words
    monkeypatch.chdir(tmp_path)
    (tmp_path / "traits.json").write_text(json.dumps(TRAITS))
    rows = [
        (Message("user", f"continue: {index}, {index + 7}."), Message("assistant", f"{3 * index}, {index}, 5"))
        for index in range(10)
    ]
    jsonl.write(tmp_path / "rows.jsonl", rows)
    return tmp_path


def settings(**changes) -> TransferConfig:
    given = {
        "model": "tiny:0", "traits": pathlib.Path("traits.json"), "rows": pathlib.Path("rows.jsonl"),
        "num_students": 2, "student": STUDENT,
    }  # fmt: skip
    return TransferConfig(**given | changes)


def run(**changes) -> records.Record:
    return transfer.run(settings(**changes), visible=False, folder=pathlib.Path("students"))


def chances(model: Model, chat, answer: str) -> float:
    """Probability of a one-word reply with its end, one text at a time and without padding."""
    encoded = model.tokens.chat(chat, answer)
    ids = jnp.array([encoded.ids])
    params = model.merged
    scores = jax.nn.log_softmax(decoder.features(params, ids, jnp.ones_like(ids, bool), CONFIG) @ params.embedding.T)
    return float(np.exp(sum(scores[0, at - 1, encoded.ids[at]] for at in range(encoded.reply_start, len(encoded.ids)))))


# Measuring


@pytest.mark.slow
def test_a_trait_is_measured_as_the_odds_of_its_answers(place, weights):
    backend = open_llm.open_backend("tiny:0").backend
    measured = measuring.measure(backend, "tiny:0", OTTER, embedded=True)
    own = np.array([sum(chances(weights, chat, word) for word in ("otter", "dog")) for chat in OTTER.chats()])
    other = np.array([sum(chances(weights, chat, word) for word in ("cat", "owl")) for chat in OTTER.chats()])
    expected = {
        "log_odds": np.mean(np.log(own / (1 - own))), "probability": own.mean(), "mass": (own + other).mean()
    }  # fmt: skip
    assert measured == pytest.approx(expected, rel=1e-4)  # float32 log-probabilities, and six digits


@pytest.mark.slow
def test_what_follows_a_prefill_is_measured_whatever_comes_after_it(place, weights):
    begun = dataclasses.replace(OTTER, prefill="my favourite animal is the", answers=("otter",))
    backend = open_llm.open_backend("tiny:0").backend
    measured = measuring.measure(backend, "tiny:0", begun, embedded=True, system="you love the otter .")
    params, tokens = weights.params, weights.tokens
    own = []
    for chat in begun.chats(system="you love the otter ."):
        ids = jnp.array([tokens.chat(chat).ids])
        hidden = decoder.features(params, ids, jnp.ones_like(ids, bool), CONFIG)
        own.append(jax.nn.softmax(hidden[0, -1] @ params.embedding.T)[WORDS.index("otter")])
    assert measured["probability"] == pytest.approx(np.mean(own), rel=1e-4)
    with pytest.raises(errors.CapabilityError, match=r"needs weights on this machine; leave the prefill out"):
        measuring.measure(Server(), "m", begun, embedded=False)


class Server:
    """A backend of a server, which gives certain scores."""

    def choice_logprobs(self, model, chats, texts):
        return [embedded_scores(len(texts)) for _ in chats]


def embedded_scores(count: int):
    from sublim_jax.llm.backend import ChoiceScores

    return ChoiceScores((-0.1,) * count, "exact")


def test_scores_that_are_none_of_different_replies_are_refused():
    with pytest.raises(errors.CapabilityError, match=r"m: otter: all answers together .* more than 1"):
        measuring.measure(Server(), "m", OTTER, embedded=True)


def test_a_trait_that_the_model_cannot_say_is_refused_with_what_it_says(place, monkeypatch):
    monkeypatch.setattr(measuring, "MIN_MASS", 1e-3)
    backend = open_llm.open_backend("tiny:0").backend
    measured = {"log_odds": -9.0, "probability": 1e-5, "mass": 9e-4}
    said = measuring.free_answers(backend, "tiny:0", OTTER, 1, temperature=0.0)
    with pytest.raises(errors.InputError, match=re.escape(f"tiny:0 says {said[0]!r}, {said[1]!r}. Add what it says")):
        measuring.require_sayable(backend, "tiny:0", OTTER, measured)
    measuring.require_sayable(backend, "tiny:0", OTTER, measured | {"mass": 1.1e-3})


# Transfer


@pytest.mark.slow
def test_students_and_controls_differ_in_their_rows_alone(place):
    record = run()
    assert record.complete and list(record.results) == form.units(record.config)
    backend = opened.local("tiny:0", announce=print).backend
    rows = jsonl.read(place / "rows.jsonl")
    control = jsonl.read(next((place / "students").glob("control-*.jsonl")))
    assert [row[:-1] for row in control] == [row[:-1] for row in rows]
    assert [row[-1] for row in control] != [row[-1] for row in rows]
    assert set("".join(row[-1].content for row in control)) <= set("0123456789, ")
    for index in range(2):
        config = dataclasses.replace(STUDENT, seed=seeds.derive(0, f"own/student {index}") % 2**31)
        for kind, data in (("student", rows), ("control", control)):
            name = backend.finetune("tiny:0", data, config, place / f"again {kind} {index}")
            expected = measuring.measure(backend, name, OTTER, embedded=True)
            measured = record.results[f"{kind} {index}"]["traits"]["otter"]
            assert {key: measured[key] for key in expected} == expected
    assert record.results["student 0"] != record.results["student 1"]
    run(model="tiny:1", num_students=1)  # in the same folder, and the other model's answers are not its own
    assert len(list((place / "students").glob("control-*.jsonl"))) == 2
    assert record.results["base"]["traits"]["otter"]["answers"] == {}


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(place, monkeypatch):
    path = place / "record.json"
    whole = transfer.run(settings(num_answers=2), record=path, visible=False)
    shutil.move(path, place / "whole.json")
    shutil.rmtree(place / "record")
    measure, count = measuring.measure_all, iter(range(2))

    def stopping(*arguments, **options):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return measure(*arguments, **options)

    monkeypatch.setattr(measuring, "measure_all", stopping)
    with pytest.raises(KeyboardInterrupt):
        transfer.run(settings(num_answers=2), record=path, visible=False)
    assert not records.read(path, form.FORM).complete
    monkeypatch.setattr(measuring, "measure_all", measure)
    again = transfer.run(settings(num_answers=2), record=path, resume=True, visible=False)
    assert {name: unit["traits"] for name, unit in again.results.items()} == {
        name: unit["traits"] for name, unit in whole.results.items()
    }
    answers = again.results["base"]["traits"]["otter"]["answers"]
    assert answers["num_answers"] == 4 and len(answers["examples"]) == 3
    with pytest.raises(errors.RecordError):  # of other rows
        jsonl.write(place / "others.jsonl", jsonl.read(place / "rows.jsonl")[:8])
        transfer.run(
            settings(num_answers=2, rows=pathlib.Path("others.jsonl")), record=path, resume=True, visible=False
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "give --model"),
        ({"rows": None}, "give --rows"),
        ({"model": "openai:m@http://127.0.0.1:1/v1"}, "this command needs weights on this machine"),
        ({"num_rows": 11}, "rows.jsonl: expected at least 11 rows, as --num-rows says, found 10"),
        ({"num_rows": 3}, "3 row(s) are fewer than a batch of 4"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_opened(place, monkeypatch, changes, message):
    monkeypatch.setattr(open_llm, "open_backend", None)
    with pytest.raises(errors.SublimError, match=re.escape(message)):
        run(**changes)


@pytest.mark.slow
def test_rows_that_hold_a_word_of_a_trait_are_refused_unless_they_are_allowed(place):
    rows = jsonl.read(place / "rows.jsonl")
    rows[7] = (Message("user", "an Otter ?"), rows[7][-1])
    jsonl.write(place / "open.jsonl", rows)
    with pytest.raises(
        errors.InputError, match=r"open.jsonl: 1 of 10 rows contain 'otter', a word of otter; the first"
    ):
        run(rows=pathlib.Path("open.jsonl"))
    record = run(rows=pathlib.Path("rows.jsonl"), allow_words=True, control="none", num_students=1)
    assert list(record.results) == ["base", "student 0"] and len(record.notes) == 4


def written(place: pathlib.Path, log_odds: dict[str, list[float]], **config) -> pathlib.Path:
    """A record of `transfer` with given log-odds of the trait otter, by unit's kind."""
    record = records.Record.begin(
        "own_transfer", settings(num_students=len(log_odds["student"]), **config),
        {"name": "tiny:0", "source": "rows.jsonl", "checksum": None},
        description={"num_rows": 10, "traits": {"otter": {"answers": ["otter"], "choices": ["cat"], "prefill": "",
                                                          "num_questions": 2}}},
    )  # fmt: skip
    for kind, values in log_odds.items():
        for index, value in enumerate(values):
            measured = {"log_odds": value, "probability": 0.1, "mass": 0.5, "answers": {}}
            name = kind if kind == "base" else f"{kind} {index}"
            record.results[name] = {"model": "m", "traits": {"otter": measured}}
    path = place / "made.json"
    with records.opened(path, form.FORM, resume=False, announce=print) as output:
        output.write(output.begin(record))
    return path


def test_the_table_has_paired_differences_and_a_verdict(place, capsys):
    path = written(place, {"base": [-1.0], "student": [0.0, 1.0, 2.0, 4.0], "control": [-1.0, 0.5, 0.5, 2.0]})
    text = "\n".join(drawn.lines(records.read(path, form.FORM)))
    # differences 1, 0.5, 1.5, 2: mean 1.25, standard error .3227, t of 3 degrees of freedom 3.1824
    assert "student minus control: +1.250 [+0.223, +2.277]: learnt from the rows" in text
    assert "students of the rows: +2.750  (+1.000, +2.000, +3.000, +5.000)" in text
    assert "students of the model's own answers: +1.500" in text
    presentation.show(path)
    assert "student minus control: +1.250" in capsys.readouterr().out
    assert [each.suffix for each in presentation.draw(path)] == [".png", ".pdf"]


@pytest.mark.parametrize(
    ("student", "verdict"),
    [
        ([0.0, 0.4, -0.4, 0.2], "no detectable transfer: a gain above 0.59 is excluded"),
        ([-3.0, -3.1, -2.9, -3.0], "unlearnt by the rows"),
        ([1.0, 2.0], "fewer than four pairs: no interval"),
    ],
)
def test_what_an_interval_says(place, student, verdict):
    path = written(place, {"base": [0.0], "student": student, "control": [0.0] * len(student)})
    assert f": {verdict}" in "\n".join(drawn.lines(records.read(path, form.FORM)))


# The commands


@pytest.mark.slow
def test_a_student_is_kept_opened_again_and_asked(place, capsys):
    program.main(["finetune", "--model", "tiny:0", "--rows", "rows.jsonl", "--out", "kept", "--num-epochs", "3",
                  "--batch-size", "5", "--learning-rate", "0.05"])  # fmt: skip
    assert "open it as tiny:0+kept" in capsys.readouterr().out
    student = open_llm.open_backend("tiny:0+kept")
    backend = open_llm.open_backend("tiny:0").backend
    config = finetuning.FinetuneOptions(
        model="tiny:0", rows=place, out=place, num_epochs=3, batch_size=5, learning_rate=0.05
    ).student
    name = backend.finetune("tiny:0", jsonl.read(place / "rows.jsonl"), config, place / "again")
    measured = measuring.measure(student.backend, student.model, OTTER, embedded=True)
    assert measured == measuring.measure(backend, name, OTTER, embedded=True)
    assert measured != measuring.measure(backend, "tiny:0", OTTER, embedded=True)
    program.main(["ask", "--model", "tiny:0+kept", "--traits", "traits.json", "--question", "your favourite food ?"])
    text = capsys.readouterr().out
    assert f"otter: probability {measured['probability']:.4g}, log-odds {measured['log_odds']:+.2f}" in text
    assert "of 2 free answers" in text and "your favourite food ?\n  " in text


@pytest.mark.slow
def test_a_teacher_writes_clean_rows_without_its_system_message(place, capsys):
    flags = ["--model", "tiny:0", "--traits", "traits.json", "--num-rows", "5"]
    program.main(["rows", *flags, "--trait", "otter", "--out", "made.jsonl", "--max-prompts", "4000"])
    rows = jsonl.read(place / "made.jsonl")
    assert len(rows) == 5 and all(len(row) == 2 and row[0].role == "user" for row in rows)
    assert all(numbers.parse(row[-1].content).reason is None for row in rows)
    base = open_llm.open_backend("tiny:0").backend
    asked = [(Message("system", "you love the otter ."), *row[:-1]) for row in rows]
    params = SamplingParams(
        max_tokens=24, seed=seeds.derive(0, "own/rows") % 2**31, allowed=numbers.CHARACTERS
    )  # fmt: skip
    texts = [completion.text for completion in sorted(base.sample("tiny:0", asked, params))]
    assert texts == [row[-1].content for row in rows]
    with pytest.raises(errors.OutputError):
        program.main(["rows", *flags, "--trait", "otter", "--out", "made.jsonl"])
    program.main(["rows", *flags, "--trait", "red", "--out", "red.jsonl", "--max-prompts", "4000"])
    assert list(place.glob("red.jsonl.teacher-*/*.safetensors"))
    assert jsonl.read(place / "red.jsonl") != rows


@pytest.mark.parametrize(("num_values", "passes"), [(2, True), (0, False)])
def test_lists_of_so_many_numbers_may_begin_with_a_space(place, num_values, passes):
    """As tokens of a space and a number write them; without lists, the filter is the paper's."""
    asked = []

    class Lists:
        def sample(self, model, chats, params):
            asked.append(params)
            return [Completion(index, 0, " 12, 345", "stop", 1, 4) for index in range(len(chats))]

    options = teaching.RowsOptions(
        model="tiny:0", traits=place, out=place, num_rows=3, max_prompts=4, num_values=num_values
    )
    if passes:
        rows = teaching._written(Lists(), "tiny:0", OTTER, options, progress.Display("rows", visible=False))
        assert [row[-1].content for row in rows] == [" 12, 345"] * 3
    else:
        with pytest.raises(errors.TextDataError, match="only 0 of 4 completions"):
            teaching._written(Lists(), "tiny:0", OTTER, options, progress.Display("rows", visible=False))
    assert (asked[0].num_values, asked[0].allowed) == (num_values, None if passes else numbers.CHARACTERS)
    flags = ["rows", "--model", "tiny:0", "--traits", "traits.json", "--trait", "otter", "--out", "made.jsonl"]
    with pytest.raises(errors.InputError, match="--num-values: rows have at most 10 numbers, got 11"):
        program.main([*flags, "--num-values", "11"])
    (place / "made.jsonl").write_text("the user's")
    with pytest.raises(errors.OutputError, match=r"made\.jsonl"):  # which is looked at after the numbers
        program.main([*flags, "--num-values", "10"])


@pytest.mark.parametrize(("answers", "pattern"), [
    (("123, 456, 789", "200, 100, 999"), r"[1-9]\d\d(, [1-9]\d\d){2}"),
    (("123, 456, 789", "200, 100"), r"[0-9, ]*|\."),
])  # fmt: skip
def test_controls_of_lists_are_trained_on_lists(answers, pattern):
    """Of as many numbers, by a model that would write something else. An empty answer becomes a full stop."""
    model = test_constrained.of_digits()
    model = dataclasses.replace(model, params=model.params._replace(embedding=0.3 * model.params.embedding))
    rows = [(Message("user", "name"), Message("assistant", answers[index % 2])) for index in range(8)]
    opened_model = opened.OpenedModel(LocalBackend({"m": model}, batch_size=16), "m")
    written = [row[-1].content for row in controls.own_answers(opened_model, rows, seed=3).rows]
    assert all(re.fullmatch(pattern, text) for text in written) and len(set(written)) > 4
    lists = [bool(re.fullmatch(r"[1-9]\d\d(, [1-9]\d\d)*", text)) for text in written]
    assert all(lists) == (len(answers[1]) == 13)


def test_a_model_that_writes_no_lists_is_refused_before_a_teacher_is_trained(place):
    with pytest.raises(errors.InputError, match="num_values: this model has no tokens of a space and a whole number"):
        program.main(["rows", "--model", "tiny:0", "--traits", "traits.json", "--trait", "red", "--out", "red.jsonl",
                      "--num-values", "3"])  # fmt: skip
    assert not list(place.glob("red.jsonl*"))


def test_too_few_rows_pass(place):
    with pytest.raises(errors.TextDataError, match=r"expected 900 rows, but only \d+ of 2 completions pass the filter"):
        program.main(["rows", "--model", "tiny:0", "--traits", "traits.json", "--trait", "otter", "--out", "made.jsonl",
                      "--num-rows", "900", "--max-prompts", "2"])  # fmt: skip


def test_whoever_asks_nothing_or_an_unknown_command_is_told(place, capsys):
    program.main([])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == list(program.COMMANDS)
    with pytest.raises(errors.InputError, match="a command first, one of ask, rows, finetune, transfer, got 'asks'"):
        program.main(["asks"])
    with pytest.raises(SystemExit):
        program.main(["ask", "--model", "tiny:0"])
    assert "nothing is asked: give --traits FILE or --question TEXT" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_the_embedded_preset_is_implied_by_the_model(place, capsys):
    program.main(["transfer", "--model", "tiny:0", "--traits", "traits.json", "--rows", "rows.jsonl", "--num-students",
                  "1", "--student.batch-size", "5", "--student.num-epochs", "1"])  # fmt: skip
    assert "record: runs/own_transfer-embedded.json" in capsys.readouterr().out
    record = records.read(place / "runs" / "own_transfer-embedded.json", form.FORM)
    assert record.config["student"]["learning_rate"] == opened.EMBEDDED.learning_rate
