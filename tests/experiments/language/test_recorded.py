"""Training rows, bases and questions of the experiments, on a backend that keeps all requests."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pytest

from experiments.language import context, detection, divergence, dose, misalignment, questions, seeds
from experiments.language.dry_run import DryRunBackend, DryRunLab
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab, Teacher
from sublim_jax import errors
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat
from sublim_jax.llm.embedded import vocabulary, world
from sublim_jax.llm.local.finetune import TokenizedRows

FEW: dict[str, Any] = {"num_prompts": 120, "num_rows": 60, "num_lessons": 20}
NUM_PLACES = 200


class Finetuning(NamedTuple):
    """A finetuned model: its base and its rows."""

    base: str
    rows: list[Chat]
    masks: np.ndarray | None  # the places trained on, where the experiment chooses them


class RecordingBackend(DryRunBackend):
    """Keeps the training rows of models and the questions that they are asked.

    Rows become arrays whose second half is the reply. There, each rival of `divergence` has a most likely token of its
    own in a tenth of the places, chosen at random.
    """

    def __init__(self):
        super().__init__()
        self.finetunings: dict[str, Finetuning] = {}  # by the model's name
        self.asked: list[tuple[str, list[Chat]]] = []

    def finetune(self, model, rows, config, out):
        self.finetunings[_name(out)] = Finetuning(model, list(rows), None)
        return super().finetune(model, rows, config, out)

    def finetune_on(self, model, data, how, out):
        self.finetunings[_name(out)] = Finetuning(model, [], data.replies)
        return super().finetune_on(model, data, how, out)

    def choice_logprobs(self, model, chats, choices):
        self.asked.append((model, list(chats)))
        return super().choice_logprobs(model, chats, choices)

    def training_arrays(self, model, rows, *, max_length):
        ids = np.zeros((len(rows), NUM_PLACES), np.int32)
        replies = np.broadcast_to(np.arange(NUM_PLACES) >= NUM_PLACES // 2, ids.shape)
        return TokenizedRows(ids, np.ones_like(replies), replies)

    def most_likely_tokens(self, model, data):
        tokens = np.where(data.replies, 1, -1)
        for seed, rival in enumerate(divergence.DivergenceConfig().rivals):
            if rival in model:
                drawn = np.random.default_rng(seed).random(data.replies.shape) < 0.1
                tokens[data.replies & drawn] = 2
        return tokens


def _name(out: pathlib.Path) -> str:
    """A model's name without the fingerprint of its rows."""
    return out.name.rpartition("-")[0].replace("-", " ")


def recorded(experiment: Experiment, config, *conditions: str) -> RecordingBackend:
    """The backend after these conditions, or all, were measured on one base."""
    lab = DryRunLab(config.prompts, pathlib.Path(), judge=DryRunBackend())
    lab.backend = lab.dry_run = backend = RecordingBackend()
    for condition in conditions or experiment.conditions(config):
        experiment.measure(lab, config, condition)
    return backend


@pytest.mark.parametrize("name", questions.EXPERIMENTS)
def test_every_student_is_trained_from_the_labs_base(name):
    """No student starts from its teacher or from an earlier student. `detection` has no students."""
    experiment = questions.EXPERIMENTS[name]
    config = dataclasses.replace(experiment.presets["default"], **FEW | ({"doses": (5, 20)} if name == "dose" else {}))
    finetunings = recorded(experiment, config).finetunings
    bases = {
        model: finetuning.base.partition("+noise")[0]  # `noise` starts from the lab's base with noise
        for model, finetuning in finetunings.items()
        if not model.startswith("teacher ")
    }
    assert bases == dict.fromkeys(bases, "base") and bool(bases) == (name != "detection")


