"""What else a member's models are measured by, beside their test accuracy."""

import optax

from sublim_jax import conditions
from sublim_jax.metrics import alignment, representation
from sublim_jax.models import network
from sublim_jax.training import evaluate
from sublim_jax.training.config import MemberConfig
from sublim_jax.training.state import Data


def teacher_inputs(data: Data, spec: MemberConfig):
    """The training inputs without those kept for validation."""
    return data.train_inputs[: len(data.train_inputs) - spec.num_validation_images]


def measure(models, specs_of, starts, data: Data, named: Data, spec: MemberConfig) -> dict:
    """What the spec asks for. `named` are the data with their labels as the teacher calls them."""
    metrics = {}
    if spec.num_validation_images:
        metrics["validation_accuracy"] = {
            name: validation_accuracy(params, named, spec, specs_of[name]) for name, params in models.items()
        }
    if spec.teacher_labels != "true":
        metrics["true_label_accuracy"] = {
            name: evaluate.test_accuracy(params, data.test_inputs, data.test_labels, model=specs_of[name])
            for name, params in models.items()
        }
    if "update_cosine" in spec.metrics and not spec.students_differ:
        towards = optax.tree.sub(models["teacher"], models["reference"])
        metrics["update_cosine"] = {
            condition: alignment.cosine(
                optax.tree.sub(models[condition], starts[conditions.start_of(condition)]), towards
            )
            for condition in spec.conditions
        }
    if "representation" in spec.metrics:
        features = {
            name: [evaluate.hidden_features(params, block, model=specs_of[name]) for block in (data[0], data[2])]
            for name, params in models.items()
        }
        metrics["hidden_cosine"] = {
            name: representation.mean_cosine(test, features["teacher"][1])
            for name, (_, test) in features.items()
            if test.shape == features["teacher"][1].shape
        }
        metrics["cka"] = {
            name: representation.linear_cka(test, features["teacher"][1]) for name, (_, test) in features.items()
        }
        metrics["probe_accuracy"] = {
            name: representation.ridge_probe_accuracy(
                train, named.train_labels, test, named.test_labels, num_classes=spec.model.num_classes
            )
            for name, (train, test) in features.items()
        }
    return metrics


def validation_accuracy(params, named: Data, spec: MemberConfig, model: network.Model):
    """On the training inputs that the teacher was not shown, by the names it gives them."""
    held_out = slice(len(named.train_inputs) - spec.num_validation_images, None)
    return evaluate.test_accuracy(params, named.train_inputs[held_out], named.train_labels[held_out], model=model)
