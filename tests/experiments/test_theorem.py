"""The theorem's experiment: config, record, resuming, results of small parts, and the example of the proofs."""

import dataclasses
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.theorem import config, problems, reach, starts
from experiments.theorem import run as experiment
from figures.theorem import summary
from sublim_jax import errors, records
from sublim_jax.metrics import intervals
from sublim_jax.models import mlp
from sublim_jax.theory import loss_geometry, one_step
from tests.experiments.logs import Log

ROOT = pathlib.Path(__file__).parents[2]
RECORD = ROOT / "experiments/records/theorem.json"
needs_record = pytest.mark.skipif(
    not RECORD.exists(), reason="run python -m experiments.theorem --record experiments/records/theorem.json"
)
SMALL = config.TheoremConfig(num_networks=2, num_problems=30, num_draws=20, parts=("labels", "filters"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": ()}, "parts must be different and at least one"),
        ({"parts": ("curve", "curve")}, "parts must be different"),
        ({"num_draws": 1}, "num_draws: must be at least 2"),
        ({"num_members": 0}, "num_members: must be at least 1"),
        ({"num_aux": (1,)}, "num_aux must hold"),
        ({"widths": ()}, "widths must hold at least one number"),
    ],
)
def test_a_bad_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        config.TheoremConfig(**change)


def test_every_part_has_a_function_and_a_line_of_summary():
    assert experiment.SMALL.keys() | experiment.WITH_IMAGES.keys() == set(config.PARTS) == summary.LINES.keys()


def test_a_run_writes_each_part_resumes_and_repeats_itself(tmp_path, monkeypatch):
    """The parts are fakes that take no time; the smoke preset runs the real ones."""
    measured, committed = [], records.read(RECORD).results

    def stand_in(part):
        def measure(config):
            measured.append(part)
            return {**committed[part], "seen": [config.num_networks, float("nan")], "part": part}

        return measure

    for part in SMALL.parts:
        monkeypatch.setitem(experiment.SMALL, part, stand_in(part))
    path = tmp_path / "record.json"
    first = experiment.run(SMALL, record=path, visible=False)
    assert first.complete and records.read(path).results == json.loads(json.dumps(first.results))
    half = records.read(path)
    del half.results["filters"]
    half.complete = False
    records.write(path, half)
    again = experiment.run(SMALL, record=path, resume=True, visible=False)
    assert again.results["filters"] == first.results["filters"]
    assert again.complete and measured == ["labels", "filters", "filters"]
    other = config.TheoremConfig(num_networks=3, num_problems=30, num_draws=20, parts=("labels", "filters"))
    with pytest.raises(errors.RecordError, match="cannot resume"):
        experiment.run(other, record=path, resume=True, visible=False)


def test_images_are_as_many_as_asked_for(small_digits):
    asked = dataclasses.replace(SMALL, parts=("mnist_cosines",), dataset="synthetic-digits", num_train_images=301)
    with pytest.raises(errors.InputError, match="num_train_images=301: synthetic-digits has 300"):
        experiment.run(asked, visible=False)


def test_a_run_says_which_part_it_measures_and_what_is_left(monkeypatch):
    """There is no terminal, and a part takes its time."""
    log = Log()
    log.listen(monkeypatch)
    monkeypatch.setitem(experiment.SMALL, "labels", lambda _: {})
    monkeypatch.setitem(experiment.SMALL, "filters", lambda _: log.wait("; filters", times=3) or {})
    experiment.run(SMALL)
    assert log.lines[0].startswith("2 parts take about ")
    assert log.lines[1].startswith("theorem: 0 of 2 parts, 0:00:0")
    finished = [line.partition(":")[0] for line in log.lines if re.fullmatch(r"[a-z]+: \d+\.\d s", line)]
    assert finished == ["labels", "filters"]
    assert sum(line.startswith("theorem: 1 of 2 parts") and line.endswith("; filters") for line in log.lines) >= 3
    assert log.lines[-1].startswith("theorem: 2 of 2 parts") and log.lines[-1].endswith("; done")


@needs_record
def test_the_estimate_of_the_default_setting_is_what_the_record_took():
    """Rounded to seconds; a reduced setting takes less, but never less than what it takes to compile."""
    measured = records.read(RECORD).seconds
    for part in config.PARTS:
        assert config.DEFAULT.seconds(part) == pytest.approx(measured[part], abs=1), part
        reduced = config.PRESETS["smoke"].seconds(part)
        assert config.FIXED * config.DEFAULT.seconds(part) < reduced < 0.6 * config.DEFAULT.seconds(part), part


def test_the_summary_has_a_line_for_each_part_of_the_committed_record():
    found = list(summary.lines(records.read(RECORD)))
    assert [line.split(":")[0] for line in found] == list(config.PARTS)


def test_numbers_are_kept_to_some_digits_and_what_is_not_finite_is_null():
    assert problems.to_lists({"a": np.array([1.23456789, np.inf, np.nan]), "b": np.int32(3)}) == {
        "a": [1.2346, None, None],
        "b": 3,
    }


