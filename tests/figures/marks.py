"""What a drawing shows, read back from it, and the intervals it should show, by formulas of their own."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer

T_QUANTILE = {4: 3.182446305284263, 5: 2.7764451051977987}
"""97.5 % quantile of Student's distribution by number of values, from a table."""
NORMAL_QUANTILE = 1.959963984540054


def t_bounds(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and bounds of its 95 % t-interval."""
    mean = statistics.fmean(values)
    half = T_QUANTILE[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def wilson_bounds(successes: int, trials: int) -> tuple[float, float, float]:
    """Share, and bounds of its 95 % Wilson interval."""
    share, squared = successes / trials, NORMAL_QUANTILE**2
    centre = (share + squared / (2 * trials)) / (1 + squared / trials)
    root = math.sqrt(share * (1 - share) / trials + squared / (4 * trials**2))
    half = NORMAL_QUANTILE * root / (1 + squared / trials)
    return share, centre - half, centre + half


def spans(errorbars: ErrorbarContainer) -> list[tuple[float, float, float]]:
    """Place, lower and upper end of every error bar, whose caps stand at the ends."""
    _, caps, (bars,) = errorbars.lines
    segments = np.array(bars.get_segments(), float)
    places, ends = segments[:, :, 0], np.sort(segments[:, :, 1], axis=1)
    np.testing.assert_array_equal(places[:, 0], places[:, 1])
    np.testing.assert_allclose(np.sort(np.array([cap.get_ydata() for cap in caps], float), axis=0).T, ends)
    return [(float(x), float(low), float(high)) for x, (low, high) in zip(places[:, 0], ends, strict=True)]


def points(errorbars: ErrorbarContainer) -> list[tuple[float, float]]:
    """Places and heights of what the error bars belong to."""
    return [(float(x), float(y)) for x, y in np.asarray(errorbars.lines[0].get_xydata(), float)]


def errorbars(ax: Axes) -> list[ErrorbarContainer]:
    """All series with error bars, in the order in which they were drawn."""
    return [container for container in ax.containers if isinstance(container, ErrorbarContainer)]


def by_label(ax: Axes) -> dict[str, ErrorbarContainer]:
    """Series with error bars by what the legend calls them."""
    handles, labels = ax.get_legend_handles_labels()
    legend = ax.get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == labels
    return {
        label: handle for label, handle in zip(labels, handles, strict=True) if isinstance(handle, ErrorbarContainer)
    }


def bars(ax: Axes) -> dict[str, list[tuple[float, float]]]:
    """Centre and height of the bars of every series, by what the legend calls it."""
    containers = [container for container in ax.containers if isinstance(container, BarContainer)]
    return {
        str(container.get_label()): [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in container]
        for container in containers
    }
