"""Damage at random places of committed records: what reads them says one line with the file's name, or draws them.

DAMAGES=1500 DAMAGE_SEED=1 pytest tests/experiments/test_damage.py -m slow    more and other ones for each record
"""

import copy
import json
import os
import pathlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from matplotlib import pyplot as plt

from figures import compare, presentation, style
from figures import mnist_aux as mnist_figure
from figures import speed as speed_figure
from figures.atlas import draw as atlas_figure
from figures.atlas import page, values
from figures.evidence import authors as authors_figure
from figures.language import gallery, tables
from figures.language import real as real_figure
from figures.theorem import draw as theorem_figure
from sublim_jax import errors, records
from sublim_jax.forms import language as forms
from sublim_jax.forms import language_speed as language_speed_form
from sublim_jax.forms import real_speed as real_speed_form
from tests.mutants import matrix

RECORDS = pathlib.Path(__file__).parents[2] / "experiments/records"
DAMAGES = int(os.environ.get("DAMAGES", "16"))
SEED = os.environ.get("DAMAGE_SEED", "0")
REPLACEMENTS = (None, "x", -1, 0, 2, 0.5, 1e300, True, [], {})

Path = tuple[str | int, ...]
Change = Callable[[Any, Any], object]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where something can be damaged: every name, and the first and the last item of every list."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for index in sorted({0, len(value) - 1} if value else ()):
            yield from places(value[index], (*path, index))


def changes(value: Any) -> Iterator[tuple[str, Change]]:
    """What can be done to a value, in what holds it."""
    yield "deleted", lambda holder, key: holder.pop(key)
    for other in REPLACEMENTS:
        yield f"= {other!r}", lambda holder, key, other=other: holder.__setitem__(key, copy.deepcopy(other))
    if isinstance(value, list) and value:
        yield "one more", lambda holder, key: holder[key].append(copy.deepcopy(holder[key][-1]))
    if isinstance(value, dict) and value:
        yield "a name changed", lambda holder, key: holder[key].update(ghost=holder[key].popitem()[1])
        yield (
            "a name more",
            lambda holder, key: holder[key].update(ghost=copy.deepcopy(next(iter(holder[key].values())))),
        )


def draw(figure, stem) -> tuple:
    """In place of `style.save`: all but the files. Few dots, for speed."""
    figure.set_dpi(10)
    figure.canvas.draw()
    plt.close(figure)
    return ()


def read_theorem(path: pathlib.Path, part: str, monkeypatch) -> None:
    presentation.show(path)
    affected = {name: drawn for name, drawn in theorem_figure.FIGURES.items() if part in (*drawn[0], "")}
    with monkeypatch.context() as patch:
        patch.setattr(theorem_figure, "FIGURES", affected)
        theorem_figure.save_all(path, path.with_suffix(""))


def read_language(path: pathlib.Path, part: str, monkeypatch) -> None:
    tables.table(forms.read(path))
    gallery.save(path, path.with_suffix(""))


def read_real(path: pathlib.Path, part: str, monkeypatch) -> None:
    presentation.show(path)
    real_figure.save(path, path.with_suffix(""))


def read_speed(path: pathlib.Path, part: str, monkeypatch) -> None:
    presentation.show(path)
    speed_figure.save(path, path.with_suffix(""))


def read_authors(path: pathlib.Path, part: str, monkeypatch) -> None:
    presentation.show(path)
    authors_figure.save(path, path.with_suffix(""))


def read_mnist(path: pathlib.Path, part: str, monkeypatch) -> None:
    mnist_figure.save(path, path.with_suffix(""))
    compare.main(path, RECORDS / "mnist_aux.json")


def read_atlas(path: pathlib.Path, part: str, monkeypatch) -> None:
    """A row, alone on the page and in a figure."""
    atlas = values.read(path.parent)
    for written in (page.parity, page.unpublished, page.counts):
        written(atlas)
    (row,) = atlas.rows
    _, ax = plt.subplots()
    atlas_figure.draw_row(ax, row, atlas.arms(row.id))


def read_catalogue(path: pathlib.Path, part: str, monkeypatch) -> None:
    """All rows without a record, on the page."""
    folder = path.parent / "atlas"
    folder.mkdir(exist_ok=True)
    page.page(values.read(folder))


READERS = {
    "theorem": read_theorem,
    "theorem-mutants": lambda path, *_: theorem_figure.save_mutants(path, path.with_suffix("")),
    "mutants": lambda path, *_: records.read(path, matrix.FORM),
    "speed": read_speed,
    "atlas-rows": read_catalogue,
    "language_real": read_real,
    "evidence_authors": read_authors,
    "language_speed": lambda path, *_: records.read(path, language_speed_form.FORM),
    "real_speed": lambda path, *_: real_speed_form.lines(records.read(path, real_speed_form.FORM)),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of NumPy and Matplotlib, about numbers that cannot be
@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDS.rglob("*.json")))
def test_damage_anywhere_is_one_line(tmp_path, name, monkeypatch):
    """Whatever else is raised fails the test. What is read although it is damaged may be as it is there."""
    (source,) = RECORDS.rglob(f"{name}.json")
    read, num_damages = READERS.get(name, read_language if name.startswith("language") else read_mnist), DAMAGES
    if source.parent != RECORDS:  # of which there are many, all alike
        read, num_damages = read_atlas, DAMAGES // 8
    whole = json.loads(source.read_text())
    monkeypatch.setattr(style, "save", draw)
    choices, refused = [], 0
    for path in places(whole):
        if path[:1] in (("results",), ("config",), ("data",), ("notes",), ("description",)):
            choices += [(path, what, change) for what, change in changes(_at(whole, path))]
    for path, what, change in random.Random(name + SEED).sample(choices, min(num_damages, len(choices))):
        content = copy.deepcopy(whole)
        change(_at(content, path[:-1]), path[-1])
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(content))
        try:
            read(file, str(path[1]) if path[0] == "results" and len(path) > 1 else "", monkeypatch)
        except errors.SublimError as error:
            refused += 1
            assert str(error).startswith(f"{file}: ") and "\n" not in str(error), (path, what)
        except Exception as error:
            raise AssertionError(f"{name}, {'.'.join(map(str, path))}, {what}") from error
        finally:
            plt.close("all")
    assert refused or num_damages < DAMAGES


def _at(content: Any, path: Path) -> Any:
    for key in path:
        content = content[key]
    return content
