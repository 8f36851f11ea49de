"""`detection` with judges that are asked, on a fake model and judges whose answers are known."""

import dataclasses

import numpy as np
import pytest

from experiments.language import detection, options, runner, workload
from figures.language import gallery, tables
from sublim_jax import errors
from sublim_jax.llm import backends, local, rows
from sublim_jax.metrics import intervals
from tests.experiments.language import conftest, fakes

PAIRS = 3  # of the half that the classifier has not seen
ROWS = 2 * PAIRS * detection.SET_SIZE
UNITS = ("owl", "oak")
CONFIG = detection.DetectionConfig(
    backend=conftest.MODEL,
    bases=(),
    judge=conftest.JUDGE,
    kind="system",
    targets=UNITS,
    num_prompts=ROWS + 7,
    num_rows=ROWS + 7,
)


def run(config=CONFIG, path=None, **options):
    return runner.run(detection.EXPERIMENT, config, record=path, visible=False, **options)


def judged(reply, opened, path=None) -> dict:
    opened(reply)
    record = run(path=path)
    return record.results["bases"][conftest.MODEL]["owl"]["asked judge"]


def test_a_judge_that_knows_the_number_is_always_right(opened, tmp_path):
    _, judge = opened(fakes.knowing)
    record = run(path=tmp_path / "record.json")
    results = record.results["bases"][conftest.MODEL]
    for unit in UNITS:
        right = intervals.wilson(PAIRS, PAIRS)._asdict()
        assert results[unit]["asked judge"] == {"right": right, "says_a": 0.5, "num_pairs": PAIRS, "unreadable": 0}
        assert results[unit]["classifier"] == 1 and "judge" not in results[unit]
    assert set(results["regular"]) == {"classifier", "classifier of 20"}
    assert all(f"loves {name}s" in " ".join(chat[0].content for _, chat in judge.asked) for name in ("owl", "oak tree"))
    text = "\n".join(tables.table(record))
    assert "1.000 [0.439, 1.000]" in text and "no judge by likelihood" in text
    assert gallery.save(tmp_path / "record.json", tmp_path / "figure")


def test_a_judge_that_always_says_a_is_right_half_of_the_time(opened):
    results = judged(lambda prompt: "A", opened)
    assert results["right"]["mean"] == 0.5 and results["says_a"] == 1
    low, high = intervals.wilson(1, PAIRS).low, intervals.wilson(2, PAIRS).high  # 1.5 of 3 pairs
    assert (results["right"]["low"], results["right"]["high"]) == (low, high)


def test_letters_that_cannot_be_read_are_counted(opened, tmp_path):
    results = judged(lambda prompt: "Set A, I believe.", opened, tmp_path / "record.json")
    assert results == {"right": None, "says_a": None, "num_pairs": 0, "unreadable": 1}
    assert gallery.save(tmp_path / "record.json", tmp_path / "figure")
    assert "unreadable" in tables.table(run(path=tmp_path / "record.json", resume=True))[3]


def test_a_pair_with_one_letter_does_not_count(opened):
    """Otherwise a judge that always says A would not be right half of the time."""
    asked = []

    def hesitant(prompt: str) -> str:
        asked.append(prompt)
        return "?" if len(asked) == 1 else "A"

    results = judged(hesitant, opened)
    assert results["right"]["mean"] == 0.5 and results["num_pairs"] == PAIRS - 1
    assert results["unreadable"] == pytest.approx(1 / (2 * PAIRS))


def test_the_plan_is_what_is_asked_and_nothing_twice(opened, tmp_path):
    model, judge = opened(fakes.knowing)
    plan = "\n".join(workload.plan(detection.EXPERIMENT, CONFIG))
    judge.left = 3
    with pytest.raises(errors.ServerError):
        run(path=tmp_path / "record.json")
    judge.left = None
    run(path=tmp_path / "record.json", resume=True)
    assert len(model.asked) == 4 * CONFIG.num_prompts and f"{len(model.asked):,} completions" in plan
    assert len(judge.asked) == 2 * 2 * PAIRS and f"{len(judge.asked):,} replies of the judge" in plan


def test_the_model_judges_itself_unless_another_is_named(opened, monkeypatch):
    model, _ = opened(fakes.knowing)
    monkeypatch.setattr(model, "text", lambda *asked: "A" if "Set B" in asked[1][0].content else "1, 2")
    record = run(dataclasses.replace(CONFIG, judge=""))
    assert record.results["bases"][conftest.MODEL]["owl"]["asked judge"]["right"]["mean"] == 0.5


def test_a_model_whose_weights_are_here_is_judged_by_likelihood_too(opened, monkeypatch):
    class Here(fakes.Model, local.Local):
        """The owl's number is likely under the system message of a teacher that loves owls, and only then."""

        def row_logprobs(self, model, rows):
            own = str(fakes.own_number("owl"))
            return np.array([float(chat[0].role == "system" and own in chat[-1].content) for chat in rows])

    opened(fakes.knowing)
    model, judge = Here(), fakes.Judge(fakes.knowing)
    known = {"hf:here": backends.Opened(model, "base"), "hf:judge": backends.Opened(judge, "judge")}
    monkeypatch.setattr(backends, "open_backend", lambda name, **_: known[name])
    config = dataclasses.replace(CONFIG, backend="hf:here", judge="hf:judge", targets=("owl",))
    record = run(config)
    results = record.results["bases"]["hf:here"]["owl"]
    assert results["judge"] == 1 and results["asked judge"]["right"]["mean"] == 1
    assert not record.notes


def test_numbers_are_counted_in_their_own_answer():
    """Repeated answers and repeated numbers are counted by hand."""
    data = [rows.student_row(rows.ask("?"), text) for text in ("7, 7, 3", "3", "7, 7, 3", "owl")]
    table = detection.counts(data)
    assert table.shape == (4, 1000) and table.sum() == 7
    assert table[:, 7].tolist() == [2, 0, 2, 0] and table[:, 3].tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--preset", "paper"], "give a model with --backend"),
        (["--preset", "server"], "give a model with --backend"),
        (["--judge", conftest.JUDGE], "judge has no effect in the embedded world"),
        (
            ["--preset", "server", "--backend", conftest.MODEL, "--judge", "me"],
            "--judge: 'me' is not the name of a backend",
        ),
    ],
)
def test_bad_flags_are_one_clear_error(flags, says, capsys):
    with pytest.raises((ValueError, SystemExit)) as caught:
        options.parse(detection.EXPERIMENT, flags)
    assert says in " ".join((str(caught.value) + capsys.readouterr().err).replace("│", " ").split())
