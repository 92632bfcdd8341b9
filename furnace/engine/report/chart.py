"""Lines over checkpoints: where an SVG has its points, ticks and labels."""

import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 16, 44
TICKS = 6  # at most, on the axis of the values
NAMES = 12  # at most, below the points


class Tick(NamedTuple):
    """A number beside the axis of scores."""

    at: float
    text: str


class Point(NamedTuple):
    """A checkpoint's score; the text tells it."""

    x: float
    y: float
    text: str


class Line(NamedTuple):
    """The scores of a branch."""

    name: str
    points: list[Point]


class Chart(NamedTuple):
    """In units of the SVG, from its upper left corner."""

    title: str
    lines: list[Line]
    x: list[Tick]
    y: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def chart(title: str, names: Sequence[str], series: dict[str, Sequence[float | None]]) -> Chart:
    """A chart of values in percent.

    Args:
        names: of the places along the x axis, two or more.
        series: by the name of a line, a value for each place; None leaves the point out.
    """
    values = [value for line in series.values() for value in line if value is not None] or [0]
    ticks = ticks_around(min(values), max(values))
    low, high = ticks[0], ticks[-1]
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0])))

    def place_x(i: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * i / (len(names) - 1), 1)

    def place_y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    every = math.ceil(len(names) / NAMES)
    return Chart(
        title,
        [
            Line(
                name,
                [
                    Point(place_x(i), place_y(value), f'{name}, {names[i]}: {value:.2f} %')
                    for i, value in enumerate(line)
                    if value is not None
                ],
            )
            for name, line in series.items()
        ],
        [Tick(place_x(i), name) for i, name in enumerate(names) if i % every == 0],
        [Tick(place_y(value), f'{value:.{digits}f}') for value in ticks],
    )


def ticks_around(low: float, high: float) -> list[float]:
    """Round numbers at even distances, two to ``TICKS``, from below ``low`` to above ``high``."""
    high = max(high, low + 0.01)
    power = 10 ** math.floor(math.log10((high - low) / TICKS))
    for factor in (1, 2, 5, 10, 20, 50):
        step = factor * power
        first, last = math.floor(low / step), math.ceil(high / step)
        if last - first < TICKS:
            break
    return [round(i * step, 10) for i in range(first, last + 1)]
