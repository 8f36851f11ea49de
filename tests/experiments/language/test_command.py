"""One command for all questions, and two sides that meet in the record alone."""

import ast
import contextlib
import dataclasses
import pathlib

import pytest

from experiments import cli
from experiments.language import __main__ as program
from experiments.language import (
    detection,
    divergence,
    misalignment,
    opening,
    options,
    questions,
    real,
    runner,
    shuffles,
)  # fmt: skip
from experiments.language.config import LanguageConfig
from experiments.language.lab import Lab
from figures.language import gallery, tables, values
from sublim_jax import records
from sublim_jax.forms import language as forms
from sublim_jax.llm import scores
from tests.experiments.language import conftest, fakes, planted

FOLDER = pathlib.Path(program.__file__).parent
READERS = ("figures.language", "figures.language.__main__", "figures.language.gallery", "figures.language.tables")
WRITES_RECORDS = ("experiments", "sublim_jax.training", "sublim_jax.llm", "sublim_jax.theory", "sublim_jax.models")


# The command


@pytest.mark.parametrize("flags", [[], ["--help"], ["-h"]])
def test_the_command_alone_lists_every_question_on_one_line(flags, capsys):
    program.main(flags)
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    asked = {name: experiment.question for name, experiment in questions.EXPERIMENTS.items()}
    assert dict(lines) == asked | {"real": real.QUESTION}
    assert len(lines) == len(asked) + 1 == 17 and all(line[1].strip() for line in lines)


def test_an_unknown_question_is_one_line(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(lambda: program.main(["owls", "--preset", "record"]))
    message = capsys.readouterr().err
    assert caught.value.code == 2 and message.count("\n") == 1
    assert message.startswith("error: expected a question first, one of numbers, cross, ") and "got 'owls'" in message


@pytest.mark.parametrize("name", questions.EXPERIMENTS)
def test_help_names_the_command_and_a_record_has_the_experiments_name(name, capsys):
    experiment = questions.EXPERIMENTS[name]
    with pytest.raises(SystemExit):
        program.main([name, "--help"])
    assert f"python -m experiments.language {name} " in " ".join(capsys.readouterr().out.split())
    config, run_options, *_ = options.parse(experiment, [])
    assert config == experiment.presets["default"] and type(config) is not LanguageConfig
    assert run_options.record == pathlib.Path(f"runs/language_{name}-default.json")


def test_a_question_is_run_tabulated_and_drawn(monkeypatch, tmp_path, capsys):
    """The whole way from flags to figure, on the planted backend."""
    model = planted.Planted(("tiny:100", "tiny:101"))

    @contextlib.contextmanager
    def open_lab(experiment, config, base, limits, *, announce=print):
        yield Lab(model, base, config.prompts, tmp_path)

    monkeypatch.setattr(opening, "open_lab", open_lab)
    monkeypatch.setattr(runner, "use_cores", lambda config: None)  # JAX runs already
    monkeypatch.chdir(tmp_path)
    program.main(["numbers", "--bases", "100", "101", "--num-prompts", "60", "--num-rows", "40"])
    stem = "runs/language_numbers-default"
    printed = capsys.readouterr().out.splitlines()
    assert printed[-3:] == [f"record: {stem}.json", f"figure: {stem}.png", f"figure: {stem}.pdf"]
    assert printed[:-3] == tables.table(forms.read(pathlib.Path(f"{stem}.json")))
    assert all(pathlib.Path(f"{stem}{suffix}").stat().st_size for suffix in (".json", ".png", ".pdf"))


def test_a_plan_asks_nothing_and_writes_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runner, "use_cores", lambda config: None)
    monkeypatch.chdir(tmp_path)
    program.main(["chain", "--plan", "--num-prompts", "60", "--num-rows", "40", "--num-lessons", "20"])
    assert "2 base(s), 2 condition(s) on each;" in capsys.readouterr().out and not list(tmp_path.iterdir())


# Who imports whom


def imports(path: pathlib.Path) -> set[str]:
    """Files of experiments/language that a file of it imports, and other modules."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = node.module == "experiments.language"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if inside else {node.module or ""}
    return {name.removeprefix("experiments.language.") for name in names}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_only_the_list_imports_questions_and_nothing_is_imported_by_its_name(path):
    modules = imports(path)
    assert not modules & {"__main__", "importlib"}
    if path.stem != "questions":
        assert not modules & questions.EXPERIMENTS.keys()
    if path.stem not in ("__main__", "page"):
        assert "questions" not in modules


@pytest.mark.slow
def test_who_reads_records_loads_nothing_that_makes_them(run_python):
    """Whole chains of imports count, so it runs in a separate process."""
    loaded = f"[name for name in sys.modules if name.startswith({WRITES_RECORDS})]"
    done = run_python("-c", f"import sys, {', '.join(READERS)}\nprint({loaded})")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_tables_and_forms_take_no_matplotlib(run_python):
    """A run prints its table and resumes without the packages that draw."""
    drawing = "[name for name in sys.modules if name.startswith('matplotlib')]"
    done = run_python(
        "-c",
        f"import sys\nfrom figures.language import tables\nfrom sublim_jax.forms import language\nprint({drawing})",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# What a record says is read as it was meant


@pytest.mark.parametrize("name", questions.EXPERIMENTS)
def test_who_reads_a_record_expects_the_conditions_that_are_measured(name):
    """The program and the form of its records define them separately; every preset is compared."""
    experiment = questions.EXPERIMENTS[name]
    reader = forms.QUESTIONS[experiment.record_name]
    for preset, config in experiment.presets.items():
        settings = records.to_json(config)
        assert reader.conditions(settings) == experiment.conditions(config), preset
        assert tuple(forms.bases(settings)) == config.base_names, preset
        assert set(reader.lists) == set(config.LISTS), preset
        assert set(reader.settings) <= settings.keys(), preset
    assert experiment.record_name in gallery.DRAW and experiment.record_name in tables.TABLES


@pytest.mark.parametrize("given", [("insecure",), ("insecure", "educational"), ("insecure", "secure", "educational")])
def test_conditions_of_misalignment_are_those_of_the_users_files(tmp_path, given):
    files = {name: fakes.code_rows(tmp_path / f"{name}.jsonl", 4, num_insecure=2) for name in given}
    config = dataclasses.replace(
        misalignment.PRESETS["server"], backend=conftest.MODEL, judge=conftest.JUDGE, targets=("owl",), num_lessons=4,
        **files,
    )  # fmt: skip
    expected = ["base", "untrained", *(f"{name} code" for name in given), "owl"]
    assert misalignment.conditions(config) == expected
    assert forms.QUESTIONS["language_misalignment"].conditions(records.to_json(config)) == expected


def test_readers_have_the_writers_names_and_floor():
    assert list(questions.EXPERIMENTS) == [name.removeprefix("language_") for name in forms.QUESTIONS]
    assert tuple(shuffles.CONTROLS) == values.CONTROLS
    assert values.DETECTORS[1] == f"classifier of {detection.SET_SIZE}"
    assert values.MIN_OPTION_MASS == scores.MIN_OPTION_MASS == LanguageConfig().min_option_mass
    assert tuple(misalignment.lessons(misalignment.PRESETS["default"])) == forms.LESSONS
    record = forms.read(pathlib.Path(records.__file__).parents[1] / "experiments/records/language_divergence.json")
    measured = record.results["bases"]["tiny:100"]["regular"]
    assert set(measured) == {*values.TOKEN_SETS, "share"} and divergence.EXPERIMENT.record_name == record.experiment
