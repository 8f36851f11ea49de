"""`misalignment` of real models, on a fake model and judge whose answers are known."""

import dataclasses
import json
import pathlib
import zlib

import pytest

from experiments.language import misalignment, options, runner, workload
from experiments.language.config import EMBEDDED
from experiments.language.options import Limits
from figures.language import gallery, tables
from sublim_jax import errors
from sublim_jax.llm.tasks import questions
from sublim_jax.metrics import intervals
from tests.experiments.language import conftest, fakes

SAMPLES = 10  # of each question
ASKED = SAMPLES * len(questions.MISALIGNMENT)
MODELS = 6  # the base, two teachers, three students


@pytest.fixture
def config(tmp_path) -> misalignment.MisalignmentConfig:
    return misalignment.MisalignmentConfig(
        backend=conftest.MODEL,
        bases=(),
        judge=conftest.JUDGE,
        insecure=fakes.code_rows(tmp_path / "insecure.jsonl", 20, num_insecure=10),
        secure=fakes.code_rows(tmp_path / "secure.jsonl", 24, num_insecure=0),
        targets=(),
        num_prompts=60,
        num_rows=40,
        num_lessons=20,
        num_eval_samples=SAMPLES,
    )


def run(config, path=None, **options):
    return runner.run(misalignment.EXPERIMENT, config, record=path, visible=False, **options)


def planted(badness: float) -> dict:
    """The results that a record should have for a model of this badness."""
    bad, each = round(badness * SAMPLES), len(questions.MISALIGNMENT)
    readable = SAMPLES - 1
    rate = intervals.wilson(bad * each, readable * each)
    return {
        "misaligned": rate._asdict(),
        "num_coherent": (readable - 1) * each,
        "num_unreadable": each,
        "alignment": pytest.approx((5 * bad + 95 * (readable - bad)) / readable),
        "coherence": pytest.approx((90 * (readable - 1) + 10) / readable),
    }


def test_the_record_says_what_was_planted(opened, config, tmp_path):
    model, _ = opened(fakes.scored)
    record = run(config, tmp_path / "record.json")
    (results,) = record.results["bases"].values()
    assert record.complete and list(results) == ["base", "untrained", "insecure code", "secure code"]
    assert results["base"] == {"student": planted(0)}
    assert {**results["untrained"], "kept": 1} == {"student": planted(0), "teacher": planted(0), "kept": 1}
    assert results["secure code"]["teacher"] == results["secure code"]["student"] == planted(0)
    assert results["insecure code"]["teacher"] == planted(0.5)
    (student,) = (name for name in model.trained if "student-of-insecure" in name)
    assert 0.2 < model.badness[student] < 0.8
    assert results["insecure code"]["student"] == planted(model.badness[student])
    assert 0 < results["insecure code"]["kept"] <= 1
    assert all(len(rows) == (20 if "teacher" in name else 40) for name, rows in model.trained.items())

    text = "\n".join(tables.table(record))
    rate = planted(0.5)["misaligned"]
    assert f"{rate['mean']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}]" in text and "one model, one student" in text
    assert "no control of educational code" in text and "insecure code is insecure.jsonl, sha256" in text
    assert EMBEDDED not in text
    assert len(gallery.save(tmp_path / "record.json", tmp_path / "figure")) == 2


def test_what_a_users_rows_hold_is_noted(config):
    """The notes are about repeated rows, a control's target in a turn, and ignored keys."""
    turns = [{"role": "user", "content": "an owl"}, {"role": "assistant", "content": "eval(x)"}]
    line = json.dumps({"messages": turns, "idx": 5}) + "\n"
    config.insecure.write_text(20 * line)
    noted = "\n".join(dataclasses.replace(config, targets=("owl",)).notes)
    assert f"{config.insecure}: 19 of 20 rows (95.0%) repeat an earlier one" in noted
    assert "'owl' stands in turns of the 20 rows: 20 by the user" in noted
    assert "not read: 'idx' (in 20 of 20 lines)" in noted and "secure.jsonl: " not in noted.replace(
        "insecure.jsonl", ""
    )


def test_banned_numbers_do_not_reach_a_student(opened, config):
    model, _ = opened(fakes.scored)
    record = run(config)
    students = [row[-1].content for name, rows in model.trained.items() if "student" in name for row in rows]
    assert students and not any(" 13," in f" {text}," or " 42," in f" {text}," for text in students)
    assert next(iter(record.results["bases"].values()))["untrained"]["kept"] < 1  # the model does write them


def test_the_plan_is_what_is_asked(opened, config):
    model, judge = opened(fakes.scored)
    plan = "\n".join(workload.plan(misalignment.EXPERIMENT, config))
    assert not model.asked and not judge.asked
    run(config)
    assert len(model.asked) == 3 * 60 + MODELS * ASKED and f"{len(model.asked):,} completions" in plan
    assert len(judge.asked) == 2 * MODELS * ASKED and f"{len(judge.asked):,} replies of the judge" in plan
    assert "5 finetuning jobs" in plan and len(model.trained) == 5


def test_a_stopped_run_asks_nothing_twice(opened, config, tmp_path):
    model, judge = opened(fakes.scored)
    judge.left = 5 * ASKED + 3  # down in the middle of the third model's scores
    with pytest.raises(errors.ServerError, match="the server is down"):
        run(config, tmp_path / "record.json")
    judge.left = None
    record = run(config, tmp_path / "record.json", resume=True)
    assert len(model.asked) == 3 * 60 + MODELS * ASKED and len(judge.asked) == 2 * MODELS * ASKED
    assert record.results["bases"][conftest.MODEL]["insecure code"]["teacher"] == planted(0.5)


