"""Against torch: the families, greedy draws, gradients, finetuning, adapters and chat templates of the other world.

Every model is made here, from transformers' own classes, at random: a few thousand weights, three layers. Texts are
left-padded, and what stands in the padding is not zero. Needs the extra `parity`; without it nothing of this runs.
"""

import copy
import dataclasses
import functools
import json
import pathlib
import shutil
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import FinetuneConfig, Message
from sublim_jax.llm.local import adapters, checkpoint, decoder, layout, sampling, tokenizer
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their imports of one another
    torch = pytest.importorskip("torch", reason="the extra parity is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra parity is not installed")
    peft = pytest.importorskip("peft", reason="the extra parity is not installed")
    tokenizers = pytest.importorskip("tokenizers", reason="the extra hf is not installed")

pytestmark = [
    pytest.mark.filterwarnings(rf"ignore:::{package}(\..*)?") for package in ("torch", "transformers", "peft")
]

TOLERANCE = 1e-4
"""Largest difference of a logit. Both sides compute in float32 and add in another order; logits are of order ten, so a
rounding is 1e-6, and three layers carry a few of those on. Measured on a processor, at most: Qwen2 5.9e-6, Qwen3
7.4e-6, Llama 3 8.4e-6, Llama 3.1 8.0e-6, Gemma 3 6.5e-6,
Gemma 2 5.8e-6, Mistral 9.5e-6, Phi-3 7.1e-6, OLMo2 4.5e-6, SmolLM3 5.4e-6, GPT-NeoX 2.7e-6; with low-rank factors
1.5e-5."""

SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA_3_1 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,  # of head_dim 16 one rotation is kept, one in between, six are slowed down
}
GEMMA_ROTARY = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
GEMMA = {
    "head_dim": 16,
    "sliding_window": 5,
    "query_pre_attn_scalar": 24,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
THETA = {"rope_type": "default", "rope_theta": 1e6}
PART = {"rope_type": "default", "rope_theta": 1e2, "partial_rotary_factor": 0.5}
CAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0}


class Family(NamedTuple):
    """A model of transformers, and what a loader might get wrong about it."""

    kind: str  # prefix of its classes
    config: dict[str, Any]
    wrong: dict[str, Any]  # entries of `DecoderConfig` that must show in the logits


FAMILIES = {
    "qwen2-tied": Family(
        "Qwen2", {"tie_word_embeddings": True, "rope_parameters": THETA}, {"frequencies": decoder.rotary_frequencies(8)}
    ),
    "qwen2-untied": Family("Qwen2", {"tie_word_embeddings": False, "rope_parameters": THETA}, {"tied": True}),
    "qwen3": Family("Qwen3", {"head_dim": 16, "rope_parameters": THETA}, {"norm_eps": 1e-3}),
    "llama-3": Family(
        "Llama",
        {"head_dim": 16, "rope_parameters": THETA | {"rope_theta": 5e5}, "rms_norm_eps": 1e-5},
        {"frequencies": decoder.rotary_frequencies(16, 1e6)},
    ),
    "llama-3.1": Family(
        "Llama",
        {"head_dim": 16, "rope_parameters": LLAMA_3_1, "tie_word_embeddings": True},
        {"frequencies": decoder.rotary_frequencies(16, 5e5)},
    ),
    "gemma3": Family("Gemma3", GEMMA, {"window": 4, "local_frequencies": None, "query_scale": None}),
    "gemma3-scaled": Family("Gemma3", GEMMA | {"rope_parameters": GEMMA_ROTARY}, {"window": 6}),
    "gemma2": Family(
        "Gemma2",
        {"head_dim": 16, "sliding_window": 5, "query_pre_attn_scalar": 24, **CAPS},
        {"attention_cap": None, "logit_cap": None, "window": 4, "local_layers": (False, True, False)},
    ),
    "mistral": Family("Mistral", {"sliding_window": 5, "rope_parameters": THETA}, {"window": 6, "local_layers": ()}),
    "phi3": Family(
        "Phi3", {"sliding_window": 6, "rope_parameters": PART | {"partial_rotary_factor": 0.75}}, {"window": 5}
    ),
    "olmo2": Family("Olmo2", {"rope_parameters": THETA}, {"norm_eps": 1e-3}),
    "smollm3": Family("SmolLM3", {"no_rope_layers": [1, 0, 1]}, {"unrotated_layers": (False, False, True)}),
    "gpt-neox": Family("GPTNeoX", {"rope_parameters": PART}, {"parallel": False, "frequencies": ()}),
    "gpt-neox-in-turn": Family(
        "GPTNeoX",
        {"rope_parameters": PART, "use_parallel_residual": False, "attention_bias": False},
        {"parallel": True, "norm": "rms"},
    ),
    "gpt2": Family("GPT2", {"n_inner": 48}, {"activation": "silu", "norm_eps": 1e-2}),
}


