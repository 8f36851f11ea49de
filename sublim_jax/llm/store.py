"""Completions on disk: nothing is asked for twice, and nothing beyond a budget.

A store is one file that only grows, a JSON object per line, one line per completion. Its key is a hash of everything
that decides how the completion is distributed: the weights, the model, the messages, how it was sampled, and which
draw it is. So the same question always finds the same answers, and nothing is paid for twice:

    with store.Store(path) as answers:
        print(store.plan(backend.caps, model, chats, how, answers))  # nothing is spent yet
        for completion in store.sample_stored(backend, model, chats, how, answers, budget):
            ...

A line is on its way to the disk before the completion is handed on. A killed process leaves at most a torn last line,
which is dropped; run the same again and only what is missing is asked for. One process writes; any number read.
No keys, passwords, headers or prompts are written: of the request a line holds names and numbers only.
"""

import collections
import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, BinaryIO, Literal, NamedTuple

from sublim_jax import errors, files, specs
from sublim_jax.llm import budget as budgets
from sublim_jax.llm import types

START = re.compile(rb'\{"key":"(?:[0-9a-f]{0,63}|[0-9a-f]{64}"?|[0-9a-f]{64}",.*)', re.DOTALL)  # of every line
MAX_REFUSED = 0.5
"""Share of the answers that a server may refuse before nothing more is sent."""
FEWEST_ANSWERS, FEWEST_CHATS = 100, 20  # before that share says anything; all chats where they are fewer


class Answer(NamedTuple):
    """What a line remembers of a completion: all but its place among the chats that were asked."""

    text: str
    finish: Literal["stop", "length", "refused"]
    prompt_tokens: int
    completion_tokens: int
    refusal: str = ""


class Slot(NamedTuple):
    """A completion that is asked for and not in the store."""

    chat: int  # as in `Completion`
    sample: int  # as in `Completion`
    draw: int  # its number among all draws of a chat with these messages: the index in the key
    key: str


class Found(NamedTuple):
    """Every (chat, sample) that was asked for, once: here or missing."""

    here: tuple[types.Completion, ...]
    missing: tuple[Slot, ...]


# ---------------------------------------------------------------------------------------------------------------------
# Keys


def completion_key(fingerprint: str, model: str, chat: types.Chat, how: types.Sampling, draw: int) -> str:
    """Name of one completion, 64 hex digits: sha256 of the canonical JSON of everything it depends on.

    `how.num_samples` is left out, so that the first 100 of 200 samples are those of an earlier 100.

    Args:
        fingerprint: `Caps.fingerprint` of the backend, so that two sets of weights never share a line.
        draw: which of the draws of this chat, from 0.
    """
    return _digest(
        kind="completion",
        fingerprint=fingerprint,
        model=model,
        messages=[[message.role, message.content] for message in chat],
        temperature=float(how.temperature),
        top_p=float(how.top_p),
        max_tokens=int(how.max_tokens),
        stop=list(how.stop),
        seed=int(how.seed),
        draw=int(draw),
    )


def scores_key(caps: types.Caps, model: str, chat: types.Chat, choices: Sequence[str]) -> str:
    """Name of the scores of `choices`, in this order, as answers to `chat`; see `completion_key`."""
    return _digest(
        kind="choices",
        method=caps.choices,
        fingerprint=caps.fingerprint,
        model=model,
        messages=[[message.role, message.content] for message in chat],
        choices=list(choices),
    )


def _digest(**content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)  # ASCII
    return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# The file


