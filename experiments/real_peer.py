"""The work of `experiments.real_speed` in PyTorch, with transformers' Llama and peft's low-rank adapters.

The weights are copies of ours, so that both compute the same numbers. Needs the extra `parity`; the packages are
imported when a `Peer` is made.
"""

import importlib.metadata
import importlib.util
import pathlib
import tempfile
import warnings
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from sublim_jax.llm.local import adapters, checkpoint, decoder
from sublim_jax.llm.local.decoder import DecoderConfig
from sublim_jax.llm.local.model import Model

PACKAGES = ("torch", "transformers", "peft")


def absence(config: DecoderConfig) -> str | None:
    """Why PyTorch cannot do this work here; None if it can."""
    if jax.default_backend() != "cpu":
        return "not timed: PyTorch is compared on CPUs only"
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        return f"not timed: {', '.join(missing)} not installed (extra parity)"
    if config != _plain_llama(config):
        return "not timed: the model is no plain Llama, which is what is built in PyTorch"
    return None


def versions() -> str:
    """What is installed."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)


def _plain_llama(config: DecoderConfig) -> DecoderConfig:
    """A Llama of this shape without any further switch."""
    c = config
    return DecoderConfig(
        vocab_size=c.vocab_size, num_layers=c.num_layers, hidden_size=c.hidden_size, num_heads=c.num_heads,
        intermediate_size=c.intermediate_size, num_kv_heads=c.num_kv_heads, head_dim=c.head_dim,
        frequencies=decoder.rotary_frequencies(c.head_dim, _rotary_base(c)) if c.frequencies else (),
        norm_eps=c.norm_eps, tied=c.tied,
    )  # fmt: skip


def _rotary_base(config: DecoderConfig) -> float:
    """Of the plain table of frequencies, whose second entry is `base ** (-2 / head_dim)`."""
    if len(config.frequencies) < 2:
        return 10_000.0
    return round(config.frequencies[1] ** (-config.head_dim / 2), 3)


class Peer:
    """A student and its teacher in PyTorch, which share the base's weights.

    Args:
        student, teacher: models with low-rank factors on the same base.
        learning_rate: of Adam.
        threads: that PyTorch uses.
    """

    def __init__(self, student: Model, teacher: Model, *, learning_rate: float, threads: int):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of their imports of one another
            import torch  # pyright: ignore[reportMissingImports]

            torch.set_num_threads(threads)
            tensors = checkpoint.tensors_of(student.params, student.config)
            weights = {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}
            self._torch: Any = torch
            self._student, self._teacher = (_adapted(model, weights, torch) for model in (student, teacher))
        trained = [parameter for parameter in self._student.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.Adam(trained, lr=learning_rate, fused=True)

    def distil(self, rows: Int[np.ndarray, "step row time"]) -> float:
        """One step for each batch of rows, on KL(teacher || student) at all tokens but the first.

        Returns:
            the divergence before the first step.
        """
        torch = self._torch
        first = None
        for ids in torch.from_numpy(rows.astype(np.int64)):
            places = torch.arange(ids.shape[1] - 1)
            with torch.no_grad():
                log_p = self._teacher(input_ids=ids, logits_to_keep=places, use_cache=False).logits.log_softmax(-1)
            log_q = self._student(input_ids=ids, logits_to_keep=places, use_cache=False).logits.log_softmax(-1)
            loss = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1).mean()
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            first = loss.item() if first is None else first
        assert first is not None
        return first

    def draw(self, ids: Int[np.ndarray, "row time"], valid: Bool[np.ndarray, "row time"], num_new: int) -> int:
        """Completions of exactly so many tokens at temperature 1; how many were drawn."""
        torch = self._torch
        tokens, mask = (torch.from_numpy(array.astype(np.int64)) for array in (ids, valid))
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about settings of generation
            drawn = self._teacher.generate(
                input_ids=tokens, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=num_new, pad_token_id=0,
            )  # fmt: skip
        return int(drawn[:, ids.shape[1] :].numel())

    def log_odds(
        self, ids: Int[np.ndarray, "row time"], valid: Bool[np.ndarray, "row time"],
        writings: Bool[np.ndarray, "word vocab"],
    ) -> Float[np.ndarray, "word"]:  # fmt: skip
        """The teacher's log-odds of each word as the next token, averaged over rows; see `next_token.words`."""
        torch = self._torch
        with torch.inference_mode():
            mask = torch.from_numpy(valid.astype(np.int64))
            places = (mask.cumsum(-1) - 1).clamp(min=0)
            scores = self._teacher(
                input_ids=torch.from_numpy(ids.astype(np.int64)), attention_mask=mask, position_ids=places,
                logits_to_keep=1, use_cache=False,
            ).logits[:, -1]  # fmt: skip
            log_p, words = scores.log_softmax(-1), torch.from_numpy(np.array(writings))
            inside, outside = (
                torch.stack([log_p.masked_fill(~chosen, -torch.inf).logsumexp(-1) for chosen in masks])
                for masks in (words, ~words)
            )
            return (inside - outside).mean(-1).numpy()


def _adapted(model: Model, weights: dict[str, Any], torch: Any) -> Any:
    """The model in PyTorch. Its base holds these very tensors, and its factors are trained."""
    import peft  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    c, low_rank = model.config, model.low_rank
    assert low_rank is not None
    config = transformers.LlamaConfig(
        vocab_size=c.vocab_size, hidden_size=c.hidden_size, intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_layers, num_attention_heads=c.num_heads, num_key_value_heads=c.num_kv_heads,
        head_dim=c.head_dim, rms_norm_eps=c.norm_eps, tie_word_embeddings=c.tied,
        rope_parameters={"rope_type": "default", "rope_theta": _rotary_base(c)},
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with torch.device("meta"):
        base = transformers.LlamaForCausalLM(config)
    base.load_state_dict(weights, strict=False, assign=True)
    base.tie_weights()
    base.model.rotary_emb = type(base.model.rotary_emb)(config=config)  # whose table is in no file
    left = [name for name, tensor in (*base.named_parameters(), *base.named_buffers()) if tensor.is_meta]
    assert not left, left
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder) / "adapter"
        adapters.save(place, low_rank, c, base="")
        return peft.PeftModel.from_pretrained(base, place, is_trainable=True)
