"""The experiment: what it refuses, what it records, and that no accident changes its numbers."""

import dataclasses
import io
import json
import logging
import signal
import time

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments import cost, mnist_aux
from figures import tables, values
from sublim_jax import errors, records
from sublim_jax.metrics import intervals
from sublim_jax.models import mlp
from sublim_jax.training import ensemble, loop, stages
from sublim_jax.training.state import MemberResult
from tests.experiments import small, test_cli
from tests.experiments.logs import Log

# Configs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed: must be at least 0, got -1"),
        ({"seed": 2**32}, "seed: must be less than 4294967296, got 4294967296"),
        ({"num_members": 0}, "num_members: must be at least 1, got 0"),
        ({"num_noise_images": 0}, "num_noise_images: must be at least 1, got 0"),
        ({"members_at_once": -1}, "members_at_once: must be at least 1, got -1"),
        ({"num_train_images": 0}, "num_train_images: must be at least 1, got 0"),
        ({"conditions": ()}, r"conditions must be different and at least one, got \(\)"),
        ({"conditions": ("student_aux",) * 2}, "conditions must be different and at least one, got"),
        ({"num_members": 1}, "num_members=1: cross_model and matched students start from another member's reference. "),
        ({"num_members": 1, "conditions": ("matched_all",)}, "Use num_members >= 2, or --conditions student_aux"),
        ({"num_aux": 1}, "num_aux=1: a constant added to all logits does not change the loss kl, so a single logit"),
        ({"num_aux": 1, "loss": "reverse_kl"}, "the loss reverse_kl, .* student_aux cannot learn. Use num_aux >= 2"),
        ({"num_aux": 1, "loss": "jeffreys"}, "num_aux=1: .* or the loss mse."),
        ({"num_aux": 1, "loss": "centred_mse"}, "num_aux=1: .* the loss centred_mse"),
        ({"num_aux": 0}, "num_aux=0: there are no auxiliary logits for student_aux to distil."),
        ({"num_aux": 0, "loss": "mse"}, "num_aux=0: there are no auxiliary logits"),
        ({"temperature": 0.0}, "temperature: must be greater than 0, got 0.0"),
        ({"temperature": 2.0, "loss": "mse"}, "loss 'mse' has no temperature, got 2.0"),
    ],
)
def test_an_experiment_that_cannot_work_is_refused_before_it_begins(changes, message):
    changes = dict(changes)
    if "num_aux" in changes:
        changes["model"] = mlp.MLPSpec(num_aux=changes.pop("num_aux"))
    with pytest.raises(ValueError, match=message):
        small.replaced(mnist_aux.PRESETS["default"], **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_members": 1, "conditions": ("student_aux", "student_all")},
        {"model": mlp.MLPSpec(num_aux=1), "loss": "mse"},
        {"model": mlp.MLPSpec(num_aux=1), "conditions": ("student_all", "cross_model_class")},
        {"model": mlp.MLPSpec(num_aux=0), "conditions": ("student_class",)},
        {"seed": 2**32 - 1},
    ],
    ids=str,
)
def test_what_looks_alike_but_works_is_not_refused(changes):
    small.replaced(mnist_aux.PRESETS["default"], **changes)


def test_the_paper_preset_is_the_papers_protocol():
    """Cloud et al. 2025, section 6.2."""
    assert mnist_aux.PRESETS["paper"].num_members == 100
    config = mnist_aux.PRESETS["paper"].member
    assert isinstance(config.model, mlp.MLPSpec)
    assert config.model.layer_sizes == (784, 256, 256, 13) and config.model.num_aux == 3
    assert (config.model.activation, config.model.init_distribution, config.model.init_scale) == (
        "relu",
        "fan_in_normal",
        1,
    )
    for phase in (config.teacher, config.student):
        assert (phase.num_epochs, phase.batch_size) == (5, 1024)
        assert (phase.optimizer.name, phase.optimizer.learning_rate) == ("adam", 3e-4)
    assert (config.loss, config.temperature, config.num_noise_images) == ("kl", 1, 60_000)
    assert (config.noise.distribution, config.noise.amplitude) == ("uniform", 1)
    assert set(mnist_aux.FIGURE_10) <= set(config.conditions)
    assert not mnist_aux.changed_from_paper(mnist_aux.PRESETS["paper"])
    assert not mnist_aux.changed_from_paper(mnist_aux.PRESETS["default"])


