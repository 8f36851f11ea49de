"""Shape and switches of a decoder, which are all that the families differ in."""

import dataclasses
from typing import Any, Literal

from sublim_jax import errors, specs


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Shape and switches of a decoder."""

    vocab_size: specs.Count
    num_layers: specs.Count
    hidden_size: specs.Count
    intermediate_size: specs.Count  # of the feed-forward
    num_heads: specs.Count
    num_kv_heads: specs.Count
    head_dim: specs.Count
    frequencies: tuple[specs.Positive, ...]  # radians per token; twice as many features of a head turn, none for none
    local_frequencies: tuple[specs.Positive, ...] | None = None  # of windowed layers, if they have their own
    local_layers: tuple[bool, ...] = ()  # which layers see a window only; empty is none
    window: specs.Count | None = None  # tokens that a windowed layer sees, itself included
    query_scale: specs.Positive | None = None  # None is head_dim ** -0.5
    activation: Literal["silu", "gelu", "exact_gelu"] = "silu"  # gelu is the tanh approximation
    gated: bool = True  # the feed-forward multiplies the activation by a second projection
    norm_eps: specs.Positive = 1e-6
    qkv_bias: bool = False
    qk_norm: bool = False
    sandwich_norms: bool = False  # also after attention and after the feed-forward, before they are added
    norm_offset: float = 0.0  # norms multiply by weight + offset
    embedding_scale: specs.Positive = 1.0
    tied: bool = True  # the head is the embedding
    layout: Literal["llama", "gpt_neox", "gpt2", "phi3"] = "llama"  # how files name and join the tensors
    norm: Literal["rms", "layer"] = "rms"  # layer: the mean is subtracted first, and a bias is added
    pre_norms: bool = True  # before attention and before the feed-forward
    parallel: bool = False  # attention and feed-forward read the same state, and both are added to it
    whole_qk_norm: bool = False  # the norms of q and k are over all heads together
    output_bias: bool = False  # of the attention's output
    feed_bias: bool = False  # of both maps of a feed-forward without a gate
    unrotated_layers: tuple[bool, ...] = ()  # which layers know no positions; empty is none
    num_positions: specs.Count | None = None  # learnt positions, added to the embedding
    attention_cap: specs.Positive | None = None  # scores s of attention become cap * tanh(s / cap)
    logit_cap: specs.Positive | None = None  # and so do the scores of the next token

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise errors.InputError(
                f"{self.num_heads} heads of the queries cannot share {self.num_kv_heads} heads of the keys in equal "
                f"groups; the first number must be a multiple of the second"
            )
        if self.head_dim % 2 and self.frequencies:
            raise errors.InputError(f"head_dim={self.head_dim} is odd; a rotary embedding turns pairs of features")
        for table in (self.frequencies, self.local_frequencies):
            if table is not None and len(table) > self.head_dim // 2:
                raise errors.InputError(
                    f"there are {len(table)} rotary frequencies, and head_dim={self.head_dim} takes half as many at "
                    f"most"
                )
        if self.local_frequencies is not None and len(self.local_frequencies) != len(self.frequencies):
            raise errors.InputError(
                f"windowed layers have {len(self.local_frequencies)} rotary frequencies, and the others "
                f"{len(self.frequencies)}; expected equal numbers"
            )
        for layers, meaning in ((self.local_layers, "see a window only"), (self.unrotated_layers, "know no positions")):
            if len(layers) not in (0, self.num_layers):
                raise errors.InputError(
                    f"for {len(layers)} layers it is said whether they {meaning}, and there are {self.num_layers} "
                    f"layers"
                )
        if any(self.local_layers) and self.window is None:
            raise errors.InputError("some layers see a window only, and the size of the window is missing")
        if not (self.pre_norms or self.sandwich_norms):
            raise errors.InputError("pre_norms and sandwich_norms are both False; layers without any norm diverge")
        if self.feed_bias and self.gated:
            raise errors.InputError("feed_bias is for a feed-forward without a gate; expected gated=False")

    def settings(self) -> dict[str, Any]:
        """All settings up to `tied`, and later ones that are not at their default. The names of stored models and
        completions are hashes of these, and must not change when a family with a new switch is added."""
        fields = dataclasses.fields(self)
        num_first = [field.name for field in fields].index("tied") + 1
        later = (field for field in fields[num_first:] if getattr(self, field.name) != field.default)
        return {field.name: getattr(self, field.name) for field in (*fields[:num_first], *later)}

    def __repr__(self) -> str:
        return f"DecoderConfig({', '.join(f'{name}={value!r}' for name, value in self.settings().items())})"
