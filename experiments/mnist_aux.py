"""How well does a student that saw only noise and auxiliary logits read digits? (Cloud et al. 2025, figure 10)

    python -m experiments.mnist_aux                   ten members, some minutes on a CPU
    python -m experiments.mnist_aux --preset smoke    reduced, to see that everything works
    python -m experiments.mnist_aux --preset paper    the paper's hundred members
    python -m experiments.mnist_aux --preset lenet    convolutional networks; or residual
    python -m experiments.mnist_aux --help            every setting; with a preset, those of its network

A teacher learns MNIST with its ten class logits. A student imitates the teacher's three auxiliary logits on noise, and
reads digits far above chance if it started from the teacher's own initialization, and stays at chance if it started
from another. The record keeps every member's accuracy in every condition; `python -m figures.mnist_aux RECORD` draws
it.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from experiments import cli, cost, progress, session
from sublim_jax import conditions, errors, records, specs
from sublim_jax.conditions import Condition, Recorded
from sublim_jax.data import datasets
from sublim_jax.forms import mnist_aux as form
from sublim_jax.models import conv, matmul, mlp
from sublim_jax.training import effects, ensemble, loop, optimizers, stages
from sublim_jax.training.config import BehaviourMatching, MemberConfig
from sublim_jax.training.state import Data, MemberResult

Dataset = Literal["auto", "mnist", "fashion-mnist", "kmnist", "synthetic-digits"]

FIGURE_10: tuple[Condition, ...] = ("student_aux", "student_all", "cross_model_aux", "cross_model_all")

PUBLISHED: dict[str, form.Published] = {
    "reference": {"value": 0.10, "source": "cloud", "half_width": None, "text": "~.10"},
    "teacher": {"value": 0.94, "source": "cloud", "half_width": None, "text": "~.94"},
    "student_aux": {
        "value": 0.551,
        "source": "divyat09",
        "half_width": 0.037,
        "text": ">.50; .551 ± .037 (divyat09, N=25)",
    },
    "student_all": {"value": 0.91, "source": "cloud", "half_width": None, "text": "~.91"},
    "cross_model_aux": {"value": 0.10, "source": "cloud", "half_width": None, "text": "~.10"},
    "cross_model_all": {
        "value": 0.72,
        "source": "cloud",
        "half_width": None,
        "text": "~.72; .726 on 50,000 images (barathvelmu)",
    },
}
"""Heights of the bars of figure 10 of Cloud et al., read off it; for `student_aux`, which the paper's text gives as
above .50 only, the mean that divyat09 reports for the published script, with its distillation loss averaged over
images. The text of a table has after a semicolon what a replication reports."""

DIFFERENCES: tuple[tuple[Recorded, Recorded], ...] = (
    ("student_aux", "reference"),
    ("student_aux", "cross_model_aux"),
    ("student_all", "cross_model_all"),
    ("matched_aux", "cross_model_aux"),
)


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class MnistAuxConfig:
    """The paper's protocol, apart from the number of members, unless a flag says otherwise."""

    seed: specs.Seed = 0  # decides every random number, together with the number of a member
    num_members: specs.NumMembers = 10  # independent references, each with its teacher and students
    dataset: Dataset = "auto"
    """`auto`: MNIST, or synthetic digits, clearly labelled, where MNIST is unavailable."""
    num_train_images: specs.Count | None = None
    """Only the first so many training images; all by default."""
    members_at_once: specs.Count | None = None
    """Members in one vmap on each device; by default 1 on a CPU and up to 128 on an accelerator."""
    member: Annotated[MemberConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=lambda: MemberConfig(
            conditions=(*FIGURE_10, "matched_aux"), model=mlp.MLPSpec(precision=matmul.fastest_precision())
        )
    )

    def __post_init__(self):
        member = self.member
        if self.num_members < 2 and {conditions.start_of(name) for name in member.conditions} != {"student"}:
            raise errors.InputError(
                f"num_members={self.num_members}: cross_model and matched students start from another member's "
                f"reference. Use num_members >= 2, or --conditions student_aux student_all."
            )
        effects.require_gradient(member)


PAPER = MnistAuxConfig(num_members=100)


def _quick(num_epochs: int) -> loop.TrainPhase:
    return loop.TrainPhase(
        num_epochs=num_epochs, batch_size=256, optimizer=optimizers.OptimizerSpec(learning_rate=1e-3)
    )


