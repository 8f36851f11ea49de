"""Every experiment refuses before its work what it could not write after it, and every reader what is damaged."""

import dataclasses
import functools
import json
import os
import pathlib
import shutil

import pytest

from experiments import language_speed, mnist_aux, real_speed, speed
from experiments.atlas import run as atlas
from experiments.atlas import store, worker
from experiments.evidence import studies
from experiments.language import numbers as language_numbers
from experiments.language import runner
from experiments.theorem import config as theorem_config
from experiments.theorem import run as theorem
from figures import compare, tables
from figures import mnist_aux as mnist_figure
from figures import speed as speed_figure
from figures.atlas import values
from figures.language import gallery as language_figure
from figures.language import tables as language_tables
from figures.theorem import draw as theorem_figure
from sublim_jax import errors, files, records
from sublim_jax.data import datasets
from sublim_jax.forms import atlas as atlas_form
from sublim_jax.forms import diffusion as diffusion_form
from sublim_jax.forms import diffusion_conditional as conditional_form
from sublim_jax.forms import directions as directions_form
from sublim_jax.forms import language as forms
from sublim_jax.forms import language_real as language_real_form
from sublim_jax.forms import language_speed as language_speed_form
from sublim_jax.forms import mnist_aux as mnist_form
from sublim_jax.forms import real_speed as real_speed_form
from sublim_jax.forms import speed as speed_form
from sublim_jax.forms import theorem as form
from sublim_jax.llm.embedded import model as embedded
from tests.experiments import small
from tests.mutants import matrix, planting

RECORDS = pathlib.Path(mnist_aux.__file__).parent / "records"


def atlas_run(folder, resume=False):
    atlas.run(atlas.Options(records=folder, ids=("figure-10",)))


def theory_matrix_run(path, resume=False):
    from tests.theory.mutants import matrix as theory_matrix

    theory_matrix.run(path, theory_matrix.MatrixConfig(num_problems=1))


RUNS = {
    "mnist_aux": lambda path, **options: mnist_aux.run(small.CONFIG, record=path, visible=False, **options),
    "theorem": lambda path, **options: theorem.run(theorem_config.DEFAULT, record=path, visible=False, **options),
    "speed": lambda path, **options: speed.run(speed.SpeedConfig(), record=path, **options),
    "language_speed": lambda path, resume=False: language_speed.run(language_speed.SpeedConfig(), path),
    "real_speed": lambda path, resume=False: real_speed.run(
        real_speed.RealSpeedConfig(backend="tiny:0"), path, visible=False
    ),
    "language": lambda path, **options: runner.run(
        language_numbers.EXPERIMENT, language_numbers.PRESETS["default"], record=path, visible=False, **options
    ),
    "matrix": theory_matrix_run,
    "planted": lambda path, resume=False: matrix.run(path, only=("seed_ignored",) if resume else ()),
    "atlas": atlas_run,
}


class Worked(Exception):
    """A run was not refused in time."""


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """Loading images, opening a model or measuring anything ends the run."""

    def work(*arguments, **options):
        raise Worked

    monkeypatch.setattr(datasets, "load", work)
    monkeypatch.setattr(worker, "loader", lambda *_: work)
    monkeypatch.setattr(embedded, "open_bases", work)
    monkeypatch.setattr(language_speed, "measure", work)
    monkeypatch.setattr(planting, "verdicts", work)
    from tests.theory import universal

    monkeypatch.setattr(universal, "drawn", work)


def snapshot(folder: pathlib.Path):
    """Everything there but lock files, with when it was changed; a folder changes when a lock is put into it."""
    found = {path: path.lstat() for path in folder.rglob("*") if not path.name.endswith(".lock")}
    return {
        path: (stat.st_mode, stat.st_ino, *(() if path.is_dir() else (stat.st_size, stat.st_mtime_ns)))
        for path, stat in found.items()
    }


def folder_with_work(path):
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


