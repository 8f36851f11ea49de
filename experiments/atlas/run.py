"""Published MNIST-scale ablations of subliminal learning, and more, run again on the same members.

    python -m experiments.atlas --plan                    what would run, and about how long it takes
    python -m experiments.atlas                           all rows, ten members; goes on where it was stopped
    python -m experiments.atlas --ids width blur          some rows
    python -m experiments.atlas --axes inputs             the rows of an axis; --sources jasshone: those of a source
    python -m experiments.atlas --which published         rows somebody has published; unpublished: the others
    python -m experiments.atlas --describe                write what rows say, e.g. published values, into the records
    python -m figures.atlas.page                          write the page from the records; figures.atlas draws them

Each row has a record in experiments/records/atlas/, which is also what resuming reads. Rows are data: see registry.py.
"""

import collections
import contextlib
import dataclasses
import itertools
import pathlib
from typing import Annotated, Literal

import annotated_types
import tyro
from rich.table import Table

from experiments import cli, cost, progress
from experiments.atlas import catalogue, engines, plan, registry, results, worker
from sublim_jax import commands, errors, files, specs
from sublim_jax.data import synthetic_digits
from sublim_jax.training import ensemble


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to run, and how."""

    ids: tuple[str, ...] = ()
    """Rows by name."""
    axes: tuple[registry.Axis, ...] = ()
    """Rows by axis."""
    sources: tuple[str, ...] = ()
    """Rows by who published them, e.g. jasshone."""
    which: Literal["all", "published", "unpublished"] = "all"
    num_members: Annotated[specs.NumMembers, annotated_types.Ge(2)] = 10
    """Two at least, or nothing has a standard deviation."""
    seed: specs.Seed = 0
    one_precision: bool = False
    """Run again what the records have with other operands than this machine's (bfloat16 where it has instructions for
    them, else float32)."""
    describe: bool = False
    """Run nothing. Write questions, labels and published values, as the rows have them now, into the records that are
    there, and the list of all rows beside their folder."""
    plan: bool = False
    """Only say what would run and about how long it takes."""
    compilation_cache: bool = True
    """Keep compiled programs for the next run; a second run of the same shapes starts in seconds."""
    engine: Literal["local", "ray"] = "local"
    """`local`: in this process; `ray`: on the Ray cluster this machine belongs to (extra `ray`)."""
    records: pathlib.Path = results.FOLDER
    """Folder of the records; what it has is not run again."""
    data_dir: pathlib.Path | None = None
    """Folder with the four IDX files of MNIST, or with one subfolder per dataset; by default SUBLIM_DATA_DIR."""


def run(options: Options) -> None:
    """Run what the options ask for and the records do not have.

    Raises:
        DataError: images that a row needs cannot be had.
        OutputError: the folder cannot be written, or another process is writing in it.
        RecordError: a record in the folder is damaged, of other data or another seed.
    """
    rows = plan.chosen(catalogue.ROWS[options.which], ids=options.ids, axes=options.axes, sources=options.sources)
    with contextlib.ExitStack() as stack:
        _run(options, rows, stack)


def _reserve(folder: pathlib.Path, stack: contextlib.ExitStack) -> None:
    """Hold the folder until the stack is closed; what is there are records of the atlas, or it is refused."""
    files.require_folder(folder, ours=lambda _: True, what="folder of records")
    stack.enter_context(files.Lock(folder))
    results.found(folder)


def _run(options: Options, rows: list[registry.Row], stack: contextlib.ExitStack) -> None:
    say = progress.console.print
    if not options.plan:
        _reserve(options.records, stack)
    load = worker.loader(options.data_dir)
    with progress.Display("loading the images") as display:
        rows, data = _with_data(rows, options, load, display.say)
    # The quick ones are finished first.
    rows.sort(key=lambda row: sum(cost.students_seconds(row.setting(arm).member) for arm in row.arms))
    folder = options.records
    if any(d["name"] == synthetic_digits.NAME for d in data.values()):
        folder = pathlib.Path("runs/atlas-synthetic-digits") if folder.resolve() == results.FOLDER else folder
        say(f"note: MNIST is unavailable, so the images are {synthetic_digits.NAME}: published values do not apply")
        if folder != options.records and not options.plan:
            _reserve(folder, stack)
    store = results.Store(
        folder, options.seed, {d["name"]: d["checksum"] for d in data.values()}, options.num_members,
        registry.BASE.member.mlp_spec.precision if options.one_precision else None,
    )  # fmt: skip
    engine = engines.make(options.engine, options.seed, load)
    work = plan.make(
        [row.setting(arm) for row in rows for arm in row.arms],
        options.num_members,
        chunk_size=engine.chunk_size,
        done=store.done,
    )
    estimate = work.seconds(engine.num_cores)
    say(f"{len(rows)} rows, {sum(len(row.arms) for row in rows)} arms; to run: {work.num_tasks} members of settings in "
        f"{work.num_programs} programs, about {progress.duration(estimate)} on {engine.num_cores} cores")  # fmt: skip
    if options.plan:
        print_plan(rows, store, options, engine.num_cores)
        return
    compiling = execute(work, engine, store, rows, options, data)
    for row in rows:
        if not store.written(row):  # all of its settings were run for other rows
            store.write(row, options.num_members, data=data[_dataset(row)], compile_seconds=compiling.get(row.id, 0.0))
    say(f"records: {commands.shown(folder)}")


def execute(work: plan.Plan, engine, store: results.Store, rows, options: Options, data) -> dict[str, float]:
    """Run the chunks, writing the records of the rows that a finished chunk belongs to. Returns compilation by row."""
    users: dict[str, list[registry.Row]] = {}
    for row in rows:
        for arm in row.arms:
            users.setdefault(registry.fingerprint(row.setting(arm)), []).append(row)
    waiting = {  # rows that each chunk serves, once for each of its tasks
        index: [row.id for task in chunk for row in users[registry.fingerprint(task.setting)]]
        for index, chunk in enumerate(work.chunks)
    }
    left = collections.Counter(itertools.chain.from_iterable(waiting.values()))
    costs = [sum(cost.students_seconds(task.setting.member) for task in chunk) for chunk in work.chunks]
    compiling: dict[str, float] = {}
    with progress.Display(
        "atlas", total=work.num_tasks, unit="members of settings", seconds=work.seconds(engine.num_cores),
        work=sum(costs),
    ) as display:  # fmt: skip

        def show_next() -> None:
            display.doing(" ".join(dict.fromkeys(next(iter(waiting.values()), []))))

        show_next()
        for index, answer in engine.run(work.chunks):
            chunk = work.chunks[index]
            touched: dict[str, registry.Row] = {}
            for task, result in zip(chunk, answer.results, strict=True):
                name = registry.fingerprint(task.setting)
                store.add(name, task.member, result)
                spent = sum(value for what, value in answer.seconds.items() if what != "compile") / len(chunk)
                store.seconds[name] = round(store.seconds.get(name, 0.0) + spent, 3)
                touched |= {row.id: row for row in users[name]}
            first = users[registry.fingerprint(chunk[0].setting)][0].id
            compiling[first] = compiling.get(first, 0.0) + answer.seconds.get("compile", 0.0)
            for row in touched.values():
                store.write(row, options.num_members, data=data[_dataset(row)],
                            compile_seconds=compiling.get(row.id, 0.0))  # fmt: skip
            left.subtract(waiting.pop(index))
            display.advance(len(chunk), costs[index])
            show_next()
            for name in touched:
                if not left[name]:
                    display.say(f"row {name} is done")
    return compiling


def _dataset(row: registry.Row) -> str:
    return row.setting(row.arms[0]).data.dataset


def _with_data(rows, options: Options, load: worker.Load, say):
    """The rows whose images can be had, and what a record says of the images."""
    data, kept = {}, []
    for row in rows:
        if not row.arms:
            say(f"{row.id}: not run: {row.not_run}")
            continue
        name = _dataset(row)
        if name not in data:
            try:
                dataset = load(name)
            except errors.DataError as error:
                if name == "mnist" or row.id in options.ids:
                    raise
                say(f"{row.id}: not run: {name} cannot be had here ({type(error).__name__})")
                continue
            data[name] = {"name": dataset.name, "source": dataset.source, "checksum": dataset.checksum}
        kept.append(row)
    return kept, data


def print_plan(rows, store: results.Store, options: Options, cores: int) -> None:
    """A line per row: arms, what is there, what is left and its estimated time without compilation."""
    table = Table(title="What would run", show_footer=True)
    for column in ("row", "axis", "arms", "members there", "left", "minutes"):
        table.add_column(column, justify="right" if column not in ("row", "axis") else "left")
    partners = ensemble.cross_model_partners(options.num_members)
    seen: set[tuple[str, int]] = set()
    for row in rows:
        there = left = 0
        seconds = 0.0
        for arm in row.arms:
            setting = row.setting(arm)
            for member in range(options.num_members):
                name = (registry.fingerprint(setting), member)
                if store.done(setting, member, int(partners[member])) or name in seen:
                    there += 1
                else:
                    seen.add(name)
                    left += 1
                    seconds += cost.students_seconds(setting.member)
        table.add_row(row.id, row.axis, str(len(row.arms)), str(there), str(left), f"{seconds / cores / 60:.1f}")
    progress.console.print(table)


def main() -> None:
    options = tyro.cli(Options, prog="python -m experiments.atlas", description=__doc__)
    if options.describe:
        print(f"{len(results.describe(options.records))} records describe their rows as they are now")
        return
    cli.use_compilation_cache(options.compilation_cache)
    if options.engine == "local":
        ensemble.use_cpu_cores(options.num_members)
    run(options)