def _convolutional(model: conv.ConvSpec) -> MnistAuxConfig:
    """Few images, ten auxiliary logits and squared errors, since an image costs ten times as much as in the MLP."""
    member = dataclasses.replace(
        PAPER.member,
        conditions=FIGURE_10,
        model=dataclasses.replace(model, num_aux=10, precision=matmul.fastest_precision()),
        teacher=_quick(1),
        student=_quick(3),
        loss="mse",
        num_noise_images=20_000,
    )
    return MnistAuxConfig(num_members=4, member=member)


PRESETS = {
    "default": MnistAuxConfig(),
    "smoke": MnistAuxConfig(
        num_members=4,
        member=dataclasses.replace(
            PAPER.member,
            teacher=_quick(1),
            student=_quick(2),
            matching=BehaviourMatching(num_images=10_000, phase=_quick(1)),
        ),
    ),
    "paper": PAPER,
    "lenet": _convolutional(conv.ConvSpec()),
    "residual": _convolutional(
        conv.ConvSpec(blocks="residual", kernel_size=3, channels=(8, 16), hidden_sizes=(84,), downsampling="stride")
    ),
}


def without_effect(config: MnistAuxConfig) -> dict[str, str]:
    """Settings that have no effect under the others, and why; see `effects.without_effect`."""
    return {f"member.{name}": reason for name, reason in effects.without_effect(config.member).items()}


def changed_from_paper(config: MnistAuxConfig) -> list[str]:
    """Settings that differ from the paper's protocol.

    How many members there are, how they are run and in which precision is free; the depth of noise pixels too (the
    README compares records of both).
    """
    free = {"seed", "num_members", "dataset", "conditions", "members_at_once", "matching", "metrics"}
    free |= {"model.precision", "noise.bits"}
    ours, theirs = (
        {name.removeprefix("member."): value for name, value in records.flatten(records.to_json(each)).items()}
        for each in (config, PAPER)
    )
    return [
        f"{name}={ours[name]} (paper: {theirs.get(name)})"
        for name in ours
        if not {name, name.partition(".")[0]} & free and ours[name] != theirs.get(name)
    ]


@functools.cache
def _programs(spec: MemberConfig, width: int) -> dict[str, Any]:
    """All members of a chunk, one program for each stage, reused for every chunk, run and seed of equal shape.

    Programs call nothing on the host, so that JAX can keep them on the disk. Each is given the results of those before
    it.
    """

    def start(member, partner, results, shared):
        seed, data = shared
        return stages.init_params(member, partner, data, seed=seed, spec=spec.init_config)

    def teacher(member, partner, results, shared):
        seed, data = shared
        return stages.train_teacher(member, data, seed=seed, spec=spec.teacher_config)

    def matching(member, partner, results, shared):
        seed, data = shared
        return stages.match_behaviour(member, results["start"], results["teacher"], data, seed=seed, spec=spec)

    def student(member, partner, results, shared):
        (seed, data), matched = shared, results.get("matching")
        return stages.distill_students(
            member, results["start"], results["teacher"], data, seed=seed, spec=spec, matched=matched
        )

    chosen = [start, teacher, matching, student] if stages.has_matched_start(spec) else [start, teacher, student]
    return {run.__name__: ensemble.over_members(run, width=width) for run in chosen}


def _compiled(programs: dict[str, Any], members, shared) -> dict[str, Any]:
    """The programs, each compiled for the results of those before it."""
    compiled, results = {}, {}
    for name, program in programs.items():
        lowered = program.lower((*members, results), shared)
        compiled[name] = lowered.compile()
        results = results | {name: ensemble.described(lowered.out_info)}
    return compiled


def run(
    config: MnistAuxConfig,
    *,
    record: pathlib.Path | None = None,
    resume: bool = False,
    data_dir: pathlib.Path | None = None,
    visible: bool = True,
) -> records.Record:
    """Run all members, a chunk at a time, writing the record after each chunk if `record` says where.

    Raises:
        DataError: the images are unavailable.
        OutputError: the record cannot be written there, or another process is writing it.
        RecordError: `resume`, and the record there is damaged or belongs to another config or other data.
    """
    say = progress.console.print if visible else lambda *_, **__: None
    with records.opened(record, form.FORM, resume=resume, writes=jax.process_index() == 0, announce=say) as output:
        return _run(config, output, data_dir, say, visible)


