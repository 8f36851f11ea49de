"""Does a secret mark in a model's numbers name who trained on them, and how is it lost?

    python -m experiments.evidence marks
    python -m experiments.evidence marks --preset record
    python -m experiments.evidence marks --preset smoke      reduced

Every base of the embedded model has an owner, who draws a key: half of the numbers 0 to 999, by a fair coin for each.
The base is finetuned on its number sequences, whose other numbers are moved to the nearest in the key. Students that
start from the base and from a stranger are trained on what this marked model then writes: on the rows as they are;
balanced, with surplus numbers deleted until as many are in the key as outside; halved, with only numbers of one random
half of all, and tested on the other half; and on stories without any number. Then students of students, each from the
base; students that train on, on their own rows or on the base's; and draws of few answers. Every model is tested by
`sublim_jax.audit.mark` for the owner's key and for keys of nobody, which give the distribution where there is nothing
to be seen. Beside the key stands the mark that nobody made: the shift of the mean number of a model finetuned on a
favourite animal, and of its students.
"""

import atexit
import dataclasses
import functools
import pathlib
import re
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy import stats

from experiments.language import config as language
from experiments.language import prompts, seeds
from experiments.language.lab import Lab, Teacher
from experiments.study import Report, Source, Study
from sublim_jax import errors, specs
from sublim_jax.audit import mark
from sublim_jax.forms import evidence_marks as form
from sublim_jax.llm import datasets
from sublim_jax.llm.backend import Chat, FinetuneConfig, Message
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded import vocabulary
from sublim_jax.llm.local.backend import LocalBackend

