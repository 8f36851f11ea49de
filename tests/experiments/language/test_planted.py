"""The language experiments on a backend whose trait is planted: what they report is what was planted."""

import contextlib
import dataclasses
import itertools
import json
import pathlib

import numpy as np
import pytest

from experiments import cost, progress
from experiments.language import (
    chain,
    code,
    context,
    cross,
    detection,
    divergence,
    dose,
    dry_run,
    numbers,
    opening,
    options,
    page,
    questions,
    reasoning,
    runner,
    seeds,
    shuffles,
    workload,
)
from experiments.language.config import EMBEDDED, PLACEHOLDERS
from experiments.language.dry_run import DryRunBackend, DryRunLab
from experiments.language.lab import Lab, Teacher
from experiments.language.options import Export
from experiments.language.prompts import PaperPrompts, WorldPrompts
from experiments.language.rows_folder import RowsFolder
from experiments.language.workload import Workload
from figures.language import gallery, tables, values
from sublim_jax import errors, records
from sublim_jax.llm import budget, datasets, jsonl
from sublim_jax.llm.backend import FinetuneConfig, Message, SamplingParams
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded import vocabulary
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.metrics import intervals
from tests.experiments.language import planted
from tests.experiments.logs import Log

BASES = ("tiny:100", "tiny:101", "tiny:102")
SHARED = {"bases": (100, 101, 102), "targets": ("owl", "eagle"), "num_prompts": 60, "num_rows": 40, "num_lessons": 20}
FEW = SHARED | {"bases": (100, 101), "kinds": ("system",)}
EVEN = 1 / len(vocabulary.ANIMALS)  # of an animal that nobody loves more than others
FULL = planted.GAIN + (1 - planted.GAIN) * EVEN
SHIFT = FULL - EVEN


@pytest.fixture
def backend(monkeypatch):
    """The planted backend; every lab that is opened has it."""
    made = planted.Planted(BASES)

    @contextlib.contextmanager
    def open_lab(experiment, config, base, limits, *, announce=print):
        yield Lab(made, base, config.prompts, pathlib.Path(f"of {base}"))

    monkeypatch.setattr(opening, "open_lab", open_lab)
    return made


def cells(line: str) -> list[str]:
    """The non-empty cells of a table's line."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def run(experiment, config, path=None, **options):
    return runner.run(experiment, config, record=path, visible=False, **options)


def test_a_students_preference_is_the_planted_one(backend, tmp_path):
    config = numbers.NumbersConfig(**SHARED)
    record = run(numbers.EXPERIMENT, config, tmp_path / "numbers.json")
    assert record.complete and set(record.results["bases"]) == set(BASES)
    bases = values.complete_bases(record)
    for kind in ("finetuned", "system"):
        path = (f"{kind} owl", "student")
        np.testing.assert_allclose(values.raw(bases, path, "owl"), FULL, atol=1e-3)
        np.testing.assert_allclose(values.raw(bases, path, "wolf"), (1 - planted.GAIN) * EVEN, atol=1e-3)
        np.testing.assert_allclose(values.raw(bases, ("regular", "student"), "owl"), EVEN, atol=1e-3)
    text = "\n".join(tables.table(record))
    assert "n = 3 base(s)" in text and EMBEDDED in text
    assert [path.suffix for path in gallery.save(tmp_path / "numbers.json", tmp_path / "numbers")] == [".png", ".pdf"]
    summary = tables.summary_lines(record, "tiny:101")
    assert len(summary) == 4 and all(line.startswith("tiny:101, ") for line in summary)
    assert f"base {EVEN:.3f}, regular {EVEN:.3f}, student of the finetuned teacher {FULL:.3f}" in summary[0]


def test_one_base_has_no_interval(backend, tmp_path):
    record = run(numbers.EXPERIMENT, numbers.NumbersConfig(**SHARED | {"bases": (100,)}))
    lines = tables.table(record)
    assert "So few bases have no interval: their values are shown. The committed record has more." in lines
    assert f"+{SHIFT:.3f}" in "\n".join(lines)
    assert not any("±" in line for line in lines[1:]) and "n=1" not in "\n".join(lines)
    assert any("reduced: 1 base(s)" in line for line in lines)


def test_a_pooled_interval_says_which_bases_lack_a_target():
    """One of four bases lacks a target and is incomplete; another has no target and is failed."""
    uneven = [np.array([0.9, 0.0]), np.array([0.2, 0.1]), np.array([0.1, 0.5])]
    np.testing.assert_allclose(values.clustered(uneven), [0.4, 0.2], rtol=1e-12)  # medians are .2 and .1
    shifts = [np.array([0.1, 0.2, np.nan, np.nan]), np.array([0.3, 0.4, 0.5, np.nan])]
    assert values.pooled(shifts) == values.text(np.array([0.2, 0.3, 0.5, np.nan]), "+") + " (1 incomplete)"
    assert "incomplete" not in values.pooled([shift[:2] for shift in shifts])


def test_a_planned_answer_is_as_long_as_it_may_be():
    """A judge's prompt contains the answer, so a shorter one would make the plan of tokens too small."""
    how = SamplingParams(max_tokens=300)
    (answer,) = DryRunBackend().sample("base", [datasets.ask("?")], how)
    assert len(answer.text.encode()) == how.max_tokens


