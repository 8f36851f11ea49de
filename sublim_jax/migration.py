"""Records of earlier schemas, brought to the present one as JSON: fields get their present names, no value changes.

Schema 2 added `description` and `provenance`. Schema 3 has the fields of `MemberConfig` inside `member` and under their
present names; results of the atlas are filed under hashes of those names, which are computed again.
"""

from typing import Any

from sublim_jax import files

PRESENT = 3
ADDED_IN_2 = {"description": {}, "provenance": None}
"""What schema 2 has beside schema 1, and its values in a record that began with schema 1."""

RENAMED_IN_3 = {
    "start": "init_sharing",
    "start.shared_weights": "init_sharing.shared_weight_probability",
    "start.noisy": "init_sharing.noise_scale",
    "start.across_gradient": "init_sharing.orthogonal_to_gradient",
    "spoiling": "target_corruption",
    "guidance": "feature_loss_weight",
    "fixed": "shared_streams",
    "measures": "metrics",
    "noise.law": "noise.distribution",
    "model.init_law": "model.init_distribution",
    "student_model.init_law": "student_model.init_distribution",
    "inputs.lattice": "inputs.perlin_cells",
    "inputs.keep_spread": "inputs.preserve_std",
    "inputs.real_share": "inputs.real_fraction",
    "matching.imitates": "matching.target",
}
"""Dotted names of a member's settings, before and since; what is inside a renamed setting moves with it."""

MEMBER_IN_2 = (
    "conditions",
    "model",
    "teacher",
    "student",
    "loss",
    "temperature",
    "num_noise_images",
    "noise",
    "matching",
)
"""Fields of a config of mnist_aux that schema 3 has inside `member`."""

IMPLIED_IN_2: dict[str, Any] = {
    "init_sharing": {
        "share": {"hidden": [1.0, 1.0], "class_head": 1.0, "aux_head": 1.0},
        "shared_weight_probability": None,
        "permute_neurons": False,
        "relative_noise": 0.0,
        "absolute_noise": 0.0,
        "noise_scale": {"hidden": [1.0, 1.0], "class_head": 1.0, "aux_head": 1.0},
        "orthogonal_to_gradient": False,
    },
    "inputs": {
        "perlin_cells": None,
        "blur": None,
        "blurred_spectrum": None,
        "mnist_spectrum": False,
        "preserve_std": False,
        "subspace_dims": None,
        "real_weight": None,
        "real_fraction": None,
        "real": "upright",
    },
    "noise_function": None,
    "teacher_loss": None,
    "teacher_labels": "true",
    "target_corruption": {"noise": None, "bits": None, "top_k": None},
    "student_init": None,
    "student_model": {
        "hidden_sizes": None,
        "activation": None,
        "init_distribution": None,
        "init_scale": None,
        "parametrization": None,
        "precision": None,
    },
    "trainable": {"hidden": None, "class_head": None, "aux_head": None},
    "feature_loss_weight": None,
    "num_generations": 1,
    "num_validation_images": 0,
    "shared_streams": [],
    "metrics": [],
}
"""Settings of a member that no config of mnist_aux could change in schema 2, and what they were."""

TEACHER_IN_2 = {
    "in_size": 784,
    "hidden_sizes": [256, 256],
    "num_classes": 10,
    "num_aux": 3,
    "activation": "relu",
    "init_law": "fan_in_normal",
    "init_scale": 1.0,
    "parametrization": "standard",
}
"""The paper's network, from which settings of the atlas differ by their changes."""


def upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a record's file in the present schema; that of a newer version stays as it is."""
    if content.get("schema") == 1:
        content = content | ADDED_IN_2 | {"schema": 2}
    if content.get("schema") == 2:
        change = _CHANGES.get(content.get("experiment", ""), lambda record: record)
        content = change(content) | {"schema": 3}
    return content


def name_in_3(name: str) -> str:
    """The present dotted name of a member's setting."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        renamed = RENAMED_IN_3.get(".".join(parts[:length]))
        if renamed is not None:
            return ".".join([renamed, *parts[length:]])
    return name


def changes_in_3(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes of the paper's settings, by dotted name, under their present names.

    A students' network was written out whole; now only what differs from the teacher's is. Factors of updates were one
    value; now each group of parameters has its own.
    """
    renamed: dict[str, Any] = {}
    teacher = {name: changes.get(f"model.{name}", value) for name, value in TEACHER_IN_2.items()}
    for name, value in changes.items():
        if name == "student_model":
            different = {key: own for key, own in value.items() if own != teacher.get(key)}
            renamed |= {name_in_3(f"student_model.{key}"): own for key, own in different.items()}
        elif name == "trainable":
            renamed |= {f"trainable.{key}": own for key, own in value.items()}
        else:
            renamed[name_in_3(name)] = _words(value) if name == "measures" else value
    return renamed


def _words(value: Any) -> Any:
    if isinstance(value, list):
        return [_words(word) for word in value]
    return {"movement": "update_cosine", "movement_cosine": "update_cosine"}.get(value, value)


def _nested(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of settings under their present names."""
    return {
        name_in_3(prefix + name).rpartition(".")[2]: _nested(value, f"{prefix}{name}.")
        if isinstance(value, dict)
        else value
        for name, value in settings.items()
    }


def _mnist_aux(record: dict[str, Any]) -> dict[str, Any]:
    config = record["config"]
    member = {name: config[name] for name in MEMBER_IN_2 if name in config}
    outer = {name: value for name, value in config.items() if name not in member}
    return record | {"config": outer | {"member": IMPLIED_IN_2 | _nested(member)}}


def _atlas(record: dict[str, Any]) -> dict[str, Any]:
    results = record["results"]
    arms = {label: _arm(arm) for label, arm in results.get("arms", {}).items()}
    return record | {
        "description": _described(record["description"]),
        "results": results | ({"arms": arms} if "arms" in results else {}),
    }


def _arm(arm: dict[str, Any]) -> dict[str, Any]:
    changes = changes_in_3(arm["changes"])
    named = {name: value for name, value in changes.items() if name not in ("conditions", "metrics")}
    members = {number: _member(member) for number, member in arm["members"].items()}
    return arm | {"setting": files.digest(named), "members": members, "changes": changes}


def _member(member: dict[str, Any]) -> dict[str, Any]:
    return {
        "metrics" if name == "measures" else name: {_words(key): by_condition for key, by_condition in value.items()}
        if name == "measures"
        else value
        for name, value in member.items()
    }


def _described(description: Any) -> Any:
    """A description with the present names of metrics in its arms."""
    if isinstance(description, list):
        return [_described(item) for item in description]
    if not isinstance(description, dict):
        return description
    return {
        "metrics" if name == "measures" else name: _words(value)
        if name in ("measures", "measure", "base_measure")
        else _described(value)
        for name, value in description.items()
    }


_CHANGES = {"mnist_aux": _mnist_aux, "atlas": _atlas, "atlas-rows": _atlas}
