"""Names of schema 2 become those of schema 3, the hashes of settings with them, and no value changes."""

import json

import pytest

from experiments import mnist_aux
from experiments.atlas import settings
from figures import values
from sublim_jax import files, migration, records
from sublim_jax.forms import mnist_aux as form
from sublim_jax.models import init_sharing
from sublim_jax.training.config import MemberConfig, UpdateScale

ZEROS = init_sharing.ParamGroups(hidden=(0.0, 0.5), class_head=0.25, aux_head=0.75)
TEACHER = {  # a students' network was written out, its precision left out where it is the machine's choice
    "in_size": 784,
    "hidden_sizes": [256, 256],
    "num_classes": 10,
    "num_aux": 3,
    "activation": "relu",
    "init_law": "fan_in_normal",
    "init_scale": 1.0,
    "parametrization": "standard",
}
ARMS = [  # changes as schema 2 has them, and the same changes today
    ({"start.shared_weights": 0.5}, {"init_sharing.shared_weight_probability": 0.5}),
    (
        {"start.share.hidden": [0.0, 0.5], "start.share.class_head": 0.25, "start.share.aux_head": 0.75},
        {"init_sharing.share": ZEROS},
    ),
    (
        {"start.noisy.hidden": [0.0, 0.5], "start.noisy.class_head": 0.25, "start.noisy.aux_head": 0.75},
        {"init_sharing.noise_scale": ZEROS},
    ),
    (
        {"start.relative_noise": 0.5, "start.across_gradient": True, "start.permute_neurons": True},
        {
            "init_sharing.relative_noise": 0.5,
            "init_sharing.orthogonal_to_gradient": True,
            "init_sharing.permute_neurons": True,
        },
    ),
    ({"spoiling.bits": 4, "spoiling.noise": 0.5}, {"target_corruption.bits": 4, "target_corruption.noise": 0.5}),
    ({"guidance": 0.1}, {"feature_loss_weight": 0.1}),
    ({"fixed": ["reference"]}, {"shared_streams": ("reference",)}),
    ({"noise.law": "gaussian", "noise.amplitude": 0.5}, {"noise.distribution": "gaussian", "noise.amplitude": 0.5}),
    ({"model.init_law": "he_normal", "model.num_aux": 7}, {"model.init_distribution": "he_normal", "model.num_aux": 7}),
    ({"inputs.lattice": 4, "inputs.keep_spread": True}, {"inputs.perlin_cells": 4, "inputs.preserve_std": True}),
    ({"inputs.real_share": 0.5}, {"inputs.real_fraction": 0.5}),
    ({"matching.imitates": "teacher"}, {"matching.target": "teacher"}),
    (
        {"trainable": {"hidden": [0.0, 1.0], "class_head": 1.0, "aux_head": 0.5}},
        {"trainable": UpdateScale(hidden=(0.0, 1.0), class_head=1.0, aux_head=0.5)},
    ),
    (
        {"student_model": TEACHER | {"hidden_sizes": [8], "init_law": "torch_uniform"}},
        {"student_model.hidden_sizes": (8,), "student_model.init_distribution": "torch_uniform"},
    ),
    (  # what students share with a teacher of another shape is none of their own
        {"model.num_aux": 7, "student_model": TEACHER | {"num_aux": 7, "activation": "tanh"}},
        {"model.num_aux": 7, "student_model.activation": "tanh"},
    ),
    (
        {"student.num_epochs": 7, "loss": "mse", "data.num_classes": 4},
        {"student.num_epochs": 7, "loss": "mse", "data.num_classes": 4},
    ),
]


def atlas(changes, members=None):
    arm = {"setting": files.digest(changes), "seconds": 1.5, "members": members or {}, "changes": changes}
    published = [{"measure": "movement_cosine", "value": 0.5}]
    arms = [{"label": "one", "measures": ["movement"], "published": published}]
    return {
        "experiment": "atlas",
        "schema": 2,
        "description": {"id": "row", "arms": arms, "question": "measures of movement"},
        "results": {"arms": {"one": arm}},
    }