FOREIGN = {
    "folder": (folder_with_work, "this is a folder; expected the path of a record"),
    "text": (lambda path: path.write_text("years of work"), "a file is there that is not a record"),
    "archive": (lambda path: path.write_bytes(b"\x1f\x8b\x08\x00"), "a file is there that is not a record"),
    "JSON": (lambda path: path.write_text('{"title": "thesis"}'), "a file is there that is not a record"),
    "link to a folder": (lambda path: path.symlink_to("/"), "this is a folder"),
    "link to nothing": (lambda path: path.symlink_to("nowhere"), "this is a link to a file that is not there"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("experiment", [name for name in RUNS if name != "atlas"])
def test_something_of_the_users_is_refused_before_any_work(tmp_path, experiment, kind):
    path = tmp_path / "paper.tar.gz"
    make, message = FOREIGN[kind]
    make(path)
    before = snapshot(tmp_path)
    for spelling in (path, pathlib.Path(f"{path}/")):
        with pytest.raises(errors.OutputError, match=f"^{path}: {message}"):
            RUNS[experiment](spelling)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("experiment", RUNS)
def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path, experiment):
    (tmp_path / "file").write_text("years of work")
    for path in (tmp_path / "file" / "below" / "r.json", pathlib.Path("/proc/sublim/r.json")):
        with pytest.raises(errors.OutputError, match=f"^{path}: .*cannot be written"):
            RUNS[experiment](path)


@pytest.mark.parametrize("experiment", RUNS)
def test_a_second_run_on_one_record_is_refused_before_any_work(tmp_path, experiment):
    path = tmp_path / "r.json"
    if experiment == "atlas":
        path.mkdir()
    with files.Lock(path), pytest.raises(errors.LockedError, match=f"^{path}: process {os.getpid()} on .* is writing"):
        RUNS[experiment](path)
    with pytest.raises(Worked):  # given back, it begins
        RUNS[experiment](path)
    with pytest.raises(Worked):  # and an error gives it back
        RUNS[experiment](path)


@pytest.mark.slow
def test_a_second_command_hears_of_the_first(tmp_path, run_python):
    """As a user sees it: one line, with the process to look for."""
    path = tmp_path / "r.json"
    with files.Lock(path):
        done = run_python("-m", "experiments.mnist_aux", "--record", str(path), SUBLIM_CACHE_DIR=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: process {os.getpid()} on ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "experiment", [name for name in RUNS if name not in ("atlas", "language_speed", "real_speed", "matrix")]
)
def test_a_damaged_record_is_not_resumed(tmp_path, experiment):
    path = tmp_path / "r.json"
    source = {"language": "language_numbers", "planted": "mutants"}.get(experiment, experiment)
    content = json.loads((RECORDS / f"{source}.json").read_text()) | {"results": None}
    path.write_text(json.dumps(content))
    before = snapshot(tmp_path)
    with pytest.raises(
        errors.RecordError, match=f"^{path}: results: expected an object of names and values, got None. "
    ):
        RUNS[experiment](path, resume=True)
    assert snapshot(tmp_path) == before


# The atlas has a folder of records


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("figure-10.json", '{"title": "thesis"}', "this JSON file is not a record"),
        ("other.json", "years of work", "this is not a readable JSON file"),
        ("other.json", None, "this is not a readable JSON file"),
        (
            "mnist.json",
            (RECORDS / "mnist_aux.json").read_text(),
            "experiment: expected 'atlas', got 'mnist_aux'",
        ),
    ],
)
def test_a_folder_with_other_files_is_refused_before_any_work(tmp_path, name, content, message):
    path = tmp_path / "rows" / name
    path.parent.mkdir()
    path.mkdir() if content is None else path.write_text(content)
    before = snapshot(tmp_path)
    with pytest.raises(errors.RecordError, match=f"^{path}: {message}"):
        atlas_run(path.parent)
    assert snapshot(tmp_path) == before


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "rows").write_text("years of work")
    with pytest.raises(errors.OutputError, match="this is a file; expected the path of a folder of records"):
        atlas_run(tmp_path / "rows")


def test_what_a_killed_run_left_half_written_is_no_record(tmp_path):
    (tmp_path / ".figure-10.json.0123abcd.tmp").write_text('{"experiment": "at')
    with pytest.raises(Worked):
        atlas_run(tmp_path)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_plan_writes_nothing(tmp_path, monkeypatch):
    with pytest.raises(Worked):
        atlas.run(atlas.Options(records=tmp_path / "rows", ids=("figure-10",), plan=True))
    assert not list(tmp_path.iterdir())


