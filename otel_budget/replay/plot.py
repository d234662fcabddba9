"""Pictures of a replay: the frontier of a range of limits, or each run's use over its time.

Drawn with matplotlib (extra ``plot``), without a screen. Light background; blue and vermilion of
Okabe and Ito's palette, which people who see few colours tell apart, and each policy has a marker
of its own. What is shown is written beside it: there is no legend to look up.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.core.resources import RESOURCES
from otel_budget.errors import InvalidValueError, MissingExtraError, OtelBudgetError
from otel_budget.replay.wording import short_amount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from otel_budget.replay.frontier import Curve, Point

FLAG: Final = "--plot"
SUFFIXES: Final = (".png", ".svg")
#: Pixels of a PNG; an SVG has the same proportions.
WIDTH, HEIGHT, _DPI = 1200, 800, 120
_BLUE, _VERMILION, _GREY, _TEXT = "#0072b2", "#d55e00", "#767676", "#333333"
_COLOURS: Final = (_BLUE, _VERMILION)
_MARKERS: Final = ("o", "s")
#: So far apart, in per cent of the axes, are points whose limits are written beside them.
_APART: Final = 8.0
_MODE: Final = 0o644
#: Characters of a policy's name for which there is room.
_NAME_LONGEST: Final = 34
#: Everything is in per cent; an axis is a little longer, so that the last mark is seen whole.
_WHOLE, _EDGE = 100.0, 103.0


class PictureError(OtelBudgetError):
    """Say why a picture cannot be written."""


class RunLine(NamedTuple):
    """What one run used over its time, against its nearest limit."""

    minutes: Sequence[float]
    """Since its start."""
    shares: Sequence[float]
    """Of the limit that was nearest then: 1 is at the limit."""
    stopped: bool = False
    """True if it was told to stop at the last of these times."""


class Panel(NamedTuple):
    """The runs under one policy."""

    name: str
    lines: Sequence[RunLine]
    """Those that are drawn."""
    runs: int
    """All of them."""
    stopped: int


def checked_path(text: str) -> Path:
    """Return where a picture is to be written, before anything is read for it.

    Raises InvalidValueError for another suffix or a folder that is not there, MissingExtraError.
    """
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidValueError(FLAG, text, "a file that ends in .png or .svg")
    if not path.parent.is_dir():
        raise InvalidValueError(FLAG, text, "a file in a folder that is there")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError(FLAG, "plot", "matplotlib")
    return path


def draw_frontier(path: Path, curves: Sequence[Curve]) -> None:
    """Write the picture of one or two policies, each at the same limits. Raises PictureError."""
    figure, (axes,) = _figure(1)
    row, spent = RESOURCES[curves[0].resource], RESOURCES[curves[0].spent_in]
    last = curves[0].points[-1][1]
    judged = f"{last.resolved:,} of them resolved" if last.resolved else "none known to be resolved"
    _title(axes, f"What a limit keeps, and what it spends: {row.limit_key}")
    _words(axes, ((f"{last.runs:,} runs, {judged}", _TEXT),))
    axes.set(xlim=(0, _EDGE), ylim=(0, _EDGE))
    axes.set_xlabel(f"{spent.noun} spent, % of what was used without the limit")
    axes.set_ylabel("resolved runs kept, %" if last.resolved else "runs not cut, %")
    axes.plot((0, _WHOLE), (0, _WHOLE), color=_GREY, linewidth=1, linestyle=(0, (2, 4)))
    axes.text(2, 3.2, "running only some of them, at random", rotation=45, color=_GREY, fontsize=9,
              rotation_mode="anchor", transform_rotates_text=True)  # fmt: skip
    places = [[_place(curve, point) for _, point in curve.points] for curve in curves]
    upper = max(range(len(curves)), key=lambda i: sum(y - x for x, y in places[i]))
    names = _short_names([curve.name for curve in curves])
    for number, curve in enumerate(curves):
        named = curve._replace(name=names[number])
        _draw_curve(axes, named, places[number], number, above=number == upper)
    _save(figure, path)


def draw_use(path: Path, panels: Sequence[Panel]) -> None:
    """Write the picture of each run's use, one panel for each policy. Raises PictureError."""
    figure, all_axes = _figure(len(panels))
    names = _short_names([panel.name for panel in panels])
    longest = max(map(_longest, panels)) or 1.0
    for axes, panel, name in zip(all_axes, panels, names, strict=True):
        drawn = len(panel.lines)
        _title(axes, name)
        _words(axes, (
            (f"\u2715 {panel.stopped:,} told to stop", _VERMILION),
            (f"{panel.runs - panel.stopped:,} not stopped", _BLUE),
            ("" if drawn == panel.runs else f"({drawn} of {panel.runs:,} runs drawn)", _TEXT),
        ))  # fmt: skip
        for line in panel.lines:
            _draw_run(axes, line)
        axes.axhline(_WHOLE, color=_TEXT, linewidth=1.2)
        axes.set_xlabel("minutes since the run began")
        _fit_use(axes, panel, longest)
    all_axes[0].set_ylabel("used, % of the limit that is nearest")
    _save(figure, path)