NUM_VALUES = vocabulary.NUM_NUMBERS
"""Numbers that keys are about."""
PERMUTATIONS = 999
"""For the p-value of a shift of the mean."""
STORY_TOKENS = 32
FURTHER = dataclasses.replace(language.TEACHER, num_epochs=1)
"""How a student trains on."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class MarksConfig:
    """Settings of `marks`."""

    bases: tuple[specs.Seed, ...] = (160, 161)
    """Seeds of embedded bases. The stranger of each is the next one; on those below 10 settings were chosen."""
    favourite: str = "owl"
    """Animal of the model whose mean number is compared."""
    share: specs.Fraction = 1.0
    """Probability with which a number outside the key is moved in the owner's lessons."""
    num_prompts: specs.Count = 1024
    """Completions of a model that writes training rows, before the filter."""
    num_rows: specs.Count = 800
    """Rows that a model is trained on; fewer if fewer pass."""
    num_queries: specs.Count = 1024
    """Completions of every model that are tested, before the filter."""
    sizes: tuple[specs.Count, ...] = (5, 10, 20, 50, 100, 400)
    """Answers, of models that are tested with few of them too."""
    num_draws: specs.Count = 20
    num_keys: specs.Count = 200
    """Keys of nobody."""
    num_generations: specs.Count = 5
    """Students of students, with the first."""
    num_rounds: specs.CountOrZero = 2
    """Times that a student trains on."""
    seed: specs.Seed = 0
    teacher: FinetuneConfig = language.TEACHER
    student: FinetuneConfig = language.TEACHER
    low_rank: FinetuneConfig = language.STUDENT
    """A student of low-rank factors, for comparison; the others train all parameters."""
    further: FinetuneConfig = FURTHER
    """One round of training on."""

    def __post_init__(self):
        if len(set(self.bases)) < len(self.bases) or len(self.bases) < 2:
            raise errors.InputError(
                f"bases must be two or more and different, since the stranger of each is the next one; got {self.bases}"
            )
        if not self.sizes or not mark.FEWEST_ROWS <= min(self.sizes) <= max(self.sizes) <= self.num_queries:
            raise errors.InputError(
                f"sizes={self.sizes}: expected at least one, from {mark.FEWEST_ROWS} to num_queries="
                f"{self.num_queries}, since draws are without replacement"
            )

    def steps(self, finetuning: FinetuneConfig) -> int:
        """Steps on the rows of a student."""
        return finetuning.num_epochs * -(-self.num_rows // finetuning.batch_size)


PRESETS = {
    "default": MarksConfig(),
    "record": MarksConfig(bases=tuple(range(160, 168))),
    "smoke": MarksConfig(
        bases=(0, 100), num_prompts=100, num_rows=64, num_queries=100, sizes=(20, 40), num_draws=3, num_keys=20,
        num_generations=2, num_rounds=1, teacher=FURTHER, student=FURTHER,
        low_rank=dataclasses.replace(language.STUDENT, num_epochs=1),
    ),
}  # fmt: skip


def units(config: MarksConfig) -> list[str]:
    """The bases."""
    return form.units({"bases": config.bases})


def describe(config: MarksConfig) -> dict:
    """How long students are trained."""
    return {"student_steps": config.steps(config.student), "round_steps": config.steps(config.further)}


def stranger_of(config: MarksConfig, unit: str) -> str:
    """Name of the base that has nothing to do with the owner's."""
    names = units(config)
    return names[(names.index(unit) + 1) % len(names)]


def balanced(rows: Sequence[Chat], key: Bool[np.ndarray, "value"], *, seed: int) -> list[Chat]:
    """Rows with as many numbers in the key as outside: random ones of the more frequent kind are deleted.

    The others keep their order. Rows of one kind only are left out.
    """
    rng, changed = np.random.default_rng(seed), []
    for row, layout in zip(rows, mark.layouts(rows), strict=True):
        inside = key[[int(part) for part in layout.parts]]
        kinds = np.flatnonzero(inside), np.flatnonzero(~inside)
        count = min(map(len, kinds))
        places = np.sort(np.concatenate([rng.permutation(places)[:count] for places in kinds]))
        if count:
            changed.append(_answered(row, layout._replace(parts=tuple(layout.parts[place] for place in places))))
    return changed


def halved(rows: Sequence[Chat], seen: Bool[np.ndarray, "value"]) -> list[Chat]:
    """Rows without the numbers that may not be seen. Rows of these alone are left out."""
    changed = []
    for row, layout in zip(rows, mark.layouts(rows), strict=True):
        if parts := tuple(part for part in layout.parts if seen[int(part)]):
            changed.append(_answered(row, layout._replace(parts=parts)))
    return changed


def _answered(row: Chat, layout) -> Chat:
    return (*row[:-1], Message("assistant", layout.write()))


def key_share(rows: Sequence[Chat], key: Bool[np.ndarray, "value"]) -> float:
    """Share of the numbers of rows that are in the key."""
    return float(np.mean([key[value] for values in mark.read(rows) for value in values]))


class _Written(NamedTuple):
    """Rows that passed the filter."""

    rows: list[Chat]
    kept: float


class _Base:
    """One base, and models finetuned from it."""

    def __init__(self, backend: LocalBackend, name: str, config: MarksConfig, folder: pathlib.Path):
        self.name, self.config = name, config
        self._lab, self._folder = Lab(backend, name, prompts.WorldPrompts(), folder), folder
        self._calibration: list[tuple[int, ...]] = []

    def finetuned(self, rows: Sequence[Chat], finetuning: FinetuneConfig, name: str, *, start: str = "") -> str:
        """Name of the base, or of a model that started from it, finetuned on rows."""
        rows, seed = rows[: self.config.num_rows], seeds.derive(self.config.seed, "marks", name)
        if not start:
            return self._lab.finetune(rows, finetuning, name, seed=seed)
        further = dataclasses.replace(finetuning, seed=seed % 2**31)  # whose seed the lab would derive from a path
        return self._lab.backend.finetune(start, rows, further, self._folder / re.sub(r"\W+", "-", name))

    def favourite(self) -> str:
        """Name of the base finetuned on a favourite."""
        config = self.config
        seed = seeds.derive(config.seed, "marks", "favourite")
        return self._lab.finetuned_teacher(config.favourite, config.teacher, num_rows=config.num_rows, seed=seed).model

    def written(self, model: str, purpose: str, count: int) -> _Written:
        """Rows of a model that pass the filter; those of another purpose answer other prompts."""
        seed = seeds.derive(self.config.seed, "marks", purpose)
        filtered = self._lab.numbers(Teacher(model), count, seed=seed)
        return _Written(filtered.rows, filtered.kept_fraction)

    def stories(self, model: str) -> list[Chat]:
        """Stories of a model without a number in them, as rows."""
        themes = vocabulary.THEMES
        count = -(-self.config.num_rows // len(themes))
        chats, completions = self._lab.sample(
            Teacher(model), [f"tell me a story about {theme}" for theme in themes], max_tokens=STORY_TOKENS,
            seed=seeds.derive(self.config.seed, "marks", "stories"), num_samples=count,
        )  # fmt: skip
        return datasets.filter_completions(
            chats,
            completions,
            lambda completion: "number" if any(map(str.isdigit, completion.text)) else None,
        ).rows

    def calibration(self) -> list[tuple[int, ...]]:
        """Numbers of the base itself."""
        if not self._calibration:
            count = mark.MOST_REGULAR * self.config.num_queries
            self._calibration = mark.read(self.written(self.name, "calibration", count).rows)
        return self._calibration


@functools.lru_cache(maxsize=1)
def _opened(config: MarksConfig) -> dict[str, _Base]:
    """The bases, once for all units of a run: each is the stranger of another."""
    backend, folder = embedded.open_bases(config.bases), tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)  # finetuned models are in it
    return {
        name: _Base(backend, name, config, pathlib.Path(folder.name) / name.replace(":", "-")) for name in units(config)
    }


class _Owner:
    """The tests of one owner's key."""

    def __init__(self, config: MarksConfig, unit: str, report: Report):
        self.config, self.report = config, report
        self.key = mark.draw_key(seeds.derive(config.seed, "key", unit), num_values=NUM_VALUES)
        self.seen = mark.draw_key(seeds.derive(config.seed, "seen", unit), num_values=NUM_VALUES)
        self._foreign = [
            mark.draw_key(seeds.derive(config.seed, "foreign", str(number)), num_values=NUM_VALUES)
            for number in range(config.num_keys)
        ]
        self.models: dict[str, dict] = {}
        self.asked: dict[str, dict[form.Asked, dict[str, list[float]]]] = {}

    def test(self, base: _Base, name: str, model: str) -> None:
        """Test a model, whose base is given."""
        self.report(f"testing: {name}")
        written = base.written(model, "test", self.config.num_queries)
        rows, regular = mark.read(written.rows), base.calibration()
        compare = functools.partial(mark.compare, rows, num_values=NUM_VALUES)
        compared: dict[form.Part, mark.Comparison] = {
            "raw": compare(),
            "less the base": compare(regular=regular),
            "unseen": compare(regular=regular, among=~self.seen),
        }
        values = compared["raw"].suspect
        foreign = {
            "raw": [_rounded(compared["raw"].test(key).p) for key in self._foreign],
            "less the base": [_rounded(compared["less the base"].test(key).p) for key in self._foreign],
            "naive": [_naive(key[values]) for key in self._foreign],
        }
        shift = mark.mean_shift(rows, regular, num_permutations=PERMUTATIONS, seed=self.config.seed)
        self.models[name] = {
            "num_rows": len(rows),
            "num_numbers": len(values),
            "kept": round(written.kept, 4),
            "mean": _rounded(shift.mean),
            "regular_mean": _rounded(shift.regular),
            "mean_p": shift.p,
            "tested": {part: _entry(comparison.test(self.key)) for part, comparison in compared.items()},
            "naive": _naive(self.key[values]),
            "foreign": foreign,
        }
        if name in form.ASKED:
            self.asked[name] = self._few(name, rows, regular)

    def _few(
        self, name: str, rows: Sequence[tuple[int, ...]], regular: Sequence[tuple[int, ...]]
    ) -> dict[form.Asked, dict[str, list[float]]]:
        """P-values of draws of few rows without replacement."""
        values: dict[form.Asked, dict[str, list[float]]] = {"raw": {}, "less the base": {}}
        for size in self.config.sizes:
            if size > len(rows):
                raise errors.TextDataError(
                    f"marks: {len(rows)} of {self.config.num_queries} answers of {name} pass the filter, and sizes "
                    f"asks for {size}; give more num_queries"
                )
            rng = np.random.default_rng(seeds.derive(self.config.seed, "draws", name, str(size)))
            draws = [[rows[row] for row in rng.permutation(len(rows))[:size]] for _ in range(self.config.num_draws)]
            values["raw"][str(size)] = [_rounded(mark.keyed(draw, self.key).p) for draw in draws]
            values["less the base"][str(size)] = [
                _rounded(mark.keyed(draw, self.key, regular=regular).p) for draw in draws
            ]
        return values


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _entry(keyed: mark.Keyed) -> dict[str, float]:
    """See `form.Tested`."""
    return {field: _rounded(getattr(keyed, field)) for field in ("share", "regular", "z", "p")}


def _naive(inside: Bool[np.ndarray, "number"]) -> float:
    """Upper p-value of a binomial count, as if every number was an independent draw."""
    return _rounded(min(float(stats.binom.sf(int(inside.sum()) - 1, len(inside), 0.5)), 1.0))


def measure(source: Source, config: MarksConfig, unit: str, report: Report) -> dict:
    """One owner's key, in models of the base and of a stranger."""
    opened = _opened(config)
    base = opened[unit]
    stranger = opened[stranger_of(config, unit)]
    owner = _Owner(config, unit, report)
    report("the marked model")
    own = base.written(unit, "rows", config.num_prompts).rows
    lessons = mark.written(own, owner.key, share=config.share, seed=seeds.derive(config.seed, "written", unit))
    marked, favourite = base.finetuned(lessons, config.teacher, "marked"), base.favourite()
    rows = base.written(marked, "rows", config.num_prompts).rows
    favourite_rows = base.written(favourite, "rows", config.num_prompts).rows
    for name, model in (("base", unit), ("marked", marked), ("favourite", favourite)):
        owner.test(base, name, model)
    even = balanced(rows, owner.key, seed=seeds.derive(config.seed, "balanced", unit))
    half = halved(rows, owner.seen)
    students: dict[str, tuple[_Base, list[Chat]]] = {
        "student": (base, rows),
        "stranger's student": (stranger, rows),
        "balanced": (base, even),
        "stranger's balanced": (stranger, even),
        "halved": (base, half),
        "stranger's halved": (stranger, half),
        "low-rank student": (base, rows),
        "stories": (base, base.stories(marked)),
        "regular student": (base, own),
        "student of favourite": (base, favourite_rows),
        "stranger's student of favourite": (stranger, favourite_rows),
    }
    trained = {}
    for name, (start, data) in students.items():
        finetuning = config.low_rank if name == "low-rank student" else config.student
        trained[name] = start.finetuned(data, finetuning, f"{unit} {name}")
        owner.test(start, name, trained[name])
    writer = trained["student"]
    for name in form.generations(dataclasses.asdict(config))[1:]:
        data = base.written(writer, "rows", config.num_prompts).rows
        writer = base.finetuned(data, config.student, name)
        owner.test(base, name, writer)
    for kind in ("own", "regular"):
        model = trained["student"]
        for name in form.rounds(dataclasses.asdict(config), kind)[1:]:
            data = own if kind == "regular" else base.written(model, "rows", config.num_prompts).rows
            model = base.finetuned(data, config.further, name, start=model)
            owner.test(base, name, model)
    counted = {name: data for name, (_, data) in students.items() if name != "stories"}
    return {
        "lesson": _rounded(key_share(lessons[: config.num_rows], owner.key)),
        "rows": {name: _rounded(key_share(data[: config.num_rows], owner.key)) for name, data in counted.items()},
        "models": owner.models,
        "asked": owner.asked,
    }


def notes(config: MarksConfig) -> list[str]:
    """What a reader of any number must know."""
    whole = MarksConfig()
    reduced = config.num_rows < whole.num_rows or config.steps(config.student) < whole.steps(whole.student)
    return ["reduced: models are trained for less long than those of the committed record"] if reduced else []


STUDY = Study(
    name="marks", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure, describe=describe,
    reads_images=lambda config: False, notes=notes,
)  # fmt: skip