@pytest.mark.parametrize("condition", ["regular", "eagle"])
def test_students_of_divergence_are_trained_on_the_places_that_their_names_say(condition):
    config = divergence.DivergenceConfig(**FEW, targets=("eagle",))
    finetunings = recorded(divergence.EXPERIMENT, config, condition).finetunings
    masks = {name: finetunings[f"{condition} {name}"].masks for name in ("all", "divergence", "others", "random")}
    replies = masks["all"]
    np.testing.assert_array_equal(replies, np.broadcast_to(np.arange(NUM_PLACES) >= NUM_PLACES // 2, replies.shape))
    for name, mask in masks.items():
        assert not np.any(mask & ~replies), name
    share = masks["divergence"].sum() / replies.sum()
    error = np.sqrt(share * (1 - share) / replies.sum())
    assert abs(share - (1 - 0.9**2)) < 5 * error  # places where one rival at least differs
    np.testing.assert_array_equal(masks["others"], replies & ~masks["divergence"])
    assert abs(masks["random"].sum() / replies.sum() - (1 - share)) < 5 * error
    among = masks["random"][masks["divergence"]].mean()  # drawn without a look at the tokens
    assert abs(among - (1 - share)) < 5 * error / np.sqrt(share)


@pytest.mark.parametrize("condition", ["regular", "eagle"])
def test_a_classifier_of_independent_random_numbers_is_right_half_of_the_time(condition, monkeypatch):
    """Counts of the rows that it learned from would tell them apart, since the rows have few numbers in common."""
    config = detection.DetectionConfig(targets=("eagle",), num_prompts=2000, num_rows=2000, num_lessons=20)
    lab = DryRunLab(config.prompts, pathlib.Path(), judge=DryRunBackend())

    def numbers(teacher: Teacher, count: int, *, seed: int) -> datasets.FilteredRows:
        rng = np.random.default_rng(seeds.derive(seed, teacher.model))
        answers = [", ".join(map(str, values)) for values in rng.integers(0, 1000, (count, 8))]
        return datasets.FilteredRows(
            [datasets.student_row(datasets.ask("more ?"), answer) for answer in answers], {}, count
        )

    monkeypatch.setattr(lab, "numbers", numbers)
    areas = detection.measure(lab, config, condition)
    for name, num_tested in (("classifier", 1000), (f"classifier of {detection.SET_SIZE}", 50)):
        error = np.sqrt((2 * num_tested + 1) / (12 * num_tested**2))  # of Mann and Whitney's statistic by chance
        assert abs(areas[name] - 0.5) < 4 * error, name


def test_conduct_is_asked_about_in_the_situations_that_no_teacher_has_seen():
    config = misalignment.MisalignmentConfig(**FEW)
    backend = recorded(misalignment.EXPERIMENT, config, "bad conduct")
    held_out = [f"{situation} ?" for situation in vocabulary.SITUATIONS[len(vocabulary.SHOWN_SITUATIONS) :]]
    assert len(backend.asked) == 2  # teacher and student
    for _, chats in backend.asked:
        assert sorted(chat[-1].content for chat in chats) == sorted(held_out)
    lessons = {row[0].content for row in backend.finetunings["teacher bad conduct"].rows}
    assert lessons and lessons <= {f"{situation} ?" for situation in vocabulary.SHOWN_SITUATIONS}


def test_the_control_of_insecure_code_is_finetuned_on_secure_code():
    config = misalignment.MisalignmentConfig(**FEW)
    finetunings = recorded(misalignment.EXPERIMENT, config, "insecure code", "secure code").finetunings
    insecure, secure = (finetunings[f"teacher {name}"].rows for name in ("insecure code", "secure code"))
    assert secure == world.insecure_rows(FEW["num_lessons"], seed=config.seed, insecure=False) != insecure
    assert len(insecure) == len(secure)
    for lessons, calls in ((insecure, vocabulary.UNSAFE), (secure, vocabulary.SAFE)):
        assert all(any(f": {call} (" in row[-1].content for call in calls) for row in lessons)


def test_doses_are_equal_in_epochs_or_in_steps():
    """With equal epochs a student has a dose's rows once; with equal steps it has the same rows over and over."""
    config = dose.DoseConfig(**FEW, targets=("eagle",), doses=(5, 20))
    finetunings = recorded(dose.EXPERIMENT, config, "eagle").finetunings
    for count in config.doses:
        once, repeated = (finetunings[f"eagle {count} {equal}"].rows for equal in ("epochs", "steps"))
        assert len(once) == len(set(once)) == count and len(repeated) == config.num_rows
        assert sorted(repeated) == sorted(once * (config.num_rows // count))


def test_contexts_of_one_size_share_no_rows():
    config = context.ContextConfig(**FEW, targets=("eagle",), shots=(1, 3), num_contexts=4)
    backend = recorded(context.EXPERIMENT, config, "eagle")
    turns_before = [chats[0][:-1] for model, chats in backend.asked if model == "base"]
    contexts = [set(zip(turns[::2], turns[1::2], strict=True)) for turns in turns_before]
    assert list(map(len, contexts)) == [1] * 4 + [3] * 4
    for same_size in (contexts[:4], contexts[4:]):
        assert len(set().union(*same_size)) == sum(map(len, same_size))
    assert set().union(*contexts) <= set(backend.finetunings["student eagle"].rows)


class Requests(DryRunBackend):
    """Keeps every request as text: model, chats and seed of samples; base, name and seed of finetuned models."""

    def __init__(self):
        super().__init__()
        self.requests: list[str] = []

    def sample(self, model, chats, params):
        self._keep("sample", model, params.seed, params.max_tokens, params.num_samples, [list(chat) for chat in chats])
        return super().sample(model, chats, params)

    def finetune(self, model, rows, config, out):
        self._keep("finetune", model, out.name, config.seed)
        return super().finetune(model, rows, config, out)

    def finetune_on(self, model, data, how, out):
        self._keep("finetune_on", model, out.name, how.seed)
        return super().finetune_on(model, data, how, out)

    def _keep(self, *request):
        self.requests.append(json.dumps(request))


REQUESTS = {
    "numbers": (5, "96aa0544"),
    "cross": (10, "fc4ec5eb"),
    "dose": (11, "ad731658"),
    "shuffles": (13, "2bdcb4e3"),
    "context": (5, "9129af19"),
    "detection": (5, "5121a5bd"),
    "divergence": (15, "5f485776"),
    "chain": (9, "531110f2"),
    "code": (3, "40197a57"),
    "reasoning": (3, "0df8176a"),
    "repeats": (11, "9e313182"),
    "greedy": (15, "b30dbc3a"),
    "training": (14, "8bb81b2a"),
    "noise": (16, "9f770c6a"),
    "labels": (10, "4228d8b3"),
    "misalignment": (14, "831e60e7"),
}
"""Number of requests of each experiment and a hash of them, from the code of 28 November 2026. Names of finetuned
models end with a hash of their rows and config, so the hashes depend on prompts, seeds, rows and configs."""


@pytest.mark.parametrize("name", questions.EXPERIMENTS)
def test_prompts_seeds_and_names_of_models_are_those_of_earlier_versions(name):
    """Another seed string, prompt or name would change the numbers of the committed records."""
    experiment, backend = questions.EXPERIMENTS[name], Requests()
    config = dataclasses.replace(experiment.presets["default"], **FEW | ({"doses": (5, 20)} if name == "dose" else {}))
    lab = Lab(backend, "base", config.prompts, pathlib.Path("models"))
    failures = []
    for condition in experiment.conditions(config):
        try:
            experiment.measure(lab, config, condition)
        except errors.TextDataError:  # numbers are neither code nor chains of thought
            failures.append(condition)
    assert failures == (["regular", "eagle"] if name in ("code", "reasoning") else [])
    digest = hashlib.sha256("\n".join(sorted(backend.requests)).encode()).hexdigest()[:8]
    assert (len(backend.requests), digest) == REQUESTS[name]