@pytest.mark.parametrize(("old", "new"), ARMS, ids=[", ".join(old) for old, _ in ARMS])
def test_a_setting_is_filed_under_its_present_hash(old, new):
    """Against the code that computes the hash of a setting today."""
    setting = settings.with_changes(settings.BASE, new)
    arm = migration.upgraded(atlas(old))["results"]["arms"]["one"]
    assert arm["setting"] == settings.fingerprint(setting)
    assert arm["changes"] == json.loads(json.dumps(settings.diff_from_base(setting)))
    assert arm["seconds"] == 1.5


def test_conditions_and_metrics_are_no_part_of_the_hash():
    old = {"conditions": ["student_all"], "measures": ["movement", "epochs"], "temperature": 2.0}
    arm = migration.upgraded(atlas(old))["results"]["arms"]["one"]
    assert arm["setting"] == files.digest({"temperature": 2.0})
    assert arm["changes"] == {
        "conditions": ["student_all"],
        "metrics": ["update_cosine", "epochs"],
        "temperature": 2.0,
    }


def test_metrics_of_members_and_descriptions_have_their_present_names_and_prose_stays():
    member = {"accuracy": {"student_aux": 0.5}, "measures": {"movement_cosine": {"student_aux": 0.25}, "cka": {}}}
    record = migration.upgraded(atlas({}, {"0": member}))
    assert record["schema"] == migration.PRESENT == records.SCHEMA_VERSION
    assert record["results"]["arms"]["one"]["members"]["0"] == {
        "accuracy": {"student_aux": 0.5},
        "metrics": {"update_cosine": {"student_aux": 0.25}, "cka": {}},
    }
    (arm,) = record["description"]["arms"]
    assert arm["metrics"] == ["update_cosine"] and arm["published"] == [{"measure": "update_cosine", "value": 0.5}]
    assert record["description"]["question"] == "measures of movement"


def test_the_config_of_a_member_has_a_place_of_its_own():
    old = {
        "seed": 3, "num_members": 2, "conditions": ["student_aux"], "loss": "kl", "members_at_once": None,
        "model": {"num_aux": 3, "init_law": "he_normal"}, "noise": {"law": "uniform", "bits": 8},
        "matching": {"imitates": "teacher", "phase": {"num_epochs": 1}},
    }  # fmt: skip
    record = migration.upgraded({"experiment": "mnist_aux", "schema": 2, "config": old})
    assert record["config"] == {
        "seed": 3, "num_members": 2, "members_at_once": None,
        "member": migration.IMPLIED_IN_2 | {
            "conditions": ["student_aux"], "model": {"num_aux": 3, "init_distribution": "he_normal"}, "loss": "kl",
            "noise": {"distribution": "uniform", "bits": 8},
            "matching": {"target": "teacher", "phase": {"num_epochs": 1}},
        },
    }  # fmt: skip


def test_settings_that_schema_2_could_not_change_have_their_defaults_and_those_are_todays():
    today = records.to_json(MemberConfig())
    assert {name: today[name] for name in migration.IMPLIED_IN_2} == migration.IMPLIED_IN_2
    assert today.keys() == {*migration.IMPLIED_IN_2, *migration.MEMBER_IN_2}


def test_the_committed_record_has_the_config_of_todays_command():
    record = records.read(values.RECORDS / "mnist_aux.json", form.FORM)
    today, there = (
        records.flatten(config) for config in (records.to_json(mnist_aux.PRESETS["default"]), record.config)
    )
    machine = {"num_members", "member.model.precision"}
    assert {name for name in today | there if there.get(name) != today.get(name)} <= machine


@pytest.mark.parametrize("content", [{"schema": 99, "experiment": "atlas"}, {"schema": 3, "experiment": "atlas"}])
def test_the_present_schema_and_newer_ones_stay_as_they_are(content):
    assert migration.upgraded(content) == content


def test_other_experiments_keep_everything():
    content = {"schema": 2, "experiment": "theorem", "config": {"start": 1, "measures": ["movement"]}, "results": {}}
    assert migration.upgraded(content) == content | {"schema": 3}