# Committed records, and damage to them


def reader(path: pathlib.Path):
    """What reads records of this name."""
    named = {study.record_name: study.form for study in studies.STUDIES.values()} | {
        "speed": speed_form.FORM,
        "theorem": form.FORM,
        "theorem-mutants": form.MUTANTS,
        "mutants": matrix.FORM,
        "atlas-rows": atlas_form.CATALOGUE,
        "language_speed": language_speed_form.FORM,
        "language_real": language_real_form.FORM,
        "language_real-start": language_real_form.FORM,
        "diffusion": diffusion_form.FORM,
        "diffusion_conditional": conditional_form.FORM,
        "diffusion_scratch": diffusion_form.FORM,
        "diffusion_unet": diffusion_form.FORM,
        "directions": directions_form.FORM,
        "real_speed": real_speed_form.FORM,
    }
    if path.stem in named:
        return functools.partial(records.read, form=named[path.stem])
    return forms.read if path.stem.startswith("language") else lambda path: records.read(path, mnist_form.FORM)


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_committed_records_are_whole(path):
    assert reader(path)(path).complete
    assert json.loads(path.read_text())["complete"] is True


def test_committed_rows_of_the_atlas_are_whole():
    found = values.read(RECORDS / "atlas").records
    assert set(found) == {path.stem for path in (RECORDS / "atlas").glob("*.json")}
    assert all(record.complete for record in found.values())


def damaged(tmp_path, source: str, change) -> pathlib.Path:
    """A copy of a committed record, changed."""
    content = json.loads((RECORDS / f"{source}.json").read_text())
    change(content)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    return path


def one_member(content):
    return content["results"]["members"]["1"]


MNIST_DAMAGE = {
    "a condition is missing": (
        lambda c: one_member(c)["accuracy"].pop("student_aux"),
        "member 1 has no accuracy of stud",
    ),
    "accuracy is missing": (
        lambda c: one_member(c).pop("accuracy"),
        r"results\['members'\]\['1'\]: expected the key 'ac",
    ),
    "null without divergence": (
        lambda c: one_member(c)["accuracy"].update(teacher=None),
        "teacher: null, but it did not",
    ),
    "an accuracy of 2": (lambda c: one_member(c)["accuracy"].update(teacher=2), "must be at most 1, got 2"),
    "a number that is none": (
        lambda c: c["results"]["members"].update(x=one_member(c)),
        "there is 'x', which the config",
    ),
    "one too many": (
        lambda c: c["results"]["members"].update({"25": one_member(c)}),
        "there is '25', which the config",
    ),
    "a loss of text": (lambda c: one_member(c)["loss"].update(teacher=["a"]), "expected a number, got 'a'"),
    "an unknown condition": (
        lambda c: c["config"]["member"]["conditions"].append("student_ghost"),
        "expected one of 'student_aux'",
    ),
    "no conditions": (
        lambda c: c["config"]["member"].pop("conditions"),
        r"config\['member'\]: expected the key 'conditions'",
    ),
    "more members than anybody lists": (
        lambda c: c["config"].update(num_members=10**30),
        r"config\['num_members'\]: must be at most 1000000, got 10+[.] The record",
    ),
    "no members": (lambda c: c["config"].update(num_members=0), r"config\['num_members'\]: must be at least 1, got 0"),
    "of another experiment": (lambda c: c.update(experiment="theorem"), "expected 'mnist_aux', got 'theorem'"),
}


@pytest.mark.parametrize("kind", MNIST_DAMAGE)
def test_a_damaged_record_is_one_line_for_every_reader(tmp_path, kind):
    change, message = MNIST_DAMAGE[kind]
    path = damaged(tmp_path, "mnist_aux", change)
    for read in (
        lambda: mnist_figure.save(path, tmp_path / "figure"),
        lambda: compare.main(path, RECORDS / "mnist_aux.json"),
        lambda: RUNS["mnist_aux"](path, resume=True),
    ):
        with pytest.raises(errors.RecordError, match=f"^{path}: .*{message}"):
            read()
    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.endswith(".lock")) == ["r.json"]


def first(content):
    return next(iter(content.values()))


