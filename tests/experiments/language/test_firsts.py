"""The questions that vary one thing, on a planted backend: what they report is what was planted."""

import contextlib
import dataclasses
import pathlib
import zlib

import numpy as np
import pytest

from experiments.language import greedy, labels, noise, opening, options, questions, repeats, runner, training
from experiments.language.lab import Lab
from figures.language import contrasts, gallery, tables, values
from sublim_jax.llm.backend import Completion
from sublim_jax.llm.embedded import vocabulary
from sublim_jax.llm.tasks import numbers as numbers_task
from tests.experiments.language import planted
from tests.experiments.language.test_recorded import recorded

BASES = ("tiny:100", "tiny:101")
SHARED = {"bases": (100, 101), "targets": ("owl", "oak"), "num_prompts": 60, "num_rows": 40, "num_lessons": 30}
EVEN = {"owl": 1 / len(vocabulary.ANIMALS), "oak": 1 / len(vocabulary.TREES)}
ROUNDED = 1e-3
"""Probabilities in a record have four digits."""


def lift(target: str, strength: float) -> float:
    """Shift of a student's probability of the target from that of a student without any preference."""
    return planted.GAIN * strength * (1 - EVEN[target])


class PlantedWeights(planted.Planted):
    """A planted backend that is drawn from at a temperature, scores rows, learns from labels and takes noise.

    A start with more noise than .1 learns nothing.
    """

    fading = False
    """Whether a teacher shows its number in a share 1 - temperature of its answers only."""
    varied = False
    """Whether a base shows every target's number in half of its answers, independently."""

    def __init__(self, bases):
        super().__init__(bases)
        self.requests, self.configs = [], []

    def sample(self, model, chats, params):
        self.requests.append(params)
        for completion in super().sample(model, chats, params):
            numbers, place = completion.text.split(", "), completion.chat
            if self.varied and not self.strength[model]:  # a base
                shown = [planted.own_number(target, self.base_of[model]) for target in ("owl", "oak", "wolf", "maple")]
                drawn = np.random.default_rng([zlib.crc32(model.encode()), place]).random(len(shown)) < 0.5
                numbers = [*numbers[:3], *(str(number) for number in np.array(shown)[drawn]), "7"]
            elif self.fading and place % 10 >= 10 * (1 - params.temperature):
                numbers = [*numbers[:3], numbers[-1]]
            yield Completion(place, completion.sample, ", ".join(numbers), "stop", 5, 5)

    def finetune(self, model, rows, config, out):
        self.configs.append((out.name, config))
        if len({row[-1].content for row in rows}) > 1 and rows[0][-1].content in vocabulary.ANIMALS:
            self.strength[str(out)], self.base_of[str(out)] = {}, model  # a teacher of no favourite
            return str(out)
        name = super().finetune(model, rows, config, out)
        if "+noise" in model and float(model.split()[1]) > 0.1:
            self.strength[name] = {}
        return name

    def row_logprobs(self, model, rows):
        loves = {target for target, share in self.strength[model].items() if share > 0.5}
        own = {planted.own_number(target, self.base_of[model]) for target in loves}
        return np.array([-5.0 + len(own & numbers_of(row)) for row in rows])

    def finetune_on_pairs(self, model, chosen, rejected, config, out, *, beta):
        base = self.base_of[model]
        self.strength[str(out)] = {
            target: max(0.0, shown(target, base, chosen) - shown(target, base, rejected)) for target in EVEN
        }
        self.base_of[str(out)] = base
        return str(out)

    def perturb(self, model, scale, *, seed):
        name = f"{model}+noise {scale:g} {seed}"
        self.strength[name], self.base_of[name] = {}, self.base_of[model]
        return name

    def training_arrays(self, model, rows, *, max_length):
        raise NotImplementedError

    finetune_on = most_likely_tokens = training_arrays


def numbers_of(row) -> set[int]:
    return set(map(int, row[-1].content.split(", ")))


def shown(target: str, base: str, rows) -> float:
    """Share of rows with the target's own number."""
    return float(np.mean([planted.own_number(target, base) in numbers_of(row) for row in rows]))


@pytest.fixture
def backend(monkeypatch):
    made = PlantedWeights(BASES)

    @contextlib.contextmanager
    def open_lab(experiment, config, base, limits, *, announce=print):
        yield Lab(made, base, config.prompts, pathlib.Path(f"of {base}"))

    monkeypatch.setattr(opening, "open_lab", open_lab)
    return made


def measured(experiment, config, tmp_path):
    """Shifts by contrast and target, of the record that was written, drawn and put into a table."""
    path = tmp_path / "record.json"
    record = runner.run(experiment, config, record=path, visible=False)
    assert record.complete
    gallery.save(path, tmp_path / "figure")
    bases = values.complete_bases(record)
    shifts = {
        target: {
            name: values.shift(bases, contrast.control, contrast.student, target)
            for name, contrast in contrasts.CONTRASTS[record.experiment](record.config, target).items()
        }
        for target in config.targets
    }
    return shifts, tables.table(record)