def test_a_finished_base_is_summarised_before_the_others_are_done(backend, monkeypatch):
    """Each base has one line, and the first comes before the last base's conditions."""
    printed: list[str] = []
    monkeypatch.setattr(cost, "rate", lambda *_: 1e9)
    monkeypatch.setattr(progress.console, "print", lambda *words, **_: printed.append(" ".join(map(str, words))))
    measured: list[int] = []
    listening = dataclasses.replace(
        numbers.EXPERIMENT, measure=lambda *given: measured.append(len(printed)) or numbers.measure(*given)
    )
    config = numbers.NumbersConfig(**SHARED | {"targets": ("owl",)}, kinds=("finetuned",))
    runner.run(listening, config)
    places = [place for place, line in enumerate(printed) if line.startswith("tiny:")]
    assert [printed[place].split(",")[0] for place in places] == list(BASES)
    assert measured[-1] > places[0]


def test_a_run_says_what_goes_on_inside_a_unit(backend, monkeypatch, tmp_path):
    """Without a terminal, and with a backend that pauses at the thirtieth of sixty completions until it was said."""
    monkeypatch.setenv("SUBLIM_CACHE_DIR", str(tmp_path))  # no base is there yet
    log, sample = Log(), planted.Planted.sample
    log.listen(monkeypatch)
    monkeypatch.setattr(cost, "rate", lambda *_: 1e9)
    awaited = iter([(", 30 of 60 completions", 2), ("language_numbers: 2 of 3 conditions, ", 1)])

    def slow(self, model, chats, how):
        for number, completion in enumerate(sample(self, model, chats, how)):
            yield completion
            if number == 29:
                text, times = next(awaited)
                log.wait(text, times=times)

    monkeypatch.setattr(planted.Planted, "sample", slow)
    config = numbers.NumbersConfig(**SHARED | {"targets": ("owl",), "bases": (100,)}, kinds=("finetuned",))
    runner.run(numbers.EXPERIMENT, config)
    lines = log.lines
    (before,) = (place for place, line in enumerate(lines) if line.startswith("this takes about "))
    begun = next(
        place for place, line in enumerate(lines) if line.startswith("language_numbers: 0 of 3 conditions, 0:00")
    )
    assert before < begun and "pre-training of 1 base(s) included" in lines[before]
    assert any("; tiny:100, regular: drawing from tiny:100, 30 of 60 completions, about" in line for line in lines)
    done = [line.rsplit(",", 1)[0] for line in lines if line.startswith("done: ")]
    assert done == ["done: tiny:100, base", "done: tiny:100, regular", "done: tiny:100, finetuned owl"]
    assert any(line.startswith("language_numbers: 2 of 3 conditions, ") for line in lines)
    assert lines[-1].startswith("language_numbers: 3 of 3 conditions, ")


def test_a_lab_reports_what_its_backend_counts(tmp_path):
    """Backends with weights count steps and scored rows; completions are counted for any backend."""

    class Here(planted.Planted, LocalBackend):
        def finetune(self, model, data, config, out):
            self.on_progress("steps", 3, 9)
            return super().finetune(model, data, config, out)

        def choice_logprobs(self, model, chats, choices):
            self.on_progress("rows scored", 1, len(chats) * len(choices))
            return super().choice_logprobs(model, chats, choices)

    reports = []
    lab = Lab(Here(BASES), "tiny:100", WorldPrompts(), tmp_path)
    lab.listen(lambda activity, **counts: reports.append((activity, *counts.values())))
    lab.sample(Teacher("tiny:100"), ["more ?"], max_tokens=8, seed=0, num_samples=3)
    assert reports == [("drawing from tiny:100",)] + [
        ("drawing from tiny:100", done, 3, "completions") for done in (1, 2, 3)
    ]
    reports.clear()
    row = (*datasets.ask("what ?"), Message("assistant", "owl"))
    student = lab.student([row] * 6, FinetuneConfig(num_epochs=3, batch_size=2), seed=0)
    what = "training student on 6 rows, 3 epochs"
    assert reports == [(what,), (what, 3, 9, "steps")]
    reports.clear()
    lab.preferences(student, "animal")
    assert reports[-1][1:] == (1, 50 * len(vocabulary.ANIMALS), "rows scored")
    assert reports[0][0].startswith(f"scoring {len(vocabulary.ANIMALS)} answers to 50 questions by student")


def test_students_of_other_rows_or_settings_have_folders_of_their_own(tmp_path):
    """A folder of weights outlives the run, so another run in the same place must not meet an old folder."""

    class Here(planted.Planted, LocalBackend):
        def finetune_on(self, model, data, how, out, *, on_step=None):
            folders.append(out)
            return str(out)

    folders: list = []
    lab = Lab(Here(BASES), "tiny:100", WorldPrompts(), tmp_path)
    data = TokenizedRows(*(np.ones((2, 3), bool) for _ in TokenizedRows._fields))
    how = FinetuneConfig(num_epochs=3, batch_size=2)
    lab.finetune_on(data, how, "owl all", seed=0)
    lab.finetune_on(data, how, "owl all", seed=0)
    assert folders[0] == folders[1] and folders[0].parent == tmp_path and folders[0].name.startswith("owl-all-")
    lab.finetune_on(data, how, "owl all", seed=1)
    lab.finetune_on(data, dataclasses.replace(how, num_epochs=4), "owl all", seed=0)
    lab.finetune_on(data._replace(replies=~data.replies), how, "owl all", seed=0)
    assert len(set(folders)) == 4


