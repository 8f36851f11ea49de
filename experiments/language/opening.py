"""Opens the lab of a base: an embedded base in a temporary folder, a real model with a store for its answers."""

import contextlib
import os
import pathlib
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator

from experiments.language.config import JudgedConfig, LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from experiments.language.options import Limits
from sublim_jax import records
from sublim_jax.llm import addresses, store
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.embedded import model as embedded

JUDGE_KEY = "SUBLIM_JUDGE_KEY"
"""Environment variable for the key of the judge's server."""


@contextlib.contextmanager
def open_lab(
    experiment: Experiment,
    config: LanguageConfig,
    base: str,
    limits: Limits | None,
    *,
    announce: Callable[[str], object] = print,
) -> Iterator[Lab]:
    """A lab for one base.

    The lab of an embedded base leaves no files. That of a real model keeps its answers, finetuned models and the
    judge's replies in runs/. If the experiment needs all bases, the lab's backend has them all.
    """
    if config.backend == "tiny":
        seed = config.bases[config.base_names.index(base)]
        others = config.bases if experiment.needs_all_bases else ()
        with tempfile.TemporaryDirectory() as folder:
            backend = embedded.open_bases(list(dict.fromkeys((seed, *others))), announce=announce)
            yield Lab(backend, base, config.prompts, pathlib.Path(folder), **config.drawing)
        return
    model = open_llm.open_backend(base, announce=announce, float32=config.float32)
    judge_name = config.judge if isinstance(config, JudgedConfig) else ""
    judge = model
    if judge_name not in ("", base):
        judge = open_llm.open_backend(judge_name, announce=announce, key_variable=judge_key(base, judge_name))
    folder = pathlib.Path("runs") / f"{experiment.record_name}-{records.fingerprint(base)}"
    limits = limits or Limits()
    with store.Store(folder / "answers.sqlite") as answers:
        yield Lab(
            model.backend,
            model.model,
            config.prompts,
            folder,
            judge=judge,
            answers=answers,
            limits=limits.budget(),
            max_refused=limits.max_refused,
            **config.drawing,
        )


def judge_key(model: str, judge: str) -> str | None:
    """Name of the environment variable with the judge's key; None for the usual one.

    It is `JUDGE_KEY` if that is set, or if model and judge are on different remote servers, since the judge's server
    must not receive the model's key.
    """
    if os.environ.get(JUDGE_KEY):
        return JUDGE_KEY
    urls = [urllib.parse.urlsplit(name.rpartition("@")[2]) for name in (model, judge)]
    are_remote = [url.hostname is not None and not addresses.is_loopback(url.hostname) for url in urls]
    return JUDGE_KEY if all(are_remote) and urls[0].netloc != urls[1].netloc else None