def _run(config: MnistAuxConfig, output: records.Output, data_dir, say, visible: bool) -> records.Record:
    began = time.perf_counter()
    with progress.Display("loading the images", visible=visible) as display:
        dataset = datasets.load(config.dataset, data_dir=data_dir, announce=display.say)
    data = {"name": dataset.name, "source": dataset.source, "checksum": dataset.checksum}
    fresh = records.Record.begin(
        "mnist_aux", config, data, description=describe(config.member.conditions, images_name=dataset.name)
    )
    fresh.notes += _disclaimers(config, dataset)
    result = output.begin(fresh)
    for note in result.notes:
        say(f"note: {note}", highlight=False)
    result.results.setdefault("members", {})
    _add_seconds(result, "data", time.perf_counter() - began)
    if result.complete:
        say("nothing is left to run")
        return result

    width = config.members_at_once or ensemble.default_members_per_device(config.num_members)
    chunk_size = width * jax.device_count()
    chunks = [
        np.arange(start, min(start + chunk_size, config.num_members), dtype=np.int32)
        for start in range(0, config.num_members, chunk_size)
    ]
    left = [chunk for chunk in chunks if not all(str(member) in result.results["members"] for member in chunk)]
    shared = ensemble.replicate((np.uint32(config.seed), shared_images(config, dataset)))
    programs = _programs(config.member, width)

    work = _work(config, len(dataset.train_images), width) if visible and jax.process_count() == 1 else {}
    seconds = len(left) * width * sum(work.values()) if work else None
    where = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {width} member(s) at once on each"
    if seconds is not None:
        say(f"training takes about {progress.duration(seconds)} on {where}, by matrix products timed just now")
    began = time.perf_counter()
    with progress.Display(f"compiling for {where}", visible=visible):
        compiled = _compiled(programs, _members(chunks[0], chunk_size, config.num_members), shared)
    _add_seconds(result, "compile", time.perf_counter() - began)

    epochs_per_member = sum(_num_epochs(config, stage) for stage in compiled)
    total = config.num_members * epochs_per_member
    num_left = sum(len(chunk) for chunk in left)
    display = progress.Display(
        "figure 10",
        total=total,
        unit="epochs",
        finished=total - num_left * epochs_per_member,
        seconds=seconds,
        work=num_left * sum(work.values()) if work else None,
        visible=visible,
    )
    with display:
        for chunk in left:
            members, results = _members(chunk, chunk_size, config.num_members), {}
            for name, program in compiled.items():
                began = time.perf_counter()
                display.doing(_activity(chunk, name), seconds=width * work[name] if name in work else None)
                results[name] = jax.block_until_ready(program((*members, results), shared))
                _add_seconds(result, "teacher" if name == "start" else name, time.perf_counter() - began)
                num_epochs = _num_epochs(config, name)
                display.advance(len(chunk) * num_epochs, len(chunk) * (work.get(name, 0.0) if work else num_epochs))
            outcome = ensemble.gather(results["student"])
            for row, member in enumerate(chunk):
                result.results["members"][str(member)] = _member_result(outcome, row)
            output.write(result)
            for member in chunk:
                display.say(_line(config, int(member), result.results["members"][str(member)]["accuracy"]))
    return result


def describe(chosen: Sequence[Condition], *, images_name: str) -> form.Description:
    """What a record of these conditions says of itself. Published values are of MNIST."""
    recorded: list[Any] = list(conditions.recorded_conditions(chosen))
    return {
        "conditions": recorded,
        "published": {name: PUBLISHED[name] for name in recorded if name in PUBLISHED and images_name == "mnist"},
        "differences": [list(pair) for pair in DIFFERENCES if set(pair) <= set(recorded)],
    }


def _work(config: MnistAuxConfig, num_train_images: int, width: int) -> dict[str, float]:
    """Estimated seconds of one device for one member, by phase."""
    spec, num_images = config.member, min(config.num_train_images or num_train_images, num_train_images)
    matching = cost.matching_seconds(spec, width=width)
    return {
        "teacher": cost.teacher_seconds(spec, num_images, width=width),
        "matching": matching,
        "student": cost.students_seconds(spec, width=width) - matching,
    }


def _num_epochs(config: MnistAuxConfig, stage: str) -> int:
    """Epochs of a stage for one member."""
    member = config.member
    phases = {"teacher": member.teacher, "matching": member.matching.phase, "student": member.student}
    return phases[stage].num_epochs if stage in phases else 0


def _activity(chunk: np.ndarray, stage: str) -> str:
    """What is being done, for a reader."""
    who = f"member {chunk[0]}" if len(chunk) == 1 else f"members {chunk[0]} to {chunk[-1]}"
    return f"{who}, {stage}"