class Case(NamedTuple):
    """One random model in both worlds."""

    name: str
    folder: pathlib.Path
    model: Any  # torch's
    config: decoder.DecoderConfig
    params: decoder.Params


@pytest.fixture(scope="module", autouse=True)
def exact_products():
    """Products of matrices in float32, also where the device would take fewer bits."""
    with jax.default_matmul_precision("highest"):
        yield


@functools.cache
def torch_model(name: str):
    """Random everywhere, also where a fresh model has zeros and ones, or a swapped bias or norm would not show."""
    family = FAMILIES[name]
    config_class = getattr(transformers, family.kind + ("TextConfig" if family.kind == "Gemma3" else "Config"))
    torch.manual_seed(0)
    model_class = getattr(transformers, family.kind + ("LMHeadModel" if family.kind == "GPT2" else "ForCausalLM"))
    model = model_class(config_class(**SHAPE | family.config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=1.5 * parameter.shape[1] ** -0.5)
            else:
                parameter.add_(0.3 * torch.randn_like(parameter))
        if family.kind.startswith("Gemma"):  # or its embedding drowns the layers, and every token is followed by itself
            for layer in model.model.layers:
                for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm):
                    norm.weight.add_(3.0)
        if family.kind == "GPT2":  # likewise, by its places
            model.transformer.wpe.weight.mul_(4.0)
    return model


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """A case by its name; saved once, in several files."""

    @functools.cache
    def made(name: str) -> Case:
        folder = tmp_path_factory.mktemp(name)
        torch_model(name).save_pretrained(folder, max_shard_size="20KB")
        assert len(list(folder.glob("*.safetensors"))) > 1
        return Case(name, folder, torch_model(name), *checkpoint.load(folder, dtype=jnp.float32))

    return made


@pytest.fixture(params=FAMILIES)
def case(request, make) -> Case:
    return make(request.param)


def texts(lengths=(21, 13, 1), time=21):
    """Left-padded rows of random tokens, and which places are theirs; no row holds the padding's or the end's token."""
    ids = np.random.default_rng(0).integers(3, SHAPE["vocab_size"], (len(lengths), time))
    return ids, np.arange(time)[None] >= time - np.array(lengths)[:, None]


def their_logits(model, ids, valid):
    """Torch's, with a gradient."""
    places = np.maximum(np.cumsum(valid, axis=1) - 1, 0)
    arrays = (torch.as_tensor(np.asarray(array)) for array in (ids, valid.astype(np.int64), places))
    return model(**dict(zip(("input_ids", "attention_mask", "position_ids"), arrays, strict=True))).logits


@functools.partial(jax.jit, static_argnames="config")
def our_logits(params, ids, valid, low_rank=None, *, config):
    return decoder.logits(params, decoder.features(params, ids, valid, config, low_rank=low_rank), config)