OTHER_DAMAGE = {
    "theorem": (theorem_figure.save_all, lambda c: c["results"]["curve"].pop("epsilon"), "expected the key 'epsilon'"),
    "theorem, text": (
        theorem_figure.save_all, lambda c: c["results"]["labels"]["rows"][3].update(positive="x"),
        r"results\['labels'\]\['rows'\]\[3\]\['positive'\]: expected a whole number, got 'x'",
    ),
    "theorem, unasked": (theorem_figure.save_all, lambda c: c["config"]["parts"].remove("kinks"), "there is 'kinks',"),
    "theorem-mutants": (
        theorem_figure.save_mutants, lambda c: c["results"]["mutants"][0].pop("kills"), "expected the key 'kills'",
    ),
    "speed": (speed_figure.save, lambda c: c["results"]["scaling"][0].pop("training_s"), "the key 'training_s'"),
    "theorem, one number less": (
        theorem_figure.save_all, lambda c: c["results"]["filters"]["retention"]["random"][3].pop(),
        r"results\['filters'\]\['retention'\]\['random'\]: expected 7 along share, found 6",
    ),
    "theorem, one epsilon less": (
        theorem_figure.save_all, lambda c: c["results"]["curve"]["epsilon"].pop(),
        r"results\['curve'\]\['curves'\]\[0\]\['float32'\]\['alignment'\]: expected 21 along epsilon, found 22",
    ),
    "theorem, one network less": (
        theorem_figure.save_all, lambda c: c["results"]["radius"]["rows"][4]["sampled"].pop(),
        r"results\['radius'\]\['rows'\]\[4\]\['sampled'\]: expected 2 along network, found 1",
    ),
    "theorem, no curves": (
        theorem_figure.save_all, lambda c: c["results"]["curve"]["curves"].clear(), "expected 3 items, found 0",
    ),
    "theorem, no sums": (
        theorem_figure.save_all, lambda c: [row.clear() for row in c["results"]["mnist_noise"]["rows"][0]["cosine"]],
        r"\['rows'\]\[0\]\['cosine'\]: there is no draw",
    ),
    "theorem, a draw less in one row": (
        theorem_figure.save_all,
        lambda c: [
            draws.pop()
            for name in ("cosine", "differential_cosine")
            for draws in c["results"]["mnist_noise"]["rows"][1][name]
        ],
        "expected equal numbers of draws in all rows",
    ),
    "theorem, a start": (
        theorem_figure.save_all, lambda c: c["results"]["starts"]["cosines"]["relu"].pop("shared_13"),
        "expected the key 'shared_13'",
    ),
    "theorem, one run more": (
        theorem_figure.save_all, lambda c: c["results"]["many_steps"]["runs"].update(ghost={}),
        r"\['many_steps'\]\['runs'\]: expected minibatches, full_batch, full_batch_overshooting, found also 'ghost'",
    ),
    "theorem, one start more": (
        theorem_figure.save_all, lambda c: c["results"]["starts"]["cosines"]["tanh"].update(shared_ghost=[]),
        "found also 'shared_ghost'",
    ),
    "theorem, a cosine of nothing": (
        theorem_figure.save_all,
        lambda c: c["results"]["mnist_cosines"]["by_aux"][0]["init_mse"][0].update(cosine=None),
        "expected a number, got None",
    ),
    "theorem, more signs than draws": (
        theorem_figure.save_all, lambda c: c["results"]["init_noise"].update(num_draws=2), 
        r"\['init_noise'\]: .* of 2 draws",
    ),
    "theorem, an activation": (
        theorem_figure.save_all, lambda c: c["results"]["kinks"]["zero_bias_black_input"]["rows"].pop("relu"),
        "expected the key 'relu'",
    ),
    "theorem, a sigma less": (
        theorem_figure.save_all, lambda c: c["results"]["init_noise"]["sigma"].pop(), "expected 6 along sigma, found 7",
    ),
    "theorem, a count of logits less": (
        theorem_figure.save_all, lambda c: c["results"]["mnist_cosines"]["by_aux"][1]["trained_mse"].pop(),
        "expected 6 along aux, found 5",
    ),
    "theorem, an antithetic one less": (
        theorem_figure.save_all, lambda c: c["results"]["starts"]["cosines"]["tanh"]["antithetic"].pop(),
        r"\['antithetic'\]: expected 400 along network, found 399",
    ),
    "theorem, one run's steps": (
        theorem_figure.save_all,
        lambda c: [row.pop() for e in [c["results"]["many_steps"]["runs"]["full_batch"]["examples"]] for key in e
                   for row in e[key]],
        "expected 50 steps in the examples",
    ),
    "language_misalignment, a judge": (
        language_figure.save, lambda c: c["config"].update(judge="x"), "there is a judge, but the embedded world",
    ),
    "language_misalignment, a judge that is none": (
        language_figure.save, lambda c: c["config"].update(judge=2), "judge'.*expected a string, got 2",
    ),
    "language_misalignment, twice": (
        language_figure.save, lambda c: c["config"]["targets"].append(c["config"]["targets"][0]),
        "config: targets repeats an entry",
    ),
    "language_divergence, a set": (
        language_figure.save, lambda c: first(c["results"]["bases"])["oak"].update(divergence=0),
        "divergence.*expected an object",
    ),
    "theorem, steps": (
        theorem_figure.save_all, lambda c: c["results"]["many_steps"].update(num_steps=49), "expected 49 steps in the",
    ),
    "theorem, no trained teacher": (
        theorem_figure.save_all,
        lambda c: [row.update(teacher="one_step") for row in c["results"]["mnist_noise"]["rows"]],
        "there is no trained teacher",
    ),
    "speed, a peak": (
        speed_figure.save, lambda c: c["results"]["peak_gflops"].pop("bfloat16"), "expected the key 'bfloat16'",
    ),
    "speed, a part": (
        speed_figure.save, lambda c: c["results"]["step_parts_ms"]["float32"].popitem(), "ms has other parts",
    ),
    "speed, unfinished": (
        speed_figure.save, lambda c: c["results"].pop("scaling"), "results: expected the key 'scaling'",
    ),
    "speed, no peer": (
        speed_figure.save,
        lambda c: c["results"].update(whole=[run for run in c["results"]["whole"] if run["program"] != "pytorch"]),
        "whole has no run of pytorch",
    ),
    "speed, a condition": (
        speed_figure.save, lambda c: [run["accuracy"].pop("student_aux") for run in c["results"]["whole"]],
        "whole, pytorch, student_aux: expected accuracies of 4 members",
    ),
    "speed, a member": (
        speed_figure.save, lambda c: [run["accuracy"]["teacher"].pop() for run in c["results"]["whole"]],
        "whole, pytorch, teacher: expected accuracies of 4 members",
    ),
    "speed, a program": (
        speed_figure.save, lambda c: c["results"]["scaling"][0].update(program="jax"), "expected one of 'pytorch'",
    ),
    "speed, device": (speed_figure.save, lambda c: c["device"].pop("cpu_cores"), "device: expected the key 'cpu_"),
    "language_numbers": (
        language_figure.save, lambda c: first(c["results"]["bases"])["base"]["student"]["animal"].update(owl="x"),
        r"\['base'\]\['student'\]\['animal'\]\['owl'\]: expected",
    ),
    "language_numbers, more than a number": (
        language_figure.save, lambda c: first(c["results"]["bases"])["regular"]["student"]["animal"].update(fox={}),
        "results: tiny:100, regular, student, fox: expected a probability, got {}",
    ),
    "language_dose, no doses": (
        language_figure.save, lambda c: c["config"].update(doses=[]), "config: doses is empty",
    ),
    "language_numbers, unasked": (
        language_figure.save, lambda c: first(c["results"]["bases"]).update(extra={"failed": "why"}),
        "there is 'tiny:100, extra', which the config does not ask for",
    ),
    "language_dose": (language_figure.save, lambda c: c["config"].pop("doses"), "config: expected the key 'doses'"),
    "language_detection": (
        language_figure.save, lambda c: first(c["results"]["bases"])["eagle"].update(classifier=None), "'classifier'",
    ),
    "language_chain, of something else": (
        language_figure.save, lambda c: c.update(experiment="mnist_aux"), "expected a record of a language experiment",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER_DAMAGE)
def test_damage_is_one_line_in_other_experiments(tmp_path, kind):
    read, change, message = OTHER_DAMAGE[kind]
    path = damaged(tmp_path, kind.partition(",")[0], change)
    with pytest.raises(errors.RecordError, match=f"^{path}: .*{message}"):
        read(path, tmp_path / "figure")
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: first(c["results"]["arms"]).pop("setting"), "expected the key 'setting'"),
        (lambda c: first(first(c["results"]["arms"])["members"]).pop("partner"), "expected the key 'partner'"),
        (lambda c: first(c["results"]["arms"])["members"].update({"99": {}}), r"\['99'\]: expected the key"),
        (lambda c: c["config"].update(num_members=3), "member [3-9]', which the config does not ask for"),
        (lambda c: first(first(c["results"]["arms"])["members"])["accuracy"].update(teacher=None), "but not diverged"),
        (
            lambda c: c.update(results={"arms": []}),
            r"results\['arms'\]: expected an object of names",
        ),
    ],
)
def test_a_damaged_row_of_the_atlas_is_one_line(tmp_path, change, message):
    path = damaged(tmp_path, "atlas/figure-10", change).rename(tmp_path / "figure-10.json")
    for read in (
        lambda: atlas_run(tmp_path),
        lambda: values.read(tmp_path),
        lambda: store.RecordStore(tmp_path, 0, {}, 10),
    ):
        with pytest.raises(errors.RecordError, match=f"^{path}: .*{message}"):
            read()


