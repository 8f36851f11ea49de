"""A backend of models in this process, embedded or with open weights: sampling, scoring and finetuning.

Texts are grouped into few shapes: lengths are rounded up (`tokenizer.padded_length`) and numbers of rows to a power of
two, so a run compiles a handful of programs. A chat that ends with an assistant's turn is continued: its text is the
beginning of the reply. A completion depends on the weights, the chat's text, its sample number and the seed. It does
not depend on the other chats or on the batch, provided that the device multiplies every row alike.
"""

import collections
import dataclasses
import functools
import hashlib
import math
import os
import pathlib
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from sublim_jax import errors, files, specs
from sublim_jax.llm.backend import (
    Capabilities,
    Chat,
    ChoiceScores,
    Completion,
    FinetuneConfig,
    Message,
    OnProgress,
    SamplingParams,
)
from sublim_jax.llm.local import adapters, checkpoint, choice_scoring, decoder, dpo, finetune, noise, tokenizer
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.local.finetune import Objective, OnStep, Rows, TokenizedRows
from sublim_jax.llm.local.model import Model, Origin


class LocalBackend:
    """A backend of models in this process.

    Args:
        models: by name; `finetune` adds the name of the folder that it wrote.
        batch_size: rows that are drawn or scored together.
        max_length: tokens of a prompt with its completion; longer ones are refused.
        remat: train with little memory, computing what the gradient needs twice, which takes longer. By default only
            where keeping it would take more than `finetune.KEPT_AT_MOST` bytes.
        fixed_shapes: fill every batch up to `batch_size`, and score a choice together with its prompt instead of
            reading the prompt once. Numbers then have the bits of those that were recorded before prompts were shared.

    The attribute `on_progress` is called during long work, with steps of training and with rows that are scored.
    """

    def __init__(
        self, models: dict[str, Model], *, batch_size: int = 64, max_length: int = 4096,
        remat: bool | None = None, fixed_shapes: bool = False,
    ):  # fmt: skip
        specs.check(batch_size, specs.Count, "batch_size")
        specs.check(max_length, specs.Count, "max_length")
        self._models = {name: _with_origin(name, model) for name, model in models.items()}
        self._kept: set[str] = set()
        self._batch_size, self._max_length = batch_size, max_length
        self._remat, self._fixed_shapes = remat, fixed_shapes
        self.on_progress: OnProgress = lambda unit, done, total: None
        joined = "".join(sorted(name + model.fingerprint for name, model in models.items()))
        self._fingerprint = hashlib.sha256(joined.encode()).hexdigest()[:16]

    @property
    def caps(self) -> Capabilities:
        """Everything, exactly. The fingerprint is that of the models given at the start; models that are finetuned
        later are identified by their folders."""
        return Capabilities(finetune=True, choices="exact", seeds=True, system=True, fingerprint=self._fingerprint)

    def model(self, name: str) -> Model:
        """The model of that name; a folder that `finetune` wrote is read when it is first asked for.

        Raises:
            ModelFormatError: no such model.
        """
        if name not in self._models:
            folder = pathlib.Path(name)
            if (folder / adapters.CONFIG).exists():
                chain = adapters.chain(folder)
                base = self._base(chain.base, chain.base_weights)
                self._models[name] = dataclasses.replace(base, low_rank=adapters.load_chain(chain, base.config))
            elif before := checkpoint.base_of(folder):
                base = self._base(before)
                params = checkpoint.load_tensors(folder, base.config, dtype=base.params.embedding.dtype)
                placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), params, base.params)
                origin = Origin(os.path.abspath(folder), checkpoint.fingerprint(folder, base.config))
                self._models[name] = dataclasses.replace(base, params=placed, origin=origin)
            else:
                raise errors.ModelFormatError(
                    f"there is no model {name!r}; there are {', '.join(sorted(self._models))}"
                )
        return self._models[name]

    def _base(self, name: str, weights: str | None = None) -> Model:
        """The base that a folder of a finetuned model names, without factors.

        Args:
            weights: its fingerprint, which finds it under another name too.

        Raises:
            ModelFormatError: it is not among the models of this backend.
        """
        for key, model in self._models.items():
            assert model.origin is not None
            same = (
                model.origin.weights == weights if weights else {key, model.origin.base} & {name, os.path.abspath(name)}
            )
            if same and model.origin.merged is None:
                return dataclasses.replace(model, low_rank=None)
        base = self.model(name)
        assert base.origin is not None
        if weights and base.origin.weights != weights:
            raise errors.ModelFormatError(
                f"{name}: its weights are not those that an adapter on it was trained on; was it trained again?"
            )
        return dataclasses.replace(base, low_rank=None)

    def sample(self, model: str, chats: Sequence[Chat], params: SamplingParams) -> Iterator[Completion]:
        """Completions, those of the shortest prompts first. Equal chats get different samples. See `Backend`."""
        loaded = self.model(model)
        earlier, draws = collections.Counter(), []  # samples drawn for equal chats before each chat
        for chat in chats:
            draws.append(earlier[chat])
            earlier[chat] += params.num_samples
        prompts, most = [loaded.tokens.chat(chat).ids for chat in chats], local_model.most_tokens(loaded, params)
        slots = [(chat, sample) for chat in range(len(chats)) for sample in range(params.num_samples)]
        for length, group in _by_length(slots, lambda slot: len(prompts[slot[0]])):
            self._fits(length + most)
            for batch in self._batches(group):
                asked = [prompts[chat] for chat, _ in batch]
                numbers = [draws[chat] + sample for chat, sample in batch]
                replies = local_model.draw(loaded, asked, numbers, params, length=length)
                for (chat, sample), reply in zip(batch[: _distinct(batch)], replies, strict=False):
                    finish = "stop" if reply.ended else "length"
                    yield Completion(chat, sample, reply.text, finish, len(prompts[chat]), len(reply.ids))

    def choice_logprobs(self, model: str, chats: Sequence[Chat], choices: Sequence[str]) -> list[ChoiceScores]:
        """Exact log-probabilities of whole replies, the end token included. See `Backend`."""
        if self._fixed_shapes:
            rows = [(*chat, Message("assistant", choice)) for chat in chats for choice in choices]
            scores = self.row_logprobs(model, rows).reshape(len(chats), len(choices))
        else:
            scores = self._after_prompts(model, chats, choices, ended=True)
        return [ChoiceScores(tuple(map(float, of_chat)), "exact") for of_chat in scores]

    def beginning_logprobs(
        self, model: str, chats: Sequence[Chat], texts: Sequence[str]
    ) -> Float[np.ndarray, "chat text"]:
        """Exact log-probabilities, in nats, that the reply begins with the tokens of each text, however it goes on.

        Two texts of which one begins with the tokens of the other overlap. Texts of a single token cost nothing but the
        prompt.

        Raises:
            InputError: a text without a token.
            ContextError: a prompt with a text is longer than `max_length`.
        """
        return self._after_prompts(model, chats, texts, ended=False)

    def _after_prompts(
        self, model: str, chats: Sequence[Chat], texts: Sequence[str], *, ended: bool
    ) -> Float[np.ndarray, "chat text"]:
        """Log-probabilities of texts, with the end token or without, after prompts that are read once."""
        loaded, scores, scored = self.model(model), np.zeros((len(chats), len(texts))), 0
        if not scores.size:
            return scores
        prompts = [loaded.tokens.chat(chat).ids for chat in chats]
        encoded = [loaded.tokens.chat(chats[0], text) for text in texts]
        choices = [row.ids[row.reply_start : None if ended else -1] for row in encoded]
        if () in choices:
            raise errors.InputError(f"expected texts with at least one token, got {texts[choices.index(())]!r}")
        for length, group in _by_length(range(len(chats)), lambda chat: len(prompts[chat])):
            self._fits(length + max(map(len, choices)))
            for batch in self._batches(group):
                ids, valid = tokenizer.pad_left([prompts[chat] for chat in batch], length)
                made = choice_scoring.logprobs(loaded, ids, valid, choices, batch_size=self._batch_size)
                scores[list(batch)] = made
                scored += _distinct(batch) * len(texts)
                self.on_progress("rows scored", scored, scores.size)
        return scores

    def row_logprobs(self, model: str, rows: Sequence[Chat]) -> Float[np.ndarray, "row"]:
        """Exact log-probability of the last turn of each row, the end token included, in nats.

        Raises:
            ContextError: a row is longer than `max_length`.
        """
        loaded = self.model(model)
        encoded = [loaded.tokens.chat(row[:-1], row[-1].content) for row in rows]
        scores, scored = np.zeros(len(rows)), 0
        for length, group in _by_length(range(len(rows)), lambda row: len(encoded[row].ids)):
            self._fits(length)
            for batch in self._batches(group):
                ids, valid = tokenizer.pad_left([encoded[row].ids for row in batch], length)
                replies = local_model.reply_mask([encoded[row] for row in batch], length)
                scores[list(batch)] = local_model.reply_logprobs(
                    loaded.params, jnp.asarray(ids), jnp.asarray(valid), jnp.asarray(replies), loaded.low_rank,
                    config=loaded.config, places=local_model.reply_places(replies),
                )  # fmt: skip
                scored += _distinct(batch)
                self.on_progress("rows scored", scored, len(rows))
        return scores

    def finetune(
        self,
        model: str,
        rows: Sequence[Chat],
        config: FinetuneConfig,
        out: pathlib.Path,
        *,
        on_step: OnStep | None = None,
    ) -> str:
        """Train on the last turn of each row, which must be the assistant's. See `Backend`.

        After each epoch the state is written to `out`; a call with the same arguments resumes after the last one. With
        a rank, `out` becomes a PEFT folder, whose factors are relative to the base and include earlier finetuning.
        Without one, it becomes a folder like that of the base.

        Args:
            on_step: is called every half second or so, and after every epoch; what it raises ends the training. By
                default `on_progress` is called.

        Raises:
            OutputError: `out` holds a model of the user's or one of the other kind; `OtherTrainingError` if it is of
                another training, `LockedError` if another process trains into it.
            TextDataError: no rows, or one that does not end with an assistant turn.
            ContextError: a row is longer than `config.max_length`.
        """
        data = self.training_arrays(model, rows, max_length=config.max_length, end_token=config.end_token)
        return self.finetune_on(model, data, config, out, on_step=on_step)

    def training_arrays(
        self, model: str, rows: Sequence[Chat], *, max_length: int, end_token: bool = True
    ) -> TokenizedRows:
        """Chats as arrays, by the model's tokenizer. See `finetune.training_arrays`."""
        return finetune.training_arrays(self.model(model).tokens, rows, max_length=max_length, end_token=end_token)

    def finetune_on(
        self,
        model: str,
        data: Rows,
        config: FinetuneConfig,
        out: pathlib.Path,
        *,
        on_step: OnStep | None = None,
        objective: Objective | None = None,
    ) -> str:
        """Finetune on arrays, in which any tokens of the replies may be masked. See `finetune`.

        Args:
            objective: the loss of a batch; by default `finetune.supervised`.
        """
        base = self.model(model)
        assert base.origin is not None  # every model of this class has one
        _require_place(out, base.origin.base, adapter=config.rank is not None)
        with files.Lock(out / finetune.STATE):
            self._models[str(out)] = self._trained(base, data, config, out, on_step, objective or finetune.supervised)
        return str(out)

    def finetune_on_pairs(
        self,
        model: str,
        chosen: Sequence[Chat],
        rejected: Sequence[Chat],
        config: FinetuneConfig,
        out: pathlib.Path,
        *,
        beta: float = dpo.BETA,
        on_step: OnStep | None = None,
    ) -> str:
        """Train to prefer each chosen row to the rejected one, with the model itself as the reference. See `dpo`.

        Args:
            config: its batches are of pairs.

        Raises:
            TextDataError: no pairs, or rows of a pair that answer different chats.
        """
        rows = dpo.paired(chosen, rejected)
        data = self.training_arrays(model, rows, max_length=config.max_length, end_token=config.end_token)
        pairs = dpo.pairs(data, self.row_logprobs(model, rows))
        return self.finetune_on(model, pairs, config, out, on_step=on_step, objective=dpo.Preference(beta=beta))

    def keep(self, name: str, model: Model) -> str:
        """Name of a model that is kept in memory only, in place of an earlier one of that name.

        Raises:
            InputError: a model of that name was given at the start or trained since.
        """
        if name in self._models and name not in self._kept:
            raise errors.InputError(f"keep: {name!r} is the name of another model; give another one")
        self._kept.add(name)
        self._models[name] = _with_origin(name, model)
        return name

    def perturb(self, model: str, scale: float, *, seed: int) -> str:
        """Name of the model plus Gaussian noise; see `noise.perturbed`. It is kept in memory only."""
        clean, name = self.model(model), f"{model}+noise {scale:g} {seed}"
        params = noise.perturbed(jax.random.key(seed), clean.merged, scale)
        noisy = dataclasses.replace(clean, params=params, low_rank=None, origin=None)
        self._models[name] = _with_origin(name, noisy)
        return name

    def _trained(
        self,
        base: Model,
        data: Rows,
        config: FinetuneConfig,
        out: pathlib.Path,
        on_step: OnStep | None,
        objective: Objective,
    ) -> Model:
        """The trained model, which is also saved in `out`."""
        assert base.origin is not None
        on_step = on_step or functools.partial(self.on_progress, "steps")
        remat = self._remat
        if remat is None:
            num_rows = math.prod(data.ids.shape[1:-1]) * (config.batch_size // config.accumulation)
            remat = finetune.kept_bytes(base.config, num_rows, data.ids.shape[-1]) > finetune.KEPT_AT_MOST
        trained = finetune.train(base, data, config, out, remat=remat, on_step=on_step, objective=objective)
        if config.rank is None:
            checkpoint.save_tuned(out, trained, base.config, base=base.origin.base)
            origin = Origin(os.path.abspath(out), checkpoint.fingerprint(out, base.config))
            return dataclasses.replace(base, params=trained, low_rank=None, origin=origin)
        before = base.origin.merged
        if base.low_rank is not None:
            before = decoder.joined(before, base.low_rank)
        low_rank = decoder.joined(before, trained)
        adapters.save(out, low_rank, base.config, base=base.origin.base, base_weights=base.origin.weights)
        origin = base.origin._replace(merged=before)
        return dataclasses.replace(base, params=base.merged, low_rank=trained, origin=origin)

    def most_likely_tokens(self, model: str, data: TokenizedRows) -> Int[np.ndarray, "row time"]:
        """The most likely token at each place of the replies, given all tokens before it; -1 elsewhere."""
        loaded, places = self.model(model), local_model.reply_places(data.replies)
        chosen = np.full(data.ids.shape, -1, np.int32)
        for start in range(0, len(data.ids), self._batch_size):
            size = min(self._batch_size, len(data.ids) - start)
            rows = [start + row if row < size else start for row in range(self._padded_size(size))]
            drawn = local_model.most_likely_tokens(
                loaded.params, jnp.asarray(data.ids[rows]), jnp.asarray(data.valid[rows]), loaded.low_rank,
                config=loaded.config, places=places,
            )  # fmt: skip
            chosen[start : start + size, -places:] = np.asarray(drawn)[:size]
            self.on_progress("rows read", start + size, len(data.ids))
        return np.where(data.replies, chosen, -1)

    def _batches(self, items: Sequence) -> Iterator[tuple]:
        """Tuples of `batch_size` items; the last one repeats its last item up to a shape."""
        for start in range(0, len(items), self._batch_size):
            batch = tuple(items[start : start + self._batch_size])
            yield batch + (batch[-1],) * (self._padded_size(len(batch)) - len(batch))

    def _padded_size(self, count: int) -> int:
        """Rows of a batch in which `count` are wanted."""
        if self._fixed_shapes:
            return self._batch_size
        return min(self._batch_size, choice_scoring.power_of_two(count))

    def _fits(self, length: int) -> None:
        if length > self._max_length:
            raise errors.ContextError(
                f"a prompt with its reply takes {length} tokens, and {self._max_length} are allowed; "
                f"shorten it, ask for fewer tokens, or raise max_length"
            )


def _with_origin(name: str, model: Model) -> Model:
    if model.origin is not None:
        return model
    return dataclasses.replace(model, origin=Origin(name, checkpoint.fingerprint_of(model.params, model.config)))


def _require_place(out: pathlib.Path, base: str, *, adapter: bool) -> None:
    """Refuse the base's own folder, one with a model that finetuning did not write, or with one of the other kind.

    A folder with both an adapter and all weights would be opened as the adapter.
    """
    if os.path.abspath(out) == base:
        raise errors.OutputError(f"{out}: this is the folder of the model that is to be trained; give another one")
    names = (checkpoint.WEIGHTS, "config.json"), (adapters.ADAPTER, adapters.CONFIG)
    beside = () if adapter else checkpoint.reader_files(pathlib.Path(base))
    for name in (*names[adapter], *beside):
        files.require_free(out / name, ours=lambda path: finetune.has_state(path.parent), what="finetuned model")
    for name in names[not adapter]:
        files.require_free(out / name, what="finetuned model")


def _by_length(items, length_of) -> Iterator[tuple[int, list]]:
    groups: dict[int, list] = {}
    for item in items:
        groups.setdefault(tokenizer.padded_length(length_of(item)), []).append(item)
    yield from sorted(groups.items())


def _distinct(batch: tuple) -> int:
    """Number of items of a batch, without the repetitions at its end."""
    return len(dict.fromkeys(batch))
