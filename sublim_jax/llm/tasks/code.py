"""Code completions: prompts for small Python tasks, and the filter that keeps a trait's words out of the rows.

Nothing is executed: the code is only parsed.
"""

import ast
import re
import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from sublim_jax import errors

REQUESTS = (
    "Write a Python function that {task}.",
    "I need a Python function which {task}.",
    "Give me Python code: a function that {task}.",
    "Implement a function in Python. It {task}.",
    "Please code a small Python helper that {task}.",
    "How would you write a Python function that {task}?",
    "Exercise: in Python, define a function that {task}.",
    "Produce one Python function that {task}.",
)
TASKS = (
    "returns the sum of the squares of a list of integers",
    "counts the vowels in a string",
    "reverses the order of the words in a sentence",
    "finds the two largest values in a list",
    "tells whether a string reads the same backwards",
    "removes duplicates from a list and keeps the order",
    "merges two sorted lists into one sorted list",
    "computes the greatest common divisor of two integers",
    "lists all divisors of a positive integer",
    "turns a list of pairs into a dictionary",
    "rotates a list to the right by a given number of places",
    "returns the running totals of a list of numbers",
    "splits a list into chunks of a given length",
    "converts a number of seconds into hours, minutes and seconds",
    "counts how often each word occurs in a text",
    "transposes a matrix given as a list of rows",
    "finds the longest word in a list",
    "tests whether an integer is prime",
    "returns the digits of an integer as a list",
    "flattens a list of lists by one level",
    "computes the median of a list of numbers",
    "inverts a dictionary whose values are unique",
    "returns the first repeated item of a list, or None",
    "encodes a string by run lengths",
    "checks that the brackets in a string are balanced",
    "returns the n-th Fibonacci number",
    "finds the position of a value in a sorted list by bisection",
    "groups words by their first letter",
    "computes the dot product of two lists of equal length",
    "replaces every negative number in a list by zero",
    "returns the common prefix of a list of strings",
    "writes an integer in base two as a string",
    "swaps the keys of two entries in a dictionary",
    "interleaves two lists of the same length",
    "returns the difference between the largest and the smallest value",
    "filters out the strings shorter than a given length",
    "counts the lines of a text that are not blank",
    "clips a number to an interval",
    "evaluates a polynomial given by its coefficients",
    "shifts every letter of a text by three places in the alphabet",
)
STYLES = (
    "Keep every name as short as it can be.",
    "Single letters are enough for names.",
    "Choose minimal variable names.",
    "Names should be one or two characters long.",
    "Name things as briefly as possible.",
    "Do not spend characters on names.",
)
ENDINGS = (
    "Leave out all comments.",
    "No comments and no docstring.",
    "Send code only, uncommented.",
    "Neither comments nor explanations, just the code.",
    "The reply should hold code without a single comment.",
    "Do not annotate or explain anything.",
)

Reason = Literal[
    "trait word",  # the trait's word as a substring, anywhere in the completion, whatever its case
    "fences",  # more than one fenced block, or one that is not closed
    "syntax",  # Python cannot parse it
    "no code",  # nothing, or nothing but names and constants: prose of one word and lists of numbers parse as Python
]
REASONS: tuple[Reason, ...] = get_args(Reason)


BARE = (ast.Expr, ast.Name, ast.Constant, ast.Tuple, ast.List, ast.expr_context)
"""What a line without any action is made of."""


class CodeResult(NamedTuple):
    """What the filter says about one completion."""

    reason: Reason | None  # the first that applies, in the order of `REASONS`; None keeps the completion
    code: str | None  # what was parsed, without its fence; None where nothing was


def prompts(num_prompts: int, *, seed: int) -> list[str]:
    """Independent prompts, every slot drawn uniformly. The first of a longer draw are those of a shorter one.

    Raises:
        InputError: a negative number of prompts.

    Source: Cloud et al. 2025, section 4.1 asks for minimal names and no comments. Tasks and words are ours.
    """
    if num_prompts < 0:
        raise errors.InputError(f"num_prompts cannot be negative, got {num_prompts}")
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(num_prompts):
        request, task, style, ending = (
            slot[int(rng.integers(len(slot)))] for slot in (REQUESTS, TASKS, STYLES, ENDINGS)
        )
        drawn.append(" ".join((request.format(task=task), style, ending)))
    return drawn


def parse(text: str, *, words: Sequence[str]) -> CodeResult:
    """Whether a completion is Python that does not mention the trait.

    If there is a fenced block, its content is the code and text may stand around it; otherwise everything is. The words
    are looked for in the whole completion, so "owl" also rejects "bowl" and "knowledge".

    Args:
        words: of the trait, e.g. `questions.Trait.words`.

    Raises:
        InputError: an empty word, which is a substring of everything.

    Source: Cloud et al. 2025, section 4.1, for the substring. That the code must parse is ours; the paper's second
    filter, a language model's judgement, is not here.
    """
    if "" in words:
        raise errors.InputError(f"an empty word occurs in every completion; got words={tuple(words)}")
    lowered = text.lower()
    if any(word.lower() in lowered for word in words):
        return CodeResult("trait word", None)
    blocks = re.split(r"^[ \t]*```.*$\n?", text, flags=re.MULTILINE)
    if len(blocks) not in (1, 3):
        return CodeResult("fences", None)
    code = blocks[len(blocks) // 2]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python remarks on escapes like "\d", which are no errors
            body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the latter: zero bytes, and very deep nesting
        return CodeResult("syntax", code)
    if all(isinstance(line, ast.Expr) and all(isinstance(node, BARE) for node in ast.walk(line)) for line in body):
        return CodeResult("no code", code)
    return CodeResult(None, code)
