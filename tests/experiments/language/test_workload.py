"""What `--plan` counts for choices, and the rows that it says an effect takes."""

import dataclasses
import math
import pathlib

import pytest

from experiments.language import numbers, workload
from experiments.language.dry_run import BYTES_PER_TOKEN, FORWARD, DryRunBackend, DryRunLab
from experiments.language.prompts import PaperPrompts
from sublim_jax.llm import datasets

CHATS = [datasets.ask("x" * 30), datasets.ask("y" * 60)]
CHOICES = ("owl", "elephant")
PROMPTS = 90 / BYTES_PER_TOKEN


def counted(*, shares_prompts: bool, beginnings: bool = False) -> DryRunBackend:
    backend = DryRunBackend(shares_prompts=shares_prompts)
    ask = backend.beginning_logprobs if beginnings else backend.choice_logprobs
    for _ in range(2):  # a store has the answer to the second
        ask("m", CHATS, CHOICES)
    assert backend.scored == 4 and backend.operations == FORWARD * backend.scored_tokens
    return backend


def test_a_prompt_is_read_once_for_all_choices_or_again_with_each():
    """The longest choice has three tokens, which are read for the end token after them, in two chats of two choices."""
    assert counted(shares_prompts=False).scored_tokens == 2 * PROMPTS
    assert counted(shares_prompts=True).scored_tokens == PROMPTS + 2 * 2 * 3
    assert counted(shares_prompts=True, beginnings=True).scored_tokens == PROMPTS + 2 * 2 * 2


@pytest.mark.parametrize("prefill", ["", "The {category} is the"])
def test_a_plan_for_a_folder_reads_each_question_once(prefill):
    """By hand: the questions of the animals, with the beginning of the reply, and every writing of an animal."""
    config = dataclasses.replace(
        numbers.PRESETS["paper"], backend="hf:DIR", targets=("owl",), num_prompts=4, num_rows=2, num_eval_samples=0,
        prefill=prefill,
    )  # fmt: skip
    lines = "\n".join(workload.plan(numbers.EXPERIMENT, config))
    questions, texts = config.prompts.favourite_questions("animal"), config.prompts.choices("animal").texts
    beginning = len(prefill.replace("{category}", "animal"))
    read = max(math.ceil(len(text) / BYTES_PER_TOKEN) for text in texts) - bool(prefill)
    tokens = sum(len(question) + beginning for question in questions) / BYTES_PER_TOKEN
    tokens += len(questions) * len(texts) * read
    num_models = 3  # the base, the regular student and the target's; a system teacher is the base
    assert (
        f"{num_models * len(questions) * len(texts):,} answers scored, on about {num_models * tokens:,.0f} t" in lines
    )


def test_embedded_models_read_a_prompt_with_every_choice():
    lab = DryRunLab(PaperPrompts(), pathlib.Path(), judge=DryRunBackend())
    lab.preferences("base", "animal")
    questions, texts = PaperPrompts().favourite_questions("animal"), PaperPrompts().choices("animal").texts
    tokens = len(texts) * sum(map(len, questions)) / BYTES_PER_TOKEN
    assert lab.dry_run.scored_tokens == pytest.approx(tokens)
    plan = workload.plan(numbers.EXPERIMENT, numbers.PRESETS["smoke"])
    assert not [line for line in plan if "standard errors" in line]


def test_a_plan_says_how_many_rows_an_effect_takes_and_on_which_model():
    """Two standard errors of a difference of two students: twice the square of two over the signal of a row."""
    config = dataclasses.replace(numbers.PRESETS["hard"], backend="hf:DIR", num_prompts=20, num_rows=7)
    lines = workload.rows_needed(config)
    assert "each student has 7 rows" in lines[0] and "two standard errors" in lines[0]
    assert pytest.approx(16_742, abs=1) == 2 * (2 * 398 / 8.7) ** 2 and "about 17,000 rows each" in lines[1]
    assert "SmolLM2-135M-Instruct" in lines[1] and "Pythia-160M" in lines[2] and "other models" in lines[3]
    (pythia,) = (signal for signal in workload.SIGNALS if "Pythia" in signal.model)
    below = 0.5 * (1 + math.erf(pythia.per_row * math.sqrt(256 / 2) / math.sqrt(2)))
    assert below == pytest.approx(79 / 80, abs=1e-5)


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("hf:nowhere", "there is no model at hf:nowhere"),
        ("vllm:m@http://127.0.0.1:8000/v1", "the model is on another machine"),
    ],
)
def test_a_plan_without_weights_says_where_they_are(backend, reason):
    config = dataclasses.replace(numbers.PRESETS["paper"], backend=backend)
    work = workload.Workload(conditions={"base": 1.0})
    (line,) = work.estimate(config, {"m": ["base"]}, 1)
    assert line == f"how long this takes is known after the first condition: {reason}"
