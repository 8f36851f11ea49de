"""Published MNIST-scale ablations of subliminal learning, and more, run again on the same members.

    python -m experiments.atlas --plan                    what would run, and about how long it takes
    python -m experiments.atlas                           all rows, ten members; resumes if it was stopped
    python -m experiments.atlas --ids width blur          some rows
    python -m experiments.atlas --axes inputs             the rows of an axis; --sources jasshone: those of a source
    python -m experiments.atlas --which published         rows somebody has published; unpublished: the others
    python -m experiments.atlas --describe                update questions, notes and published values in the records
    python -m figures.atlas.page                          write the page from the records; figures.atlas draws them

Each row has a record in experiments/records/atlas/, from which a later run resumes. Rows are data: see rows/types.py.
"""

import collections
import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Callable
from typing import Annotated, Any, Literal

import annotated_types
import tyro
from rich.table import Table

from experiments import cli, cost, progress
from experiments.atlas import catalogue, engines, plan, settings, store, worker
from experiments.atlas.engines import Engine
from experiments.atlas.plan import Plan
from experiments.atlas.rows.types import Axis, Row
from experiments.atlas.store import RecordStore
from sublim_jax import commands, errors, files, specs
from sublim_jax.data import synthetic_digits
from sublim_jax.training import ensemble


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The command line."""

    ids: tuple[str, ...] = ()
    """Rows by name."""
    axes: tuple[Axis, ...] = ()
    """Rows by axis."""
    sources: tuple[str, ...] = ()
    """Rows by who published them, e.g. jasshone."""
    which: Literal["all", "published", "unpublished"] = "all"
    """Rows by whether somebody published them."""
    num_members: Annotated[specs.NumMembers, annotated_types.Ge(2)] = 10
    """At least two, for a standard deviation."""
    seed: specs.Seed = 0
    one_precision: bool = False
    """Repeat results that were recorded at another precision than this machine's (bfloat16 where it has instructions
    for it, else float32)."""
    describe: bool = False
    """Run nothing. Write the present questions, labels and published values of rows into their records, and the list of
    all rows next to their folder."""
    plan: bool = False
    """Print what would run and about how long it takes, and run nothing."""
    compilation_cache: bool = True
    """Keep compiled programs for the next run; a second run of the same shapes starts in seconds."""
    engine: Literal["local", "ray"] = "local"
    """`local`: in this process; `ray`: on the Ray cluster of this machine (extra `ray`)."""
    records: pathlib.Path = store.FOLDER
    """Folder of the records; recorded results are not run again."""
    data_dir: pathlib.Path | None = None
    """Folder with the four IDX files of MNIST, or with one subfolder per dataset; by default SUBLIM_DATA_DIR."""


def run(options: Options) -> None:
    """Run the selected rows, except for results that are already recorded.

    Raises:
        DataError: images that a row needs are unavailable.
        OutputError: the folder cannot be written, or another process is writing in it.
        RecordError: a record in the folder is damaged, of other data or another seed.
    """
    rows = plan.select(catalogue.ROWS[options.which], ids=options.ids, axes=options.axes, sources=options.sources)
    with contextlib.ExitStack() as stack:
        _run(options, rows, stack)


def _reserve(folder: pathlib.Path, stack: contextlib.ExitStack) -> None:
    """Lock the folder until the stack is closed, and check that all records in it are of the atlas."""
    files.require_folder(folder, ours=lambda _: True, what="folder of records")
    stack.enter_context(files.Lock(folder))
    store.read_all(folder)


def _run(options: Options, rows: list[Row], stack: contextlib.ExitStack) -> None:
    log = progress.console.print
    if not options.plan:
        _reserve(options.records, stack)
    load = worker.loader(options.data_dir)
    with progress.Display("loading the images") as display:
        rows, data = _with_data(rows, options, load, display.say)
    rows.sort(key=_student_seconds)  # quick rows finish first
    folder = options.records
    if any(d["name"] == synthetic_digits.NAME for d in data.values()):
        folder = pathlib.Path("runs/atlas-synthetic-digits") if folder.resolve() == store.FOLDER else folder
        log(f"note: MNIST is unavailable, so the images are {synthetic_digits.NAME}: published values do not apply")
        if folder != options.records and not options.plan:
            _reserve(folder, stack)
    checksums = {d["name"]: d["checksum"] for d in data.values()}
    precision = settings.BASE.member.mlp_spec.precision if options.one_precision else None
    results = RecordStore(folder, options.seed, checksums, options.num_members, precision)
    engine = engines.open_engine(options.engine, options.seed, load)
    work = plan.make(
        [arm.setting for row in rows for arm in row.resolved],
        options.num_members,
        chunk_size=engine.chunk_size,
        done=results.done,
    )
    duration = progress.duration(work.seconds(engine.num_cores))
    compilation = progress.duration(work.compile_seconds)
    log(
        f"{len(rows)} rows, {sum(len(row.arms) for row in rows)} arms; to run: {work.num_tasks} members of settings in "
        f"{work.num_programs} programs, about {duration} on {engine.num_cores} cores "
        f"({compilation} less if all programs are in the cache)"
    )
    if options.plan:
        print_plan(rows, results, options.num_members, engine.num_cores)
        return
    compile_seconds = execute(work, engine, results, rows, options.num_members, data)
    for row in rows:
        if not results.is_written(row):  # all of its settings were run for other rows
            seconds = compile_seconds.get(row.id, 0.0)
            results.write(row, options.num_members, data=data[row.dataset], compile_seconds=seconds)
    log(f"records: {commands.shown(folder)}")


def _student_seconds(row: Row) -> float:
    return sum(cost.students_seconds(arm.setting.member) for arm in row.resolved)


def execute(
    work: Plan, engine: Engine, results: RecordStore, rows: list[Row], num_members: int, data: dict[str, Any]
) -> dict[str, float]:
    """Run the chunks. After each of them, write the records of the rows that use it.

    Returns seconds of compilation by row.
    """
    users: dict[str, list[Row]] = {}
    for row in rows:
        for arm in row.resolved:
            users.setdefault(arm.fingerprint, []).append(row)
    waiting = {  # rows that use each chunk, once for each of its tasks
        index: [row.id for task in chunk for row in users[settings.fingerprint(task.setting)]]
        for index, chunk in enumerate(work.chunks)
    }
    left = collections.Counter(itertools.chain.from_iterable(waiting.values()))
    costs = [sum(cost.students_seconds(task.setting.member) for task in chunk) for chunk in work.chunks]
    compile_seconds: dict[str, float] = {}
    with progress.Display(
        "atlas",
        total=work.num_tasks,
        unit="members of settings",
        seconds=work.seconds(engine.num_cores),
        work=sum(costs),
    ) as display:

        def show_next() -> None:
            display.doing(" ".join(dict.fromkeys(next(iter(waiting.values()), []))))

        show_next()
        for index, answer in engine.run(work.chunks):
            chunk = work.chunks[index]
            seconds = sum(value for phase, value in answer.seconds.items() if phase != "compile") / len(chunk)
            touched: dict[str, Row] = {}
            for task, result in zip(chunk, answer.results, strict=True):
                name = settings.fingerprint(task.setting)
                results.add(name, task.member, result)
                results.seconds[name] = round(results.seconds.get(name, 0.0) + seconds, 3)
                touched |= {row.id: row for row in users[name]}
            first = users[settings.fingerprint(chunk[0].setting)][0].id
            compile_seconds[first] = compile_seconds.get(first, 0.0) + answer.seconds.get("compile", 0.0)
            for row in touched.values():
                seconds_of_row = compile_seconds.get(row.id, 0.0)
                results.write(row, num_members, data=data[row.dataset], compile_seconds=seconds_of_row)
            left.subtract(waiting.pop(index))
            display.advance(len(chunk), costs[index])
            show_next()
            for name in touched:
                if not left[name]:
                    display.say(f"row {name} is done")
    return compile_seconds


def _with_data(
    rows: list[Row], options: Options, load: worker.Load, log: Callable[[str], None]
) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    """The rows whose images are available, and the description of each dataset in a record."""
    data, available = {}, []
    for row in rows:
        if not row.arms:
            log(f"{row.id}: not run: {row.not_run}")
            continue
        if row.dataset not in data:
            try:
                dataset = load(row.dataset)
            except errors.DataError as error:
                if row.dataset == "mnist" or row.id in options.ids:
                    raise
                log(f"{row.id}: not run: {row.dataset} is unavailable here ({type(error).__name__})")
                continue
            data[row.dataset] = {"name": dataset.name, "source": dataset.source, "checksum": dataset.checksum}
        available.append(row)
    return available, data


def print_plan(rows: list[Row], results: RecordStore, num_members: int, cores: int) -> None:
    """Print a line per row: its arms, members recorded and left, and estimated minutes without compilation."""
    table = Table(title="What would run", show_footer=True)
    for column in ("row", "axis", "arms", "members there", "left", "minutes"):
        table.add_column(column, justify="right" if column not in ("row", "axis") else "left")
    partners = ensemble.cross_model_partners(num_members)
    seen: set[tuple[str, int]] = set()
    for row in rows:
        num_done = num_left = 0
        seconds = 0.0
        for arm in row.resolved:
            for member in range(num_members):
                key = (arm.fingerprint, member)
                if results.done(arm.setting, member, int(partners[member])) or key in seen:
                    num_done += 1
                else:
                    seen.add(key)
                    num_left += 1
                    seconds += cost.students_seconds(arm.setting.member)
        minutes = f"{seconds / cores / 60:.1f}"
        table.add_row(row.id, row.axis, str(len(row.arms)), str(num_done), str(num_left), minutes)
    progress.console.print(table)


def main() -> None:
    options = tyro.cli(Options, prog="python -m experiments.atlas", description=__doc__)
    if options.describe:
        print(f"{len(store.describe(options.records))} records describe their rows as they are now")
        return
    cli.use_compilation_cache(options.compilation_cache)
    if options.engine == "local":
        ensemble.use_cpu_cores(options.num_members)
    run(options)