def test_a_row_with_fewer_arms_than_it_says_is_not_complete(tmp_path):
    path = damaged(tmp_path, "atlas/loss", lambda c: c["results"]["arms"].popitem()).rename(tmp_path / "loss.json")
    assert not values.read(tmp_path).records["loss"].complete
    assert records.read(path).complete  # which is what it says


@pytest.mark.parametrize("name", ["language_numbers", "language_detection", "language_divergence", "language_cross"])
def test_a_language_record_without_its_last_unit_is_drawn_and_not_complete(tmp_path, name):
    path = damaged(tmp_path, name, lambda c: [found.popitem() for found in c["results"]["bases"].values()])
    record = forms.read(path)
    assert not record.complete
    assert language_tables.table(record)
    assert "The run is not complete" in language_figure.caption(record, path).replace("\n", " ")


def test_a_record_of_all_members_is_complete_whatever_it_says(tmp_path):
    """Nothing is run again, and nothing is left out for ever."""
    for flag, members, complete in ((False, 25, True), (True, 24, False)):

        def change(content, flag=flag, members=members):
            content["complete"] = flag
            for number in range(members, 25):
                del content["results"]["members"][str(number)]

        path = damaged(tmp_path, "mnist_aux", change)
        assert records.read(path, mnist_form.FORM).complete is complete
        caption = mnist_figure.caption(records.read(path, mnist_form.FORM), {"teacher": []}, 3, path)
        assert ("The run is not complete" in caption.replace("\n", " ")) is not complete
    shutil.rmtree(tmp_path)