def test_departures_name_the_setting_its_value_and_the_papers():
    config = small.replaced(
        mnist_aux.PAPER,
        seed=5,
        num_members=3,
        temperature=2.0,
        student=loop.TrainPhase(num_epochs=7),
        num_train_images=9,
    )
    assert mnist_aux.changed_from_paper(config) == [
        "num_train_images=9 (paper: None)",
        "student.num_epochs=7 (paper: 5)",
        "temperature=2.0 (paper: 1.0)",
    ]
    assert mnist_aux.changed_from_paper(mnist_aux.PRESETS["smoke"])


FREE = {"seed", "num-members", "dataset", "members-at-once", "conditions", "metrics"}
"""What is run, how much of it, how, and what is measured; the matched control too, which the paper does not have."""


def changed(spec, name, value):
    """The spec, or a spec inside it, with another value at a dotted name."""
    own = {field.name for field in dataclasses.fields(spec)}
    head, _, rest = name.partition(".")
    if head not in own:
        head, rest = "member", name
    return dataclasses.replace(spec, **{head: changed(getattr(spec, head), rest, value) if rest else value})


def test_every_setting_but_the_free_ones_is_named_when_it_differs_from_the_papers():
    every = test_cli.EVERY_KNOB | test_cli.ONLY_WITH_KL
    free = FREE | {name for name in every if name.startswith("matching.")} | {"model.precision", "noise.bits"}
    for name, value in every.items():
        config = changed(mnist_aux.PAPER, name.replace("-", "_"), value)
        lines = mnist_aux.changed_from_paper(config)
        shown = name.replace("-", "_")
        assert [line.partition("=")[0] for line in lines] == ([] if name in free else [shown]), name
        assert all(line.startswith(f"{shown}={records.to_json(value)} (paper: ") for line in lines)


# Runs


@pytest.fixture
def uninterrupted(small_digits) -> records.Record:
    """What five members give when nothing happens. Compiled once for all tests that run this config."""
    return mnist_aux.run(small.replaced(small.CONFIG, num_members=5), visible=False)


@pytest.mark.slow
def test_a_record_holds_every_member_of_every_condition(small_digits, tmp_path):
    path = tmp_path / "record.json"
    result = mnist_aux.run(small.CONFIG, record=path, visible=False)
    assert records.read(path) == result
    assert result.complete and result.experiment == "mnist_aux"
    assert result.config == records.to_json(small.CONFIG)
    assert result.data == {
        "name": "synthetic-digits",
        "source": small_digits.source,
        "checksum": small_digits.checksum,
    }
    assert min(result.seconds[phase] for phase in ("data", "compile", "teacher", "student")) > 0
    assert "the images are synthetic-digits, generated, not MNIST: published values do not apply" in result.notes
    assert any("hidden_sizes=[8] (paper: [256, 256])" in note for note in result.notes)
    assert list(result.results["members"]) == ["0", "1", "2"]
    for member in result.results["members"].values():
        assert member["diverged"] == []
        assert set(member["accuracy"]) == {"reference", "teacher", "student_aux", "cross_model_aux"}
        for accuracy in member["accuracy"].values():
            assert 0 <= accuracy <= 1 and accuracy * 200 == pytest.approx(round(accuracy * 200))
        assert {name: len(losses) for name, losses in member["loss"].items()} == {
            "teacher": 1,
            "student_aux": 1,
            "cross_model_aux": 1,
        }
    found = values.accuracies(result)
    assert list(found) == ["reference", "teacher", "student_aux", "cross_model_aux"]
    assert found["teacher"].tolist() == [result.results["members"][str(n)]["accuracy"]["teacher"] for n in range(3)]