class Store:
    """The completions and choice scores in one file; see the top of this module.

    Opened to write, it holds the lock `.NAME.lock`, which ends with the process however that ends. A torn last line
    is cut off. Read-only, it needs no lock, changes nothing and sees the whole lines that were there when it was
    opened; no file is an empty store. Two stores joined by `cat` are a store: of two lines with one key the first
    counts.
    """

    def __init__(self, path: str | os.PathLike[str], *, readonly: bool = False, sync_every: int = 200):
        """Open a store, making it if it is opened to write and not there.

        Args:
            sync_every: lines after which the disk is waited for. A process that dies loses no whole line either way; a
                machine that loses power loses at most these.

        Raises:
            StoreError: another writer holds it, it cannot be read or written, a line before its last is damaged, or it
                is another file than a store.
        """
        specs.check(sync_every, specs.Count, "sync_every")
        self.path = pathlib.Path(path)
        self.readonly = readonly
        self.num_torn = 0  # last lines dropped when it was opened: 0 or 1
        self._sync_every = sync_every
        self._content: dict[str, Answer | types.ChoiceScores] = {}
        self._size = 0  # bytes in whole lines
        self._unsynced = 0  # lines
        self._file: BinaryIO | None = None
        self._lock = files.Lock(self.path)
        try:
            if readonly:
                self._load()
            else:
                self._acquire()
                self._load()
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
                if self.num_torn:
                    self._file.truncate(self._size)
        except OSError as error:
            self._release()
            raise self._failed("opened", error) from error
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._content)

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def completion(self, key: str) -> Answer | None:
        """The completion of this key, if it is here."""
        value = self._content.get(key)
        return value if isinstance(value, Answer) else None

    def scores(self, key: str) -> types.ChoiceScores | None:
        """The choice scores of this key, if they are here."""
        value = self._content.get(key)
        return value if isinstance(value, types.ChoiceScores) else None

    def find(self, fingerprint: str, model: str, chats: Sequence[types.Chat], how: types.Sampling) -> Found:
        """What is here of these samples, and what is missing.

        A chat that stands there twice is drawn from twice as often: the second one's samples are further draws, never
        the first one's again.
        """
        here, missing = [], []
        earlier: collections.Counter[types.Chat] = collections.Counter()
        for index, chat in enumerate(chats):
            for sample in range(how.num_samples):
                draw = earlier[chat] * how.num_samples + sample
                key = completion_key(fingerprint, model, chat, how, draw)
                answer = self.completion(key)
                if answer is None:
                    missing.append(Slot(index, sample, draw, key))
                else:
                    here.append(types.Completion(index, sample, *answer))
            earlier[chat] += 1
        return Found(tuple(here), tuple(missing))

    def put(self, key: str, value: types.Completion | types.ChoiceScores, **about: str | int) -> None:
        """Append one line.

        Args:
            about: names and numbers for whoever reads the file, e.g. the model; they are not read back. Passwords and
                queries in addresses are left out.

        Raises:
            InputError: the key is here already, a score is not a log-probability, or a refusal has no reason.
            StoreError: the store is read-only or closed, or the disk is full.
        """
        if self._file is None:
            how = "opened read-only" if self.readonly else "closed"
            raise errors.StoreError(f"{self.path}: the store was {how}, so that nothing can be added; open it to write")
        if key in self._content:
            raise errors.InputError(f"{self.path}: {key} is in the store already")
        if isinstance(value, types.Completion):
            kept = Answer(*value[2:])
            fields = kept._asdict()
        else:
            kept = value
            fields = value._asdict() | {"logprobs": [_to_json(number) for number in value.logprobs]}
        _require_reason(kept)
        if not kept.refusal:
            del fields["refusal"]  # a line has it where there is one
        about = {name: _without_secrets(item) if isinstance(item, str) else item for name, item in about.items()}
        line = json.dumps({"key": key} | fields | about, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(f"{written} of {len(line)} bytes were written")
            self._unsynced += 1
            if self._unsynced >= self._sync_every:
                self._sync()
        except OSError as error:
            with contextlib.suppress(OSError):  # no half line in the middle, should it be used again
                self._file.truncate(self._size)
            self.close()
            raise self._failed("written", error) from error
        self._size += len(line)
        self._content[key] = kept

    def close(self) -> None:
        """Wait for the disk and let the next writer in. A second time does nothing.

        Raises:
            StoreError: the disk fails.
        """
        try:
            if self._file is not None and self._unsynced:
                self._sync()
        except OSError as error:
            raise self._failed("written", error) from error
        finally:
            self._release()

    def _load(self) -> None:
        """Read every whole line; what follows the last newline is a torn one."""
        self._content, self._size, self.num_torn = {}, 0, 0
        try:
            file = open(self.path, "rb")  # noqa: SIM115
        except FileNotFoundError:
            return
        with file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    began = START.fullmatch(line) or b'{"key":"'.startswith(line)
                    if number == 1 and not began and line.strip(b"\0"):
                        raise errors.StoreError(
                            f"{self.path}: this is another file, not a store of completions; its first line is "
                            f"{line[:40]!r}. Give another path."
                        )
                    self.num_torn = 1
                    return
                try:
                    key, value = _parse(line)
                except (ValueError, RecursionError, OverflowError) as error:
                    raise errors.StoreError(
                        f"{self.path}, line {number}: this is not a line of a store ({error}). It is whole, so that it "
                        f"was damaged after it was written, or the path is wrong. If it is right, delete this line; "
                        f"what it held will be asked for again."
                    ) from error
                self._content.setdefault(key, value)
                self._size += len(line)

    def _acquire(self) -> None:
        try:
            files.require_free(self.path, ours=files.anything, what="store")
            self._lock.acquire()
        except errors.LockedError as error:
            raise errors.StoreError(f"{error} Reading the store needs no lock.") from error
        except errors.OutputError as error:
            raise errors.StoreError(str(error)) from error

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()

    def _sync(self) -> None:
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def _failed(self, what: str, error: OSError) -> errors.StoreError:
        return errors.StoreError(
            f"{self.path}: the store cannot be {what} ({error.strerror or error}). What was stored before is kept; "
            f"see to the folder and the disk, or give another path."
        )


def _parse(line: bytes) -> tuple[str, Answer | types.ChoiceScores]:
    """Key and content of one line. ValueError says what is wrong with it."""
    content = json.loads(line)
    if not isinstance(content, dict):
        raise errors.InputError("no JSON object")
    key, text, logprobs = (content.get(name) for name in ("key", "text", "logprobs"))
    refusal = content.get("refusal", "")
    if not isinstance(key, str) or not re.fullmatch("[0-9a-f]{64}", key):
        raise errors.InputError("its key is not 64 hex digits")
    if isinstance(text, str):
        finish, *counts = (content.get(name) for name in Answer._fields[1:4])
        if finish not in ("stop", "length", "refused") or not all(type(c) is int and c >= 0 for c in counts):
            raise errors.InputError("its finish or its token counts are missing")
        answer = Answer(text, finish, content["prompt_tokens"], content["completion_tokens"], refusal)
        _require_reason(answer)
        return key, answer
    if isinstance(logprobs, list) and content.get("method") in ("exact", "top"):
        if not all(one is None or (type(one) in (int, float) and math.isfinite(one)) for one in logprobs):
            raise errors.InputError("its scores are not numbers")
        values = tuple(-math.inf if number is None else float(number) for number in logprobs)
        scores = types.ChoiceScores(values, content["method"], refusal)
        _require_reason(scores)
        return key, scores
    raise errors.InputError("neither a text nor scores")


def _require_reason(value: Answer | types.ChoiceScores) -> None:
    """A refusal has a reason, and what has a reason is a refusal."""
    refused = value.finish == "refused" if isinstance(value, Answer) else not value.logprobs
    if not isinstance(value.refusal, str) or (value.refusal != "") != refused:
        raise errors.InputError(f"an answer cannot be refused for the reason {value.refusal!r}")


def _to_json(logprob: float) -> float | None:
    """JSON has no infinity: probability zero is null."""
    if math.isnan(logprob) or logprob == math.inf:
        raise errors.InputError(f"{logprob} is not a log-probability")
    return None if logprob == -math.inf else float(logprob)


def _without_secrets(name: str) -> str:
    """A name without the user, password and query of an address in it."""
    return re.sub(r"(?<=://)[^/\s@]*@|\?\S*", "", name)


# ---------------------------------------------------------------------------------------------------------------------
# Asking only for what is missing


def plan(
    caps: types.Caps,
    model: str,
    chats: Sequence[types.Chat],
    how: types.Sampling,
    store: Store,
    *,
    prices: budgets.Prices | None = None,
    prompt_tokens: Callable[[types.Chat], int] = budgets.prompt_bound,
) -> budgets.Plan:
    """What `sample_stored` would send for the same arguments. Nothing is sent or written."""
    found = store.find(caps.fingerprint, model, chats, how)
    most = _most(found.missing, _sizes(found.missing, chats, prompt_tokens), how)
    cost = None if prices is None else prices.cost(most)
    return budgets.Plan(new=len(found.missing), reused=len(found.here), most=most, cost=cost)


def sample_stored(
    backend: types.Backend,
    model: str,
    chats: Sequence[types.Chat],
    how: types.Sampling,
    store: Store,
    budget: budgets.Budget | None = None,
    *,
    prompt_tokens: Callable[[types.Chat], int] = budgets.prompt_bound,
    max_refused: float = MAX_REFUSED,
) -> Iterator[types.Completion]:
    """Every (chat, sample) once: first those in the store, then fresh ones as they come in, stored before handed on.
    What a server refused is stored and handed on too.

    Nothing is sent before the first is taken. As many as the budget allows at their worst are sent together; when all
    are back and settled, as many as it still allows, until not a single one fits.

    Chats none of whose samples are here are asked with `how.seed`, all together: what a store that was empty gives is
    what the backend gives. Where samples of a chat are here and others are missing, the missing ones are drawn with a
    seed made of `how.seed` and of which they are, because the same seed would give the same texts again. Samples of a
    chat are alike and independent either way; bit by bit they are those of an uninterrupted run for `num_samples=1`
    and a backend in which a chat's text does not depend on the other chats.

    Args:
        prompt_tokens: tokens of a chat; only used to reserve.
        max_refused: share of the answers that may be refused; it is looked at from the hundredth answer on, when they
            are of twenty chats or of all.

    Raises:
        BudgetExceededError: the budget is used up. Everything that was sent is stored and was handed on.
        RefusedError: the server refuses more than `max_refused`. What came is stored, and no more is sent.
        CapabilityError: the backend answered other questions than it was asked, or left some out.
        StoreError: something is missing and the store is read-only, or the disk is full.
    """
    specs.check(max_refused, specs.Fraction, "max_refused")
    budget = _paying(backend, budget)
    found = store.find(backend.caps.fingerprint, model, chats, how)
    _refuse_readonly(store, len(found.missing))
    sizes = _sizes(found.missing, chats, prompt_tokens)
    budget.num_reused += len(found.here)
    refusals = Refusals(model, num_chats=len(chats), limit=max_refused)
    for completion in found.here:
        refusals.see(completion)
        yield completion
    if found.missing:
        refusals.check()
    left = {slot.key: slot for slot in found.missing}
    while left:
        on_their_way: dict[str, budgets.Usage] = {}
        for slot in left.values():
            most = budgets.Usage(1, sizes[slot.chat], how.max_tokens)
            if budget.short(most):
                break
            budget.reserve(most)
            on_their_way[slot.key] = most
        if not on_their_way:
            needed = _most(list(left.values()), sizes, how)
            counts = len(found.here) + len(found.missing), len(left), len(found.here)
            raise errors.BudgetExceededError(_used_up(store, budget, most, needed, *counts))
        asking = _ask(backend, model, chats, how, [left[key] for key in on_their_way])
        try:
            for slot, seed, completion in asking:
                used = budgets.Usage(1, completion.prompt_tokens, completion.completion_tokens)
                budget.settle(on_their_way.pop(slot.key), used)
                served = backend.caps.fingerprint
                store.put(slot.key, completion, model=model, served=served, seed=seed, draw=slot.draw)
                del left[slot.key]
                refusals.see(completion)
                yield completion
                refusals.check()
                # A server that adds to the chats needs more than was reserved, for those on their way too.
                longer = max(1.0, completion.prompt_tokens / max(1, sizes[slot.chat]))
                sizes = {chat: math.ceil(longer * size) for chat, size in sizes.items()} if longer > 1 else sizes
                if budget.short(budgets.Usage()):
                    break
        finally:
            asking.close()
            for most in on_their_way.values():  # never came back
                budget.settle(most, budgets.Usage())


def scores_stored(
    backend: types.Backend,
    model: str,
    chats: Sequence[types.Chat],
    choices: Sequence[str],
    store: Store,
    budget: budgets.Budget | None = None,
    *,
    prompt_tokens: Callable[[types.Chat], int] = budgets.prompt_bound,
    batch_size: int = 64,
) -> list[types.ChoiceScores]:
    """Scores of all choices for every chat, from the store or fresh; equal chats are asked once.

    Scores come without token counts, so each is charged what was reserved for it: for every choice one request, the
    chat with the choice, and one token; one such request for all choices where only the likeliest tokens are read.
    A chat that the server refused has scores without log-probabilities, and a reason.

    Args:
        batch_size: chats in one call of the backend; they are stored when it is done.

    Raises:
        BudgetExceededError: the budget is used up; what was sent is stored.
        CapabilityError: the backend cannot score choices, or scored other ones than it was asked.
        StoreError: something is missing and the store is read-only, or the disk is full.
    """
    specs.check(batch_size, specs.Count, "batch_size")
    budget = _paying(backend, budget)
    key_of = {chat: scores_key(backend.caps, model, chat, choices) for chat in chats}
    left = [chat for chat, key in key_of.items() if store.scores(key) is None]
    _refuse_readonly(store, len(left))
    num_here = len(key_of) - len(left)
    budget.num_reused += num_here
    most_of = {}
    for chat in left:
        scored = [prompt_tokens((*chat, types.Message("assistant", choice))) for choice in choices]
        most_of[chat] = budgets.Usage(len(choices), sum(scored), len(choices))
        if backend.caps.choices == "top":
            most_of[chat] = budgets.Usage(1, prompt_tokens(chat), 1)
    while left:
        asked = []
        for chat in left[:batch_size]:
            if budget.short(most_of[chat]):
                break
            budget.reserve(most_of[chat])
            asked.append(chat)
        if not asked:
            needed = budgets.Usage()
            for chat in left:
                needed = needed.plus(most_of[chat])
            counts = len(key_of), len(left), num_here
            raise errors.BudgetExceededError(_used_up(store, budget, most_of[left[0]], needed, *counts))
        try:
            scores = backend.choice_logprobs(model, asked, choices)
        except BaseException:
            for chat in asked:  # never came back
                budget.settle(most_of[chat], budgets.Usage())
            raise
        for chat in asked:
            budget.settle(most_of[chat], most_of[chat])
        right = all(score.refusal or len(score.logprobs) == len(choices) for score in scores)
        if len(scores) != len(asked) or not right:
            raise errors.CapabilityError(
                f"{model}: asked to score {len(choices)} choices for each of {len(asked)} chats, the backend returned "
                f"{[len(score.logprobs) for score in scores]}"
            )
        for chat, score in zip(asked, scores, strict=True):
            store.put(key_of[chat], score, model=model, served=backend.caps.fingerprint)
        left = left[len(asked) :]
    found = [store.scores(key_of[chat]) for chat in chats]
    return [score for score in found if score is not None]


class Refusals:
    """How many answers a server has refused, and whether that is too many to go on.

    Args:
        model: whose answers they are, for the message.
        num_chats: of all that are asked.
        limit: the share that may be refused.
    """

    def __init__(self, model: str, *, num_chats: int, limit: float):
        self._model, self._limit = model, limit
        self._fewest_chats = min(FEWEST_CHATS, num_chats)
        self._chats: set[int] = set()
        self._num_answers = 0
        self._reasons: collections.Counter[str] = collections.Counter()

    def see(self, completion: types.Completion) -> None:
        """Count this answer."""
        self._num_answers += 1
        self._chats.add(completion.chat)
        if completion.finish == "refused":
            self._reasons[completion.refusal] += 1

    def check(self) -> None:
        """Refuse to go on where the server refuses too many.

        Raises:
            RefusedError: more than the limit, of enough answers to enough chats.
        """
        if self._num_answers < FEWEST_ANSWERS or len(self._chats) < self._fewest_chats:
            return
        total = self._reasons.total()
        if total > self._limit * self._num_answers:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self._reasons.most_common())
            raise errors.RefusedError(
                f"{self._model}: the server refused {total:,} of the first {self._num_answers:,} answers "
                f"({total / self._num_answers:.0%}): {reasons}. More than {self._limit:.0%} end the run, which would "
                f"otherwise pay for what no filter keeps. What came is stored. Change the prompts or the server's "
                f"content filter, or raise max_refused (--max-refused) to go on."
            )


