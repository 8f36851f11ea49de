"""A lab that plans: it counts what an experiment asks for, and asks nobody."""

import pathlib
from collections.abc import Callable, Sequence

from experiments.language import materials as sheets
from experiments.language.dry_run import DryRunBackend
from experiments.language.lab import RATE_TOKENS, Lab, Prompt, Teacher
from sublim_jax.llm import datasets
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import Completion, SamplingParams


class PlannedLab(Lab):
    """A lab that counts what it would ask a backend for and draws a few prompts only, in the place of all.

    Every completion passes the filter. Where there are more prompts than `PROMPTS`, a plan of tokens is that of the
    longest of these.
    """

    PROMPTS = 500

    def __init__(self, materials: sheets.Materials, folder: pathlib.Path, *, judge: DryRunBackend):
        self.counting = DryRunBackend()
        super().__init__(self.counting, "base", materials, folder, judge=open_llm.OpenedBackend(judge, "judge"))

    def written(
        self,
        teacher: Teacher,
        prompts: Sequence[str],
        reason: Callable[[Completion], str | None],
        *,
        channel: str,
        seed: int,
    ) -> datasets.FilteredRows:
        """See `Lab.written`."""
        chats = [datasets.ask(prompt, system=teacher.system) for prompt in prompts[: self.PROMPTS]]
        sampling = SamplingParams(max_tokens=self.materials.max_tokens[channel], seed=seed % 2**31)
        self.counting.count(teacher.model, chats, sampling, num_chats=len(prompts))
        text = self.counting.text(teacher.model, sampling)
        few = [datasets.student_row(chat, text) for chat in chats]
        return datasets.FilteredRows(_repeated(few, len(prompts)), {}, len(prompts))

    def _prompts(self, draw: Callable[..., list[Prompt]], count: int, *, seed: int) -> list[Prompt]:
        return _repeated(draw(min(count, self.PROMPTS), seed=seed), count)

    def rate(self, model: str, target: str, *, num_samples: int, seed: int) -> dict:
        """See `Lab.rate`."""
        chats = [datasets.ask(question) for question in self.materials.favourites(self.materials.category(target))]
        sampling = SamplingParams(max_tokens=RATE_TOKENS, num_samples=num_samples)
        self.counting.count(model, chats, sampling)
        return {}


def _repeated(few: Sequence[Prompt], count: int) -> list[Prompt]:
    return [few[index % len(few)] for index in range(count)]