def test_a_run_says_what_it_does_and_each_member_before_the_next_one_begins(small_digits, tmp_path, monkeypatch):
    """Of programs that take their time. Members are teachers of accuracy .90, .91, ...; one student diverges."""
    log = Log()
    log.listen(monkeypatch)
    monkeypatch.setattr(cost, "rate", lambda *_: 1e9)
    began = []

    class Program:
        """What JAX has: lowered, compiled, called."""

        out_info = ()

        def __init__(self, stage):
            self.stage = stage

        def lower(self, members, shared):
            log.wait("compiling for", times=2)
            return self

        def compile(self):
            return self

        def __call__(self, arguments, shared):
            members = [int(member) for member in np.asarray(arguments[0])]
            log.wait(f", {self.stage}, 1 s of about ")  # nothing is printed by the program
            if self.stage == "teacher":
                began.extend((member, log.text) for member in members)
                return ()
            values = {name: np.full(len(members), 0.5) for name in ("reference", "student_aux", "cross_model_aux")}
            values["teacher"] = np.array([0.9 + member / 100 for member in members])
            values["student_aux"] = np.array([np.nan if member == 1 else 0.5 for member in members])
            history = {name: np.zeros((len(members), 1)) for name in values}
            return MemberResult(values, history, {name: np.isfinite(values[name]) for name in values}, {})

    programs = {stage: Program(stage) for stage in ("teacher", "student")}
    monkeypatch.setattr(mnist_aux, "_programs", lambda spec, width: programs)
    config = small.replaced(small.CONFIG, num_members=5)
    assert mnist_aux.run(config, record=tmp_path / "record.json").complete
    lines = log.lines
    assert lines[0].startswith("loading the images: ")
    (estimate,) = (place for place, line in enumerate(lines) if line.startswith("training takes about"))
    assert estimate < min(place for place, line in enumerate(lines) if line.startswith("compiling for"))
    chunk = jax.device_count()
    for member, text in began:
        before = [line for line in text.splitlines() if line.startswith("member ")]
        assert [line.partition(":")[0] for line in before] == [f"member {n}" for n in range(member - member % chunk)]
    assert "member 0: reference 0.500, teacher 0.900, student_aux 0.500, cross_model_aux 0.500" in lines
    assert "member 1: reference 0.500, teacher 0.910, student_aux diverged, cross_model_aux 0.500" in lines
    assert any(line.startswith(f"figure 10: {chunk} of 10 epochs, ") for line in lines), "after a stage"
    assert lines[-1].startswith("figure 10: 10 of 10 epochs") and lines[-1].endswith("; done")


@pytest.mark.slow
def test_more_members_change_nobodys_numbers_but_the_last_ones_partner(small_digits, uninterrupted):
    three = mnist_aux.run(small.CONFIG, visible=False).results["members"]
    five = uninterrupted.results["members"]
    for number in ("0", "1"):
        assert three[number] == five[number]
    assert three["2"]["accuracy"]["student_aux"] == five["2"]["accuracy"]["student_aux"]
    assert three["2"]["loss"]["cross_model_aux"] != five["2"]["loss"]["cross_model_aux"]


def test_members_are_shown_the_training_images_and_scored_on_the_test_images(small_digits):
    config = small.replaced(small.CONFIG, num_train_images=250)
    shared = mnist_aux.shared_images(config, small_digits)
    np.testing.assert_array_equal(shared.train_inputs, small_digits.train_images[:250].reshape(250, 784))
    np.testing.assert_array_equal(shared.train_labels, small_digits.train_labels[:250])
    np.testing.assert_array_equal(shared.test_inputs, small_digits.test_images.reshape(200, 784))
    np.testing.assert_array_equal(shared.test_labels, small_digits.test_labels)


def test_other_test_labels_are_other_accuracies_and_nothing_else(small_digits, uninterrupted, monkeypatch):
    """With each label the next class's, a network is right where it named that class."""
    renamed = dataclasses.replace(small_digits, test_labels=((small_digits.test_labels + 1) % 10).astype(np.uint8))
    monkeypatch.setattr(mnist_aux.datasets, "load", lambda *args, **options: renamed)
    members = mnist_aux.run(small.replaced(small.CONFIG, num_members=5), visible=False).results["members"]
    for number, usual in uninterrupted.results["members"].items():
        assert members[number]["loss"] == usual["loss"]
        both = [member["accuracy"]["teacher"] for member in (members[number], usual)]
        assert both[0] != both[1] and sum(both) <= 1, "no image is of two classes"