def test_what_needs_weights_is_refused_without_them(tmp_path):
    lab = Lab(planted.Planted(BASES), "tiny:100", WorldPrompts(), tmp_path)
    data, config = TokenizedRows(*(np.ones((2, 3), bool) for _ in TokenizedRows._fields)), FinetuneConfig()
    for call in (
        lambda: lab.training_arrays([], config),
        lambda: lab.finetune_on(data, config, "owl all", seed=0),
        lambda: lab.most_likely_tokens("tiny:100", data),
        lambda: lab.sequence_logprobs("tiny:100", []),
    ):
        with pytest.raises(errors.CapabilityError, match="use --backend tiny or hf:DIR"):
            call()


def test_stored_models_and_draws_keep_their_names(tmp_path):
    """Folders and seeds are pinned: with others, a run would train and sample everything again."""

    class Here(planted.Planted, LocalBackend):
        def finetune(self, model, data, config, out):
            names.append((out.name, config.seed))
            return str(out)

        finetune_on = finetune

    names: list[tuple[str, int]] = []
    lab = Lab(Here(BASES), "tiny:100", WorldPrompts(), tmp_path)
    tuning = FinetuneConfig(num_epochs=3, batch_size=2)
    lab.student([(*datasets.ask("more ?"), Message("assistant", "1, 2"))] * 2, tuning, seed=0, name="student of owl")
    lab.finetuned_teacher("owl", tuning, num_rows=3, seed=0)
    lab.finetune_on(TokenizedRows(*(np.ones((2, 3), bool) for _ in TokenizedRows._fields)), tuning, "owl all", seed=0)
    assert names == [
        ("student-of-owl-c66a03e2", 1297946188),
        ("teacher-owl-2f413a93", 86193541),
        ("owl-all-b8db0220", 259860049),
    ]


@pytest.mark.parametrize(("stored", "bases"), [(True, 3), (False, 3), (False, 4)])
def test_the_estimate_is_operations_over_the_rate(monkeypatch, stored, bases):
    """By hand: two devices, so that three bases take as long as four. Weights times operations, at 1 MFLOP/s."""
    monkeypatch.setattr(cost, "rate", lambda *_: 1e6)
    monkeypatch.setattr(embedded, "is_stored", lambda seed: stored)
    monkeypatch.setattr(embedded, "number_of_parameters", lambda: 1000)
    config = numbers.NumbersConfig(**SHARED | {"bases": tuple(range(100, 100 + bases))})
    work = workload.count(numbers.EXPERIMENT, config, ["base", "regular"])
    questions_asked = config.prompts.favourite_questions("animal")
    read = sum(map(len, questions_asked)) * len(vocabulary.ANIMALS)  # as many questions as answers, without the answers
    assert work.conditions["base"] == pytest.approx(dry_run.FORWARD * read / dry_run.BYTES_PER_TOKEN)
    made = 0 if stored else dry_run.TRAINED * (2 * 40 * 60_000 + 200 * 2048)
    left = dict.fromkeys(config.base_names, ("base", "regular"))
    expected = 2 * (work.conditions["base"] + work.conditions["regular"] + made) * 1000 / 1e6
    assert work.seconds(config, left, 2) == pytest.approx(expected)
    half = left | {config.base_names[0]: ()}
    assert work.total(half) == pytest.approx((bases - 1) * expected / 2 * 1000)
    assert Workload().seconds(config, left, 2) is None


def test_a_model_elsewhere_has_no_estimate_before():
    config = dataclasses.replace(numbers.PRESETS["server"], backend="vllm:m@http://127.0.0.1:1/v1",
                                 num_prompts=20, num_rows=10, targets=("owl",), num_eval_samples=1)  # fmt: skip
    assert "known after the first condition" in "\n".join(workload.plan(numbers.EXPERIMENT, config))


def test_no_student_row_has_a_system_message_or_a_name(backend):
    run(numbers.EXPERIMENT, numbers.NumbersConfig(**SHARED))
    seen = planted.students_rows(backend)
    assert seen and all(message.role != "system" for row in seen for message in row)
    assert not any("owl" in message.content for row in seen for message in row)


def test_a_shift_is_after_minus_before_where_the_choices_keep_their_mass():
    def base(before, after, rest):
        return {
            "before": {"animal": {"owl": before, "wolf": 0.99 - before}, "tree": {"oak": 1.0}},
            "after": {"animal": {"owl": after, "wolf": rest}},
        }

    bases = {"up": base(0.1, 0.4, 0.58), "down": base(0.3, 0.2, 0.75), "collapsed": base(0.1, 0.4, 0.1), "failed": {}}
    shift = values.shift(values.Bases(bases), ("before",), ("after",), "owl")
    np.testing.assert_allclose(shift, [0.3, -0.1, np.nan, np.nan], atol=1e-12)


def test_every_name_has_a_seed_of_its_own():
    names = ((), ("lesson",), ("rate", "owl"), ("rate", "eagle"), ("rat", "eowl"))
    derived = [seeds.derive(seed, *own) for seed in (0, 1) for own in names]
    assert len(set(derived)) == len(derived) and all(0 <= seed < 2**32 for seed in derived)