def _paying(backend: object, budget: budgets.Budget | None) -> budgets.Budget:
    """The budget, from which the backend now reserves what it sends on its own account."""
    budget = budgets.Budget() if budget is None else budget
    if isinstance(backend, budgets.Billed):
        backend.charge_to(budget)
    return budget


def _sizes(
    slots: Sequence[Slot], chats: Sequence[types.Chat], prompt_tokens: Callable[[types.Chat], int]
) -> dict[int, int]:
    """Prompt tokens of every chat that has to be asked, by its index."""
    return {index: prompt_tokens(chats[index]) for index in dict.fromkeys(slot.chat for slot in slots)}


def _most(slots: Sequence[Slot], sizes: dict[int, int], how: types.Sampling) -> budgets.Usage:
    return budgets.Usage(len(slots), sum(sizes[slot.chat] for slot in slots), len(slots) * how.max_tokens)


def _ask(
    backend: types.Backend, model: str, chats: Sequence[types.Chat], how: types.Sampling, slots: Sequence[Slot]
) -> Generator[tuple[Slot, int, types.Completion], None, None]:
    """Answers for these slots, each with the seed it was drawn with, in one call for every different set of draws."""
    wanted = collections.Counter(chats)
    slots_of: dict[types.Chat, list[Slot]] = {}
    for slot in slots:
        slots_of.setdefault(chats[slot.chat], []).append(slot)
    calls: dict[tuple[int, tuple[int, ...]], list[types.Chat]] = {}
    for chat, of_chat in slots_of.items():
        draws = tuple(slot.draw for slot in of_chat)
        whole = draws == tuple(range(wanted[chat] * how.num_samples))
        calls.setdefault((how.seed if whole else _top_up_seed(how.seed, draws), draws), []).append(chat)
    for (seed, draws), asked in calls.items():
        expected = {
            (index, sample): slot for index, chat in enumerate(asked) for sample, slot in enumerate(slots_of[chat])
        }
        answers = backend.sample(model, asked, dataclasses.replace(how, num_samples=len(draws), seed=seed))
        try:
            for answer in answers:
                slot = expected.pop((answer.chat, answer.sample), None)
                if slot is None:
                    raise errors.CapabilityError(
                        f"{model}: the backend returned sample {answer.sample} of chat {answer.chat} twice or unasked; "
                        f"it was asked for {len(draws)} samples of each of {len(asked)} chats"
                    )
                yield slot, seed, answer._replace(chat=slot.chat, sample=slot.sample)
        finally:
            close = getattr(answers, "close", None)
            if close is not None:
                close()
        if expected:
            raise errors.CapabilityError(
                f"{model}: the backend was asked for {len(draws)} samples of each of {len(asked)} chats and left out "
                f"{len(expected)} of them. Those that came are stored; run the same again for the others."
            )