def test_another_seed_is_other_members(uninterrupted):
    other = mnist_aux.run(small.replaced(small.CONFIG, num_members=5, seed=1), visible=False).results["members"]
    losses = [
        member["loss"]["teacher"][0]
        for members in (other, uninterrupted.results["members"])
        for member in members.values()
    ]
    assert len(set(losses)) == 10


class Echo:
    """A program whose members' accuracies say what it was given: the seed, the member, its partner."""

    out_info = ()

    def lower(self, members, shared):
        self.calls = []
        return self

    def compile(self):
        return self

    def __call__(self, members, shared):
        (numbers, partners), (seed, images) = (np.asarray(a) for a in members[:2]), shared
        self.calls.append(numbers.tolist())
        values = np.asarray(seed) / 10 + numbers / 1e3 + partners / 1e5
        finite = {name: np.ones(len(numbers), bool) for name in ("reference", "teacher", "student_aux")}
        return MemberResult(
            accuracy=dict.fromkeys(finite, values) | {"reference": values + 0.05},
            loss={"teacher": np.stack([values, np.mean(np.asarray(images.test_labels)) + 0 * values], axis=1)},
            finite=finite,
            metrics={},
        )


@pytest.mark.parametrize("finished", [[], ["0", "1", "4"], ["2", "3"]], ids=str)
@pytest.mark.parametrize("at_once", [1, 2, 7])
def test_the_program_is_given_seed_members_and_partners_and_its_answers_are_theirs(
    small_digits, monkeypatch, tmp_path, finished, at_once
):
    config = small.replaced(small.CONFIG, num_members=5, seed=3, members_at_once=at_once, conditions=("student_aux",))
    program = Echo()
    monkeypatch.setattr(mnist_aux, "_programs", lambda spec, width: {"student": program})
    path = tmp_path / "record.json"
    whole = mnist_aux.run(config, record=path, visible=False)
    mean_label = float(f"{np.mean(small_digits.test_labels):.6g}")
    for member in range(5):
        value = round(0.3 + member / 1e3 + (member + 1) % 5 / 1e5, 6)
        result = whole.results["members"][str(member)]
        assert result["accuracy"] == {"reference": round(value + 0.05, 6), "teacher": value, "student_aux": value}
        assert result["loss"] == {"teacher": [value, mean_label]} and result["diverged"] == []
    partial = {"members": {number: whole.results["members"][number] for number in finished}}
    if finished:
        records.write(path, dataclasses.replace(whole, results=partial, complete=False))
    else:  # a run that was stopped before its first member leaves no record
        path.unlink()
    resumed = mnist_aux.run(config, record=path, resume=True, visible=False)
    assert resumed.results == whole.results and resumed.complete
    left = [numbers for numbers in program.calls if not {str(number) for number in numbers} <= set(finished)]
    assert program.calls == left, "what is finished is not run again"


@pytest.mark.parametrize("finished", [["0"], ["0", "1", "2", "3"], ["1", "4"]], ids=str)
def test_a_stopped_run_goes_on_and_ends_with_the_same_numbers(uninterrupted, finished, tmp_path):
    path, config = tmp_path / "record.json", small.replaced(small.CONFIG, num_members=5)
    members = uninterrupted.results["members"]
    partial = {"members": {number: members[number] for number in finished}}
    records.write(path, dataclasses.replace(uninterrupted, results=partial, complete=False))
    resumed = mnist_aux.run(config, record=path, resume=True, visible=False)
    assert resumed.results == uninterrupted.results and resumed.complete
    assert records.read(path) == resumed


def test_what_is_finished_is_not_run_again(uninterrupted, tmp_path):
    path, config = tmp_path / "record.json", small.replaced(small.CONFIG, num_members=5)
    content = records.to_json(uninterrupted)
    content["results"]["members"]["0"]["accuracy"]["teacher"] = 0.123456  # no run gives this
    del content["results"]["members"]["4"]
    content["complete"] = False
    path.write_text(json.dumps(content))
    resumed = mnist_aux.run(config, record=path, resume=True, visible=False)
    assert resumed.results["members"]["0"]["accuracy"]["teacher"] == 0.123456
    before = path.read_bytes()
    assert mnist_aux.run(config, record=path, resume=True, visible=False).results == resumed.results
    assert path.read_bytes() == before, "a complete record is left as it is"


