"""Flags become configs, and what a user can mend becomes one line."""

import io
import pathlib
import sys

import pytest
from rich.console import Console
from rich.table import Table

from experiments import cli, mnist_aux, progress
from sublim_jax import compilation, errors, records
from sublim_jax.models import conv, matmul
from sublim_jax.training.config import UpdateScale
from tests.experiments import small


def parse(*arguments, **options):
    presets, kind = mnist_aux.PRESETS, cli.DistributedOptions
    return cli.parse("mnist_aux", "What it does.", presets, list(arguments), kind=kind, **options)


def test_no_flags_mean_the_default():
    config, options = parse()
    assert config == mnist_aux.PRESETS["default"]
    assert options == cli.DistributedOptions(record=pathlib.Path("runs/mnist_aux-default.json"))


@pytest.mark.parametrize("preset", mnist_aux.PRESETS)
def test_a_preset_is_a_config_and_names_its_record(preset):
    for arguments in (("--preset", preset), (f"--preset={preset}",)):
        config, options = parse(*arguments)
        assert config == mnist_aux.PRESETS[preset]
        assert options.preset == preset and options.record == pathlib.Path(f"runs/mnist_aux-{preset}.json")


def test_a_flag_changes_its_setting_and_no_other():
    assert parse(*small.FLAGS)[0] == small.CONFIG
    config, _ = parse("--preset", "smoke", "--seed", "7")
    assert config == small.replaced(mnist_aux.PRESETS["smoke"], seed=7)


def test_the_flags_of_a_model_are_those_of_the_presets_network():
    flags = ("--model.downsampling", "stride", "--model.channels", "4", "8", "--trainable.aux-head", "0")
    config, _ = parse("--preset", "lenet", *flags)
    model = conv.ConvSpec(channels=(4, 8), downsampling="stride", num_aux=10, precision=matmul.fastest_precision())
    trainable = UpdateScale(aux_head=0.0)
    assert config == small.replaced(mnist_aux.PRESETS["lenet"], model=model, trainable=trainable)


GROUPS = {"hidden": (0.5, 0.25, 0.0), "class-head": 0.75, "aux-head": 0.125}
EVERY_KNOB = {  # one value for each setting, none of them the default
    "seed": 3,
    "num-members": 4,
    "dataset": "kmnist",
    "num-train-images": 500,
    "members-at-once": 2,
    "conditions": ("student_all", "matched_class"),
    "model.in-size": 100,
    "model.hidden-sizes": (5, 6, 7),
    "model.num-classes": 11,
    "model.num-aux": 4,
    "model.activation": "tanh",
    "model.init-distribution": "he_normal",
    "model.init-scale": 0.5,
    "model.parametrization": "ntk",
    "model.precision": "float32" if matmul.fastest_precision() == "bfloat16" else "bfloat16",
    "loss": "reverse_kl",
    "temperature": 2.5,
    "num-noise-images": 77,
    "noise.distribution": "gaussian",
    "noise.amplitude": 0.25,
    "noise.bits": 32,
    "inputs.perlin-cells": 4,
    "inputs.blur": 1.5,
    "inputs.blurred-spectrum": 2.5,
    "inputs.mnist-spectrum": True,
    "inputs.preserve-std": True,
    "inputs.subspace-dims": 12.0,
    "inputs.real-weight": 0.25,
    "inputs.real-fraction": 0.5,
    "inputs.real": "one_shuffle",
    "matching.target": "teacher",
    "matching.num-images": 9,
    "teacher-labels": "permuted",
    "target-corruption.noise": 0.5,
    "target-corruption.bits": 4,
    "init-sharing.shared-weight-probability": 0.5,
    "init-sharing.permute-neurons": True,
    "init-sharing.relative-noise": 0.5,
    "init-sharing.absolute-noise": 0.25,
    "init-sharing.orthogonal-to-gradient": True,
    **{f"init-sharing.share.{name}": value for name, value in GROUPS.items()},
    **{f"init-sharing.noise-scale.{name}": value for name, value in GROUPS.items()},
    **{f"trainable.{name}": value for name, value in GROUPS.items()},
    "student-model.hidden-sizes": (8, 9),
    "student-model.activation": "gelu",
    "student-model.init-distribution": "torch_uniform",
    "student-model.init-scale": 2.0,
    "student-model.parametrization": "standard",
    "student-model.precision": "float32",
    "feature-loss-weight": 0.5,
    "num-generations": 2,
    "num-validation-images": 50,
    "shared-streams": ("student/noise", "reference"),
    "metrics": ("update_cosine", "epochs"),
}
for phase in ("teacher", "student", "matching.phase"):
    EVERY_KNOB |= {f"{phase}.num-epochs": 9, f"{phase}.batch-size": 12}
    EVERY_KNOB |= {f"{phase}.optimizer.name": "rmsprop", f"{phase}.optimizer.learning-rate": 0.5}
    EVERY_KNOB |= {f"{phase}.optimizer.{name}": 0.125 for name in ("b1", "b2", "eps", "momentum", "weight-decay")}