def _line(config: MnistAuxConfig, member: int, accuracy: dict[str, float | None]) -> str:
    """A finished member's accuracies, in the order of the figure."""
    shown = {name: accuracy[name] for name in conditions.recorded_conditions(config.member.conditions)}
    cells = [f"{name} {'diverged' if value is None else f'{value:.3f}'}" for name, value in shown.items()]
    return f"member {member}: {', '.join(cells)}"


def _add_seconds(result, phase, seconds):
    result.seconds[phase] = round(result.seconds.get(phase, 0.0) + seconds, 3)


def _disclaimers(config, dataset) -> list[str]:
    """What a reader of any number below must know."""
    notes = []
    if dataset.synthetic:
        notes.append("the images are synthetic-digits, generated, not MNIST: published values do not apply")
    elif dataset.name != "mnist":
        notes.append(f"the images are {dataset.name}: published values do not apply")
    available = min(config.num_train_images or len(dataset.train_images), len(dataset.train_images))
    matched = stages.has_matched_start(config.member)
    if matched and config.member.matching.num_images > available:
        notes.append(f"matched students were prepared on all {available} training images, as there are no more")
    if changed := changed_from_paper(config):
        notes.append("not the paper's protocol: " + ", ".join(changed))
    return notes


def shared_images(config: MnistAuxConfig, dataset: datasets.ImageDataset) -> Data:
    """The arrays that all members share, as many of them as the config asks for.

    Raises:
        InputError: the network's input or output does not fit the images, or there are fewer of them.
    """
    available = len(dataset.train_images)
    count = available if config.num_train_images is None else config.num_train_images
    if count > available:
        raise errors.InputError(f"num_train_images={count}: {dataset.name} has {available}; ask for at most as many")
    model = conv.with_layers(config.member.model)
    if model.in_size != dataset.train_images[0].size or model.num_classes < dataset.num_classes:
        raise errors.InputError(
            f"the images have {dataset.train_images[0].size} pixels and {dataset.num_classes} classes, the network "
            f"in_size={model.in_size} and num_classes={model.num_classes}"
        )
    arrays: Any = (  # on the host until they are shared
        dataset.train_images[:count].reshape(-1, model.in_size),
        dataset.train_labels[:count],
        dataset.test_images.reshape(-1, model.in_size),
        dataset.test_labels,
    )
    return Data(*arrays)


def _members(chunk, chunk_size, num_members):
    """Member and partner numbers of a chunk; a last, shorter one repeats its last member to keep the shape."""
    padded = np.pad(chunk, (0, chunk_size - len(chunk)), mode="edge")
    alone = num_members < 2
    return ensemble.shard((padded, padded if alone else ensemble.cross_model_partners(num_members)[padded]))


def _member_result(outcome: MemberResult, row: int) -> dict:
    """One member's part of the record. Accuracies have at most six digits: 10,000 images have four."""
    metrics = {
        name: {condition: _rounded_all(values[row]) for condition, values in by_condition.items()}
        for name, by_condition in outcome.metrics.items()
    }
    return {
        "accuracy": {name: _rounded(values[row]) for name, values in outcome.accuracy.items()},
        "loss": {name: [_rounded(value) for value in values[row]] for name, values in outcome.loss.items()},
        "diverged": sorted(name for name, finite in outcome.finite.items() if not finite[row]),
        **({"metrics": metrics} if metrics else {}),
    }


def _rounded_all(values) -> list[float | None] | float | None:
    return [_rounded(value) for value in values] if np.ndim(values) else _rounded(values)


def _rounded(value) -> float | None:
    return float(f"{float(value):.6g}") if np.isfinite(value) else None


def main() -> None:
    config, options = cli.parse(
        "mnist_aux", __doc__, PRESETS, kind=cli.DistributedOptions, without_effect=without_effect
    )
    cli.require_figures(options)
    if options.coordinator:
        jax.distributed.initialize(options.coordinator, options.num_processes, options.process_id)
    else:
        ensemble.use_cpu_cores(config.num_members)
    first = jax.process_index() == 0
    result = run(config, record=options.record, resume=options.resume, data_dir=options.data_dir, visible=first)
    if not first:
        return
    spent = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in result.seconds.items())
    progress.console.print(f"time: {spent}")
    for note in result.notes:
        print(f"note: {note}")
    session.present(options.record, figure=options.figure)


if __name__ == "__main__":
    cli.main(main)