@pytest.mark.slow
def test_zero_biases_and_a_black_input_lose_the_sign():
    """Every ReLU lies on its kink: some alignments are negative and nearly every slope is off. GELU has no kink."""
    found = reach.on_the_kink(SMALL)
    assert found["rows"]["relu"]["negative"] > 0
    assert found["rows"]["relu"]["slope_off"] > 0.9 * found["num_updates"]
    assert found["rows"]["gelu"] == {"negative": 0, "slope_off": 0}


def test_tempered_sequences_can_turn_against_the_teacher():
    """Two tokens sampled at temperature 0.1: d/dε E[s] is negative for some models, and never at temperature 1."""

    def slope(key, temperature):
        z1, v1, z2, v2 = (
            jax.random.normal(k, s) for k, s in zip(jax.random.split(key, 4), [(5,), (5,), (5, 5), (5, 5)], strict=True)
        )
        score = (v1 - jax.nn.softmax(1.5 * z1) @ v1)[:, None] + v2
        score = score - jnp.sum(jax.nn.softmax(1.5 * z2) * v2, axis=1, keepdims=True)

        def mean_score(e):
            first = jax.nn.log_softmax((1.5 * z1 + e * v1) / temperature)
            second = jax.nn.log_softmax((1.5 * z2 + e * v2) / temperature)
            return jnp.sum(jnp.exp(first[:, None] + second) * score)

        return jax.grad(mean_score)(0.0)

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 1000)
        tempered, plain = (np.asarray(jax.jit(jax.vmap(lambda k, t=t: slope(k, t)))(keys)) for t in (0.1, 1.0))
    assert plain.min() > 0
    assert 0 < np.mean(tempered < -1e-3) < 0.1


def test_adapters_of_other_factors_are_aligned_on_average_and_not_each():
    """W = W0 + B A with B = 0 at the start: the student shares the teacher's A, or has another one."""

    def f(params, inputs):
        return jnp.tanh(inputs @ (params["base"] + params["b"] @ params["a"]).T) @ params["readout"].T

    def one(key):
        base, readout, a, other, b, inputs = (
            jax.random.normal(k, shape) / scale
            for k, shape, scale in zip(
                jax.random.split(key, 6),
                [(16, 12), (4, 16), (2, 12), (2, 12), (16, 2), (16, 12)],
                [12**0.5, 4.0, 12**0.5, 12**0.5, 1.0, 1.0],
                strict=True,
            )
        )
        start = {"base": base, "readout": readout, "a": a, "b": jnp.zeros((16, 2))}
        teacher = {**start, "b": 1e-4 * b}

        def moved(factor):
            step = one_step.student_update(f, loss_geometry.from_name("mse"), {**start, "a": factor}, teacher, inputs)
            return jnp.vdot(step["b"], b), jnp.vdot(step["b"] @ factor, b @ a)

        return moved(a)[0], moved(other)[1]

    with jax.enable_x64(True):
        same, different = map(np.asarray, jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 500)))
    assert same.min() > 0
    assert intervals.t_interval(different).low > 0
    assert 0 < np.mean(different < 0) < 0.3


@needs_record
def test_independent_relu_starts_do_not_average_to_zero():
    """The recorded mean is positive for ReLU. For tanh its interval contains zero, and over four copies it is zero."""
    found = records.read(RECORD).results["starts"]["cosines"]
    relu, tanh = (intervals.t_interval(found[activation]["independent"]) for activation in ("relu", "tanh"))
    assert relu.low > 0
    assert abs(tanh.mean) < 3 * tanh.half_width
    assert np.abs(found["tanh"]["antithetic"]).max() < 1e-14
    assert min(found["tanh"]["shared"]) > 0 and min(found["relu"]["shared"]) > 0


@pytest.mark.slow
def test_an_entirely_shared_start_is_the_shared_one():
    """Mixing in every layer of the reference gives the shared student, mixing in none the independent one."""
    spec = mlp.MLPSpec(in_size=4, hidden_sizes=(5, 5), num_classes=2, num_aux=2, activation="tanh")
    with jax.enable_x64(True):
        found = jax.jit(lambda key: starts._cosines(key, spec))(jax.random.key(1))
        found = {name: float(cosine) for name, cosine in found.items()}
    assert found["shared"] > 0 and found["shared"] != found["shared_12"] != found["independent"]


@needs_record
def test_the_committed_record_is_complete_and_of_the_default_setting():
    record = records.read(RECORD)
    assert record.complete and record.config == records.to_json(config.DEFAULT)
    assert record.data["name"] == "mnist"


@pytest.mark.slow
def test_the_example_for_ones_own_model_runs(capsys):
    """The code block of proofs/README.md, as it stands there."""
    text = (ROOT / "proofs/README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"<!-- example: begin -->.*?```python\n(.*?)```", text, re.DOTALL)
    found: dict = {}
    exec(code, found)
    assert one_step.alignment_coefficient(*found["problem"], found["inputs"]) > 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == ["A", "cosine", "epsilon*"]


def test_a_compiler_option_is_set_only_where_it_exists():
    """The set of options changes from one jaxlib to the next; one that is unknown stops every compilation."""
    assert problems._is_known("xla_backend_optimization_level", 0)
    assert not problems._is_known("xla_cpu_an_option_of_the_future", True)
    assert problems.quick_compilation()["xla_backend_optimization_level"] == 0
