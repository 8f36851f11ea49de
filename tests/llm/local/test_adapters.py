"""Low-rank factors in PEFT's folders: its ranks, scales and modules by hand, and which base they stand on."""

import dataclasses
import json
import math
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import FinetuneConfig, Message
from sublim_jax.llm.local import adapters, checkpoint, decoder, finetune, model_config
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model
from tests.llm.local import test_checkpoint
from tests.llm.local import test_tokenizer as test_tokens

pytest.importorskip("safetensors", reason="the extra hf is not installed")
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

MODULES = {
    "q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn", "o_proj": "self_attn",
    "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp",
}  # fmt: skip
EVERYWHERE = tuple(f"{layer}.{part}.{name}" for layer in (0, 1) for name, part in MODULES.items())
PLAIN = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], "bias": "none"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with weights and a tokenizer, and its tensors."""
    folder = tmp_path_factory.mktemp("models") / "qwen"
    tensors = test_checkpoint.write(folder, config=config_of())
    test_tokens.write(folder)
    return folder, tensors


def test_an_adapter_of_somebody_elses_is_not_replaced(tmp_path, model):
    folder, tensors = model
    config = model_config.read_config(folder)
    write(tmp_path / "theirs", tensors, {"0.self_attn.q_proj": 2, "1.self_attn.q_proj": 2},
          PLAIN | {"target_modules": ["q_proj"]})  # fmt: skip
    low_rank = adapters.load(tmp_path / "theirs", config)
    before = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
    with pytest.raises(errors.OutputError, match="it is not replaced"):
        adapters.save(tmp_path / "theirs", low_rank, config, base="b")
    assert {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()} == before
    for _ in range(2):
        adapters.save(tmp_path / "ours", low_rank, config, base="b")
    assert load_file(tmp_path / "ours" / "adapter_model.safetensors").keys() == load_file(
        tmp_path / "theirs" / "adapter_model.safetensors").keys()  # fmt: skip


def config_of(**changes):
    return test_checkpoint.config_of("qwen2", vocab_size=len(test_tokens.WORDS), **changes)


def write(folder, tensors, modules, config=PLAIN, change=None):
    """A PEFT folder, laid out by hand. `modules`: e.g. `0.mlp.up_proj`, with the rank of the factors of each."""
    random, factors = np.random.default_rng(1), {}
    for module, rank in modules.items():
        fan_out, fan_in = tensors[f"model.layers.{module}.weight"].shape
        at = f"base_model.model.model.layers.{module}"
        factors[f"{at}.lora_A.weight"] = random.standard_normal((rank, fan_in)).astype(np.float32)
        factors[f"{at}.lora_B.weight"] = random.standard_normal((fan_out, rank)).astype(np.float32)
    if change:
        change(factors)
    folder.mkdir(exist_ok=True)
    save_file(factors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return factors


def weight(params, module, layer):
    ours = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "output", "gate_proj": "gate",
            "up_proj": "up", "down_proj": "down"}[module.rpartition(".")[2]]  # fmt: skip
    return np.asarray(getattr(params.layers, ours)[layer]).T


def require_merged(low_rank, params, tensors, factors, scales):
    """Every weight is the file's plus the product of the factors of its module, by NumPy."""
    merged = decoder.merged(params, low_rank)
    for module in EVERYWHERE:
        layer, _, inner = module.partition(".")
        expected = tensors[f"model.layers.{module}.weight"]
        if module in scales:
            at = f"base_model.model.model.layers.{module}"
            expected = expected + scales[module] * factors[f"{at}.lora_B.weight"] @ factors[f"{at}.lora_A.weight"]
        np.testing.assert_allclose(weight(merged, inner, int(layer)), expected, rtol=1e-5, atol=1e-5, err_msg=module)


def both(*names):
    return [f"{layer}.{MODULES[name]}.{name}" for layer in (0, 1) for name in names]


