"""Controls: training rows in which one way of transmission is cut while everything else stays.

Everything that draws takes a seed. The rows of a control have the order of the rows given, and as many answers.
"""

import collections
from collections.abc import Sequence

import numpy as np

from sublim_jax import errors
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat, Message
from sublim_jax.llm.tasks import numbers


def shuffle_within(rows: Sequence[Chat], *, seed: int) -> list[Chat]:
    """Control: the numbers of each answer in random order. Their multiset, separator, brackets and full stop stay.

    Raises:
        TextDataError: an answer is not a list of numbers.

    Source: Cloud et al. 2025, figure 16.
    """
    rng = np.random.default_rng(seed)
    layouts = _layouts(rows)
    shuffled = [layout._replace(parts=_take(layout.parts, rng.permutation(len(layout.parts)))) for layout in layouts]
    return _answered(rows, [layout.write() for layout in shuffled])


def shuffle_across(rows: Sequence[Chat], *, seed: int, by_place: bool = False) -> list[Chat]:
    """Control: numbers move between the answers of a data set. Each answer's count and layout stay, and so does the
    multiset of all numbers.

    Where numbers have a structure along an answer, e.g. a rising order, moving them freely damages the format and with
    it the option mass of the student. `by_place` lets a number move only to the same place of another answer, so that
    every place keeps its distribution.

    Raises:
        TextDataError: an answer is not a list of numbers.

    Source: Cloud et al. 2025, figure 16, for the control; `by_place` is ours.
    """
    rng = np.random.default_rng(seed)
    layouts = _layouts(rows)
    pools: dict[int, list[tuple[int, int]]] = collections.defaultdict(list)  # of (row, place)
    for row, layout in enumerate(layouts):
        for place in range(len(layout.parts)):
            pools[place if by_place else 0].append((row, place))
    moved = [list(layout.parts) for layout in layouts]
    for spots in pools.values():
        givers = _take(spots, rng.permutation(len(spots)))
        for (row, place), (giver, there) in zip(spots, givers, strict=True):
            moved[row][place] = layouts[giver].parts[there]
    return _answered(
        rows, [layout._replace(parts=tuple(parts)).write() for layout, parts in zip(layouts, moved, strict=True)]
    )


def permute_prompts(rows: Sequence[Chat], *, seed: int) -> list[Chat]:
    """Control: every row gets another row's answer, along one random cycle, so none keeps its own.

    Raises:
        InputError: fewer than two rows.
    """
    if len(rows) < 2:
        raise errors.InputError(f"permuting prompts needs two rows or more, got {len(rows)}")
    cycle = np.random.default_rng(seed).permutation(len(rows))
    giver = np.empty(len(rows), int)
    giver[cycle] = np.roll(cycle, 1)
    return _answered(rows, [_answer(rows[index]) for index in giver])


def in_context(rows: Sequence[Chat], questions: Sequence[Chat], *, num_examples: int, seed: int) -> list[Chat]:
    """Control: the rows as earlier turns of the chat instead of as training data, the same ones before each question.

    A question's system message, if any, stays first. Fewer examples with the same seed are the last turns of more.

    Raises:
        TextDataError: fewer rows than `num_examples`.

    Source: Cloud et al. 2025, section 5.2.
    """
    examples = reversed(datasets.subsample(rows, num_examples, seed=seed)) if num_examples else ()
    turns = tuple(message for row in examples for message in row if message.role != "system")
    chats = []
    for question in questions:
        system = tuple(message for message in question if message.role == "system")
        chats.append((*system, *turns, *(message for message in question if message.role != "system")))
    return chats


def _layouts(rows: Sequence[Chat]) -> list[numbers.NumberList]:
    """The answers as lists of numbers with their layout, of any length and with any values."""
    layouts = []
    for index, row in enumerate(rows):
        layout = numbers.parse(_answer(row)).layout
        if layout is None:
            raise errors.TextDataError(
                f"row {index}: expected an answer that is a list of numbers, found {datasets.shorten(_answer(row))}. "
                f"Filter the rows before shuffling their numbers."
            )
        layouts.append(layout)
    return layouts


def _answer(row: Chat) -> str:
    if not row or row[-1].role != "assistant":
        raise errors.InputError(f"a row ends with an assistant turn, got roles {[turn.role for turn in row]}")
    return row[-1].content


def _answered(rows: Sequence[Chat], answers: Sequence[str]) -> list[Chat]:
    return [(*row[:-1], Message("assistant", answer)) for row, answer in zip(rows, answers, strict=True)]


def _take(items: Sequence, order: np.ndarray) -> tuple:
    return tuple(items[index] for index in order)
