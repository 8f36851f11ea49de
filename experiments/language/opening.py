"""How the lab of a base is opened: the embedded model's leaves nothing behind, those of real models keep answers."""

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
"""The environment variable with the key of a judge's server, where it takes one."""


@contextlib.contextmanager
def open_lab(
    experiment: Experiment,
    config: LanguageConfig,
    base: str,
    limits: Limits | None,
    *,
    announce: Callable[[str], object] = print,
) -> Iterator[Lab]:
    """A lab for one base. That of the embedded model leaves nothing behind; others keep answers, models and the judge's
    replies in runs/. Where the experiment needs all bases, the lab's backend has them."""
    if config.backend == "tiny":
        seed = config.bases[config.names.index(base)]
        others = config.bases if experiment.needs_all_bases else ()
        with tempfile.TemporaryDirectory() as folder:
            backend = embedded.open_bases(list(dict.fromkeys((seed, *others))), announce=announce)
            yield Lab(backend, base, config.materials, pathlib.Path(folder))
        return
    model = open_llm.open_backend(base, announce=announce)
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
            config.materials,
            folder,
            judge=judge,
            answers=answers,
            limits=limits.budget(),
            max_refused=limits.max_refused,
        )


def judge_key(model: str, judge: str) -> str | None:
    """The environment variable with the judge's key, None for the usual one: its own if that is set, or if the usual
    key is for another server, which is not the judge's to see."""
    urls = [urllib.parse.urlsplit(name.rpartition("@")[2]) for name in (model, judge)]
    if os.environ.get(JUDGE_KEY):
        return JUDGE_KEY
    remote = [url.hostname is not None and not addresses.is_loopback(url.hostname) for url in urls]
    return JUDGE_KEY if all(remote) and urls[0].netloc != urls[1].netloc else None
