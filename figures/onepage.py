"""A report as one file of HTML that stands alone, for a person who decides about rows or models."""

import base64
import html
import pathlib
from collections.abc import Sequence

from sublim_jax import files

STYLE = """:root { color-scheme: light dark }
body { font: 15px/1.45 sans-serif; max-width: 52em; margin: 2em auto; padding: 0 1em }
td, th { padding: .2em .8em .2em 0; text-align: left; vertical-align: top }
b { color: color-mix(in srgb, var(--verdict), black 25%) }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px }
img { max-width: 100%; background: white }
@media (prefers-color-scheme: dark) { b { color: color-mix(in srgb, var(--verdict), white 45%) } }"""
"""Letters are dark on light, or light on dark where the reader's system is; the picture keeps its own white ground."""


def write(
    path: pathlib.Path,
    *,
    kind: str,
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    colours: Sequence[str],
    picture: pathlib.Path,
    caption: str,
    meanings: Sequence[str],
    lines: Sequence[str],
) -> pathlib.Path:
    """Write a page with a table, what its words mean, a picture and the report in full, and return its path.

    Args:
        kind: of the report, e.g. "audit"; a page of that kind may be replaced.
        header: of the table, a cell for each column.
        rows: cells of the table as text; the second one is the verdict.
        colours: of each row's verdict.
        picture: a PNG.
        caption: what the picture shows, with its numbers, for those who do not see it.
        meanings: of the words and of the scale of the table, and what the report cannot see; a paragraph each.

    Raises:
        OutputError: something else than a page of that kind is there.
    """
    cells = "".join(
        "<tr>"
        + "".join(
            f"<td style='--verdict:{colour}'><b>{html.escape(cell)}</b></td>"
            if place == 1
            else f"<td>{html.escape(cell)}</td>"
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row, colour in zip(rows, colours, strict=True)
    )
    encoded, text = base64.b64encode(picture.read_bytes()).decode(), html.escape("\n".join(lines))
    content = (
        f"{_mark(kind)}\n<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width'><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n<table><tr>"
        f"{''.join(f'<th>{html.escape(cell)}</th>' for cell in header)}</tr>{cells}</table>\n"
        f"{''.join(f'<p>{html.escape(meaning)}</p>' for meaning in meanings)}\n"
        f"<p><img alt='{html.escape(caption)}' src='data:image/png;base64,{encoded}'></p>\n"
        f"<h2>The report in full</h2>\n<pre>{text}</pre></body></html>\n"
    )
    files.write(path, content.encode("utf-8", "replace"), ours=_recognizer(kind), what="page")
    return path


def require_free(path: pathlib.Path, kind: str) -> None:
    """Refuse a place where `write` would refuse to write.

    Raises:
        OutputError: something else than a page of that kind is there.
    """
    files.require_free(path, ours=_recognizer(kind), what="page")


def _mark(kind: str) -> str:
    """The first line of a page."""
    return f"<!-- sublim_jax {kind} -->"


def _recognizer(kind: str) -> files.Recognizer:
    mark = _mark(kind).encode()
    return lambda path: path.read_bytes().startswith(mark)