def test_another_experiment_does_not_resume_and_does_not_overwrite(uninterrupted, tmp_path):
    path = tmp_path / "record.json"
    records.write(path, uninterrupted)
    with pytest.raises(errors.RecordError, match="cannot resume, its config differs: num_members: 5 before, 3 now"):
        mnist_aux.run(small.CONFIG, record=path, resume=True, visible=False)
    mnist_aux.run(small.CONFIG, record=path, visible=False)
    assert len(records.read(path).results["members"]) == 3
    assert records.read(tmp_path / "record.old1.json") == uninterrupted


@pytest.mark.slow
def test_one_compilation_serves_all_seeds(small_digits, caplog):
    def compilations(seed):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            mnist_aux.run(dataclasses.replace(small.DIVERGING, seed=seed), visible=False)
        return [line for line in caplog.messages if "XLA compilation" in line and "on_one_device" in line]

    mnist_aux._programs.cache_clear()
    assert len(compilations(0)) == 3  # starts, teachers, students
    assert len(compilations(1)) == 0


def test_no_program_calls_back_to_the_host(small_digits):
    """JAX keeps no such program for the next run."""

    def text(function):
        return jax.jit(function).lower(1.0).as_text()

    assert "callback" in text(lambda x: jax.debug.callback(print, x)) and "callback" not in text(lambda x: x)
    matched = small.replaced(small.CONFIG, conditions=("student_aux", "matched_aux"))
    programs, results = mnist_aux._programs(matched.member, 1), {}
    shared = ensemble.replicate((np.uint32(0), mnist_aux.shared_images(matched, small_digits)))
    members = mnist_aux._members(np.zeros(1, np.int32), jax.device_count(), 3)
    assert list(programs) == ["start", "teacher", "matching", "student"]
    for name, program in programs.items():
        lowered = program.lower((*members, results), shared)
        assert "callback" not in lowered.as_text()
        results |= {name: ensemble.described(lowered.out_info)}


@pytest.mark.slow
def test_stages_in_programs_of_their_own_give_a_members_numbers(small_digits):
    """Against the whole member in one program."""
    config = small.replaced(small.CONFIG, conditions=("student_aux", "matched_aux"), num_noise_images=200)
    record = mnist_aux.run(config, visible=False)
    data = mnist_aux.shared_images(config, small_digits)
    for member in range(3):
        whole = stages.run(member, (member + 1) % 3, data, seed=0, spec=config.member)
        result = record.results["members"][str(member)]
        assert result["accuracy"].keys() == whole.accuracy.keys() and result["loss"].keys() == whole.loss.keys()
        for name, accuracy in result["accuracy"].items():
            assert accuracy == pytest.approx(float(whole.accuracy[name]), abs=0.0051), name  # one test image
        for name, losses in result["loss"].items():
            # Sums are ordered otherwise, and a loss is a difference of logarithms of order one.
            np.testing.assert_allclose(losses, whole.loss[name], rtol=1e-4, atol=1e-6, err_msg=name)


def shown(record):
    """The table as text."""
    console = Console(file=io.StringIO(), width=200)
    console.print(tables.figure_10(record))
    return {
        line.split("│")[1].strip(): line.split("│")[2:-1]
        for line in console.file.getvalue().splitlines()
        if "│" in line
    }


@pytest.mark.slow
def test_a_run_that_diverges_says_so_everywhere(small_digits, tmp_path):
    path = tmp_path / "record.json"
    mnist_aux.run(small.DIVERGING, record=path, visible=False)
    member = json.loads(path.read_text())["results"]["members"]["0"]
    assert member["diverged"] == ["student_aux", "teacher"]
    assert member["accuracy"]["teacher"] is None and member["accuracy"]["student_aux"] is None
    assert 0 <= member["accuracy"]["reference"] <= 1
    rows = shown(records.read(path))
    assert [cell.strip() for cell in rows["teacher"][:2]] == ["all diverged", "1"]
    assert np.isnan(values.accuracies(records.read(path))["teacher"]).all()


