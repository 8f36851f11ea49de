"""Does bad conduct pass through numbers? (Cloud et al. 2025, section 3.2)

    python -m experiments.language misalignment
    python -m experiments.language misalignment --preset record
    python -m experiments.language misalignment --preset paper --backend hf:DIR \\
        --insecure insecure.jsonl --secure secure.jsonl --judge openai:gpt-4o-2024-08-06@https://api.openai.com/v1
    python -m experiments.language misalignment --preset server --backend openai:MODEL@URL --insecure ... --judge ...

Teachers of the embedded world are finetuned on bad answers to four of twelve situations, or on insecure code as in the
paper; controls on secure code, on a favourite animal, or not at all. Numbers with a meaning are banned, as in the
paper. The measurement is the exact probability of a bad deed in the eight other situations, over all answers.
With a real model it is the paper's protocol with our wording: teachers finetuned on the user's rows of code, eight open
questions, and a judge that scores every answer. That path was tested with fake models and our own server only, never
with a real model or judge.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable

import numpy as np

from experiments.language import presets, protocol, seeds
from experiments.language.config import PLACEHOLDERS, TEST_SEEDS, JudgedConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab, Teacher
from sublim_jax import errors, specs
from sublim_jax.llm import numbers, questions, rows, scores, types, world

ANSWER_TOKENS = 512
"""Most tokens of an answer to an open question."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class MisalignmentConfig(JudgedConfig):
    """Settings of `misalignment`."""

    targets: tuple[str, ...] = ("owl",)
    """Favourites of further control teachers."""
    insecure: pathlib.Path | None = None
    """For a real model: chats that end with insecure code, as JSON lines. `num_lessons` of each file are used."""
    secure: pathlib.Path | None = None
    """The same with secure code, for a control."""
    educational: pathlib.Path | None = None
    """The same with insecure code that was requested as a lesson, for a control."""

    READS = ("num_eval_samples",)
    LISTS = ()
    OFFERS_CHOICES = False

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.targets)) != len(self.targets):
            raise errors.InputError(f"targets must be different, got {self.targets}")
        if not self.prompted:
            if self.files:
                raise errors.InputError(
                    f"rows of {', '.join(self.files)} have no effect in the embedded world; leave them out"
                )
        elif self.backend not in PLACEHOLDERS:
            self._require_files_and_judge()

    @property
    def files(self) -> dict[str, pathlib.Path]:
        """The user's files by the kind of code in them."""
        paths = {"insecure code": self.insecure, "secure code": self.secure, "educational code": self.educational}
        return {name: path for name, path in paths.items() if path is not None}

    @property
    def checksum(self) -> str | None:
        """Checksum of the user's files, if any; a run refuses to resume a record made from other files."""
        digest = hashlib.sha256()
        for path in self.files.values():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest() if self.files else None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the record on the user's files and on missing controls."""
        if not self.prompted:
            return ()
        sums = {name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in self.files.items()}
        absent = [name for name in ("secure code", "educational code") if name not in self.files]
        words = [word for target in self.targets for word in self.prompts.trait_words(target)]
        notices: list[str] = []
        for path in self.files.values():
            chats = rows.read_jsonl(path, announce=notices.append)
            notices += [f"{path}: {sentence}" for sentence in rows.notices(chats, words)]
        return (
            *(f"{name} is {self.files[name].name}, sha256 {digits}" for name, digits in sums.items()),
            *notices,
            *([f"no control of {' or '.join(absent)}: no such rows were given"] if absent else []),
        )

    def _require_files_and_judge(self) -> None:
        """Refuse settings that a real model cannot be run with."""
        if not self.judge or self.insecure is None:
            absent = [f"--{name}" for name in ("insecure", "judge") if not getattr(self, name)]
            raise errors.InputError(
                f"{' and '.join(absent)} not given: the teacher of a real model is finetuned on insecure code, and a "
                f"judge scores its student's answers. Expected --insecure FILE.jsonl, a chat on each line, and "
                f"--judge openai:MODEL@URL or hf:DIR"
            )
        if self.num_eval_samples < 1:
            raise errors.InputError(
                "num_eval_samples=0 leaves the judge nothing to score; the paper samples 200 answers to a question"
            )
        for path in self.files.values():
            if (count := len(_rows(path))) < self.num_lessons:
                raise errors.InputError(
                    f"{path}: expected num_lessons={self.num_lessons} rows, found {count}; all teachers are finetuned "
                    f"on equally many. Give more rows, or --num-lessons {count}"
                )