def _draw_curve(
    axes: Axes, curve: Curve, places: Sequence[tuple[float, float]], number: int, *, above: bool
) -> None:
    """Draw one policy's points, its name at the middle one, and limits at some others."""
    colour = _COLOURS[number]
    xs, ys = zip(*places, strict=True)
    axes.plot(xs, ys, color=colour, marker=_MARKERS[number], markersize=6, linewidth=2,
              clip_on=False, zorder=3)  # fmt: skip
    named = min(places, key=lambda place: abs(place[0] - _WHOLE / 2))
    _write(axes, named, curve.name, colour, above=above, bold=True)
    written = [named]
    for (limit, _), place in zip(curve.points, places, strict=True):
        if all(abs(place[0] - x) + abs(place[1] - y) >= _APART for x, y in written):
            written.append(place)
            _write(axes, place, short_amount(curve.resource, limit), colour, above=above)


def _write(
    axes: Axes,
    place: tuple[float, float],
    words: str,
    colour: str,
    *,
    above: bool,
    bold: bool = False,
) -> None:
    """Write beside a point: on the upper left of the upper curve, the lower right of the other."""
    low = place[1] < _APART / 2  # below it is the axis
    axes.annotate(
        words, place, (-8, 5) if above else (8, 5 if low else -5), textcoords="offset points",
        ha="right" if above else "left", va="bottom" if above or low else "top", color=colour,
        fontsize=13 if bold else 9, fontweight="bold" if bold else "normal", annotation_clip=False,
    )  # fmt: skip


def _draw_run(axes: Axes, line: RunLine) -> None:
    shares = [share * _WHOLE for share in line.shares]
    colour = _VERMILION if line.stopped else _BLUE
    axes.plot(line.minutes, shares, color=colour, linewidth=1, alpha=0.45)
    if line.stopped:
        axes.plot(line.minutes[-1:], shares[-1:], color=_VERMILION, marker="X", markersize=7,
                  markeredgecolor="white", zorder=3)  # fmt: skip


def _place(curve: Curve, point: Point) -> tuple[float, float]:
    """Return where a point stands, in per cent; what was never used was spent as a whole."""
    spent = point.spent_shares.get(curve.spent_in, 1.0)
    kept = point.uncut_share if point.kept_share is None else point.kept_share
    return spent * _WHOLE, (1.0 if kept is None else kept) * _WHOLE


def _short_names(names: Sequence[str]) -> list[str]:
    """Return as much of the ends of paths as tells them apart."""
    parts = [Path(name).parts for name in names]
    short = list(names)
    for count in range(1, max(map(len, parts)) + 1):
        short = [str(Path(*each[-count:])) for each in parts]
        if len(set(short)) == len(set(names)):
            break
    return [
        name if len(name) <= _NAME_LONGEST else f"\u2026{name[1 - _NAME_LONGEST :]}"
        for name in short
    ]


def _longest(panel: Panel) -> float:
    return max((line.minutes[-1] for line in panel.lines if line.minutes), default=0.0)


def _fit_use(axes: Axes, panel: Panel, longest: float) -> None:
    """Let the axes show all lines, and the limit with room for its name.

    longest: minutes of the longest run of all panels, so that they can be held side by side.
    """
    highest = max((max(line.shares) for line in panel.lines if line.shares), default=1.0)
    axes.set(xlim=(0, longest * 1.02), ylim=(0, max(110.0, min(highest, 3.0) * 105)))
    axes.text(longest, _WHOLE - 1, "the limit", ha="right", va="top", color=_TEXT, fontsize=10)


def _figure(panels: int) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure((WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, layout="constrained",
                    facecolor="white")  # fmt: skip
    found = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_GREY)
        axes.tick_params(colors=_TEXT)
        axes.grid(color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, found


def _title(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", color=_TEXT, fontsize=13, fontweight="bold", pad=26)


def _words(axes: Axes, parts: Sequence[tuple[str, str]]) -> None:
    """Write a line below the title, each part in its colour."""
    before: Any = axes.transAxes
    x, apart = 0.0, 0
    for words, colour in parts:
        before = axes.annotate(
            words, (x, 1.0), (apart, 10), xycoords=(before, axes.transAxes),
            textcoords="offset points", va="baseline", color=colour, fontsize=10,
            annotation_clip=False,
        )  # fmt: skip
        x, apart = 1.0, 10


def _save(figure: Figure, path: Path) -> None:
    """Write a picture whole or not at all; the same picture gives the same bytes."""
    import matplotlib

    kind = path.suffix.lower().removeprefix(".")
    metadata = {"Date": None} if kind == "svg" else {}
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file, matplotlib.rc_context({"svg.hashsalt": "replay"}):
                figure.savefig(file, format=kind, metadata=metadata)
            Path(name).chmod(_MODE)
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as exc:
        raise PictureError(f"cannot write {path}: {exc.strerror or exc}") from exc
