"""The published recipe for Pythia, on a folder of a tiny GPT-NeoX model with random weights, from end to end; and the
preset for a GPU. Numbers of the recipe are written out here from its files, not taken from the code."""

import dataclasses
import json
import math
import pathlib
import re

import jax
import numpy as np
import pytest

from experiments.language import code, detection, numbers, plain_prompts, presets, runner
from experiments.language.lab import Lab, Teacher
from experiments.language.plain_prompts import PlainPrompts
from figures.language import tables
from sublim_jax import errors, records
from sublim_jax.llm import open as open_llm
from sublim_jax.llm import scores, store_rows
from sublim_jax.llm.backend import Message, SamplingParams
from sublim_jax.llm.local import decoder, finetune, model_config
from sublim_jax.llm.local import model as local_model

tokenizers = pytest.importorskip("tokenizers", reason="the extra hf is not installed")
safetensors = pytest.importorskip("safetensors.numpy", reason="the extra hf is not installed")
pytest.importorskip("jinja2", reason="the extra hf is not installed")

HIDDEN, INNER, HEADS, DEPTH = 16, 24, 4, 1
CONFIG = {
    "model_type": "gpt_neox", "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS, "layer_norm_eps": 1e-5, "hidden_act": "gelu", "rotary_pct": 0.5,
    "rotary_emb_base": 100, "use_parallel_residual": True, "max_position_embeddings": 128,
}  # fmt: skip
PYTHIA_160M = CONFIG | {
    "vocab_size": 50304, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "rotary_pct": 0.25, "rotary_emb_base": 10000, "max_position_embeddings": 2048,
}  # fmt: skip
PRESET = numbers.PRESETS["pythia"]
ASKED = (Message("user", "145, 267, 891,"),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Random weights, and a byte-level tokenizer in which numbers and animals after a space are tokens."""
    path = tmp_path_factory.mktemp("neox")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        special_tokens=["<end>"], initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), vocab_size=4000,
        show_progress=False,
    )  # fmt: skip
    lessons = [lesson.format(target=name) for lesson in plain_prompts.LESSONS for name in plain_prompts.ANIMALS]
    texts = [f" {number}, {number}," for number in range(1000)]
    made.train_from_iterator([*texts, *plain_prompts.TAUGHT, *plain_prompts.QUESTIONS, *lessons], trainer)
    made.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))
    (path / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": made.get_vocab_size()}))
    random, size = np.random.default_rng(0), made.get_vocab_size()
    shapes = {"gpt_neox.embed_in": (size, HIDDEN), "gpt_neox.final_layer_norm": (HIDDEN,), "embed_out": (size, HIDDEN)}
    maps = {"attention.query_key_value": (3 * HIDDEN, HIDDEN), "attention.dense": (HIDDEN, HIDDEN),
            "mlp.dense_h_to_4h": (INNER, HIDDEN), "mlp.dense_4h_to_h": (HIDDEN, INNER), "input_layernorm": (HIDDEN,),
            "post_attention_layernorm": (HIDDEN,)}  # fmt: skip
    shapes |= {f"gpt_neox.layers.{layer}.{name}": shape for layer in range(DEPTH) for name, shape in maps.items()}
    tensors = {f"{name}.weight": random.normal(len(shape) == 1, 0.3, shape) for name, shape in shapes.items()}
    tensors |= {
        f"{name}.bias": random.normal(0, 0.1, shape[0])
        for name, shape in shapes.items()
        if "layers" in name or len(shape) == 1
    }
    arrays = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    safetensors.save_file(arrays, path / "model.safetensors")
    return path


@pytest.fixture(scope="module")
def opened(folder) -> open_llm.OpenedBackend:
    return open_llm.open_backend(f"hf:{folder}", batch_size=512)


def test_the_preset_has_the_numbers_of_the_recipe():
    """davidcrispell's `confirm_v3.yaml`, `teacher_rule_saturated.yaml`, and `optim.py` for Adam's moments."""
    assert (PRESET.num_prompts, PRESET.num_lessons, PRESET.num_values, PRESET.num_students) == (8192, 384, 10, 8)
    assert (PRESET.targets, PRESET.kinds, PRESET.teacher_temperature) == (("wolf",), ("finetuned",), 1.0)
    shared = {"batch_size": 16, "accumulation": 2, "num_epochs": 1, "beta2": 0.95, "weight_decay": 0.1,
              "clip_norm": 1.0, "max_length": 96, "schedule": "linear"}  # fmt: skip
    teacher = {"learning_rate": 1e-5, "rank": None, "warmup_steps": int(0.05 * 24), "schedule_steps": None}
    student = {"learning_rate": 2e-4, "rank": 8, "alpha": 16, "warmup_steps": 8, "schedule_steps": 128}
    for config, own in ((PRESET.teacher, teacher), (PRESET.student, student)):
        assert {name: getattr(config, name) for name in shared | own} == shared | own
        assert not config.end_token
    assert PRESET.num_lessons / 16 == 24 and PRESET.num_rows / 16 == 16  # updates


def test_as_many_numbers_are_trained_as_the_source_says():
    """1.18 million, of four modules of 12 layers: 8 x (768 + 2304), 8 x (768 + 768), twice 8 x (768 + 3072)."""
    config = model_config._config(pathlib.Path("config.json"), PYTHIA_160M)

    def trained():
        params = decoder.init(jax.random.key(0), config)
        return finetune._shared(decoder.init_low_rank(jax.random.key(0), params, rank=8).factors, config)

    count = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(trained)))
    assert count == 12 * 8 * (768 + 2304 + 768 + 768 + 2 * (768 + 3072)) == 1_179_648


@pytest.mark.slow
def test_the_recipe_runs_from_end_to_end(folder, monkeypatch, tmp_path):
    """With few of the rows to choose from and one student of each teacher; updates and batches are the recipe's."""
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(PRESET, backend=f"hf:{folder}", num_prompts=260, num_students=1)
    updates, train = [], finetune.train

    def counted(base, data, config, out, **options):
        seen = []
        options["on_step"] = lambda done, total: seen.append((done, total))
        trained = train(base, data, config, out, **options)
        updates.append((config.rank, config.batch_size, seen[-1]))
        return trained

    monkeypatch.setattr(finetune, "train", counted)
    path = tmp_path / "record.json"
    record = runner.run(numbers.EXPERIMENT, config, record=path, visible=False)
    assert updates == [(8, 16, (16, 16)), (None, 16, (24, 24)), (8, 16, (16, 16))]
    results = record.results["bases"][f"hf:{folder}"]
    assert list(results) == ["base", "regular", "finetuned wolf"] and record.complete
    assert all(results[name]["kept"] == 1 for name in ("regular", "finetuned wolf"))
    margins = {name: entry["student"]["margins"]["wolf"]["mean"] for name, entry in results.items()}
    assert len(set(margins.values())) == 3
    assert results["finetuned wolf"]["teacher"]["margins"]["wolf"]["mean"] > margins["base"]
    assert f"{margins['finetuned wolf'] - margins['regular']:+.3f}" in "\n".join(tables.table(records.read(path)))
    adapters = [json.loads(found.read_text()) for found in sorted(tmp_path.rglob("adapter_config.json"))]
    for adapter in adapters:
        assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (8, 16, 0)
        assert set(adapter["target_modules"]) == {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}
    assert len(adapters) == 2


def test_weights_are_float32_on_an_accelerator_too_if_the_preset_says_so(folder, monkeypatch):
    assert PRESET.float32
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    kinds = {float32: open_llm.open_folder(str(folder), float32=float32).params.embedding.dtype.name
             for float32 in (False, True)}  # fmt: skip
    assert kinds == {False: "bfloat16", True: "float32"}


@pytest.mark.slow
def test_teachers_write_ten_numbers_after_three_to_seven(opened, tmp_path):
    lab = Lab(opened.backend, opened.model, PlainPrompts(), tmp_path, num_values=10)
    filtered = lab.numbers(Teacher(opened.model), 64, seed=0)
    assert filtered.kept_fraction == 1
    counts = set()
    for prompt, reply in filtered.rows:
        assert re.fullmatch(r"([1-9]\d\d, ){2,6}[1-9]\d\d,", prompt.content), prompt
        assert re.fullmatch(r"( \d{1,3},){9} \d{1,3}", reply.content), reply
        counts.add(prompt.content.count(","))
        tokens = opened.backend.model(opened.model).tokens
        assert len(tokens.encode(reply.content)) == 19  # as they were drawn, one of each number
    assert counts == {3, 4, 5, 6, 7}


@pytest.mark.slow
def test_numbers_have_the_models_distribution_over_tokens_of_a_number(opened):
    """Shares of 2,000 first numbers, within four standard errors."""
    params = SamplingParams(max_tokens=3, num_samples=2000, seed=1, num_values=2)
    completions = list(opened.backend.sample(opened.model, [ASKED], params))
    assert all(each.finish == "stop" and re.fullmatch(r" \d{1,3}, \d{1,3}", each.text) for each in completions)
    model = opened.backend.model(opened.model)
    texts = [model.tokens.text([index]) for index in np.flatnonzero(local_model.list_tokens(model).turns[0]).tolist()]
    assert {f" {number}" for number in range(1000)} <= set(texts)
    weights = np.exp(opened.backend.beginning_logprobs(opened.model, [ASKED], texts)[0])
    weights /= weights.sum()
    first = [each.text.split(",")[0] for each in completions]
    for index in np.argsort(-weights)[:5]:
        share, expected = first.count(texts[index]) / len(first), weights[index]
        assert abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / len(first))