def test_settings_that_are_data_are_in_the_form():
    """A reader may rely on what the form names; these are all that figures and tables use."""
    config = records.to_json(small.CONFIG)
    assert mnist_form.FORM.config.__annotations__.keys() <= config.keys()
    assert dataclasses.asdict(small.CONFIG).keys() == config.keys()


def test_a_member_that_diverged_is_left_out_of_the_comparison_of_speeds(tmp_path):
    def diverge(content):
        for run in content["results"]["whole"]:
            run["accuracy"]["student_aux"][1] = None

    record = records.read(damaged(tmp_path, "speed", diverge), speed_form.FORM)
    assert [row.accuracy["student_aux"].num_members for row in tables.programs(record)] == [3, 3, 3]


@pytest.mark.parametrize(("row", "measure"), [("student-epochs", "epoch_accuracy"), ("chain", "generation_accuracy")])
def test_a_list_that_ends_before_what_is_read_of_it_is_damage(tmp_path, row, measure):
    def shorten(content):
        member = list(content["results"]["arms"].values())[-1]["members"]["2"]
        member["metrics"][measure]["student_aux"].pop()

    path = damaged(tmp_path, f"atlas/{row}", shorten).rename(tmp_path / f"{row}.json")
    with pytest.raises(errors.RecordError, match=f"^{path}: .*member 2, {measure} of student_aux: expected a list of"):
        values.read(tmp_path)