ONLY_WITH_KL = {"target-corruption.top-k": 2}
NO_FLAGS = {"noise_function", "teacher_loss", "student_init"}
"""Functions."""


def flags_of(knobs):
    for name, value in knobs.items():
        yield f"--{name}"
        if value is not True:
            yield from map(str, value if isinstance(value, tuple) else (value,))


@pytest.mark.parametrize("knobs", [EVERY_KNOB, ONLY_WITH_KL], ids=["all", "with kl"])
def test_a_flag_sets_what_it_is_called(knobs):
    config, default = (
        {name.removeprefix("member."): value for name, value in records.flatten(records.to_json(each)).items()}
        for each in (parse(*flags_of(knobs))[0], mnist_aux.PRESETS["default"])
    )
    expected = {
        name.replace("-", "_"): list(value) if isinstance(value, tuple) else value for name, value in knobs.items()
    }
    assert {name: value for name, value in config.items() if value != default[name]} == expected


def test_every_setting_has_a_flag():
    settings = records.flatten(records.to_json(mnist_aux.PRESETS["default"]))
    named = {name.replace("-", "_") for name in (*EVERY_KNOB, *ONLY_WITH_KL)}
    assert {name.removeprefix("member.") for name in settings} == named | NO_FLAGS


NO_EFFECT = [  # flags, and the setting that has no effect beside the others
    (("--student.optimizer.name", "sgd", "--student.optimizer.b1", "0.5"), "--student.optimizer.b1"),
    (("--teacher.optimizer.momentum", "0.5"), "--teacher.optimizer.momentum"),
    (("--conditions", "student_aux", "--matching.phase.num-epochs", "3"), "--matching.phase.num-epochs"),
    (("--conditions", "cross_model_aux", "--init-sharing.share.aux-head", "0"), "--init-sharing.share.aux-head"),
    (("--init-sharing.orthogonal-to-gradient",), "--init-sharing.orthogonal-to-gradient"),
    (("--init-sharing.noise-scale.hidden", "0"), "--init-sharing.noise-scale.hidden"),
    (("--noise.distribution", "bernoulli", "--noise.bits", "32"), "--noise.bits"),
    (("--inputs.real", "one_shuffle"), "--inputs.real"),
    (("--inputs.preserve-std",), "--inputs.preserve-std"),
    (("--metrics", "update_cosine", "--student-model.hidden-sizes", "9"), "--metrics"),
]


@pytest.mark.parametrize(("arguments", "named"), NO_EFFECT, ids=[named for _, named in NO_EFFECT])
def test_a_flag_without_effect_is_refused_by_name_and_with_it_the_run(arguments, named):
    with pytest.raises(errors.InputError, match=f"^{named} has no effect: .*Leave it out$"):
        parse(*arguments, without_effect=mnist_aux.without_effect)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--preset", "smoke", "--conditions", "student_aux"),  # the preset's settings of matching are nobody's flags
        ("--student.optimizer.name", "sgd", "--student.optimizer.momentum", "0.9"),
        ("--init-sharing.relative-noise", "0.1", "--init-sharing.orthogonal-to-gradient"),
        ("--inputs.real-fraction", "0.5", "--inputs.real", "one_shuffle"),
        ("--inputs.blur", "1", "--inputs.preserve-std"),
        ("--metrics", "update_cosine"),
        ("--noise.bits", "32"),
    ],
    ids=" ".join,
)
def test_flags_that_have_an_effect_are_not(arguments):
    parse(*arguments, without_effect=mnist_aux.without_effect)


def test_options_are_flags_too():
    _, options = parse(
        *("--record", "a/b.json", "--resume", "--data-dir", "digits", "--no-figure"),
        *("--coordinator", "localhost:1234", "--num-processes", "2", "--process-id", "1"),
    )
    assert options == cli.DistributedOptions(
        record=pathlib.Path("a/b.json"),
        resume=True,
        data_dir=pathlib.Path("digits"),
        figure=False,
        coordinator="localhost:1234",
        num_processes=2,
        process_id=1,
    )


