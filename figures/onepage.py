"""A report as one file of HTML that stands alone, for a person who decides about rows or models."""

import base64
import html
import pathlib
from collections.abc import Sequence

from sublim_jax import files

STYLE = """body { font: 15px/1.45 sans-serif; max-width: 52em; margin: 2em auto; padding: 0 1em }
td, th { padding: .2em .8em .2em 0; text-align: left; vertical-align: top }
pre { white-space: pre-wrap; font-size: 12px } img { max-width: 100% }"""


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
    lines: Sequence[str],
) -> pathlib.Path:
    """Write a page with a table, a picture and the report in full, and return its path.

    Args:
        kind: of the report, e.g. "audit"; a page of that kind may be replaced.
        header: of the table, a cell for each column.
        rows: cells of the table as text; the second one is the verdict.
        colours: of each row's verdict.
        picture: a PNG.
        caption: what the picture shows, for those who do not see it.

    Raises:
        OutputError: something else than a page of that kind is there.
    """
    mark = f"<!-- sublim_jax {kind} -->".encode()
    cells = "".join(
        "<tr>"
        + "".join(
            f"<td style='color:{colour}'><b>{html.escape(cell)}</b></td>"
            if place == 1
            else f"<td>{html.escape(cell)}</td>"
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row, colour in zip(rows, colours, strict=True)
    )
    encoded, text = base64.b64encode(picture.read_bytes()).decode(), html.escape("\n".join(lines))
    content = (
        f"{mark.decode()}\n<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><table><tr>"
        f"{''.join(f'<th>{html.escape(cell)}</th>' for cell in header)}</tr>{cells}</table>"
        f"<img alt='{html.escape(caption)}' src='data:image/png;base64,{encoded}'>"
        f"<h2>The report in full</h2><pre>{text}</pre></html>\n"
    )
    files.write(path, content.encode(), ours=lambda file: file.read_bytes().startswith(mark), what="page")
    return path