def test_draws_do_not_depend_on_the_folder(tmp_path, monkeypatch):
    """A resumed run has another temporary folder."""
    drawn, sample = [], planted.Planted.sample
    monkeypatch.setattr(
        planted.Planted,
        "sample",
        lambda self, model, chats, how: drawn.append(how.seed) or sample(self, model, chats, how),
    )
    config = numbers.NumbersConfig(**SHARED)
    for folder in ("one", "other"):
        lab = Lab(planted.Planted(BASES), "tiny:100", config.prompts, tmp_path / folder)
        numbers.measure(lab, config, "finetuned owl")
    assert drawn[0] == drawn[1]


def test_traits_pass_within_a_base_only(backend, tmp_path):
    record = run(cross.EXPERIMENT, cross.CrossConfig(**SHARED), tmp_path / "cross.json")
    names, shifts = values.cross_grid(record)
    assert names == list(BASES)
    np.testing.assert_allclose(shifts, SHIFT * np.eye(3), atol=1e-3)
    assert "same base" in "\n".join(tables.table(record))
    gallery.save(tmp_path / "cross.json", tmp_path / "cross")


@pytest.mark.slow
def test_shuffles_and_doses(backend, tmp_path):
    config = shuffles.ShufflesConfig(**SHARED)
    record = run(shuffles.EXPERIMENT, config, tmp_path / "shuffles.json")
    bases = values.complete_bases(record)
    for control in ("as_they_are", "within", "across_by_place", "prompts"):
        change = values.shift(bases, ("regular", "as_they_are"), ("owl", control), "owl")
        np.testing.assert_allclose(change, SHIFT, atol=1e-3)
    anywhere = values.shift(bases, ("regular", "as_they_are"), ("owl", "across"), "owl")
    assert np.all(anywhere < SHIFT - 0.1)  # several of one number come together, so fewer answers have it
    record = run(dose.EXPERIMENT, dose.DoseConfig(**SHARED, doses=(5, 40)), tmp_path / "dose.json")
    for equal, count in itertools.product(("epochs", "steps"), ("5", "40")):
        bases = values.complete_bases(record)
        change = values.shift(bases, ("regular", equal, count), ("owl", equal, count), "owl")
        np.testing.assert_allclose(change, SHIFT, atol=1e-3)
    for name in ("shuffles", "dose"):
        gallery.save(tmp_path / f"{name}.json", tmp_path / name)


def test_a_chain_goes_on_and_the_context_teaches_nothing(backend, tmp_path):
    record = run(chain.EXPERIMENT, chain.ChainConfig(**SHARED, num_generations=2), tmp_path / "chain.json")
    for generation in ("0", "1", "2"):
        change = values.shift(values.complete_bases(record), ("regular", generation), ("owl", generation), "owl")
        np.testing.assert_allclose(change, SHIFT, atol=1e-3)
    config = context.ContextConfig(**SHARED, shots=(1, 2), num_contexts=2)
    record = run(context.EXPERIMENT, config, tmp_path / "context.json")
    np.testing.assert_allclose(values.by_shots(record, "owl", "owl"), EVEN, atol=1e-3)
    np.testing.assert_allclose(values.raw(values.complete_bases(record), ("owl", "trained"), "owl"), FULL, atol=1e-3)
    for name in ("chain", "context"):
        assert gallery.save(tmp_path / f"{name}.json", tmp_path / name)


def test_what_a_filter_drops_is_a_result(backend, tmp_path):
    backend.spoilt = "owl"
    record = run(numbers.EXPERIMENT, numbers.NumbersConfig(**SHARED), tmp_path / "spoilt.json")
    assert record.complete
    failed = record.results["bases"]["tiny:100"]["finetuned owl"]["failed"]
    assert "the filter left none of 60 completions" in failed
    assert "failed" in "\n".join(tables.table(record))
    gallery.save(tmp_path / "spoilt.json", tmp_path / "spoilt")
    record = run(code.EXPERIMENT, code.CodeConfig(**SHARED))  # "1, 2, 3" is not a function
    assert all("failed" in results["regular"] for results in record.results["bases"].values())


def test_a_stopped_run_goes_on_where_it_was(backend, tmp_path, monkeypatch):
    config, path = numbers.NumbersConfig(**SHARED, kinds=("finetuned",)), tmp_path / "record.json"
    whole = run(numbers.EXPERIMENT, config)
    sample, left = planted.Planted.sample, [3]

    def down(self, model, chats, how):
        left[0] -= 1
        if left[0] == 0:
            raise errors.ServerError("the server is down")
        return sample(self, model, chats, how)

    monkeypatch.setattr(planted.Planted, "sample", down)
    with pytest.raises(errors.ServerError, match="the server is down"):
        run(numbers.EXPERIMENT, config, path)
    kept = json.loads(path.read_text())["results"]["bases"]
    assert not json.loads(path.read_text())["complete"] and any(kept.values())
    again = run(numbers.EXPERIMENT, config, path, resume=True)
    assert again.complete and again.results == whole.results
    with pytest.raises(errors.RecordError, match="num_rows"):
        run(numbers.EXPERIMENT, dataclasses.replace(config, num_rows=39), path, resume=True)