def test_help_explains_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "What it does." in shown and "Presets: default, smoke, paper, lenet, residual." in shown
    assert not [name for name in EVERY_KNOB if f"--{name}" not in shown]
    for option in ("preset", "record", "resume", "data-dir", "figure", "coordinator", "num-processes", "process-id"):
        assert f"--{option}" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("--preset", "fastest"),
        ("--num-member", "3"),
        ("--num-members", "three"),
        ("--loss", "l1"),
        ("--conditions", "student_ghost"),
    ],
)
def test_flags_that_do_not_exist_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert arguments[-1] in output.err + output.out or arguments[0] in output.err + output.out


RATE = "OptimizerSpec.learning_rate: expected a finite number"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--teacher.optimizer.learning-rate", "nan"),
            f"{RATE}, got nan",
        ),
        (
            ("--student.optimizer.learning-rate", "inf"),
            f"{RATE}, got inf",
        ),
        (("--matching.phase.optimizer.eps", "-1"), "OptimizerSpec.eps: must be greater than 0, got -1.0"),
        (("--teacher.optimizer.weight-decay", "nan"), "OptimizerSpec.weight_decay: expected a finite number, got nan"),
        (("--temperature", "nan"), "MemberConfig.temperature: expected a finite number, got nan"),
        (("--noise.amplitude", "nan"), "NoiseSpec.amplitude: expected a finite number, got nan"),
        (("--model.init-scale", "nan"), "MLPSpec.init_scale: expected a finite number, got nan"),
        (("--matching.num-images", "-5"), "Matching.num_images: must be at least 1, got -5"),
        (("--num-train-images", "0"), "MnistAuxConfig.num_train_images: must be at least 1, got 0"),
        (("--model.hidden-sizes", "8", "0"), "MLPSpec.hidden_sizes[1]: must be at least 1, got 0"),
        (("--seed", "-1"), "MnistAuxConfig.seed: must be at least 0, got -1"),
        (("--process-id", "-1"), "DistributedOptions.process_id: must be at least 0, got -1"),
        (
            ("--coordinator", "localhost:1", "--process-id", "2", "--num-processes", "2"),
            "process_id=2 of num_processes=2: expected 0 to 1",
        ),
        (("--num-processes", "2"), "num_processes=2 has no effect without a coordinator"),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_the_name_of_its_setting(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(lambda: parse(*arguments))
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert message in " ".join((output.err + output.out).replace("│", " ").split())
    assert "Traceback" not in output.err


@pytest.mark.parametrize(
    ("mishap", "code", "line"),
    [
        (errors.InputError("num_aux=1: too few"), 2, "error: num_aux=1: too few\n"),
        (errors.RecordError("there is none"), 2, "error: there is none\n"),
        (errors.ChecksumError("wrong file"), 2, "error: wrong file\n"),
        (KeyboardInterrupt(), 130, "interrupted; what was finished is in the record: go on with --resume\n"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_an_exit_code(mishap, code, line, capsys):
    def run():
        raise mishap

    with pytest.raises(SystemExit) as caught:
        cli.main(run)
    assert caught.value.code == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("kind", [TypeError, ValueError, KeyError, OSError, UnicodeError])
def test_what_only_we_can_mend_keeps_its_traceback(kind):
    def run():
        raise kind("a bug")

    with pytest.raises(kind, match="a bug"):
        cli.main(run)


def test_what_a_terminal_cannot_show_does_not_end_a_run(monkeypatch):
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)

    def run():
        table = Table(title="0.5 ± 0.1")
        table.add_column("größer")
        table.add_row("→")
        print("figure: größer → 0.5 ± 0.1")
        Console().print(table)
        progress.console.print("note: größer")
        raise errors.InputError("größer")

    with pytest.raises(SystemExit) as caught:
        cli.main(run)
    assert caught.value.code == 2
    shown = {}
    for name, stream in streams.items():
        stream.flush()
        shown[name] = stream.buffer.getvalue().decode("ascii")
    assert shown["stdout"].startswith("figure: gr??er ? 0.5 ? 0.1\n") and "gr??er" in shown["stdout"].partition("\n")[2]
    assert shown["stderr"] == "note: gr??er\nerror: gr??er\n"


@pytest.mark.parametrize(
    ("flags", "default", "use"),
    [
        ([], True, True),
        (["--no-compilation-cache"], True, False),
        ([], False, False),
        (["--compilation-cache"], False, True),
    ],
)
def test_programs_are_kept_for_the_next_run_unless_told_otherwise(monkeypatch, flags, default, use):
    calls = []
    monkeypatch.setattr(compilation, "use_cache", lambda: calls.append(True))
    monkeypatch.setattr(compilation, "without_cache", lambda: calls.append(False))
    _, options = cli.parse("mnist_aux", "", mnist_aux.PRESETS, flags, compilation_cache=default)
    assert calls == [use] == [options.compilation_cache]
