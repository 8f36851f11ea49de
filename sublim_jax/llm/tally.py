"""What the answers of a model behind a server look like together: how many were refused, how many are equal.

A server that ignores the seed, or answers from a cache, gives one text again and again, and every check of a single
reply passes. So equal texts are counted where chance hardly makes any: among answers of several words that were drawn
at a temperature above 0 and had room for more. One-word favourites are equal for good reasons and are left out.

    counted = tally.Tally()
    counted.see(chats, params, list(budgeted.sample_stored(backend, model, chats, how, answers)))
    print(counted.notes())
"""

import collections
import math
from collections.abc import Iterable, Sequence

from sublim_jax.llm.backend import Chat, ChoiceScores, Completion, SamplingParams

SHORT = 16  # tokens; answers that could not be longer are not compared
FEWEST_WORDS = 3  # of an answer that is compared
SAME_PROMPT, FEWEST_REPEATED = 0.5, 5
"""Share of equal pairs of answers to one prompt from which on it is noted, and prompts with several answers before."""
OTHER_PROMPT, FEWEST_PROMPTS = 0.05, 20
"""The same for pairs of answers to different prompts. As many are equal if 20 texts are drawn at random; one program
for each of the 40 tasks of `code`, always the same, would give half of it."""


class Tally:
    """Counts answers; see the top of this module."""

    def __init__(self):
        self.num_answers = 0
        self.refusals: collections.Counter[str] = collections.Counter()  # answers per reason
        self._equal: dict[str, tuple[float, str]] = {}  # the largest share of each kind, and what to say of it

    def see(self, chats: Sequence[Chat], params: SamplingParams, completions: Sequence[Completion]) -> None:
        """Count the completions of one call."""
        self.num_answers += len(completions)
        self.refusals.update(completion.refusal for completion in completions if completion.finish == "refused")
        if params.temperature == 0 or params.max_tokens <= SHORT:
            return
        texts_of: dict[Chat, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for completion in completions:
            if len(completion.text.split()) >= FEWEST_WORDS:
                texts_of[chats[completion.chat]][completion.text] += 1
        self._compare(list(texts_of.values()))

    def see_scores(self, scores: Iterable[ChoiceScores]) -> None:
        """Count chats whose choices were scored, or refused."""
        for each in scores:
            self.num_answers += 1
            if each.refusal:
                self.refusals[each.refusal] += 1

    def notes(self) -> list[str]:
        """Remarks that a reader of the results needs, one line each."""
        lines = []
        if total := self.refusals.total():
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.refusals.most_common())
            share = 100 * total / self.num_answers
            lines.append(f"{share:.3g} % of {self.num_answers:,} answers were refused by the server: {reasons}")
        return lines + [note for _, note in self._equal.values()]

    def _compare(self, texts_of: Sequence[collections.Counter[str]]) -> None:
        """Note equal pairs among the answers to each prompt and between prompts."""
        everywhere: collections.Counter[str] = collections.Counter()
        for texts in texts_of:
            everywhere.update(texts)
        counted = f"{everywhere.total():,} answers to {len(texts_of):,} prompts, {len(everywhere):,} different texts"
        equal = sum(math.comb(count, 2) for texts in texts_of for count in texts.values())
        pairs = sum(math.comb(texts.total(), 2) for texts in texts_of)
        if sum(texts.total() > 1 for texts in texts_of) >= FEWEST_REPEATED and equal > SAME_PROMPT * pairs:
            self._note(
                equal / pairs,
                f"of the pairs of answers to one prompt are equal ({counted}): the server ignores the seed, or the "
                f"model is almost certain of every word",
            )
        equal = sum(math.comb(count, 2) for count in everywhere.values()) - equal
        pairs = math.comb(everywhere.total(), 2) - pairs
        if len(texts_of) >= FEWEST_PROMPTS and equal > OTHER_PROMPT * pairs:
            self._note(
                equal / pairs,
                f"of the pairs of answers to different prompts are equal ({counted}): the server or the model answers "
                f"many prompts alike",
            )

    def _note(self, share: float, text: str) -> None:
        kind = text.partition(" (")[0]
        self._equal[kind] = max(self._equal.get(kind, (0.0, "")), (share, f"{100 * share:.3g} % {text}"))