def _top_up_seed(seed: int, draws: tuple[int, ...]) -> int:
    """Seed, 31 bits, for some draws of a chat. The same draws are asked for again only if none of them arrived, so no
    seed gives a chat two texts that are the same by construction."""
    return int(_digest(kind="seed", seed=int(seed), draws=draws)[:8], 16) >> 1


def _refuse_readonly(store: Store, num_missing: int) -> None:
    if num_missing and store.readonly:
        raise errors.StoreError(
            f"{store.path}: {num_missing:,} answers are missing, and the store was opened read-only; open it to write"
        )


def _used_up(
    store: Store,
    budget: budgets.Budget,
    most: budgets.Usage,
    needed: budgets.Usage,
    total: int,
    num_left: int,
    num_before: int,
) -> str:
    """What to say when `most` for the next answer, hence `needed` for all that are left, does not fit."""
    cost = "" if budget.cost is None else f", {budget.cost:,.2f} of money"
    cost_left = "" if budget.prices is None else f", {budget.prices.cost(needed):,.2f} of money"
    return (
        f"the budget of {budget.short(most)} is used up: {budget.spent}{cost} are spent, and the next answer may take "
        f"{most}. {total - num_left:,} of {total:,} answers are in {store.path} ({num_before:,} of them were before), "
        f"{num_left:,} are left and take at most {needed}{cost_left}. Raise the limit and run the same again: what is "
        f"stored costs nothing."
    )
