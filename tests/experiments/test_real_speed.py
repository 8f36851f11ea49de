"""`real_speed` on a random Llama of a few thousand weights: what is counted, what is kept. No time is asserted."""

import dataclasses
import functools
import importlib.util
import math
import types
import warnings
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import progress, real_peer, real_products, real_speed
from experiments.language import next_token
from experiments.language.real_config import RealConfig
from experiments.language.real_lab import RealLab
from experiments.real_products import Pass, Product
from sublim_jax import errors, records
from sublim_jax.forms import real_speed as form
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.embedded.vocabulary import WORDS, WordTokenizer
from sublim_jax.llm.local import decoder, sampling, soft
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.decoder import DecoderConfig
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.local.soft import Batch
from tests.experiments.test_language_speed import products_of, sizes

DEEP = DecoderConfig(  # layers are looped over from the fifth on; sizes differ from one another
    vocab_size=53, num_layers=5, hidden_size=24, intermediate_size=40, num_heads=6, num_kv_heads=2, head_dim=6,
    frequencies=decoder.rotary_frequencies(6),
)  # fmt: skip
LLAMA = dataclasses.replace(
    DEEP, vocab_size=len(WORDS), num_layers=1, hidden_size=8, intermediate_size=12, num_heads=2, num_kv_heads=1,
    head_dim=4, frequencies=decoder.rotary_frequencies(4, 100_000.0), norm_eps=1e-5,
)  # fmt: skip
RANK = 7
SETTINGS = RealConfig(backend="tiny:0", targets=("owl", "eagle"), num_answers=0)
CONFIG = real_speed.RealSpeedConfig(backend="tiny:0", repeats=2, num_steps=2, num_prompts=3, num_new_tokens=4)


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    params = decoder.init(jax.random.key(0), LLAMA)
    return LocalBackend({"tiny:0": Model(LLAMA, params, WordTokenizer())}, remat=False)


@pytest.fixture(scope="module")
def shared(backend, tmp_path_factory) -> real_speed.Setting:
    return real_speed.setting(CONFIG, RealLab(backend, "tiny:0", SETTINGS, tmp_path_factory.mktemp("models")))