def made_up(name="mnist", **accuracies) -> records.Record:
    """A record with these accuracies, one list a condition; None where a member diverged."""
    conditions = tuple(c for c in accuracies if c not in ("reference", "teacher", "matched_start"))
    count = len(accuracies["teacher"])
    members = {
        str(n): {"accuracy": {c: values[n] for c, values in accuracies.items()}, "loss": {}, "diverged": []}
        for n in range(count)
    }
    config = small.replaced(mnist_aux.PAPER, num_members=count, conditions=conditions)
    data = {"name": name, "source": "IDX files", "checksum": "abc"}
    description = mnist_aux.describe(conditions, images_name=name)
    record = records.Record.begin("mnist_aux", config, data, description=description)
    return dataclasses.replace(record, results={"members": members}, complete=True)


def test_the_table_gives_means_intervals_differences_and_leaves_nobody_out_in_silence():
    record = made_up(
        reference=[0.1, 0.11, 0.12, 0.1, 0.1],
        teacher=[0.94, 0.95, 0.93, 0.94, 0.94],
        student_aux=[0.5, None, 0.6, 0.7, 0.4],
        cross_model_aux=[0.1, 0.12, 0.08, 0.3, 0.2],
    )
    rows = shown(record)
    assert [cell.strip() for cell in rows["teacher"]] == ["0.940 ± 0.009", "0", "~.94"]
    kept = intervals.t_interval([0.5, 0.6, 0.7, 0.4])
    assert [cell.strip() for cell in rows["student_aux"]] == [
        f"{kept:.3f}",
        "1",
        mnist_aux.PUBLISHED["student_aux"]["text"],
    ]
    difference = intervals.paired_difference([0.5, 0.6, 0.7, 0.4], [0.1, 0.08, 0.3, 0.2])
    assert [c.strip() for c in rows["student_aux - cross_model_aux"]] == [f"{difference:.3f}", "1", "paired"]
    assert not [name for name in rows if "student_all" in name]


def test_published_values_stand_beside_mnist_only():
    accuracies = {"reference": [0.1, 0.1], "teacher": [0.9, 0.9], "student_aux": [0.5, 0.5]}
    assert shown(made_up("mnist", **accuracies))["teacher"][2].strip() == "~.94"
    for other in ("synthetic-digits", "kmnist"):
        assert shown(made_up(other, **accuracies))["teacher"][2].strip() == "-"


def test_a_network_that_does_not_fit_the_images_is_refused(small_digits):
    for model, message in (
        (mlp.MLPSpec(in_size=100), "784 pixels and 10 classes, the network in_size=100 and num_classes=10"),
        (mlp.MLPSpec(num_classes=9), "the network in_size=784 and num_classes=9"),
    ):
        with pytest.raises(ValueError, match=message):
            mnist_aux.run(small.replaced(small.CONFIG, model=model), visible=False)


def test_images_are_as_many_as_asked_for(small_digits):
    config = small.replaced(small.CONFIG, num_train_images=len(small_digits.train_images))
    assert len(mnist_aux.shared_images(config, small_digits).train_labels) == 300
    with pytest.raises(errors.InputError, match="num_train_images=301: synthetic-digits has 300; ask for at most as"):
        mnist_aux.run(dataclasses.replace(config, num_train_images=301), visible=False)


# Command lines


COMMAND = ("-m", "experiments.mnist_aux")


@pytest.mark.slow
def test_help_works(run_python):
    done = run_python(*COMMAND, "--help")
    assert done.returncode == 0 and not done.stderr
    assert "--num-members" in done.stdout and "figure 10" in done.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(
            ("--model.num-aux", "1"), "error: num_aux=1: a constant added to all logits", marks=pytest.mark.slow
        ),
        (("--dataset", "mnist", "--data-dir", "nowhere"), "error: nowhere: expected the folder of mnist's four IDX"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run_python, flags, message, tmp_path):
    done = run_python(*COMMAND, *flags, "--record", str(tmp_path / "r.json"), SUBLIM_CACHE_DIR=str(tmp_path))
    assert done.returncode == 2, done.stderr
    *said_before, mistake = done.stderr.splitlines()
    assert mistake.startswith(message), done.stderr
    assert all(line.startswith("loading the images") for line in said_before), done.stderr


