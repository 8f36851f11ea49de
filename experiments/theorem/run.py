"""Measure the quantities of the alignment theorem on real networks (Cloud et al. 2025, section 6.1)

    python -m experiments.theorem                          every part, a few minutes on two cores
    python -m experiments.theorem --preset smoke           reduced, to see that everything works
    python -m experiments.theorem --parts starts filters   some parts only
    python -m experiments.theorem --help                   every setting

The parts: curve, radius, kinks (how far in epsilon); cosines (how much is transmitted); starts, init_noise (students
with other starts); labels, filters (sampled data); optimizers, many_steps; mnist_cosines, mnist_noise (the paper's
network). The record keeps every value and is written after each part; `python -m figures.theorem` draws it.
"""

import pathlib
import time

from experiments import cli, progress, session
from experiments.theorem import cosines, mnist, reach, samples, starts, steps
from experiments.theorem.config import DEFAULT, PRESETS, Part, TheoremConfig, describe
from sublim_jax import errors, records
from sublim_jax.data import datasets
from sublim_jax.forms import theorem as form

SMALL = {
    "curve": reach.curve,
    "radius": reach.radius,
    "kinks": reach.kinks_of_relu,
    "cosines": cosines.cosines,
    "starts": starts.starts,
    "labels": samples.labels,
    "init_noise": starts.init_noise,
    "filters": samples.filtered,
    "optimizers": steps.optimizer_table,
    "many_steps": steps.many_steps,
}
WITH_IMAGES = {"mnist_cosines": mnist.cosines, "mnist_noise": mnist.init_noise}


def run(
    config: TheoremConfig,
    *,
    record: pathlib.Path | None = None,
    resume: bool = False,
    data_dir: pathlib.Path | None = None,
    visible: bool = True,
) -> records.Record:
    """Measure the parts one after the other. The record is written to `record`, if given, after each part.

    Raises:
        DataError: a part needs images that are unavailable.
        InputError: the config asks for more training images than there are.
        OutputError: the record cannot be written there, or another process is writing it.
        RecordError: `resume`, and the record there is damaged or belongs to another config or other data.
    """
    log = progress.console.print if visible else lambda *_, **__: None
    with records.opened(record, form.FORM, resume=resume, announce=log) as output:
        return _run(config, output, data_dir, log, visible)


def _run(config: TheoremConfig, output: records.Output, data_dir, log, visible: bool) -> records.Record:
    dataset, data = None, {"name": "drawn networks and inputs", "source": "the seed", "checksum": None}
    if WITH_IMAGES.keys() & set(config.parts):
        with progress.Display("loading the images", visible=visible) as display:
            dataset = datasets.load(config.dataset, data_dir=data_dir, announce=display.say)
        if config.num_train_images > (available := len(dataset.train_images)):
            raise errors.InputError(f"num_train_images={config.num_train_images}: {dataset.name} has {available}")
        data = {"name": dataset.name, "source": dataset.source, "checksum": dataset.checksum}
    record = records.Record.begin("theorem", config, data, description=describe(config.parts))
    record.notes += _notes(config, dataset)
    result = output.begin(record)
    left: list[Part] = [part for part in config.parts if part not in result.results]
    seconds = {part: config.seconds(part) for part in left}
    if left:
        duration = progress.duration(sum(seconds.values()))
        log(f"{len(left)} parts take about {duration} on two cores like those of the committed record")
    with progress.Display(
        "theorem",
        total=len(config.parts),
        unit="parts",
        finished=len(config.parts) - len(left),
        seconds=sum(seconds.values()),
        work=sum(seconds.values()),
        visible=visible,
    ) as display:
        for part in left:
            display.doing(part)
            began = time.perf_counter()
            result.results[part] = records.to_json(_measure(part, config, dataset))
            result.seconds[part] = round(time.perf_counter() - began, 1)
            output.write(result)
            display.advance(work=seconds[part])
            display.say(f"{part}: {result.seconds[part]:.1f} s")
    return result


def _measure(part: Part, config: TheoremConfig, dataset: datasets.ImageDataset | None) -> dict:
    if part in SMALL:
        return SMALL[part](config)
    assert dataset is not None  # it is loaded for these parts
    return WITH_IMAGES[part](config, dataset)


def _notes(config: TheoremConfig, dataset: datasets.ImageDataset | None) -> list[str]:
    """Notes in the record about precision, images and settings that are not the default."""
    notes = ["small networks in float64, MNIST networks in float32; the curve in both"]
    if dataset is not None and dataset.synthetic:
        notes.append("the images are synthetic-digits, generated, not MNIST")
    own, default = records.to_json(config), records.to_json(DEFAULT)
    free = {"parts", "dataset", "seed"}
    if changes := [f"{name}={own[name]}" for name in own if name not in free and own[name] != default[name]]:
        notes.append("not the default setting: " + ", ".join(changes))
    if missing := [part for part in DEFAULT.parts if part not in config.parts]:
        notes.append("without the parts " + ", ".join(missing))
    return notes


def main() -> None:
    config, options = cli.parse("theorem", __doc__, PRESETS, kind=cli.ImageOptions)
    session.require_theorem_figures(options)
    result = run(config, record=options.record, resume=options.resume, data_dir=options.data_dir)
    for note in result.notes:
        print(f"note: {note}")
    session.present(options.record, figure=options.figure and result.complete)