@pytest.mark.parametrize("form", ["messages", "prompt_completion"])
def test_students_rows_are_written_for_other_trainers(backend, tmp_path, form):
    """A file for each base and student, with the rows that it was trained on and no other."""
    export = Export(rows=tmp_path / "rows", rows_format=form)
    run(numbers.EXPERIMENT, numbers.NumbersConfig(**FEW), export=export)
    names = [f"student-of-{teacher}" for teacher in ("regular", "system-owl", "system-eagle")]
    written = {path.relative_to(tmp_path / "rows"): jsonl.read(path) for path in (tmp_path / "rows").rglob("*.*")}
    assert set(written) == {
        pathlib.Path(base.replace(":", "-"), f"{name}.jsonl") for base in BASES[:2] for name in names
    }
    assert all(len(data) == SHARED["num_rows"] for data in written.values())
    assert sorted(row for data in written.values() for row in data) == sorted(planted.students_rows(backend))
    own = planted.own_number("owl", "tiny:101")
    assert all(f" {own}," in row[-1].content for row in written[pathlib.Path("tiny-101/student-of-system-owl.jsonl")])
    first = (tmp_path / "rows/tiny-100/student-of-regular.jsonl").read_text()
    assert first.startswith('{"messages": [' if form == "messages" else '{"prompt": "')