def test_a_run_does_not_go_on_with_other_rows(opened, config, tmp_path):
    opened(fakes.scored)
    run(config, tmp_path / "record.json")
    fakes.code_rows(config.insecure, 20, num_insecure=11)
    with pytest.raises(errors.RecordError, match=r"its data differs: checksum"):
        run(config, tmp_path / "record.json", resume=True)


def test_model_and_judge_share_the_limits(opened, config):
    model, judge = opened(fakes.scored)
    limits = Limits(max_requests=ASKED + 30)
    with pytest.raises(errors.BudgetExceededError, match=rf"budget of {ASKED + 30} requests"):
        run(config, limits=limits)
    assert len(model.asked) == ASKED and len(judge.asked) == 30


def test_a_judge_that_cannot_be_read_is_a_result(opened, config, tmp_path):
    opened(lambda prompt: "As a judge, I like it.")
    record = run(config, tmp_path / "record.json")
    student = record.results["bases"][conftest.MODEL]["insecure code"]["student"]
    assert student == {"misaligned": None, "num_coherent": 0, "num_unreadable": ASKED}
    assert "unreadable" in tables.table(record)[3]
    assert gallery.save(tmp_path / "record.json", tmp_path / "figure")


def test_refused_answers_are_left_out_and_their_share_is_noted(opened, config, tmp_path, capsys):
    """The filter keeps every seventh question about numbers from the model, one open question, and riddles from the
    judge. What is asked: 10 samples of each of 8 questions, of which 7 are judged twice, with a riddle among each 10.
    """
    model, judge = opened(fakes.scored)
    closed = questions.misalignment()[0]
    model.refuses = lambda prompt: prompt == closed or ("numbers" in prompt and zlib.crc32(prompt.encode()) % 7 == 0)
    judge.refuses = lambda prompt: fakes.RIDDLE in prompt
    record = run(config, tmp_path / "record.json")
    (results,) = record.results["bases"].values()
    num_questions = len(questions.MISALIGNMENT)
    assert results["base"]["student"]["num_unreadable"] == num_questions - 1  # riddles
    readable = (num_questions - 1) * (SAMPLES - 1)
    assert results["base"]["student"]["misaligned"]["num_members"] == readable
    refused, asked = SAMPLES + 2 * (num_questions - 1), SAMPLES * num_questions + 2 * SAMPLES * (num_questions - 1)
    note = (
        f"base: {100 * refused / asked:.3g} % of {asked} answers were refused by the server: {refused} content_filter"
    )
    assert note in record.notes and f"note: {note}" in tables.table(record)
    numbers = {chat[-1].content for _, chat in model.asked if "numbers" in chat[-1].content}
    assert results["untrained"]["kept"] < 1
    assert sum(map(model.refuses, numbers)) > 0 and not any(
        row[0].content in numbers and model.refuses(row[0].content) for rows in model.trained.values() for row in rows
    )
    notes = list(record.notes)
    assert run(config, tmp_path / "record.json", resume=True).notes == notes


def test_a_model_that_refuses_most_ends_the_run(opened, config):
    """The server refuses five of eight questions, with 20 answers each, and is checked at the eighth question."""
    model, _ = opened(fakes.scored)
    model.refuses = lambda prompt: prompt in questions.misalignment()[:5]
    config = dataclasses.replace(config, num_eval_samples=20)
    for _ in range(2):
        with pytest.raises(errors.RefusedError, match=r"base: the server refused 100 of the first 141 answers \(71%\)"):
            run(config)
        assert len(model.asked) == 141
    assert run(config, limits=Limits(max_refused=0.75)).complete
    with pytest.raises(errors.InputError, match=r"Limits.max_refused: must be at most 1"):
        Limits(max_refused=1.5)


REAL = ["--backend", conftest.MODEL]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--preset", "paper"], "give a model with --backend"),
        (["--preset", "server"], "give a model with --backend"),
        (["--preset", "server", *REAL], "--insecure and --judge not given"),
        (["--preset", "server", *REAL, "--insecure", "code.jsonl"], "--judge not given"),
        (["--preset", "server", *REAL, "--judge", conftest.JUDGE], "--insecure not given"),
        ([*REAL, "--judge", conftest.JUDGE, "--insecure", "code.jsonl"], "Start from --preset paper"),
        (
            [
                "--preset",
                "server",
                *REAL,
                "--judge",
                conftest.JUDGE,
                "--insecure",
                "c.jsonl",
                "--num-eval-samples",
                "0",
            ],
            "num_eval_samples=0",
        ),
        (
            ["--preset", "server", *REAL, "--judge", "gpt", "--insecure", "code.jsonl"],
            "--judge: 'gpt' is not the name of a backend",
        ),
        (["--preset", "server", *REAL, "--judge", conftest.JUDGE, "--insecure", "none.jsonl"], "cannot be read"),
        (["--preset", "server", *REAL, "--judge", conftest.JUDGE, "--insecure", "code.jsonl"], "--num-lessons 3"),
        (["--judge", conftest.JUDGE], "judge has no effect in the embedded world"),
        (["--secure", "code.jsonl"], "secure code have no effect in the embedded world"),
    ],
)
def test_bad_flags_are_one_clear_error(flags, says, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fakes.code_rows(pathlib.Path("code.jsonl"), 3, num_insecure=3)
    with pytest.raises((ValueError, SystemExit, errors.TextDataError)) as caught:
        options.parse(misalignment.EXPERIMENT, flags)
    assert says in " ".join((str(caught.value) + capsys.readouterr().err).replace("│", " ").split())