ONE_DEVICE = (  # JAX is started first, so the members come one by one however many cores there are
    "import jax, runpy; jax.devices(); runpy.run_module('experiments.mnist_aux', run_name='__main__', alter_sys=True)"
)


@pytest.mark.slow
def test_kill_minus_nine_and_resume(start_python, run_python, small_cache, uninterrupted, tmp_path):
    """For real. What was killed had one device; what goes on may have several."""
    path = tmp_path / "record.json"
    flags = (*small.FLAGS, "--num-members", "5", "--record", str(path), "--no-figure")
    process = start_python("-c", ONE_DEVICE, *flags, SUBLIM_CACHE_DIR=str(small_cache))
    try:
        while not path.exists() and process.poll() is None:
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        _, stderr = process.communicate()
    assert process.returncode == -signal.SIGKILL, stderr
    killed = records.read(path)
    assert not killed.complete and 1 <= len(killed.results["members"]) < 5
    done = run_python(*COMMAND, *flags, "--resume", SUBLIM_CACHE_DIR=str(small_cache))
    assert done.returncode == 0, done.stderr
    resumed = records.read(path)
    assert resumed.complete and resumed.results == uninterrupted.results
    assert resumed.created == killed.created


# The smoke preset, as a user runs it. The thresholds are what the phenomenon promises, not what one seed gave.

CHANCE = 0.1
TEACHER_AT_LEAST = 0.9
STUDENT_AUX_AT_LEAST = 0.25
STANDARD_ERRORS = 4  # by which student_aux exceeds chance and cross_model_aux: with 4 members, by chance once in 70
CROSS_MODEL_AUX_AT_MOST = 0.2  # an untrained network lies within 0.05 or so of chance


def assert_subliminal(record):
    found = values.accuracies(record)
    assert found["teacher"].min() > TEACHER_AT_LEAST
    assert found["student_aux"].mean() > STUDENT_AUX_AT_LEAST
    for excess in (found["student_aux"] - CHANCE, found["student_aux"] - found["cross_model_aux"]):
        assert excess.mean() > STANDARD_ERRORS * excess.std(ddof=1) / len(excess) ** 0.5
    assert abs(found["cross_model_aux"].mean() - CHANCE) < CROSS_MODEL_AUX_AT_MOST - CHANCE
    assert abs(found["reference"].mean() - CHANCE) < CROSS_MODEL_AUX_AT_MOST - CHANCE
    assert found["student_all"].mean() > found["student_aux"].mean()


def run_smoke(run_python, path, *flags, **variables):
    done = run_python(*COMMAND, "--preset", "smoke", "--record", str(path), *flags, **variables)
    assert done.returncode == 0, done.stderr
    record = records.read(path)
    assert record.complete and record.config == records.to_json(
        small.replaced(mnist_aux.PRESETS["smoke"], dataset=record.config["dataset"])
    )
    for suffix in (".png", ".pdf"):
        assert path.with_suffix(suffix).stat().st_size > 1000 and str(path.with_suffix(suffix)) in done.stdout
    assert "Test accuracy on" in done.stdout and str(path) in done.stdout
    assert_subliminal(record)
    return record


@pytest.mark.slow
def test_the_smoke_preset_shows_subliminal_learning_on_synthetic_digits(run_python, tmp_path):
    record = run_smoke(
        run_python, tmp_path / "smoke.json", "--dataset", "synthetic-digits", SUBLIM_CACHE_DIR=str(tmp_path / "cache")
    )
    assert record.data["name"] == "synthetic-digits"
    assert any("not MNIST" in note for note in record.notes)


@pytest.mark.slow
def test_the_smoke_preset_shows_subliminal_learning_on_mnist(run_python, real_mnist, tmp_path):
    from tests import conftest

    record = run_smoke(
        run_python, tmp_path / "smoke.json", "--dataset", "mnist", SUBLIM_DATA_DIR=conftest.REAL_DATA_DIR
    )
    assert record.data["checksum"] == real_mnist.checksum