def difference(model, params, config, low_rank=None) -> float:
    """Largest difference of a logit where there is a token."""
    ids, valid = texts()
    with torch.no_grad():
        expected = their_logits(model, ids, valid).numpy()[valid]
    assert 1 < expected.std() < 30
    found = np.asarray(our_logits(params, jnp.asarray(ids), jnp.asarray(valid), low_rank, config=config))[valid]
    return float(np.abs(found - expected).max())


def test_logits_are_torchs(case):
    assert difference(case.model, case.params, case.config) < TOLERANCE
    for entry, value in FAMILIES[case.name].wrong.items():
        wrong = dataclasses.replace(case.config, **{entry: value})
        assert difference(case.model, case.params, wrong) > 100 * TOLERANCE, f"the tolerance would not see {entry}"


def test_greedy_completions_are_torchs(case):
    """Sixteen tokens, three times the window, and their log-probabilities; the first row meets an end token early."""
    ids, valid = texts()

    def theirs(end):
        return case.model.generate(
            torch.as_tensor(ids), attention_mask=torch.as_tensor(valid.astype(np.int64)), do_sample=False,
            max_new_tokens=16, eos_token_id=end, pad_token_id=0, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip

    first, *others = theirs(SHAPE["eos_token_id"]).sequences[:, ids.shape[1] :].tolist()
    end = max(first[:5], key=lambda token: sum([*row, token].index(token) for row in others))
    expected = theirs(end)
    drawn = sampling.generate(
        case.params, jnp.asarray(ids), jnp.asarray(valid), jax.random.split(jax.random.key(0), len(ids)),
        jnp.float32(0.0), jnp.float32(1.0), config=case.config, max_tokens=16, end_tokens=(end,),
    )  # fmt: skip
    sequences = expected.sequences.numpy()[:, ids.shape[1] :]
    found = np.asarray(drawn.tokens)[:, : sequences.shape[1]]
    alive = found >= 0
    assert bool(drawn.ended[0]) and alive[0].sum() <= 5 and alive.sum() > 16
    assert len(np.unique(found[alive])) > 4  # no row that repeats itself
    np.testing.assert_array_equal(np.where(alive, found, 0), sequences)
    scores = torch.log_softmax(torch.stack(expected.logits, dim=1), dim=-1)
    chosen = scores.gather(2, expected.sequences[:, ids.shape[1] :, None])[..., 0].numpy()
    found_scores = np.asarray(drawn.logprobs)[:, : sequences.shape[1]]
    np.testing.assert_allclose(found_scores[alive], chosen[alive], rtol=0, atol=TOLERANCE)


def cross_entropy(params, ids, valid, low_rank=None, *, config):
    """Mean over all tokens that follow one, as `labels` make torch compute it."""
    scores = jax.nn.log_softmax(our_logits(params, ids, valid, low_rank, config=config)[:, :-1])
    wanted = valid[:, 1:] & valid[:, :-1]
    return -jnp.mean(jnp.take_along_axis(scores, ids[:, 1:, None], axis=-1)[..., 0], where=wanted)


def their_cross_entropy(model, ids, valid):
    scores = torch.log_softmax(their_logits(model, ids, valid)[:, :-1], dim=-1)
    wanted = torch.as_tensor(valid[:, 1:] & valid[:, :-1])
    return -scores.gather(2, torch.as_tensor(ids[:, 1:, None]))[..., 0][wanted].mean()


def assert_close(found, expected, name):
    """Gradients: sums of a few hundred terms in float32; measured at most 4.4e-6 of the largest entry."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max(), err_msg=name)


def test_gradients_are_torchs(case):
    ids, valid = texts()
    gradient = jax.jit(jax.grad(cross_entropy), static_argnames="config")(
        case.params, jnp.asarray(ids), jnp.asarray(valid), config=case.config
    )
    found = checkpoint.tensors_of(gradient, case.config)
    case.model.zero_grad()
    their_cross_entropy(case.model, ids, valid).backward()
    expected = {name: parameter.grad.numpy() for name, parameter in case.model.named_parameters()}
    if case.name.startswith("gpt-neox") and "lm_head.weight" in expected:  # its name in files
        expected["embed_out.weight"] = expected.pop("lm_head.weight")
    assert found.keys() == expected.keys()
    for name in expected:
        assert np.abs(expected[name]).max() > 1e-5
        assert_close(found[name], expected[name], name)


# ---------------------------------------------------------------------------------------------------------------------
# Folders and adapters

some = pytest.mark.parametrize("case", ["qwen2-tied", "qwen3", "gemma3"], indirect=True)  # they differ in their shapes


def test_what_is_saved_is_the_same_model_to_transformers(case, tmp_path):
    """Factors merged into the weights, written, read by transformers."""
    fresh = decoder.init_low_rank(jax.random.key(0), case.params, rank=3, alpha=6.0)
    low_rank = fresh._replace(factors=jax.tree.map(lambda leaf: leaf + 0.05, fresh.factors))
    merged = jax.jit(decoder.merged)(case.params, low_rank)
    beside = json.loads((case.folder / "config.json").read_text())
    checkpoint.save(tmp_path, merged, case.config, beside=beside)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert difference(model, merged, case.config) < TOLERANCE
    assert difference(model, case.params, case.config, low_rank) < TOLERANCE
    assert difference(model, case.params, case.config) > 100 * TOLERANCE


@some
def test_peft_reads_our_factors(case, tmp_path):
    """Logits with the factors beside the weights, and the gradients of the factors."""
    fresh = decoder.init_low_rank(jax.random.key(0), case.params, rank=3, alpha=6.0)
    low_rank = fresh._replace(factors=jax.tree.map(lambda leaf: leaf + 0.05, fresh.factors))
    adapters.save(tmp_path, low_rank, case.config, base=str(case.folder))
    model = peft.PeftModel.from_pretrained(copy.deepcopy(case.model), tmp_path, is_trainable=True).eval()
    assert difference(model, case.params, case.config, low_rank) < TOLERANCE
    ids, valid = texts()
    their_cross_entropy(model, ids, valid).backward()
    loss = functools.partial(cross_entropy, config=case.config)
    gradient = jax.jit(jax.grad(loss, argnums=3))(case.params, jnp.asarray(ids), jnp.asarray(valid), low_rank)
    adapters.save(tmp_path / "gradient", gradient._replace(scale=low_rank.scale), case.config, base="")
    found = adapters.load(tmp_path / "gradient", case.config).factors
    layer = model.base_model.model.model.layers[1]
    for name, module in (("query", layer.self_attn.q_proj), ("down", layer.mlp.down_proj)):
        assert_close(found[name].a[1].T, module.lora_A["default"].weight.grad.numpy(), name)
        assert_close(found[name].b[1].T, module.lora_B["default"].weight.grad.numpy(), name)


@some
@pytest.mark.parametrize("modules", ["all-linear", ["q_proj", "v_proj", "down_proj"]])
def test_we_read_pefts_factors(case, tmp_path, modules):
    torch.manual_seed(1)
    how = peft.LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=7, target_modules=modules, init_lora_weights=False)
    model = peft.get_peft_model(copy.deepcopy(case.model), how).eval()
    model.save_pretrained(tmp_path)
    found = adapters.load(tmp_path, case.config)
    assert len(found.factors) == (7 if modules == "all-linear" else 3) and float(found.scale) == pytest.approx(7 / 3)
    assert difference(model, case.params, case.config, found) < TOLERANCE
    assert difference(case.model, case.params, case.config, found) > 100 * TOLERANCE


@pytest.mark.parametrize("case", ["gpt-neox", "gpt2", "phi3"], indirect=True)
def test_factors_of_joined_modules_are_pefts(case, tmp_path):
    """Both ways, in logits. A gradient of PEFT's first factor is the sum of those of its parts, which share it."""
    torch.manual_seed(1)
    lora = peft.LoraConfig(
        task_type="CAUSAL_LM", r=3, lora_alpha=7, use_rslora=True, target_modules="all-linear",
        init_lora_weights=False, fan_in_fan_out=case.name == "gpt2",
    )  # fmt: skip
    model = peft.get_peft_model(copy.deepcopy(case.model), lora).eval()
    model.save_pretrained(tmp_path / "theirs")
    low_rank = adapters.load(tmp_path / "theirs", case.config)
    assert difference(model, case.params, case.config, low_rank) < TOLERANCE
    assert difference(case.model, case.params, case.config, low_rank) > 100 * TOLERANCE
    ids, valid = texts()
    their_cross_entropy(model, ids, valid).backward()
    loss = functools.partial(cross_entropy, config=case.config)
    gradient = jax.jit(jax.grad(loss, argnums=3))(case.params, jnp.asarray(ids), jnp.asarray(valid), low_rank)
    module = next(module for module in layout.modules(case.config) if "query" in module.outputs)
    name = f"base_model.model.{layout.prefix(case.config, 1)}{module.name}"
    theirs = model.get_submodule(name)
    first = sum(np.asarray(gradient.factors[part].a[1]) for part in module.outputs)
    second = module.join({part: np.asarray(gradient.factors[part].b[1]) for part in module.outputs})
    assert_close(first.T, theirs.lora_A["default"].weight.grad.numpy(), "A")
    assert_close(second.T, theirs.lora_B["default"].weight.grad.numpy(), "B")
    fresh = decoder.init_low_rank(jax.random.key(0), case.params, rank=3, alpha=6.0)
    apart = fresh._replace(factors=jax.tree.map(lambda leaf: leaf + 0.05, fresh.factors))
    adapters.save(tmp_path / "ours", apart, case.config, base=str(case.folder))
    model = peft.PeftModel.from_pretrained(copy.deepcopy(case.model), tmp_path / "ours").eval()
    assert difference(model, case.params, case.config, apart) < TOLERANCE


PATTERNS: dict[str, dict[str, Any]] = {
    "rslora": {"use_rslora": True},
    "layers": {"layers_to_transform": [0, 2]},
    "one layer": {"layers_to_transform": 1, "layers_pattern": "layers"},
    "a regex": {"target_modules": r".*\.[01]\.(self_attn\.[qv]_proj|mlp\.down_proj)"},
    "excluded": {"target_modules": "all-linear", "exclude_modules": ["layers.1.self_attn.k_proj", "up_proj"]},
    "ranks": {"rank_pattern": {"q_proj": 5, "layers.2.mlp.down_proj": 2}},
    "alphas": {"alpha_pattern": {r"layers\.[01]\.self_attn\..*": 1, "down_proj": 11}},
    "all": {
        "use_rslora": True,
        "layers_to_transform": [1, 2],
        "rank_pattern": {"2.mlp.down_proj": 5},
        "alpha_pattern": {"v_proj": 2},
    },
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pefts_patterns_have_pefts_numbers(make, tmp_path, pattern):
    """Which modules have factors, of which rank and scale; the logits show all of it."""
    case = make("qwen3")
    torch.manual_seed(1)
    options: dict[str, Any] = {"task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 7, "init_lora_weights": False}
    modules = {"target_modules": ["q_proj", "k_proj", "v_proj", "down_proj"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's advice
        how = peft.LoraConfig(**options | modules | PATTERNS[pattern])
        model = peft.get_peft_model(copy.deepcopy(case.model), how).eval()
        model.save_pretrained(tmp_path)
    adapter = adapters.read(tmp_path)
    layers = {name: layer for name, layer in model.base_model.model.named_modules() if hasattr(layer, "lora_A")}
    for name, layer in case.model.named_modules():
        if isinstance(layer, torch.nn.Linear):
            assert adapter.targets(name) == (name in layers), name
            if name in layers:
                assert adapter.rank(name) == layers[name].r["default"]
                assert adapter.scale(name) == pytest.approx(layers[name].scaling["default"], rel=1e-12)
    found = adapters.load(tmp_path, case.config)
    assert difference(model, case.params, case.config, found) < TOLERANCE
    assert difference(case.model, case.params, case.config, found) > 100 * TOLERANCE


def words(folder):
    """The files of a tokenizer, beside a model."""
    their_tokenizer(folder, PLAIN)
    return folder


def test_what_finetuning_leaves_is_opened_by_auto_classes(make, tmp_path):
    """Two generations of factors, then all parameters: the Auto classes get folders and nothing else, and their logits
    are those of the models in this process."""
    folder = words(make("qwen2-tied").folder)
    backend, base = open_llm.open_backend(f"hf:{folder}", batch_size=4)
    how = FinetuneConfig(num_epochs=1, batch_size=5, learning_rate=0.02, rank=3, alpha=6.0)
    first = backend.finetune(base, ROWS, how, tmp_path / "first")
    second = backend.finetune(first, ROWS[::-1], dataclasses.replace(how, rank=2), tmp_path / "second")
    whole = backend.finetune(second, ROWS, dataclasses.replace(how, rank=None), tmp_path / "whole")
    assert isinstance(backend, LocalBackend)
    theirs = {}
    for name in (first, second):
        theirs[name] = peft.AutoPeftModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval()
    theirs[whole] = transformers.AutoModelForCausalLM.from_pretrained(whole).eval()
    assert transformers.AutoTokenizer.from_pretrained(whole).chat_template == PLAIN
    for name, model in theirs.items():
        assert next(model.parameters()).dtype == torch.float32
        ours = backend.model(name)
        assert difference(model, ours.params, ours.config, ours.low_rank) < TOLERANCE, name
        again = open_llm.open_folder(name if name == whole else f"{folder}+{name}")
        assert difference(model, again.params, again.config, again.low_rank) < TOLERANCE, name
    ours = backend.model(base)
    assert all(difference(model, ours.params, ours.config) > 100 * TOLERANCE for model in theirs.values())


def test_the_index_decides_as_it_does_for_transformers(make, tmp_path):
    """With strays beside the shards of the index."""
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "m"
    shutil.copytree(make("qwen2-tied").folder, folder)
    for shard in list(folder.glob("*.safetensors")):
        save_file({name: 0 * tensor for name, tensor in load_file(shard).items()}, folder / f"z-{shard.name}")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    config, params = checkpoint.load(folder, dtype=jnp.float32, announce=lambda _: None)
    assert difference(model, params, config) < TOLERANCE


@pytest.mark.parametrize("family", ["llama-3", "qwen2-tied"])
def test_nulls_are_read_as_transformers_reads_them(tmp_path, family):
    kind, options, _ = FAMILIES[family]
    config = getattr(transformers, f"{kind}Config")(**SHAPE | options | {"num_key_value_heads": None, "head_dim": 8})
    torch.manual_seed(0)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    nulls = {"num_key_value_heads": None, "layer_types": None, "rope_scaling": None}
    if family == "llama-3":
        nulls["head_dim"] = None
    (tmp_path / "config.json").write_text(json.dumps(content | nulls))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(40)  # a fresh model's logits are small
    model.save_pretrained(tmp_path / "louder")
    (tmp_path / "louder" / "config.json").write_text(json.dumps(content | nulls))
    config, params = checkpoint.load(tmp_path / "louder", dtype=jnp.float32)
    assert config.num_kv_heads == 4 and config.head_dim == 8
    assert difference(model, params, config) < TOLERANCE


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"lora_bias": True},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"bias": "all"},
        {"modules_to_save": ["embed_tokens"]},
        {"target_modules": ["embed_tokens", "q_proj"]},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_adapters_that_mean_something_else_are_refused(make, tmp_path, options):
    case = make("qwen2-untied")
    how = peft.LoraConfig(**{"task_type": "CAUSAL_LM", "r": 3, "target_modules": "all-linear"} | options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's advice
        peft.get_peft_model(copy.deepcopy(case.model), how).save_pretrained(tmp_path)
    with pytest.raises(
        errors.ModelFormatError,
        match=r"only plain LORA adapters|are unexpected|are not supported, only those of layers",
    ):
        adapters.load(tmp_path, case.config)


# ---------------------------------------------------------------------------------------------------------------------
# Chats, and training on them

WORDS = [f"w{index}" for index in range(SHAPE["vocab_size"] - 7)]
SPECIAL = ["<pad>", "<bos>", "<end>", "<user>", "<assistant>", "<system>", "[UNK]"]
QWEN = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<system>\\n' + messages[0]['content'] + '<end>\\n' }}
{%- else %}
    {{- '<system>\\nw1 w2 <end>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) or message.role == "assistant" %}
        {{- '<' + message.role + '>\\n' + message.content + '<end>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<assistant>\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- 'w3 w4\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
LLAMA = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<system>\\n\\n" }}{{- "w5: " + date_string + "\\n\\n" }}{{- system_message }}{{- eos_token }}
{%- for message in messages %}
    {%- if message.content == 'w0' %}{%- continue %}{%- endif %}
    {{- '<' + message['role'] + '>\\n\\n'+ message['content'] | trim + eos_token }}
{%- endfor %}
{%- if tools is not none and documents %}{{- tools | tojson(indent=4) }}{%- endif %}
{%- if add_generation_prompt %}
    {{- '<assistant>\\n\\n' }}
{%- endif %}
"""
GEMMA_TURNS = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {{ raise_exception('System role not supported') }}
{%- endif -%}
{% for message in messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {% endif %}
    {% set role = 'assistant' if message['role'] == 'assistant' else message['role'] %}
    {{ '<' + role + '>\\n' + message['content'] | trim + '<end>\\n' }}
{% endfor %}
{% if add_generation_prompt %}
    {{'<assistant>\\n'}}
{%- endif -%}
"""
TRAINED = """\
{%- for message in messages %}
    {%- set role = message.role %}
    {%- if role == 'assistant' %}
    {% generation %}{%- set role = 'user' %}
        {{- '<assistant>\\n' + message.content }}<end>
    {% endgeneration %}
    {%- else %}
        {{- '<' + role + '>\\n' + message | tojson(ensure_ascii=true, sort_keys=true) }}
    {%- endif %}
    {{- role }}<end>
{%- endfor %}
<assistant>
"""
TEMPLATES = {"qwen": QWEN, "llama": LLAMA, "gemma": GEMMA_TURNS, "trained": TRAINED}
PLAIN = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<assistant>"

QUESTION = (Message("user", " w7 w8 w9\nw7 <b>&'ö "),)
CHATS = (
    QUESTION,
    (Message("system", "w6 w10\n"), *QUESTION),
    (*QUESTION, Message("assistant", "w11"), Message("user", "w0")),
    (Message("system", ""), *QUESTION, Message("assistant", " w11 w12"), Message("user", "w13")),
)


def their_tokenizer(folder: pathlib.Path, template: str):
    """A tokenizer of words, as transformers saves it in `folder`."""
    words = tokenizers.models.WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token="<end>", pad_token="<pad>", unk_token="[UNK]",
        additional_special_tokens=SPECIAL[3:6], chat_template=template,
    )  # fmt: skip
    wrapped.save_pretrained(folder)
    return wrapped


@pytest.mark.parametrize("template", TEMPLATES)
def test_chats_are_rendered_as_transformers_renders_them(tmp_path, template):
    theirs = their_tokenizer(tmp_path, TEMPLATES[template])
    ours = tokenizer.read(tmp_path)
    assert ours.end_ids == (2,) and ours.size == len(theirs) == SHAPE["vocab_size"]
    refused = 0
    for chat in CHATS:
        asked = functools.partial(
            theirs.apply_chat_template, [message._asdict() for message in chat], add_generation_prompt=True,
            enable_thinking=False, date_string=tokenizer.PINNED["date_string"],
        )  # fmt: skip
        if template == "gemma" and chat[0].role == "system":
            refused += 1
            with pytest.raises(Exception, match="System role not supported"):
                asked(tokenize=False)
            with pytest.raises(errors.TemplateError, match="System role not supported"):
                ours.render(chat)
        else:
            text = asked(tokenize=False)
            assert ours._rendered(chat) == text
            if all(message.role == "assistant" or message.content.strip() in text for message in chat):
                assert list(ours.chat(chat).ids) == asked(tokenize=True, return_dict=False)
            else:  # it skips a turn, or writes it in another form: nobody is trained or asked by it
                refused += 1
                with pytest.raises(errors.TemplateError, match="leaves out the text of a user turn"):
                    ours.render(chat)
    assert refused == {"qwen": 0, "llama": 1, "gemma": 2, "trained": 4}[template]


ROWS = [
    (Message("user", "w1 w2"), Message("assistant", "w3")),
    (Message("user", "w4 w5 w6 w1 w1 w9 w20"), Message("assistant", "w3 w7 w8 w9")),
    (Message("system", "w30"), Message("user", "w2 w2"), Message("assistant", "w10 w11")),
    (Message("user", "w40 w41 w42"), Message("assistant", "w12")),
    (Message("user", "w50"), Message("assistant", "w3 w3 w3")),
]
RATES = (0.5, 0.75, 1.0, 0.75, 0.5, 0.25)  # two steps of warm-up, then a line to zero


def test_finetuning_is_torchs(make, tmp_path):
    """Six steps of Adam on all rows at once, all parameters, a clipped gradient and a rate that rises and falls.

    Torch takes the loss from `labels`, one row at a time, unpadded. Adam divides by the size of a gradient, so that
    entries near zero turn a rounding into a step of another size: differences are larger than those of logits. The sum
    over all rows falls from 83 to 6; measured at most 8e-5 in a row.
    """
    case = make("qwen2-tied")
    their_tokenizer(tmp_path, PLAIN)
    reader = tokenizer.read(tmp_path)
    encoded = [reader.chat(row[:-1], row[-1].content) for row in ROWS]
    count = sum(len(row.ids) - row.reply_start for row in encoded)

    def reply_loss(model, row):
        """Sum over the reply."""
        ids = torch.tensor([row.ids])
        labels = ids.clone()
        labels[0, : row.reply_start] = -100
        return model(input_ids=ids, labels=labels).loss * (len(row.ids) - row.reply_start)

    def scores(model):
        with torch.no_grad():
            return np.array([-float(reply_loss(model, row)) for row in encoded])

    model = copy.deepcopy(case.model)
    stepper = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    before, norms = scores(model), []
    for rate in RATES:
        stepper.param_groups[0]["lr"] = 0.01 * rate
        stepper.zero_grad()
        loss = sum(reply_loss(model, row) for row in encoded) / count
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        stepper.step()
    after = scores(model)
    assert norms[0] > 1 and after.sum() > before.sum() / 2  # it was clipped, and it learned

    found = LocalBackend({"base": Model(case.config, case.params, reader)})
    how = FinetuneConfig(
        num_epochs=6, batch_size=5, learning_rate=0.01, rank=None, warmup=2 / 6, schedule="linear", clip_norm=1.0
    )
    tuned = found.finetune("base", ROWS, how, tmp_path / "tuned")

    def our_scores(name):
        return np.array([found.choice_logprobs(name, [row[:-1]], [row[-1].content])[0].logprobs[0] for row in ROWS])

    np.testing.assert_allclose(our_scores("base"), before, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(our_scores(tuned), after, rtol=0, atol=4e-4)