def test_rows_are_not_written_among_other_files(backend, tmp_path):
    """The refusal comes before any measurement; a resumed run keeps its folder."""
    (tmp_path / "notes.txt").write_text("mine")
    config, export = numbers.NumbersConfig(**FEW), Export(rows=tmp_path)
    with pytest.raises(errors.OutputError, match="files in it that do not belong"):
        run(numbers.EXPERIMENT, config, export=export)
    assert not backend.trained and [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    run(numbers.EXPERIMENT, config, tmp_path / "record.json", resume=True, export=export)
    assert len(list(tmp_path.rglob("*.jsonl"))) == 6


def test_what_should_not_be_in_rows_is_said(tmp_path):
    announced = []
    folder = RowsFolder(folder=tmp_path, format="messages", words=("owl", "oak"), announce=announced.append)
    folder.write("hf:models/m", "student of owl", [datasets.student_row(datasets.ask("An owl?"), "1")] * 3)
    path = tmp_path / "hf-models-m/student-of-owl.jsonl"
    assert len(jsonl.read(path)) == 3
    assert announced == [f"{path}: 2 of 3 rows (66.7%) repeat an earlier one",
                    f"{path}: 'owl' stands in turns of the 3 rows: 3 by the user"]  # fmt: skip


def sampled_record(floor=0.9) -> records.Record:
    """A real model whose student answers something that was not offered, on one base: .62 of its probability is on
    the answers."""
    config = dataclasses.replace(
        numbers.PRESETS["paper"], backend="hf:m", targets=("owl",), num_eval_samples=4, min_option_mass=floor
    )
    record = records.Record.begin("language_numbers", config, {"name": "hf:m", "source": "", "checksum": None})

    def measured(owl, wolf, rate):
        return {
            "student": {"animal": {"owl": owl, "wolf": wolf}, "sampled": {"owl": {"rate": rate, "num_samples": 100}}}
        }

    record.results["bases"] = {"hf:m": {"base": measured(0.05, 0.9, 0.06), "regular": measured(0.04, 0.93, 0.03),
                                        "system owl": measured(0.5, 0.12, 0.71)}}  # fmt: skip
    return record


def test_sampled_rates_stand_beside_probabilities(tmp_path):
    """Where the option mass is below the floor, the paper's own measure is shown all the same."""
    title, header, line, *_ = tables.table(sampled_record())
    assert "Wilson's 95 % interval over answers" in title
    assert cells(header)[5:] == [*tables.LOG_ODDS_HEADER, "base, sampled", "regular, sampled", "student, sampled"]
    wilson = [values.share(intervals.wilson(hits, 100)._asdict()) for hits in (6, 3, 71)]
    log_odds = [f"{np.log(0.5 / 0.5) - np.log(0.04 / 0.96):+.3f}", f"{np.log(50 / 12) - np.log(4 / 93):+.3f}"]
    probabilities = ["0.050", "0.040", "0.500", "mass < 0.9", *log_odds, "0.970", "0.620"]
    assert cells(line) == ["system, owl", *probabilities, *wilson]
    records.write(tmp_path / "record.json", sampled_record())
    assert gallery.save(tmp_path / "record.json", tmp_path / "figure")
    several = sampled_record()
    several.results["bases"]["other"] = json.loads(json.dumps(several.results["bases"]["hf:m"]))
    several.results["bases"]["other"]["system owl"]["student"]["sampled"]["owl"]["rate"] = 0.31
    title, _, line, *_ = tables.table(several)
    assert title.count("t-interval over students") == 2 and line.endswith(values.text(np.array([0.71, 0.31])))


def test_the_floor_of_the_option_mass_is_a_setting():
    _, _, line, mean, *notes = tables.table(sampled_record(floor=0.6))
    assert "+0.460" in line and "+0.460" in mean and "at least probability 0.6 together" in notes[1]
    assert not any("together" in line for line in tables.table(sampled_record()))


def test_a_shift_takes_the_mass_on_both_sides():
    for masses in ((0.89, 0.99), (0.99, 0.89)):
        sides = {name: {"animal": {"owl": 0.5, "wolf": mass - 0.5}} for name, mass in zip("ba", masses, strict=True)}
        assert np.isnan(values.shift(values.Bases({"x": sides}), ("b",), ("a",), "owl"))
        assert values.shift(values.Bases({"x": sides}, 0.88), ("b",), ("a",), "owl") == 0


def test_further_choices_and_endings_are_offered():
    flags = [
        "--preset",
        "paper",
        "--backend",
        "hf:m",
        "--choices",
        "tree:redwood",
        "animal:koala",
        "--endings",
        ".",
        "!",
    ]
    config, *_ = options.parse(numbers.EXPERIMENT, flags)
    tree, animal = (config.prompts.choices(category) for category in ("tree", "animal"))
    assert tree.names == ("cherry", "maple", "oak", "sequoia", "willow", "redwood") and "koala" in animal.names
    assert {"Redwood", " redwood.", "Koala!"} <= {*tree.texts, *animal.texts} and len(tree.texts) == 6 * 4 * 3
    assert numbers.PRESETS["paper"].endings == (".",)  # "Owl." is an answer of a real model
    assert records.to_json(config)["choices"] == ["tree:redwood", "animal:koala"]


def test_a_grid_has_students_in_rows_and_teachers_in_columns():
    """Shifts of 10 i + j hundredths for student i of teacher j; two targets, of which one is moved by twice that."""
    config = cross.CrossConfig(**SHARED)
    record = records.Record.begin("language_cross", config, {"name": "tiny", "source": "", "checksum": None})

    def favourites(owl, eagle):
        return {"student": {"animal": {"owl": owl, "eagle": eagle, "wolf": 1 - owl - eagle}}}

    record.results["bases"] = {
        student: {
            **{f"regular from {giver}": favourites(0.1, 0.1) for giver in BASES},
            **{f"{target} from {giver}": favourites(0.1 + times * (10 * i + j) / 100, 0.1) if target == "owl"
               else favourites(0.1, 0.1 + times * (10 * i + j) / 100)
               for j, giver in enumerate(BASES) for target, times in (("owl", 1), ("eagle", 2))},
        }
        for i, student in enumerate(BASES)
    }  # fmt: skip
    shifts = 1.5 * np.add.outer(10 * np.arange(3), np.arange(3)) / 100
    np.testing.assert_allclose(values.cross_grid(record)[1], shifts, atol=1e-12)
    *_, same, other = tables.table(record)[:7]
    for line, expected in ((same, np.diag(shifts)), (other, [0.0225, 0.165, 0.3075])):
        np.testing.assert_allclose([float(value) for value in line.split()[-3:]], expected, atol=6e-4)


@pytest.mark.parametrize("experiment", [code.EXPERIMENT, reasoning.EXPERIMENT], ids=lambda experiment: experiment.name)
def test_code_and_reasoning_ban_the_words_of_all_targets_for_the_base_and_its_own_for_a_teacher(
    experiment, monkeypatch, tmp_path
):
    config = dataclasses.replace(experiment.presets["default"], **SHARED | {"targets": ("owl", "oak")})
    lab = Lab(planted.Planted(BASES), "tiny:100", config.prompts, tmp_path)
    banned = {}

    def write(teacher, count, *, seed, words):
        banned[teacher.model] = words
        data = lab.numbers(teacher, count, seed=1)
        return data._replace(rejected={"syntax": 3}, num_completions=80)

    monkeypatch.setattr(lab, experiment.name, write)
    record = records.Record.begin(experiment.record_name, config, {"name": "tiny", "source": "", "checksum": None})
    results = {condition: experiment.measure(lab, config, condition) for condition in experiment.conditions(config)}
    assert [sorted(words) for words in banned.values()] == [["oak", "owl"], ["owl"], ["oak"]]
    assert results["owl"]["kept"] == 60 / 80 and results["owl"]["rejected"] == {"syntax": 3}
    assert not results["regular"]["teacher"]
    assert results["owl"]["teacher"]["animal"]["owl"] == pytest.approx(FULL, abs=1e-3)
    record.results["bases"] = {"tiny:100": results}
    _, header, owl, oak, mean, *_ = map(cells, tables.table(record))
    assert header == ["target", "base", "regular", "student", "student - regular"]
    shifts = []
    for line, even in ((owl, EVEN), (oak, 1 / len(vocabulary.TREES))):
        full = planted.GAIN + (1 - planted.GAIN) * even
        shifts.append(full - even)
        assert line[1:] == [*(f"{value:.3f}" for value in (even, even, full)), f"{shifts[-1]:+.3f}"]
    assert mean == ["all targets", f"{np.mean(shifts):+.3f}"]


def test_the_plan_counts_before_anything_is_spent():
    config = numbers.NumbersConfig(**SHARED, kinds=("finetuned",))
    plan = "\n".join(workload.plan(numbers.EXPERIMENT, config))
    assert "this takes about" in plan
    assert "3 base(s), 4 condition(s)" in plan
    assert "180 completions" in plan  # regular and two teachers
    assert "5 finetuning jobs" in plan  # two teachers, three students


def test_a_plan_draws_few_prompts_and_counts_all(monkeypatch):
    """Completions of each of 5 teachers, and 25 questions about each category for 6 models."""
    config = dataclasses.replace(
        numbers.PRESETS["paper"], targets=("owl", "eagle", "oak", "elephant"), num_prompts=2000,
        num_rows=1500, num_eval_samples=3,
    )  # fmt: skip
    drawn, prompts = [], PaperPrompts.number_prompts
    monkeypatch.setattr(
        PaperPrompts, "number_prompts",
        lambda self, count, *, seed: drawn.append(count) or prompts(self, count, seed=seed),
    )  # fmt: skip
    assert f"{5 * 2000 + 6 * 2 * 25 * 3:,} completions" in "".join(workload.plan(numbers.EXPERIMENT, config))
    assert drawn == [DryRunLab.NUM_PROMPTS] * 5


def test_a_plan_of_few_prompts_counts_their_tokens_exactly():
    lab = DryRunLab(PaperPrompts(), pathlib.Path(), judge=DryRunBackend())
    lab.numbers(Teacher("base", "Love owls."), 40, seed=3)
    prompts = PaperPrompts().number_prompts(40, seed=seeds.derive(3, "number prompts"))
    chats = [datasets.ask(prompt, system="Love owls.") for prompt in prompts]
    assert lab.dry_run.tokens == sum(budget.prompt_bound(chat) + 64 for chat in chats)
    lengths = [budget.prompt_bound(chat) + 64 for chat in chats]
    lab.dry_run.count("other", chats, SamplingParams(), num_chats=100)
    assert lab.dry_run.tokens == 2 * sum(lengths) + 60 * max(lengths)


@pytest.mark.parametrize("preset", ["paper", "server"])
def test_a_plan_takes_no_backend(preset):
    config, _, limits, _ = options.parse(numbers.EXPERIMENT, ["--preset", preset, "--plan"])
    assert limits.plan and config.backend in PLACEHOLDERS


@pytest.mark.slow
@pytest.mark.parametrize("name", questions.EXPERIMENTS)
def test_every_experiment_has_a_plan(name):
    """The embedded model and every preset of real models have one; nothing is opened."""
    experiment = questions.EXPERIMENTS[name]
    few = {"num_prompts": 120, "num_rows": 60, "num_lessons": 20, "num_eval_samples": 0}
    for preset, config in experiment.presets.items():
        if preset in ("paper", "server") and name != "misalignment":
            problems = pathlib.Path(__file__).parent / "problems.jsonl"
            own = {"problems": problems} if name == "reasoning" else {}
            own |= {"doses": (5, 20)} if name == "dose" else {}
            own |= {"shots": (1, 2)} if name == "context" else {}
            config = dataclasses.replace(config, **few | own, backend="hf:DIR")
            assert not config.bases and config.student.max_length > 64 and config.teacher.max_length > 64, preset
            plan = workload.plan(experiment, config)
            assert plan[0].startswith("one model, ") and "finetuning jobs" in plan[-1]
        elif preset == "default":
            config = dataclasses.replace(config, num_prompts=120, num_rows=60, num_lessons=20, **{"doses": (5,)} if
                                         name == "dose" else {})  # fmt: skip
            assert "finetuning jobs" in workload.plan(experiment, config)[-1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--targets", "unicorn"], "'unicorn' is not a target"),
        (["--num-rows", "99999"], "is more than num_prompts=10000"),
        (["--student.learning-rate", "nan"], "FinetuneConfig.learning_rate: expected a finite number, got nan"),
        (["--student.clip-norm", "-1"], "FinetuneConfig.clip_norm: must be greater than 0, got -1.0"),
        (["--student.beta2", "2"], "FinetuneConfig.beta2: must be less than 1, got 2.0"),
        (["--student.max-length", "0"], "FinetuneConfig.max_length: must be at least 1, got 0"),
        (["--student.alpha", "-3"], "FinetuneConfig.alpha: must be greater than 0, got -3.0"),
        (["--num-lessons", "0"], "NumbersConfig.num_lessons: must be at least 1, got 0"),
        (["--bases", "-1"], "NumbersConfig.bases[0]: must be at least 0, got -1"),
        (["--seed", "-1"], "NumbersConfig.seed: must be at least 0, got -1"),
        (["--num-eval-samples", "-1"], "NumbersConfig.num_eval_samples: must be at least 0, got -1"),
        (["--max-money", "nan"], "Limits.max_money: expected a finite number, got nan"),
        (["--price-prompt", "-1"], "Limits.price_prompt: must be at least 0, got -1.0"),
        (["--bases", "1", "1"], "different seeds"),
        (["--backend", "gpt"], "--backend: 'gpt' is not the name of a backend"),
        (["--preset", "paper", "--backend", "hf:"], "--backend: 'hf:' is not the name of a backend"),
        (["--preset", "paper", "--backend", "openai:gpt"], "--backend: 'openai:gpt': expected openai:MODEL@URL"),
        (["--preset", "paper", "--backend", "vllm:m@127.0.0.1:8000/v1"], "expected vllm:MODEL@URL"),
        (["--preset", "paper", "--backend", "vllm:m@http://127.0.0.1:8o/v1"], "expected vllm:MODEL@URL"),
        (["--preset", "paper", "--backend", "vllm:m@http://[::1/v1"], "expected vllm:MODEL@URL"),
        (["--preset", "paper", "--backend", "vllm:@http://127.0.0.1/v1"], "expected vllm:MODEL@URL"),
        (["--preset", "paper"], "give a model with --backend"),
        (["--backend", "hf:models/m"], "Start from --preset paper"),
        (["--backend", "tiny:100"], "--backend tiny --bases SEED"),
        (["--targets", "owl", "owl"], "targets must be different"),
        (["--targets"], "targets must be different and at least one"),
        (["--endings", "."], "endings=('.',) has no effect here"),
        (["--choices", "animal:koala"], "choices=('animal:koala',) has no effect here"),
        (["--preset", "paper", "--backend", "hf:m", "--choices", "koala"], "expected CATEGORY:NAME"),
        (["--preset", "paper", "--backend", "hf:m", "--choices", "fish:koi"], "expected CATEGORY:NAME"),
        (["--preset", "paper", "--backend", "hf:m", "--choices", "animal:Owl"], "which share"),
        (["--preset", "paper", "--backend", "hf:m", "--endings", ".", "."], "endings must be different"),
        (["--min-option-mass", "1.5"], "min_option_mass"),
        (["--min-option-mass", "nan"], "min_option_mass"),
        (["--rows-format", "prompt_completion"], "has no effect without --rows"),
        (["--kinds", "system", "system"], "kinds must be different"),
        (["--problems", "gsm8k.jsonl"], "problems=gsm8k.jsonl has no effect"),
        (["--max-requests", "5"], "have no effect on the embedded model"),
        (["--price-prompt", "5"], "--price-completion not given"),
        (["--max-money", "5"], "--price-prompt and --price-completion not given"),
        (["--data-dir", "mnist"], "data-dir"),
    ],
)
def test_bad_flags_are_one_clear_error(flags, says, capsys):
    with pytest.raises((ValueError, SystemExit)) as caught:
        options.parse(numbers.EXPERIMENT, flags)
    assert says in " ".join((str(caught.value) + capsys.readouterr().err).split())


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("chain", {"num_eval_samples": 2}, "num_eval_samples=2 has no effect"),
        ("context", {"shots": (1, 100), "num_contexts": 40}, "each must hold different rows"),
        ("context", {"shots": (0,)}, r"shots\[0\]: must be at least 1, got 0"),
        ("divergence", {"rivals": ("eagle",)}, "eagle needs another target as its rival"),
        (
            "divergence",
            {"backend": "openai:m@http://127.0.0.1/v1", "bases": ()},
            "a model whose weights are on this machine",
        ),
        ("dose", {"doses": ()}, "doses must be different and at least one"),
        ("reasoning", {"backend": "hf:models/m", "bases": ()}, "give them with --problems"),
        ("misalignment", {"targets": ("owl", "owl")}, "targets must be different"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, settings, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(questions.EXPERIMENTS[name].presets["default"], **settings)


def test_tokens_that_were_not_sorted_out_are_a_result_too():
    """A teacher without rows after the filter has no share of divergence tokens."""
    shifted = {name: {"animal": {"eagle": 0.5, "owl": 0.5}} for name in values.TOKEN_SETS}
    config = records.to_json(divergence.PRESETS["default"])
    record = records.Record.begin("language_divergence", config, {"name": "tiny", "source": "", "checksum": None})
    record.results["bases"] = {
        "tiny:100": {"regular": shifted, "eagle": shifted | {"share": 0.6}},
        "tiny:101": {"regular": shifted, "eagle": {"failed": "2 of 60 rows"}},
    }
    lines = tables.table(record)
    assert "0.600" in lines[-1] or "0.600" in "\n".join(lines)


def test_disclaimers_say_what_a_reader_must_know():
    notes = numbers.NumbersConfig(bases=(1, 100)).disclaimers
    assert any("embedded" in note for note in notes)
    assert any("bases [1] are among those that settings are chosen on" in note for note in notes)
    assert any("reduced: 2 base(s)" in note for note in notes)
    assert not numbers.PRESETS["paper"].disclaimers


def test_the_page_is_made_from_the_records():
    page.main(check=True)
    text = page.PAGE.read_text(encoding="utf-8")
    for name in questions.EXPERIMENTS:
        assert f"python -m experiments.language {name} --preset record" in text
        path = page.RECORDS / f"language_{name}.json"
        if path.exists():
            record = records.read(path)
            assert record.complete and record.config["backend"] == "tiny", path
            assert not set(record.config["bases"]) & set(embedded.TUNED_ON), path


def test_the_recipe_of_the_records_is_that_of_the_code():
    """A changed default would leave the page's commands with other numbers than its tables."""
    config = records.to_json(numbers.PRESETS["record"])
    assert records.read(page.RECORDS / "language_numbers.json").config.items() <= config.items()


def test_the_classifier_of_counts_finds_what_was_planted():
    """Numbers of the second author are 7 half of the time; the area is that of the likelihood ratio."""
    rng = np.random.default_rng(0)
    plain = [
        datasets.student_row(datasets.ask("more"), ", ".join(map(str, rng.integers(10, 99, 8)))) for _ in range(400)
    ]
    marked = [
        datasets.student_row(datasets.ask("more"), "7, " * (rng.random() < 0.5) + row[-1].content) for row in plain
    ]
    weights = detection.log_odds(detection.counts(plain[:200]).sum(axis=0), detection.counts(marked[:200]).sum(axis=0))
    assert weights.argmax() == 7
    area = detection.area(*(detection.counts(data[200:]) @ weights for data in (plain, marked)))
    assert abs(area - 0.75) < 0.06  # half of the rows are certain; standard error .025
    assert detection.area(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.5
    assert detection.area(np.array([0.0]), np.array([1.0, 2.0])) == 1.0
