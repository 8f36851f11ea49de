"""Runs a study unit by unit: every unit is stored in the record as soon as it is measured, so a stopped run resumes."""

import pathlib
import time
from collections.abc import Callable
from typing import Any

from experiments import progress
from experiments.study import Source, Study
from sublim_jax import records
from sublim_jax.data import datasets


def read(study: Study, config: Any, data_dir: pathlib.Path | None, announce: Callable[[str], object]) -> Any:
    """What the study reads.

    Raises:
        DataError: the images are unavailable.
        SublimError: see the study's `open_source`.
    """
    if study.open_source is not None:
        return study.open_source(config, announce)
    if not study.reads_images(config):
        return Source("tiny", "documents of the embedded world", None)
    images = datasets.load(data_dir=data_dir, announce=announce)
    return Source(images.name, images.source, images.checksum, images)


def run(
    study: Study,
    config: Any,
    *,
    record: pathlib.Path | None = None,
    resume: bool = False,
    data_dir: pathlib.Path | None = None,
    visible: bool = True,
) -> records.Record:
    """Measure all units, and write the record after each one.

    Args:
        record: path of the record; None writes none.
        resume: whether to continue the record at that path.
        data_dir: folder of the images, for studies that read them.
        visible: whether to print notes and progress.

    Raises:
        DataError: the images are unavailable.
        OutputError: the record cannot be written there, or another process is writing it.
        RecordError: `resume` is set, and the record is damaged, or of another config or other data.
    """
    say = progress.console.print if visible else lambda *_, **__: None
    with records.opened(record, study.form, resume=resume, announce=say) as output:
        source = read(study, config, data_dir, say)
        description = study.describe(config if study.open_source is None else source)
        fresh = records.Record.begin(study.record_name, config, source.data, description=description)
        fresh.notes += study.notes(config)
        if isinstance(source, Source) and source.images is not None and source.images.synthetic:
            fresh.notes.append("synthetic digits, drawn from fonts, not MNIST: numbers are no evidence about MNIST")
        result = output.begin(fresh)
        for note in result.notes:
            say(f"note: {note}", highlight=False)
        units = study.units(config)
        missing = [unit for unit in units if unit not in result.results]
        if not missing:
            say("everything is measured already")
            return result
        with progress.Display(
            study.record_name, total=len(units), unit="units", finished=len(units) - len(missing), visible=visible
        ) as display:
            for unit in missing:
                began = time.perf_counter()
                display.doing(unit)
                measured = study.measure(
                    source, config, unit, lambda activity, unit=unit: display.doing(f"{unit}: {activity}")
                )
                result.results[unit] = records.to_json(measured)
                result.seconds[unit] = round(time.perf_counter() - began, 1)
                output.write(result)
                display.advance()
                display.say(f"done: {unit}, {progress.duration(result.seconds[unit])}")
                for line in study.lines(result, unit):
                    display.say(line)
        return result
