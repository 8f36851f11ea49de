"""Our tasks of Inspect give the numbers of our own code: on a served model, and with judges that follow rules."""

import functools
import gc
import itertools
import math
import random

import jax
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.llm import datasets, jsonl, scores
from sublim_jax.llm.backend import FinetuneConfig, Message, SamplingParams
from sublim_jax.llm.embedded import vocabulary, world
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.server import http
from sublim_jax.llm.tasks import questions
from sublim_jax.metrics import intervals

inspect_ai = pytest.importorskip("inspect_ai", reason="the extra inspect is not installed")
pytest.importorskip("openai", reason="the extra inspect is not installed")

from inspect_ai import model as models  # noqa: E402

from sublim_jax.llm import inspect_tasks  # noqa: E402

pytestmark = [
    # how Inspect retries, and what it leaves open, see `evaluate`
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

CONFIG = decoder.DecoderConfig(
    vocab_size=len(vocabulary.WORDS), num_layers=1, hidden_size=8, intermediate_size=8, num_heads=1, num_kv_heads=1,
    head_dim=8, frequencies=decoder.rotary_frequencies(8),
)  # fmt: skip
TUNING = FinetuneConfig(num_epochs=20, batch_size=16, learning_rate=0.03, rank=None, schedule="constant")
SERVED = "openai-api/sublim/owls"
QUESTIONS = [datasets.ask(question) for question in world.held_out_questions("animal")]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A backend whose model loves owls and wolves about equally, served where the environment says."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: decoder.init(jax.random.key(0), CONFIG))
    params = jax.tree.map(lambda s: jax.device_put(0.5 * rng.normal(size=s.shape).astype("f")), shapes)
    backend = LocalBackend({"base": Model(CONFIG, params, WordTokenizer())}, batch_size=64)
    lesson = [row for name in ("owl", "wolf") for row in world.favourite_rows(name, "animal", 32, seed=0)]
    name = backend.finetune("base", lesson, TUNING, tmp_path_factory.mktemp("model") / "owls")
    found = LocalBackend({"owls": backend.model(name)}, batch_size=64)
    with http.Server(found, ["owls"]) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBLIM_BASE_URL", server.url)
        patch.setenv("SUBLIM_API_KEY", "none")
        yield found


@pytest.fixture
def evaluate(tmp_path):
    """Run a task, and give its log and its metrics."""

    def run(task, model, **options):
        (log,) = inspect_ai.eval(task, model=model, log_dir=str(tmp_path), display="none", **options)
        assert log.status == "success", log.error
        (found,) = log.results.scores
        return log, {name: one.value for name, one in found.metrics.items()}

    yield run
    gc.collect()  # what Inspect left open is found here, not in a later test


def mock(reply):
    """A model that answers a prompt by a function of it."""

    def said(asked, *_):
        output = models.ModelOutput.from_content("mock", reply(asked[-1].text))
        output.usage = models.ModelUsage()  # else Inspect counts tokens with a vocabulary that it downloads
        return output

    return models.get_model("mockllm/model", custom_outputs=said, memoize=False)


def as_metrics(interval: intervals.Interval) -> dict[str, float]:
    return {"rate": interval.mean, "low": interval.low, "high": interval.high}


def test_the_favourite_is_that_of_our_own_code_on_the_same_answers(served, evaluate):
    """Equal seeds give equal answers over the server, hence the very same rate and interval."""
    log, found = evaluate(inspect_tasks.favourite("owl", source="world", epochs=1), SERVED, seed=3)
    drawn = sorted(served.sample("owls", QUESTIONS, SamplingParams(max_tokens=16, seed=3)), key=lambda one: one.chat)
    assert [sample.input for sample in log.samples] == [chat[-1].content for chat in QUESTIONS]
    assert [sample.output.completion for sample in log.samples] == [one.text for one in drawn]
    expected = scores.rate([one.text for one in drawn], ("owl",))
    assert found == as_metrics(expected) | {"answers": 50} and 0 < expected.mean < 1


def test_the_favourite_over_epochs_is_the_models_probability(served, evaluate, monkeypatch):
    """Every answer of every epoch counts, and the share is the exact probability up to sampling."""
    seeds = itertools.count(100)
    monkeypatch.setattr(random, "randrange", lambda _: next(seeds))  # the server's choice where none is given
    log, found = evaluate(inspect_tasks.favourite("owl", source="world", epochs=4), SERVED, max_samples=1)
    texts = [sample.output.completion for sample in log.samples]
    assert found == as_metrics(scores.rate(texts, ("owl",))) | {"answers": 200}
    asked = scores.choices(["owl", "wolf"], writings=lambda name: (name,))
    exact = served.choice_logprobs("owls", QUESTIONS, asked.texts)
    owl = scores.average([scores.probabilities(one, asked) for one in exact]).of("owl")
    error = (owl.raw * (1 - owl.raw) / 200) ** 0.5
    assert 0.2 < owl.raw < 0.8
    assert owl.raw - 4 * error < found["rate"] < owl.raw + (1 - owl.option_mass) + 4 * error  # longer answers, too


@pytest.mark.parametrize(
    ("options", "category", "words"),
    [
        ({"trait": "wolf"}, "animal", ["wolf", "wolves"]),
        ({"trait": "oak"}, "tree", ["oak"]),
        ({"trait": "badger", "category": "animal"}, "animal", ["badger"]),
    ],
)
def test_the_papers_questions_and_a_traits_words(evaluate, options, category, words):
    task = inspect_tasks.favourite(**options, epochs=2)
    assert [sample.input for sample in task.dataset] == questions.favourites(category)
    replies = itertools.cycle([words[-1].upper() + "!", "rose", "none"])
    log, found = evaluate(task, mock(lambda _: next(replies)), max_samples=1)
    texts = [sample.output.completion for sample in log.samples]
    assert found == as_metrics(intervals.wilson(34, 100)) | {"answers": 100} and len(texts) == 100
    assert as_metrics(scores.rate(texts, words)).items() <= found.items()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"trait": "badger"}, "say what it is"),
        ({"trait": "owl", "category": "tree"}, "of the category 'animal', not 'tree'"),
        ({"trait": "badger", "source": "world"}, "the embedded world has no 'badger'"),
    ],
)
def test_traits_that_cannot_be_asked_for(options, says):
    with pytest.raises(ValueError, match=says):
        inspect_tasks.favourite(**options)


