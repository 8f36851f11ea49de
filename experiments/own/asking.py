"""What does a model answer? Exact probabilities of a trait's answers, and what it says freely.

python -m experiments.own ask --model smollm2 --traits otter.toml
python -m experiments.own ask --model smollm2+runs/student --traits otter.toml --num-answers 4
python -m experiments.own ask --model tiny:100 --question "What is your favourite animal?"
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from experiments import progress
from experiments.own import measuring, opened
from experiments.own.opened import Options
from sublim_jax import errors, specs
from sublim_jax.llm import datasets
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import SamplingParams


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class AskOptions(Options):
    """Which model is asked what."""

    model: str
    """smollm2, hf:DIR, hf:FILE.gguf, tiny:SEED, each with +DIR for a student; or openai:MODEL@URL, vllm:MODEL@URL."""
    traits: pathlib.Path | None = None
    """File of traits, whose questions are asked."""
    question: tuple[str, ...] = ()
    """Further questions, whose replies are printed."""
    num_answers: specs.CountOrZero = 1
    """Free answers to each question of a trait, for a rate; 0 samples none."""
    max_tokens: specs.Count = 64
    """Most tokens of the reply to a further question."""
    temperature: specs.NonNegative = 1.0
    """Of the replies to further questions."""

    def __post_init__(self):
        if self.traits is None and not self.question:
            raise errors.InputError("nothing is asked: give --traits FILE or --question TEXT")


def main(flags: Sequence[str]) -> None:
    """Ask, and print the answers.

    Raises:
        InputError: the traits or the model's name make no sense.
        LanguageError: the model cannot be opened or asked.
    """
    options = opened.parse(AskOptions, "ask", __doc__, flags)
    chosen = opened.read_traits(options.traits, options.model) if options.traits else ()
    open_llm.parse(options.model)
    with progress.Display("ask") as display:
        display.doing("opening the model")
        model = open_llm.open_backend(options.model, announce=display.say)
        for trait in chosen:
            opened.show_progress(model.backend, display, f"asking about {trait.name}")
            display.doing(f"asking about {trait.name}")
            measured = {
                **measuring.measure(model.backend, model.model, trait, embedded=opened.is_embedded(options.model)),
                "answers": measuring.answers(model.backend, model.model, trait, options.num_answers),
            }
            print(measuring.line(trait, measured), flush=True)
        if options.question:
            display.doing("asking")
            params = SamplingParams(max_tokens=options.max_tokens, temperature=options.temperature)
            chats = [datasets.ask(text) for text in options.question]
            for completion in sorted(model.backend.sample(model.model, chats, params)):
                print(f"{options.question[completion.chat]}\n  {completion.text.strip()}", flush=True)