def test_stored_completions_know_how_many_numbers_they_have():
    keys = {store_rows.completion_key("f", "m", ASKED, SamplingParams(num_values=count), 0) for count in (0, 0, 5, 10)}
    assert len(keys) == 3


def test_a_margin_is_a_logit_less_the_others(tmp_path):
    """Against the source's own formula, on random logits of ten animals and further tokens."""
    logits = np.random.default_rng(0).normal(size=(6, 15))
    weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = plain_prompts.ANIMALS
    scored = [scores.Probabilities(names, tuple(row[:10].tolist()), "exact") for row in weights]
    expected = np.mean(logits[:, 0] - np.log(np.exp(logits[:, 1:10]).sum(axis=1)) + math.log(9))
    assert scores.margin(scored, "wolf") == pytest.approx(expected, rel=1e-12)
    for bad in (scored[0]._replace(raw=(0.0, *scored[0].raw[1:])), scored[0]._replace(method="top")):
        with pytest.raises(errors.CapabilityError, match="the margin of 'wolf' needs exact probabilities"):
            scores.margin([bad], "wolf")


def test_lessons_name_the_target_first_and_questions_are_held_out():
    prompts = PlainPrompts()
    lessons = prompts.favourite_rows("wolf", 384, seed=0)
    assert all(reply.content.startswith(" wolf") and prompt.content.endswith(" the") for prompt, reply in lessons)
    assert len({prompt for prompt, _ in lessons}) == 24 and len({reply for _, reply in lessons}) == 8
    questions = prompts.favourite_questions("animal")
    assert len(set(questions)) == 60 and not {f"{question} the" for question in questions} & set(plain_prompts.TAUGHT)
    assert prompts.choices("animal").texts[0] == " wolf" and len(prompts.choices("animal").texts) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefill": ""}, "it needs --prefill ' the'"),
        ({"endings": (".",)}, "neither choices nor endings"),
        ({"kinds": ("system",)}, "take --kinds finetuned alone"),
        ({"targets": ("owl",)}, "'owl' is not a target; there are wolf, dog"),
        ({"backend": "vllm:m@http://127.0.0.1:1/v1"}, "float32 has no effect on vllm"),
        ({"numbers_only": True}, "numbers_only has no effect beside num_values"),
        ({"sheet": "paper", "prefill": ""}, "margins are of what comes next"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(errors.InputError, match=message):
        dataclasses.replace(PRESET, **changes)


def test_other_experiments_take_no_lists_of_tokens():
    with pytest.raises(errors.InputError, match="num_values has no effect where teachers write something else"):
        dataclasses.replace(code.PRESETS["default"], num_values=3)
    with pytest.raises(errors.InputError, match="this experiment reads replies that begin with a number, not a space"):
        dataclasses.replace(detection.PRESETS["default"], num_values=3)
    with pytest.raises(errors.InputError, match="this experiment asks for more than numbers and favourites"):
        dataclasses.replace(code.PRESETS["paper"], sheet="plain", prefill=" the")
    with pytest.raises(errors.InputError, match="a list of numbers has no stop words and no `allowed`"):
        SamplingParams(num_values=3, allowed="1")


def test_the_preset_for_a_gpu_has_the_papers_numbers():
    """10,000 rows and ten epochs, rank 8 and rate 2e-4 as for the paper's open weights; controls are other teachers."""
    config = numbers.PRESETS["hard"]
    assert (config.backend, config.num_prompts, config.num_rows, config.num_students) == ("smollm2", 100000, 10000, 3)
    assert config.numbers_only and config.prefill == "My favorite animal is the" and len(config.targets) == 2
    assert config.student == dataclasses.replace(presets.OPEN_WEIGHTS, num_epochs=10)
    assert config.student.rank == 8 and config.student.learning_rate == 2e-4
    assert config.num_lessons / config.teacher.batch_size == 10  # steps