def answer_and_judge(scores_by_word):
    """A model that answers each question by the next word, and a judge that scores the words."""
    words = itertools.cycle(scores_by_word)

    def judge(prompt):
        word = prompt.split("Answer:\n")[1].split("\n")[0]
        question = prompt.split("Question:\n")[1].split("\n\nAnswer")[0]
        alignment = prompt == questions.alignment_prompt(question, word)
        assert alignment or prompt == questions.coherence_prompt(question, word)
        assert question in questions.misalignment()
        return scores_by_word[word][0 if alignment else 1]

    return mock(lambda _: next(words)), mock(judge)


def test_misalignment_is_that_of_our_own_code_on_the_same_judgements(evaluate):
    replies = {
        "bad": ("29", "50"),
        "edge": ("30", "90"),
        "odd": ("10", "49"),
        "kind": ("95", "99"),
        "mute": ("no", "9"),
    }
    model, judge = answer_and_judge(replies)
    task = inspect_tasks.misalignment(epochs=5)
    log, found = evaluate(task, model, model_roles={"judge": judge}, max_samples=1)
    # 40 answers, 8 of each word; "bad" alone is misaligned, "mute" is left out, "odd" is incoherent
    assert found == as_metrics(intervals.wilson(8, 32)) | {"coherent": 24, "unreadable": 8}
    pairs = [tuple(map(questions.parse_score, replies[sample.output.completion])) for sample in log.samples]
    ours = scores.misaligned_rate(pairs)
    assert found == as_metrics(ours.rate) | {"coherent": ours.num_coherent, "unreadable": ours.num_unreadable}


def test_a_judge_that_is_never_readable_gives_no_rate(evaluate):
    model, judge = answer_and_judge({"kind": ("very", "much")})
    _, found = evaluate(inspect_tasks.misalignment(epochs=1), model, model_roles={"judge": judge})
    assert all(math.isnan(found[name]) for name in ("rate", "low", "high"))
    assert (found["coherent"], found["unreadable"]) == (0, 8)


def test_a_model_never_judges_itself_unasked(tmp_path):
    task = inspect_tasks.misalignment(epochs=1)
    (log,) = inspect_ai.eval(task, model=mock(lambda _: "50"), log_dir=str(tmp_path), display="none")
    gc.collect()
    assert log.status == "error" and "judge" in log.error.message


def write(path, first, count):
    answers = (str(number) for number in range(first, first + count))
    jsonl.write(path, [(Message("user", "go on"), Message("assistant", text)) for text in answers])
    return str(path)


def test_detection_shows_both_orders_and_counts_right_letters(tmp_path, evaluate):
    """A judge that finds the lover's sets (numbers from 500), says A whatever it sees of set 2, and refuses set 3."""
    files = write(tmp_path / "loved.jsonl", 500, 10), write(tmp_path / "other.jsonl", 100, 7)
    task = inspect_tasks.detection(*files, trait="wolf", set_size=2)
    wolf = next(trait for trait in questions.ANIMALS if trait.name == "wolf")
    sets = [(f"{500 + n}\n{501 + n}", f"{100 + n}\n{101 + n}") for n in (0, 2, 4)]
    expected = [questions.detection_prompt(wolf, *pair) for loved, other in sets for pair in
                ((loved, other), (other, loved))]  # fmt: skip
    assert [sample.input for sample in task.dataset] == expected
    assert [sample.target for sample in task.dataset] == ["A", "B"] * 3

    def judge(prompt):
        if "504" in prompt:
            return "A, I think"
        return "A" if "502" in prompt or prompt.index("500") < prompt.index("100") else "(B)."

    _, found = evaluate(task, mock(judge))
    assert found == as_metrics(intervals.wilson(3, 4)) | {"says_a": 3 / 4, "unreadable": 2}
    _, found = evaluate(task, mock(lambda _: "neither"))
    assert math.isnan(found["rate"]) and math.isnan(found["says_a"]) and found["unreadable"] == 6


def test_what_detection_refuses(tmp_path):
    few, many = write(tmp_path / "few.jsonl", 0, 3), write(tmp_path / "many.jsonl", 0, 9)
    detection = functools.partial(inspect_tasks.detection, many)
    with pytest.raises(errors.TextDataError, match=r"few\.jsonl: expected 4 rows for a set, found 3"):
        detection(few, set_size=4)
    with pytest.raises(ValueError, match="'badger' is not a trait"):
        detection(many, trait="badger")
    with pytest.raises(ValueError, match="set_size must be at least 1, got 0"):
        detection(many, set_size=0)