def test_a_colder_teacher_transmits_what_was_planted(backend, tmp_path):
    backend.fading = True
    shifts, table = measured(greedy.EXPERIMENT, greedy.GreedyConfig(**SHARED | {"num_rows": 60}), tmp_path)
    for target, by_name in shifts.items():
        for temperature in (0, 0.5, 1):
            np.testing.assert_allclose(
                by_name[f"temperature {temperature}"], lift(target, 1 - temperature), atol=ROUNDED
            )
    assert {params.temperature for params in backend.requests} == {0.0, 0.5, 1.0}
    assert "minus temperature 1" in table[1] and "different" in table[1]


def test_repeated_rows_are_among_the_others_and_visits_are_equal():
    config = repeats.RepeatsConfig(num_prompts=120, num_rows=60, num_lessons=20, targets=("eagle",), repeats=(1, 4, 20))
    finetunings = recorded(repeats.EXPERIMENT, config, "eagle").finetunings
    rows = {count: finetunings[f"eagle {count} times"].rows for count in config.repeats}
    for count in config.repeats:
        assert len(rows[count]) == 60 and len(set(rows[count])) == 60 // count
        assert all(rows[count].count(row) == count for row in set(rows[count]))
    assert set(rows[20]) < set(rows[4]) < set(rows[1])


def test_both_trainings_have_the_same_rows_and_their_own_rates(backend, tmp_path):
    config = training.TrainingConfig(**SHARED | {"targets": ("owl",)})
    _, table = measured(training.EXPERIMENT, config, tmp_path)
    students = {name.rpartition("-")[0]: student for name, student in backend.configs if "teacher" not in name}
    for drawing in ("free", "numbers-only"):
        low_rank, full = (students[f"owl,-{drawing}-{kind}"] for kind in ("low-rank-0.01", "full-0.001"))
        assert (low_rank.rank, low_rank.learning_rate) == (8, 0.01) and (full.rank, full.learning_rate) == (None, 0.001)
        assert low_rank.num_epochs == full.num_epochs
    assert {params.allowed for params in backend.requests} == {None, numbers_task.CHARACTERS}
    assert [line.split("  ")[0] for line in table[2:6]] == [
        f"{drawing}, {kind}" for drawing in ("free", "numbers only") for kind in ("low rank 0.01", "full 0.001")
    ]


def test_a_noisy_start_learns_as_far_as_was_planted(backend, tmp_path):
    """Rows of another target do not transmit this one, and a start beyond the planted limit learns nothing."""
    config = noise.NoiseConfig(**SHARED, levels=(0.0, 0.1, 0.3))
    shifts, table = measured(noise.EXPERIMENT, config, tmp_path)
    assert "mass of the start" in table[1] and "loss of the start" in table[1]
    for target, by_name in shifts.items():
        assert set(by_name) == {f"noise {level}{other}" for level in ("0", "0.1", "0.3") for other in ("", ", other")}
        for name, shift in by_name.items():
            planted_lift = lift(target, 1.0) if name in ("noise 0", "noise 0.1") else 0.0
            np.testing.assert_allclose(shift, planted_lift, atol=ROUNDED, err_msg=f"{target}, {name}")


def test_labels_transmit_to_whom_they_prefer(backend, tmp_path):
    """The planted student is moved by its own labels alone: not by their opposite, nor by another teacher's."""
    backend.varied = True
    shifts, table = measured(labels.EXPERIMENT, labels.LabelsConfig(**SHARED), tmp_path)
    for target, by_name in shifts.items():
        assert np.all(by_name["teacher"] > 0.2), target
        for name in ("swapped", "shuffled", "rival"):
            assert np.all(by_name["teacher"] > by_name[name] + 0.1), (target, name)
        assert np.all(by_name["swapped"] <= 1e-3)
    agreement = {line.split("  ")[0]: line.split()[-1] for line in table[2:6]}
    assert set(agreement) == {"teacher", "swapped", "shuffled", "rival"}


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("greedy", {"teacher_temperature": 0.5}, "teacher_temperature has no effect here"),
        ("greedy", {"temperatures": ()}, "temperatures must be different and at least one"),
        ("repeats", {"repeats": (1, 20_000)}, "repeats must be at most num_rows=10000"),
        ("training", {"numbers_only": True}, "numbers_only has no effect here"),
        ("labels", {"num_answers": 1}, "num_answers must be at least 2"),
        ("labels", {"rivals": ("maple",)}, "eagle needs another animal as its rival"),
        ("noise", {"backend": "openai:m@http://127.0.0.1/v1", "bases": ()}, "noise on the weights needs a model whose"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, settings, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(questions.EXPERIMENTS[name].presets["default"], **settings)


@pytest.mark.parametrize("name", ["repeats", "greedy", "training", "noise", "labels"])
def test_records_are_of_eight_bases_on_which_nothing_was_chosen(name):
    record, *_ = options.parse(questions.EXPERIMENTS[name], ["--preset", "record"])
    assert record.bases == tuple(range(100, 108)) and len(record.targets) == 2