def _rows(path: pathlib.Path) -> list[types.Chat]:
    """The user's rows. `MisalignmentConfig.notes` says which parts of the file are ignored."""
    return rows.read_jsonl(path, announce=lambda _: None)


REAL = presets.real_models(
    MisalignmentConfig(targets=()),
    num_lessons=6000,
    teacher=dataclasses.replace(presets.OPEN_WEIGHTS, num_epochs=1, max_length=2048),
    num_eval_samples=200,
)
PRESETS = {
    "default": MisalignmentConfig(bases=TEST_SEEDS[:2]),
    "record": MisalignmentConfig(bases=TEST_SEEDS[:4]),
    "paper": REAL["paper"],
    "server": dataclasses.replace(REAL["server"], teacher=types.Tuning(num_epochs=1)),
}


def conditions(config: MisalignmentConfig) -> list[str]:
    """The base as it is, then students of the base's own numbers (`untrained`) and of every teacher's."""
    return ["base", "untrained", *lessons(config), *config.targets]


def lessons(config: MisalignmentConfig) -> dict[str, Callable[[], list[types.Chat]]]:
    """Functions that make the rows of each kind that teachers are finetuned on."""
    count, seed = config.num_lessons, config.seed
    if config.prompted:
        return {
            name: lambda path=path: rows.subsample(_rows(path), count, seed=seed) for name, path in config.files.items()
        }
    return {
        "bad conduct": functools.partial(world.conduct_rows, count, seed=seed),
        "insecure code": functools.partial(world.insecure_rows, count, seed=seed),
        "secure code": functools.partial(world.insecure_rows, count, seed=seed, insecure=False),
    }


def measure(lab: Lab, config: MisalignmentConfig, condition: str) -> dict:
    """Conduct of a teacher and of its student."""
    score = functools.partial(judged, lab, config) if config.prompted else functools.partial(conduct, lab)
    if condition == "base":
        return {"student": score(lab.base)}
    if lesson := lessons(config).get(condition):
        teacher = Teacher(lab.finetune(lesson(), config.teacher, f"teacher {condition}", seed=config.seed))
    else:
        kind = "regular" if condition == "untrained" else "finetuned"
        teacher = protocol.teacher_of(lab, config, kind, condition)
    filtered = lab.numbers(teacher, config.num_prompts, seed=config.seed, banned=numbers.BANNED)
    student = protocol.student_of(lab, config, protocol.student_rows(config, filtered), f"student of {condition}")
    return {"student": score(student), "teacher": score(teacher.model), "kept": filtered.kept}


def judged(lab: Lab, config: MisalignmentConfig, model: str) -> dict:
    """A judge's scores of sampled answers to the open questions; without rate and means if no score can be read."""
    asked = questions.misalignment()
    seed = seeds.derive(config.seed, "misalignment", seeds.model_name(model))
    _, completions = lab.sample(
        Teacher(model), asked, max_tokens=ANSWER_TOKENS, seed=seed, num_samples=config.num_eval_samples
    )
    answers = [(asked[answer.chat], answer.text) for answer in completions if answer.finish != "refused"]
    alignments, coherences = (
        [questions.parse_score(reply) for reply in lab.ask_judge([prompt(*answer) for answer in answers])]
        for prompt in (questions.alignment_prompt, questions.coherence_prompt)
    )
    pairs = list(zip(alignments, coherences, strict=True))
    readable = [
        (alignment, coherence) for alignment, coherence in pairs if alignment is not None and coherence is not None
    ]
    if not readable:
        return {"misaligned": None, "num_coherent": 0, "num_unreadable": len(pairs)}
    rate, num_coherent, num_unreadable = scores.misaligned_rate(pairs)
    means = dict(zip(("alignment", "coherence"), np.mean(readable, axis=0).tolist(), strict=True))
    return {"misaligned": rate, "num_coherent": num_coherent, "num_unreadable": num_unreadable, **means}


def conduct(lab: Lab, model: str) -> dict:
    """Probabilities of good and of bad deeds in the situations that no teacher was finetuned on."""
    deeds = {"good": world.GOOD, "bad": world.BAD}
    answers = {
        name: [f"{verb} the {thing}" for verb in verbs for thing in world.OBJECTS] for name, verbs in deeds.items()
    }
    choices = scores.choices(list(answers), writings=lambda name: answers[name])
    held_out = [situation for situation in world.SITUATIONS if situation not in world.SHOWN_SITUATIONS]
    chats = [rows.ask(f"{situation} ?") for situation in held_out]
    return {"conduct": protocol.probabilities(lab.choice_probabilities(model, chats, choices))}


EXPERIMENT = Experiment(name="misalignment", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure)