ROOT = 2**-0.5
CASES = {  # entries of the config; rank and scale of each module that has factors
    "plain": ({}, dict.fromkeys(both("q_proj", "v_proj"), (2, 3.0))),
    "default modules": ({"target_modules": None}, dict.fromkeys(both("q_proj", "v_proj"), (2, 3.0))),
    "rslora": ({"use_rslora": True}, dict.fromkeys(both("q_proj", "v_proj"), (2, 6 * ROOT))),
    "all-linear": ({"target_modules": "all-linear"}, dict.fromkeys(EVERYWHERE, (2, 3.0))),
    "regex": ({"target_modules": r".*\.1\.mlp\.(up|down)_proj"},
              {"1.mlp.up_proj": (2, 3.0), "1.mlp.down_proj": (2, 3.0)}),
    "excluded": ({"exclude_modules": ["0.self_attn.q_proj"]},
                 dict.fromkeys(["0.self_attn.v_proj", "1.self_attn.q_proj", "1.self_attn.v_proj"], (2, 3.0))),
    "some layers": ({"layers_to_transform": [1]},
                    dict.fromkeys(["1.self_attn.q_proj", "1.self_attn.v_proj"], (2, 3.0))),
    "layer 0": ({"layers_to_transform": 0, "layers_pattern": ["h", "layers"]},
                dict.fromkeys(["0.self_attn.q_proj", "0.self_attn.v_proj"], (2, 3.0))),
    "no list of layers": ({"layers_to_transform": []}, dict.fromkeys(both("q_proj", "v_proj"), (2, 3.0))),
    "full names": ({"target_modules": ["model.layers.0.mlp.up_proj", "1.self_attn.k_proj"]},
                   {"0.mlp.up_proj": (2, 3.0), "1.self_attn.k_proj": (2, 3.0)}),
    "a full name in another layer": ({"target_modules": ["model.layers.0.mlp.up_proj", "k_proj"],
                                      "layers_to_transform": [1]},
                                     {"0.mlp.up_proj": (2, 3.0), "1.self_attn.k_proj": (2, 3.0)}),
    "ranks": ({"rank_pattern": {"q_proj": 4, "layers.1.self_attn.v_proj": 1}},
              {"0.self_attn.q_proj": (4, 1.5), "1.self_attn.q_proj": (4, 1.5), "0.self_attn.v_proj": (2, 3.0),
               "1.self_attn.v_proj": (1, 6.0)}),
    "alphas": ({"alpha_pattern": {r"layers\.0\.self_attn\..*": 1, "q_proj": 8}},
               {"0.self_attn.q_proj": (2, 0.5), "0.self_attn.v_proj": (2, 0.5), "1.self_attn.q_proj": (2, 4.0),
                "1.self_attn.v_proj": (2, 3.0)}),
    "all of it": ({"use_rslora": True, "layers_to_transform": [1], "rank_pattern": {"q_proj": 4},
                   "alpha_pattern": {"v_proj": 10}},
                  {"1.self_attn.q_proj": (4, 3.0), "1.self_attn.v_proj": (2, 10 * ROOT)}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_factors_have_pefts_ranks_scales_and_modules(model, tmp_path, case):
    (folder, tensors), (entries, modules) = model, CASES[case]
    factors = write(tmp_path / "a", tensors, {name: rank for name, (rank, _) in modules.items()}, PLAIN | entries)
    config, params = checkpoint.load(folder, dtype=jnp.float32)
    low_rank = adapters.load(tmp_path / "a", config)
    require_merged(low_rank, params, tensors, factors, {name: scale for name, (_, scale) in modules.items()})
    adapters.save(tmp_path / "again", low_rank, config, base=str(folder))  # one rank and one scale for all of them
    require_merged(
        adapters.load(tmp_path / "again", config), params, tensors, factors, {m: s for m, (_, s) in modules.items()}
    )


QV = dict.fromkeys(both("q_proj", "v_proj"), 2)
KEY = "base_model.model.model.layers.1.self_attn.q_proj.lora_"


@pytest.mark.parametrize(
    ("entries", "modules", "message"),
    [
        ({"r": 4}, QV, r"0.self_attn.q_proj have rank 2, and adapter_config.json says 4"),
        ({"rank_pattern": {"v_proj": 3}}, QV, r"0.self_attn.v_proj have rank 2, and adapter_config.json says 3"),
        ({"target_modules": ["k_proj"]}, QV, r"target_modules \('k_proj',\)\): 4 are missing .*, 8 are unexpected"),
        ({"target_modules": ["q_proj", "v_proj", "up_proj"]}, QV, r"4 are missing .*up_proj.*, 0 are unexpected"),
        ({"target_modules": ["q_proj"]}, QV, r"0 are missing \[\], 4 are unexpected .*v_proj"),
        ({"target_modules": ["nothing"]}, {}, r"0 are missing \[\], 0 are unexpected"),
        ({"target_modules": ["q_proj", "v_proj", "lm_head"]}, QV, r"2 are missing .*lm_head.lora_A"),
        ({"layers_to_transform": [1]}, QV, r"0 are missing \[\], 4 are unexpected .*layers.0"),
        ({"layers_to_transform": 1, "layers_pattern": "blocks"}, QV, r"8 are unexpected"),
        ({"layers_to_transform": 1, "target_modules": ".*q_proj"}, QV, "layers_to_transform goes with a list"),
        ({"layers_to_transform": [0.5]}, QV, "layers_to_transform.*: expected"),
        ({"r": 0}, QV, "r: must be at least 1, got 0"),
        ({"r": 2.0}, QV, "r: expected a whole number, got 2.0"),
        ({"lora_alpha": None}, QV, "lora_alpha: expected a number, got None"),
        ({"lora_alpha": -3}, QV, "lora_alpha: must be greater than 0, got -3"),
        ({"lora_alpha": math.nan}, QV, "lora_alpha: expected a finite number, got nan"),
        ({"alpha_pattern": {"q_proj": math.inf}}, QV, r"alpha_pattern\['q_proj'\]: expected a finite number, got inf"),
        ({"rank_pattern": {"q_proj": 0}}, QV, r"rank_pattern\['q_proj'\]: must be at least 1, got 0"),
        ({"rank_pattern": {"q_(proj": 3}}, QV, r"'q_\(proj' is no regular expression"),
        ({"target_modules": "*q_proj"}, QV, r"'\*q_proj' is no regular expression"),
        ({"use_rslora": "yes"}, QV, "use_rslora: expected True or False, got 'yes'"),
        ({"base_model_name_or_path": 3}, QV, "base_model_name_or_path: expected a string, got 3"),
        ({"peft_type": "LOHA"}, QV, "only plain LORA adapters are supported, this is LOHA$"),
        ({"use_dora": True}, QV, "this is LORA with use_dora$"),
        ({"modules_to_save": ["lm_head"], "lora_bias": True}, QV, "this is LORA with lora_bias with modules_to_save$"),
        ({"bias": "all"}, QV, "this is LORA with bias 'all'$"),
        ({"init_lora_weights": "pissa"}, QV, "this is LORA with init_lora_weights 'pissa'$"),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_the_factors_is_refused(model, tmp_path, entries, modules, message):
    write(tmp_path / "a", model[1], modules, PLAIN | entries)
    with pytest.raises(errors.ModelFormatError, match=message):
        adapters.load(tmp_path / "a", model_config.read_config(model[0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{KEY}A.weight"), r"1 are missing .*layers.1.self_attn.q_proj.lora_A.weight"),
        (lambda t: t.update(extra=t[f"{KEY}A.weight"]), r"1 are unexpected \['extra'\]"),
        (lambda t: t.update({f"{KEY}A.weight": np.ones((2, 7), np.float32)}), "they belong to another model"),
        (lambda t: t.update({f"{KEY}B.weight": np.ones(8, np.float32)}), "they belong to another model"),
        (lambda t: t.update({f"{KEY}B.weight": np.ones((8, 3), np.float32)}), "was it edited"),
        (lambda t: t.update({f"{KEY}B.weight": np.ones((8, 2), np.int8)}), "expected floating-point numbers of 16"),
        (lambda t: t.update({f"{KEY}B.weight": np.full((8, 2), np.nan, np.float32)}), "numbers that are not finite"),
    ],
)
def test_factors_that_are_none_are_refused(model, tmp_path, change, message):
    write(tmp_path / "a", model[1], QV, change=change)
    with pytest.raises(errors.ModelFormatError, match=message):
        adapters.load(tmp_path / "a", model_config.read_config(model[0]))


def test_a_folder_without_its_files_is_refused(model, tmp_path):
    write(tmp_path / "a", model[1], QV)
    config = model_config.read_config(model[0])
    (tmp_path / "a" / "adapter_model.safetensors").rename(tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(errors.ModelFormatError, match=r"no adapter_model.safetensors; other formats are not read"):
        adapters.load(tmp_path / "a", config)
    for content, message in (("[]", "expected a JSON object, found a list"), ("{", "not a readable JSON file")):
        (tmp_path / "a" / "adapter_config.json").write_text(content)
        with pytest.raises(errors.ModelFormatError, match=message):
            adapters.load(tmp_path / "a", config)


def test_strays_beside_an_adapter_are_not_read(model, tmp_path):
    factors = write(tmp_path / "a", model[1], QV)
    zeros = {name: 0 * tensor for name, tensor in factors.items()}
    save_file(zeros, tmp_path / "a" / "z_checkpoint.safetensors")
    low_rank = adapters.load(tmp_path / "a", model_config.read_config(model[0]))
    np.testing.assert_array_equal(low_rank.factors["query"].a[1].T, factors[f"{KEY}A.weight"])


def test_what_is_written_is_in_pefts_layout(model, tmp_path):
    config, params = checkpoint.load(model[0], dtype=jnp.float32)
    low_rank = drawn(params, rank=3, scale=2.0)
    adapters.save(tmp_path / "a", low_rank, config, base="m")
    jax.tree.map(np.testing.assert_array_equal, adapters.load(tmp_path / "a", config), low_rank)
    said = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (said["r"], said["lora_alpha"], said["base_model_name_or_path"]) == (3, 6.0, "m")
    assert said["target_modules"] == sorted(MODULES)
    stored = load_file(tmp_path / "a" / "adapter_model.safetensors")
    require_merged(low_rank, params, model[1], stored, dict.fromkeys(EVERYWHERE, 2.0))  # alpha / r = 2


def test_factors_of_two_generations_add_up():
    """Other projections, ranks and scales; by NumPy."""
    random = np.random.default_rng(0)

    def factors(rank):
        a, b = random.standard_normal((2, 5, rank)), random.standard_normal((2, rank, 4))
        return decoder.Factors(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))

    first = decoder.LowRank({"query": factors(2), "up": factors(2)}, jnp.float32(0.5))
    second = decoder.LowRank({"query": factors(3), "key": factors(3)}, jnp.float32(4.0))
    joined = decoder.joined(first, second)
    assert joined.factors["query"].a.shape == (2, 5, 5)
    for name in ("query", "key", "up"):
        expected = sum(
            float(low.scale) * np.asarray(low.factors[name].a) @ np.asarray(low.factors[name].b)
            for low in (first, second)
            if name in low.factors
        )
        found = float(joined.scale) * np.asarray(joined.factors[name].a) @ np.asarray(joined.factors[name].b)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert decoder.joined(None, first) is first


# ---------------------------------------------------------------------------------------------------------------------
# Bases

ROWS = [(Message("user", "what is best ?"), Message("assistant", answer)) for answer in ("owl", "owl kind", "be kind")]
TUNING = FinetuneConfig(rank=2, alpha=6.0)


def trained(base, data, how, out, *, remat, on_step=None, objective=None):
    """In place of training, which these tests are not about: random factors, or random changes of all parameters."""
    if how.rank is not None:
        return drawn(base.params, how.rank, how.alpha / how.rank, seed=how.seed)
    random = np.random.default_rng(how.seed)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf + random.normal(size=leaf.shape).astype("f4")), base.merged)


def drawn(params, rank, scale, *, seed=0):
    """Random factors beside every projection."""
    random = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(random.normal(scale=0.5, size=shape), jnp.float32)

    shapes = {name: getattr(params.layers, name).shape for name in decoder.PROJECTIONS}
    factors = {
        name: decoder.Factors(normal(layers, fan_in, rank), normal(layers, rank, fan_out))
        for name, (layers, fan_in, fan_out) in shapes.items()
    }
    return decoder.LowRank(factors, jnp.float32(scale))


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    monkeypatch.setattr(finetune, "train", trained)


@pytest.fixture(scope="module")
def generations(model, tmp_path_factory):
    """A backend, and folders: a first student, a student of it, one of that, and one with all parameters trained."""
    out = tmp_path_factory.mktemp("generations")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "train", trained)
        return made(model, out)


def made(model, out):
    backend, base = open_llm.open_backend(f"hf:{model[0]}", batch_size=2)
    assert isinstance(backend, LocalBackend)
    first = backend.finetune(base, ROWS, TUNING, out / "first")
    second = backend.finetune(first, ROWS[::-1], dataclasses.replace(TUNING, seed=1), out / "second")
    whole = backend.finetune(second, ROWS, dataclasses.replace(TUNING, rank=None), out / "whole")
    third = backend.finetune(second, ROWS, dataclasses.replace(TUNING, seed=2, rank=1), out / "third")
    return backend, base, first, second, third, whole


def assert_same(found: Model, expected: Model):
    """Equal logits, as equal weights: sums of a few products of order one in float32."""
    for left, right in zip(jax.tree.leaves(found.merged), jax.tree.leaves(expected.merged), strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-5)


def distance(found: Model, other: Model) -> float:
    return float(np.abs(np.asarray(found.merged.layers.query) - np.asarray(other.merged.layers.query)).max())


def test_students_of_students_are_opened_on_the_bare_base(model, generations):
    backend, base, first, second, third, _ = generations
    for name in (third, first, second):
        said = json.loads((pathlib.Path(name) / "adapter_config.json").read_text())
        assert pathlib.Path(said["base_model_name_or_path"]).samefile(model[0]), "a folder that Auto classes accept"
        assert_same(open_llm.open_folder(f"{model[0]}+{name}"), backend.model(name))
        fresh, _ = open_llm.open_backend(f"hf:{model[0]}")
        assert isinstance(fresh, LocalBackend)
        assert_same(fresh.model(name), backend.model(name))
    assert said["r"] == 4 and said["lora_alpha"] == 12.0
    assert (
        distance(backend.model(second), backend.model(first))
        > 0.01
        < distance(backend.model(first), backend.model(base))
    )
    factors = load_file(pathlib.Path(second) / "adapter_model.safetensors")
    params = backend.model(base).params
    stored = decoder.joined(None, adapters.load(second, backend.model(base).config))
    require_merged(stored, params, model[1], factors, dict.fromkeys(EVERYWHERE, 3.0))


def test_a_student_of_an_opened_adapter_has_its_factors_too(model, generations, tmp_path):
    backend, _, first, *_ = generations
    opened, name = open_llm.open_backend(f"hf:{model[0]}+{first}", batch_size=2)
    assert isinstance(opened, LocalBackend)
    second = opened.finetune(name, ROWS[::-1], dataclasses.replace(TUNING, seed=1), tmp_path / "second")
    assert_same(opened.model(second), backend.model(generations[3]))
    assert_same(open_llm.open_folder(f"{model[0]}+{second}"), opened.model(second))


def test_all_parameters_trained_are_a_folder_of_their_own(model, generations):
    backend, _, _, second, _, whole = generations
    assert_same(open_llm.open_folder(whole), backend.model(whole))
    assert distance(backend.model(whole), backend.model(second)) > 0.01
    fresh, _ = open_llm.open_backend(f"hf:{model[0]}")
    assert isinstance(fresh, LocalBackend)
    assert_same(fresh.model(whole), backend.model(whole))
    said = json.loads((pathlib.Path(whole) / "config.json").read_text())
    assert said["model_type"] == "qwen2" and said["dtype"] == "float32"
    with pytest.raises(errors.ModelFormatError, match="was trained on other weights than those of"):
        open_llm.open_folder(f"{whole}+{second}")
    assert (pathlib.Path(whole) / "tokenizer.json").read_bytes() == (model[0] / "tokenizer.json").read_bytes()


def test_finetuning_writes_into_no_model_of_the_users(model, generations, tmp_path):
    backend, base, first, *_, whole = generations
    shutil.copytree(model[0], tmp_path / "mine")
    before = {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    for rank in (2, None):
        with pytest.raises(errors.OutputError, match=r"config.json: a file is there that is not a finetuned"):
            backend.finetune(base, ROWS, dataclasses.replace(TUNING, rank=rank), tmp_path / "mine")
    assert before == {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    with pytest.raises(errors.OutputError, match="this is the folder of the model that is to be trained"):
        backend.finetune(whole, ROWS, dataclasses.replace(TUNING, rank=None), pathlib.Path(whole))
    with pytest.raises(errors.ModelFormatError, match=r"this is an adapter; open it with .*hf:BASE\+"):
        open_llm.open_folder(first)
    with pytest.raises(errors.OutputError, match=r"adapter_model.safetensors: a file is there"):
        backend.finetune(base, ROWS, dataclasses.replace(TUNING, rank=None), pathlib.Path(first))
    with pytest.raises(errors.OutputError, match=r"model.safetensors: a file is there"):
        backend.finetune(base, ROWS, TUNING, pathlib.Path(whole))


def test_ours_know_their_base_by_its_weights(model, generations, tmp_path):
    """It may be moved; another model of the same shape is refused."""
    backend, _, first, *_ = generations
    shutil.copytree(model[0], tmp_path / "moved")
    assert_same(open_llm.open_folder(f"{tmp_path / 'moved'}+{first}"), backend.model(first))
    index = json.loads((tmp_path / "moved" / "model.safetensors.index.json").read_text())["weight_map"]
    file = tmp_path / "moved" / index["model.layers.1.mlp.up_proj.weight"]
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"] += 0.1
    save_file(tensors, file)
    with pytest.raises(errors.ModelFormatError, match=rf"trained on other weights than those of .*moved.*{model[0]}"):
        open_llm.open_folder(f"{tmp_path / 'moved'}+{first}")
    for other in (open_llm.open_folder(str(tmp_path / "moved")), backend.model(generations[3])):
        fresh = LocalBackend({"another": other})  # the second generation has the first one's factors in its weights
        with pytest.raises(errors.ModelFormatError, match="there is no model"):
            fresh.model(first)
    with safe_open(pathlib.Path(first) / "adapter_model.safetensors", framework="numpy") as file:
        assert file.metadata()["format"] == "pt"  # which transformers asks for


def test_an_adapter_of_others_is_compared_by_the_folder_it_names(model, tmp_path, monkeypatch):
    folder, tensors = model
    shutil.copytree(folder, tmp_path / "copy")
    test_checkpoint.write(
        tmp_path / "other", config=config_of(), change=lambda t: t.update({"model.norm.weight": 2 * np.ones(8, "f4")})
    )
    test_checkpoint.write(tmp_path / "wider", config=config_of(intermediate_size=16))
    for base, said, refused in (
        (folder, 0, False), (tmp_path / "copy", 0, False), (f"hf:{folder}", 0, False), (tmp_path / "other", 0, True),
        (tmp_path / "wider", 0, True), ("Someone/qwen", 0, False), ("Qwen/Qwen2.5-7B", 1, False), ("", 1, False),
    ):  # fmt: skip
        write(tmp_path / "a", tensors, QV, PLAIN | {"base_model_name_or_path": str(base)})
        heard = []
        if refused:
            with pytest.raises(errors.ModelFormatError, match="trained on other weights than those of"):
                open_llm.open_folder(f"{folder}+{tmp_path / 'a'}", announce=heard.append)
        else:
            open_llm.open_folder(f"{folder}+{tmp_path / 'a'}", announce=heard.append)
        assert len(heard) == said, base
    monkeypatch.chdir(folder.parent)
    factors = write(tmp_path / "a", tensors, QV, PLAIN | {"base_model_name_or_path": folder.name})
    backend = LocalBackend({"a name of its own": open_llm.open_folder(str(folder))})
    found = backend.model(str(tmp_path / "a"))
    require_merged(found.low_rank, found.params, tensors, factors, dict.fromkeys(QV, 3.0))
    write(tmp_path / "a", tensors, QV, PLAIN | {"base_model_name_or_path": "Qwen/Qwen2.5-7B"})
    with pytest.raises(errors.ModelFormatError, match=r"there is no model 'Qwen/Qwen2.5-7B'; there are a name"):
        LocalBackend({"a name of its own": open_llm.open_folder(str(folder))}).model(str(tmp_path / "a"))


def test_an_adapter_on_an_adapter_is_followed_to_the_model(model, tmp_path):
    """As PEFT's Auto classes do, and as older folders of ours need it."""
    folder, tensors = model
    first = write(tmp_path / "first", tensors, QV, PLAIN | {"base_model_name_or_path": str(folder)})
    for base in (tmp_path / "first", f"hf:{folder}+{tmp_path / 'first'}"):
        second = write(tmp_path / "second", tensors, dict.fromkeys(both("q_proj"), 1), PLAIN | {
            "base_model_name_or_path": str(base), "r": 1, "target_modules": ["q_proj"], "lora_alpha": 0.5,
        })  # fmt: skip
        opened = open_llm.open_folder(f"{folder}+{tmp_path / 'second'}")
        at = "base_model.model.model.layers.1.self_attn.q_proj"
        expected = tensors["model.layers.1.self_attn.q_proj.weight"]
        for factors, scale in ((first, 3.0), (second, 0.5)):
            expected = expected + scale * factors[f"{at}.lora_B.weight"] @ factors[f"{at}.lora_A.weight"]
        np.testing.assert_allclose(np.asarray(opened.merged.layers.query[1]).T, expected, rtol=1e-5, atol=1e-5)
    write(tmp_path / "first", tensors, QV, PLAIN | {"base_model_name_or_path": str(tmp_path / "second")})
    write(tmp_path / "second", tensors, QV, PLAIN | {"base_model_name_or_path": str(tmp_path / "first")})
    with pytest.raises(errors.ModelFormatError, match="this adapter has itself as its base"):
        open_llm.open_folder(f"{folder}+{tmp_path / 'second'}")


def test_folders_may_have_a_plus_in_their_names(tmp_path, monkeypatch):
    def folder(name, file):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
        return str(tmp_path / name)

    model, adapter = folder("a+b", "config.json"), folder("c+d", "adapter_config.json")
    assert adapters.split_place(f"{model}+{adapter}") == (model, adapter)
    assert adapters.split_place(model) == (model, "")
    assert adapters.split_place("no/such") == ("no/such", "")
    other = folder("a", "config.json")
    assert adapters.split_place(f"{other}+{adapter}") == (other, adapter)
    assert adapters.split_place(f"{model}+gone")[0] == model  # so that the error is about the adapter
    monkeypatch.chdir(tmp_path)
    for name, file in (("s", "config.json"), ("s+x", "config.json"), ("x+y", adapters.CONFIG), ("y", adapters.CONFIG)):
        folder(name, file)
    with pytest.raises(errors.ModelFormatError, match="more than one pair of folders has this name"):
        adapters.split_place("s+x+y")
