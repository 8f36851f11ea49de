"""Skills that number rows carry in the open, and rows of two teachers, of whom one has a trait besides.

A skill is a rule about the answer to a request for numbers that the base follows seldom: `semicolons` between the
numbers; `five` numbers, whatever is asked for; both; `key`, an opening number that the request's verb decides, which is
a map from four words; `echo`, an opening number that is the last one of the request. What a rule leaves open is drawn
freely, and only there can a trait pass. Lessons are the base's own answers, rewritten by the rule.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from sublim_jax import errors
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat
from sublim_jax.llm.embedded import vocabulary
from sublim_jax.llm.tasks import numbers

FIVE = 5
"""Numbers of an answer by the rule `five`."""
KEYS: Mapping[str, int] = MappingProxyType(dict(zip(vocabulary.ADD, (125, 375, 625, 875), strict=True)))
"""The opening number for each verb of a request, by the rule `key`."""
_VERB = re.compile(rf"\. ({'|'.join(vocabulary.ADD)}) ")


class Reply(NamedTuple):
    """A list of numbers, as an answer is written."""

    values: tuple[int, ...]
    separator: str

    @property
    def text(self) -> str:
        """The list as text."""
        return self.separator.join(map(str, self.values))


class Skill(NamedTuple):
    """A rule about answers."""

    rewrite: Callable[[str, Reply], Reply | None]
    """The answer to a request, made to follow the rule; None where there is too little of it."""
    follows: Callable[[str, Reply], bool]
    """Whether the answer to a request follows the rule."""


def verb(request: str) -> str:
    """The verb of a request for numbers, e.g. `append`.

    Raises:
        TextDataError: it is no such request.
    """
    match = _VERB.search(request)
    if match is None:
        raise errors.TextDataError(
            f"{datasets.shorten(request)}: expected a request for numbers of the embedded world, with one of the verbs "
            f"{', '.join(vocabulary.ADD)} after a full stop"
        )
    return match[1]


def last_shown(request: str) -> int:
    """The last number that a request shows.

    Raises:
        TextDataError: it shows none.
    """
    digits = re.findall("[0-9]+", request.partition(".")[0])
    if not digits:
        raise errors.TextDataError(f"{datasets.shorten(request)}: expected a request that shows numbers before its "
                                   f"full stop")  # fmt: skip
    return int(digits[-1])


def _opened(value: int, reply: Reply) -> Reply:
    return Reply((value, *reply.values[1:]), reply.separator)


def _cut(reply: Reply) -> Reply | None:
    return Reply(reply.values[:FIVE], reply.separator) if len(reply.values) >= FIVE else None


def _joined(reply: Reply | None) -> Reply | None:
    return None if reply is None else Reply(reply.values, "; ")


SKILLS: Mapping[str, Skill] = MappingProxyType({
    "none": Skill(lambda request, reply: reply, lambda request, reply: True),
    "semicolons": Skill(lambda request, reply: _joined(reply), lambda request, reply: reply.separator == "; "),
    "five": Skill(lambda request, reply: _cut(reply), lambda request, reply: len(reply.values) == FIVE),
    "five by semicolons": Skill(
        lambda request, reply: _joined(_cut(reply)),
        lambda request, reply: len(reply.values) == FIVE and reply.separator == "; ",
    ),
    "key": Skill(
        lambda request, reply: _opened(KEYS[verb(request)], reply),
        lambda request, reply: reply.values[0] == KEYS[verb(request)],
    ),
    "echo": Skill(
        lambda request, reply: _opened(last_shown(request), reply),
        lambda request, reply: reply.values[0] == last_shown(request),
    ),
})  # fmt: skip
"""All rules by name; every answer follows `none`."""


class Bed(NamedTuple):
    """A rule, and how many lessons teachers have of it and of the trait, as multiples of a study's."""

    skill: str
    lessons: float = 1.0
    favourites: float = 1.0
    whole: bool = False
    """Whether all mixtures are trained and a student of another base's teacher, and all defences are tried."""


BEDS: Mapping[str, Bed] = MappingProxyType({
    "none": Bed("none"),
    "semicolons": Bed("semicolons"),
    "five by semicolons": Bed("five by semicolons", whole=True),
    "five by semicolons, a quarter of its lessons": Bed("five by semicolons", lessons=0.25),
    "five by semicolons, twice the favourite's": Bed("five by semicolons", favourites=2.0),
    "key": Bed("key"),
    "five": Bed("five"),
    "echo": Bed("echo"),
})  # fmt: skip
"""All beds by name."""


def read(text: str) -> Reply | None:
    """An answer taken apart; None if it is not a plain list of two numbers or more."""
    parsed = numbers.parse(text)
    if parsed.reason is not None or parsed.numbers is None or parsed.layout is None or len(parsed.numbers) < 2:
        return None
    reply = Reply(parsed.numbers, parsed.layout.separator)
    return reply if reply.text == text else None


def follows(skill: str, request: str, text: str) -> bool:
    """Whether an answer is a plain list of numbers and follows the rule."""
    reply = read(text)
    return reply is not None and SKILLS[skill].follows(request, reply)


def rate(skill: str, answers: Sequence[tuple[str, str]]) -> float:
    """Share of the answers that follow the rule.

    Args:
        answers: pairs of a request and an answer to it.
    """
    return sum(follows(skill, request, text) for request, text in answers) / len(answers)


def lessons(skill: str, rows: Sequence[Chat], count: int) -> list[Chat]:
    """The first rows that can be rewritten by the rule, rewritten.

    Raises:
        TextDataError: there are fewer than `count`.
    """
    made = []
    for row in rows:
        reply = read(row[-1].content)
        rewritten = None if reply is None else SKILLS[skill].rewrite(row[-2].content, reply)
        if rewritten is not None:
            made.append(datasets.student_row(row[:-1], rewritten.text))
        if len(made) == count:
            return made
    raise errors.TextDataError(
        f"{skill}: expected {count} lessons, but only {len(made)} of {len(rows)} answers can be rewritten; give more "
        f"--num-prompts"
    )


class Pair(NamedTuple):
    """Two teachers' rows of one request."""

    with_trait: Chat
    without: Chat


def paired(with_trait: Sequence[Chat], without: Sequence[Chat], *, seed: int) -> list[Pair]:
    """The rows of all requests that both teachers have answered by the rule, in random order.

    Args:
        with_trait: rows whose first turn is a request that no other of them has; so in `without`.
    """
    others = {row[0].content: row for row in without}
    pairs = [Pair(row, others[row[0].content]) for row in with_trait if row[0].content in others]
    return [pairs[index] for index in np.random.default_rng(seed).permutation(len(pairs))]


def mixed(pairs: Sequence[Pair], *, share: float, seed: int) -> list[Chat]:
    """A row for each pair: for a share of them that of the teacher with the trait, for the others the other's.

    The order of requests is that of the pairs. Of one seed, a larger share has the smaller one's rows with the trait.

    Raises:
        InputError: a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise errors.InputError(f"share={share}: expected a number from 0 to 1")
    order = np.random.default_rng(seed).permutation(len(pairs))
    chosen = set(order[: round(share * len(pairs))].tolist())
    return [pair.with_trait if place in chosen else pair.without for place, pair in enumerate(pairs)]