@pytest.fixture
def run(backend, monkeypatch, tmp_path):
    """Runs the command's function on the random decoder, without PyTorch and without pauses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(real_speed, "PAUSE", 0.0)
    monkeypatch.setattr(open_llm, "open_backend", lambda *_, **__: open_llm.OpenedBackend(backend, "tiny:0"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, find=importlib.util.find_spec: (
        None if name in real_peer.PACKAGES else find(name)
    ))  # fmt: skip
    return functools.partial(real_speed.run, CONFIG, visible=False)


def counted(passes: list[Pass], num_layers: int) -> Counter:
    every: Counter = Counter()
    for part in passes:
        for product in part.layer:
            every[sizes(product.form, product.left, product.right)] += part.count * num_layers
        for product in part.head:
            every[sizes(product.form, product.left, product.right)] += part.count
    return every


def models() -> tuple[decoder.Params, decoder.LowRank]:
    """Shapes of the deep decoder and its factors."""
    params = jax.eval_shape(functools.partial(decoder.init, config=DEEP), jax.random.key(0))
    return params, jax.eval_shape(functools.partial(decoder.init_low_rank, rank=RANK), jax.random.key(0), params)


def array(*shape: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def test_the_products_of_a_step_are_those_of_its_program():
    """Oracle: the gradient that `soft` takes, traced."""
    params, (factors, scale) = models()
    batch = Batch(TokenizedRows(array(3, 9), array(3, 9, dtype=jnp.bool), array(3, 9, dtype=jnp.bool)))
    step = functools.partial(soft._divergence, config=DEEP, teacher_config=DEEP, places=8, remat=False)
    low_rank = decoder.LowRank(factors, scale)
    traced = jax.make_jaxpr(jax.grad(step))(factors, params, scale, params, low_rank, batch, None)
    passes = real_products.distillation(DEEP, rows=3, length=9, rank=RANK)
    assert counted(passes, DEEP.num_layers) == products_of(traced.jaxpr)


def test_the_products_of_an_evaluation_are_those_of_its_program():
    params, low_rank = models()
    measure = functools.partial(next_token.words, config=DEEP)
    ids, valid, words = array(3, 9), array(3, 9, dtype=jnp.bool), array(4, 53, dtype=jnp.bool)
    traced = jax.make_jaxpr(measure)(params, low_rank, ids, valid, words)
    passes = real_products.evaluation(DEEP, rows=3, length=9, rank=RANK)
    assert counted(passes, DEEP.num_layers) == products_of(traced.jaxpr)


def test_the_products_of_a_completion_are_those_of_its_passes():
    """The prompt's are those of an evaluation; a token's, those of the decoder with a cache, traced."""
    prompt, token = real_products.drawing(DEEP, rows=3, length=9, num_new=5, rank=RANK)
    assert [prompt] == real_products.evaluation(DEEP, rows=3, length=9, rank=RANK)
    assert token.count == 4  # the first token comes from the prompt's pass
    params, low_rank = models()

    def next_scores(params, low_rank, token, place, seen):
        cache = decoder.empty_cache(DEEP, 3, 9 + 5, jnp.float32)
        hidden, _ = decoder.run(params, token, place, seen, DEEP, cache=cache, at=9, low_rank=low_rank)
        return decoder.logits(params, hidden[:, -1], DEEP)

    seen = array(3, 14, dtype=jnp.bool)
    traced = jax.make_jaxpr(next_scores)(params, low_rank, array(3, 1), array(3, 1), seen)
    assert counted([token._replace(count=1)], DEEP.num_layers) == products_of(traced.jaxpr)


def test_operations_are_two_for_every_multiplication():
    """Oracle: sizes of the traced kind, multiplied out."""
    passes = real_products.distillation(DEEP, rows=3, length=9, rank=RANK)
    multiplied = sum(count * math.prod(map(math.prod, size)) for size, count in counted(passes, 5).items())
    assert real_products.flops(passes, DEEP) == 2 * multiplied


def test_products_alone_are_run_as_often_as_they_are_counted():
    """Of matrices of ones, each scaled by the number of its turn plus that of its layer, every element is that number
    times the terms of a sum; the sum over all of them is exact in float32."""
    params = jax.tree.map(jnp.ones_like, decoder.init(jax.random.key(0), DEEP))
    linear = Product("ni,io->no", (2, 24), (24, 36), "query")
    scores = Product("bkqd,bksd->bkqs", (1, 2, 3, 6), (1, 2, 4, 6))
    head = Product("ni,vi->nv", (2, 24), (53, 24), "head")
    passes = [Pass([linear, scores], [head]), Pass([linear], [head], count=3)]
    expected = 0
    for step in range(2):
        for turn, of_layer in [(step + 1, 24 + 6), *((3 * step + index + 1, 24) for index in range(3))]:
            expected += sum(of_layer * (turn + layer) for layer in range(1, 6)) + 24 * turn
    assert float(real_products.alone(passes, DEEP, params, steps=2)()) == expected


@pytest.fixture
def instant(monkeypatch):
    """What is timed takes no time and is not compiled."""
    words = next_token.Words(*map(jnp.asarray, (np.zeros(1), np.zeros(1), 0.0)))
    monkeypatch.setattr(soft, "distill", lambda student, *_: soft.Distilled(student, np.ones(1)))
    monkeypatch.setattr(sampling, "generate", lambda *_, **__: ())
    monkeypatch.setattr(next_token, "words", lambda *_, **__: words)
    monkeypatch.setattr(real_products, "alone", lambda *_, **__: lambda: ())


def check_record(path) -> None:
    record = records.read(path, form.FORM)
    assert record.complete and list(record.results) == list(form.WORKS)
    assert record.description["pytorch"] == "not timed: torch, transformers, peft not installed (extra parity)"
    for measured in record.results.values():
        for kind in ("seconds", "cpu_seconds"):
            assert {name: len(seconds) for name, seconds in measured[kind].items()} == {"sublim_jax": 2, "products": 2}
    assert record.results["distillation"]["sizes"] == {"rows": 4, "length": 25, "rank": 8}
    assert record.results["drawing"]["sizes"]["rows"] == 3
    assert record.results["evaluation"]["sizes"]["words"] > 1
    about, head, *rows = form.lines(record)
    assert "2 repetition(s)" in about
    assert head.split()[:3] == ["sublim_jax", "products", "alone"] and [row.split()[0] for row in rows] == [*form.WORKS]
    assert all("not timed" in row for row in rows)


def test_a_run_keeps_every_repetition_and_says_that_pytorch_is_missing(run, instant, tmp_path):
    run(tmp_path / "speed.json")
    check_record(tmp_path / "speed.json")


@pytest.mark.slow
def test_a_run_that_computes(run, tmp_path):
    run(tmp_path / "speed.json")
    check_record(tmp_path / "speed.json")


def recorded(**changes) -> records.Record:
    compilation = {"first_call_s": 9.0, "compile_s": 8.0, "kept": 1, "read": 0}
    measured = {
        "sizes": {"rows": 4}, "gflop": 1.0, "compilation": compilation, "largest_difference": 2e-5,
        "seconds": {"sublim_jax": [3.0, 2.0, 4.0], "products": [1.0, 2.0, 2.0], "pytorch": [6.0, 8.0, 4.0]},
        "cpu_seconds": {"sublim_jax": [3.0, 2.0, 4.0], "products": [2.0, 2.0, 2.0]},
    } | changes  # fmt: skip
    description = {"num_weights": 1, "dtype": "float32", "threads": 2, "pytorch": "torch 0"}
    data: records.Data = {"name": "none", "source": "", "checksum": None}
    return records.Record("real_speed", {"repeats": 3}, data, description, {"drawing": measured})


def test_ratios_are_of_the_same_repetition():
    """And not of medians, between which other work on the machine could come."""
    record = recorded()
    form.FORM.require(record)
    assert form.ratios(record.results["drawing"], "sublim_jax", "products") == [3.0, 1.0, 2.0]
    _, _, row, difference = form.lines(record)
    assert "2.00 x (1.00 to 3.00)" in row and "0.50 x (0.25 to 1.00)" in row and "1.50 x (1.00 to 2.00)" in row
    assert difference.endswith("drawing 2.0e-05")


def test_a_record_that_lacks_a_repetition_is_refused():
    record = recorded(cpu_seconds={"sublim_jax": [1.0], "products": [1.0, 1.0, 1.0]})
    with pytest.raises(errors.InputError, match=r"cpu_seconds\.sublim_jax: expected one number for each of 3 rep"):
        form.FORM.require(record)


def test_each_repetition_begins_with_another_program(monkeypatch):
    monkeypatch.setattr(real_speed, "PAUSE", 0.0)
    calls = []
    programs = {name: functools.partial(calls.append, name) for name in ("sublim_jax", "products", "pytorch")}
    with progress.Display("speed", visible=False) as display:
        real_speed._in_turns("drawing", programs, 3, 1, display)
    assert calls[::3] == ["sublim_jax", "products", "pytorch"] and Counter(calls) == dict.fromkeys(programs, 3)


def test_seconds_are_of_one_unit_of_work_by_the_clock_and_by_the_processor(monkeypatch):
    """A program takes six seconds, of which its threads compute nine."""
    now = {"wall": 0.0, "cpu": 0.0}

    def program():
        now["wall"] += 6.0
        now["cpu"] += 9.0

    fake = types.SimpleNamespace(
        sleep=lambda seconds: None, perf_counter=lambda: now["wall"], process_time=lambda: now["cpu"]
    )
    monkeypatch.setattr(real_speed, "time", fake)
    with progress.Display("speed", visible=False) as display:
        times = real_speed._in_turns("drawing", {"sublim_jax": program, "products": program}, 2, 3, display)
    assert times["seconds"] == {"sublim_jax": [2.0, 2.0], "products": [2.0, 2.0]}
    assert times["cpu_seconds"] == {"sublim_jax": [3.0, 3.0], "products": [3.0, 3.0]}


def test_products_are_repeated_as_often_as_the_work_beside_them(shared, instant, monkeypatch):
    """So that the seconds of both are divided by the same number of units."""
    given = []
    monkeypatch.setattr(real_speed, "PAUSE", 0.0)
    monkeypatch.setattr(real_products, "alone", lambda *_, steps: given.append(steps) or (lambda: ()))
    with progress.Display("speed", visible=False) as display:
        for work, job in real_speed.jobs(shared, SETTINGS).items():
            real_speed.measure(work, job, shared, None, display)
            assert given.pop() == (CONFIG.num_steps if work == "distillation" else 1) == job.units


def test_completions_are_of_the_questions_in_turn_by_the_teacher(shared, monkeypatch):
    many = shared._replace(config=dataclasses.replace(CONFIG, num_prompts=len(shared.lab.questions[0]) + 2))
    calls = []
    monkeypatch.setattr(sampling, "generate", lambda *args, **options: calls.append((args, options)) or ())
    job = real_speed.jobs(many, SETTINGS)["drawing"]
    job.ours()
    (((_, ids, valid, *_), options),) = calls
    asked, there = (np.asarray(array) for array in shared.lab.questions)
    np.testing.assert_array_equal(ids, [*asked, *asked[:2]])
    np.testing.assert_array_equal(valid, [*there, *there[:2]])
    assert options["low_rank"] is shared.teacher.low_rank and options["end_tokens"] == ()
    assert options["max_tokens"] == CONFIG.num_new_tokens and job.sizes["rows"] == len(ids)


def test_student_and_teacher_differ_and_no_factor_is_zero(shared):
    for name, (_, b) in shared.student.low_rank.factors.items():
        other = shared.teacher.low_rank.factors[name].b
        assert not np.array_equal(b, other) and np.any(b) and np.any(other)


def test_programs_are_counted_inside_the_block_only():
    compiled = real_speed.Compiled()
    with compiled.counting():
        jax.block_until_ready(jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x))(jnp.ones((3, 3))))
    seconds = compiled.seconds
    assert seconds > 0
    jax.block_until_ready(jax.jit(lambda x: jnp.cos(x) @ jnp.cos(x))(jnp.ones((3, 3))))
    assert compiled.seconds == seconds


@pytest.mark.parametrize("change", [{"qkv_bias": True}, {"embedding_scale": 2.0}, {"frequencies": (1.0, 0.5, 0.1)}])
def test_only_a_plain_llama_is_built_in_pytorch(change, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert real_peer.absence(DEEP) is None and real_peer.absence(LLAMA) is None
    assert "no plain Llama" in (real_peer.absence(dataclasses.replace(DEEP, **change)) or "")


def test_pytorch_on_a_cpu_is_not_compared_with_an_accelerator(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "on CPUs only" in (real_peer.absence(LLAMA) or "")


@pytest.mark.filterwarnings("ignore")  # of the imports of torch, transformers and peft
def test_pytorch_does_the_same_work(shared):
    """Oracle: transformers and peft on the same weights. Both compute in float32 and add in another order, and logits
    are of order one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in real_peer.PACKAGES:
            pytest.importorskip(name, reason="the extra parity is not installed")
    peer = real_peer.Peer(shared.student, shared.teacher, learning_rate=1e-3, threads=1)
    jobs = real_speed.jobs(shared, SETTINGS)
    for work in ("distillation", "evaluation"):
        np.testing.assert_allclose(jobs[work].ours(), jobs[work].peer(peer), rtol=1e-4, atol=1e-5)
    assert jobs["distillation"].ours() > 1e-3  # student and teacher differ, so agreement says something
    jobs["drawing"].peer(peer)  # asserts how many tokens were drawn
