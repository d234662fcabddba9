"""Panels of a Grafana dashboard, drawn with matplotlib: close enough to see what they show.

Takes what a dashboard's JSON says (grid, titles, units, thresholds, mappings, overrides) and what
its queries returned. Light theme. Nothing here knows what the metrics mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

Panel = Mapping[str, Any]
COLOURS = {
    "green": "#56a64b", "yellow": "#e0b400", "red": "#e02f44", "purple": "#a352cc",
    "blue": "#3274d9", "text": "#8e8e8e", "transparent": "#ffffff00",
}  # fmt: skip
PALETTE = ("#73bf69", "#5794f2", "#ff9830", "#b877d9", "#fade2a", "#f2495c", "#8ab8ff", "#37872d")
#: Pixels of one unit of Grafana's grid, and of the whole width.
UNIT, WIDTH, TOP = 30, 1560, 56


def number(value: float, unit: str, decimals: int | None = None) -> str:
    """Write a number as Grafana does."""
    if unit == "percentunit":
        return f"{value * 100:.{decimals or 0}f}%"
    if unit == "dateTimeAsIso":
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    if unit in ("s", "dtdurations"):
        return duration(value)
    money = "$" if unit == "currencyUSD" else ""
    if unit in ("short", "currencyUSD"):
        for size, suffix in ((1e9, " B"), (1e6, " M"), (1e3, " K")):
            if abs(value) >= size:
                return f"{money}{value / size:.3g}{suffix}"
    places = decimals if decimals is not None else 2 if money else 0 if value == int(value) else 2
    return f"{money}{value:.{places}f}"


def duration(seconds: float) -> str:
    """Write seconds in the largest unit that fits."""
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.2g} s"


def colour_of(value: float, defaults: Mapping[str, Any]) -> str:
    """Return the colour of a value: of its mapping, or of the threshold it is past."""
    mapped = mapping_of(value, defaults)
    if mapped and mapped.get("color"):
        return COLOURS[mapped["color"]]
    found = "text"
    for step in defaults["thresholds"]["steps"]:
        if step.get("value") is None or value >= step["value"]:
            found = step["color"]
    return COLOURS[found]


def mapping_of(value: object, defaults: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Return what a value is shown as instead."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    for mapping in defaults.get("mappings", ()):
        if text in mapping["options"]:
            found: Mapping[str, str] = mapping["options"][text]
            return found
    return None


def looks(panel: Panel, name: str) -> dict[str, Any]:
    """Return the properties that an override gives to one field."""
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == name:
            return {one["id"]: one["value"] for one in override["properties"]}
    return {}


class Sheet:
    """One picture: panels where the dashboard's grid has them."""

    def __init__(self, title: str, remark: str, height: int) -> None:
        """Begin with the title. height: of the grid, in its units."""
        self.height = height * UNIT + TOP
        self.figure = Figure(figsize=((WIDTH + 24) / 100, self.height / 100), dpi=100)
        self.figure.set_facecolor("#f4f5f5")
        self.figure.text(
            0.012, 1 - 24 / self.height, title, fontsize=15, weight="bold", va="center"
        )
        self.figure.text(0.988, 1 - 24 / self.height, remark, fontsize=8.5, color="#777",
                         va="center", ha="right")  # fmt: skip

    def row(self, panel: Panel) -> None:
        """Write a heading."""
        y = 1 - (TOP + panel["gridPos"]["y"] * UNIT + UNIT / 2) / self.height
        self.figure.text(0.012, y, f"⌄  {panel['title']}", fontsize=11, weight="bold", va="center")

    def panel(self, panel: Panel, left: int = 10, bottom: int = 8) -> Axes:
        """Draw the frame of a panel, and return the axes inside. left, bottom: pixels around it."""
        place = panel["gridPos"]
        column = WIDTH / 24
        x, y = 12 + place["x"] * column + 3, TOP + place["y"] * UNIT + 3
        w, h = place["w"] * column - 6, place["h"] * UNIT - 6
        wide = WIDTH + 24
        frame = self.figure.add_axes(
            (x / wide, 1 - (y + h) / self.height, w / wide, h / self.height)
        )
        frame.set(xticks=[], yticks=[], facecolor="white")
        for spine in frame.spines.values():
            spine.set_color("#dcdee0")
        frame.text(8 / w, 1 - 13 / h, panel["title"], fontsize=9.5, weight="bold", va="center")
        inside = (x + left, y + 26, w - left - 10, h - 26 - bottom)
        return self.figure.add_axes(
            (inside[0] / wide, 1 - (inside[1] + inside[3]) / self.height,
             inside[2] / wide, inside[3] / self.height)
        )  # fmt: skip

    def save(self, path: str) -> None:
        """Write the picture."""
        self.figure.savefig(path, dpi=100)
        with Image.open(path) as drawn:
            few = drawn.convert("RGB").quantize(200, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


def figure(axes: Axes, panel: Panel, name: str, value: float | None) -> None:
    """Draw one large number, or a name."""
    axes.axis("off")
    defaults = panel["fieldConfig"]["defaults"]
    if value is None:
        text, colour = defaults.get("noValue", "No data"), COLOURS["text"]
    else:
        mapped = mapping_of(value, defaults)
        shown = (
            mapped["text"] if mapped else number(value, defaults["unit"], defaults.get("decimals"))
        )
        mode = panel["options"]["textMode"]
        text = {"name": name, "value_and_name": f"{name}\n{shown}"}.get(mode, shown)
        colour = colour_of(value, defaults)
    size = max(9, min(24, 300 // len(text)))
    axes.text(0.5, 0.5, text, fontsize=size, color=colour, ha="center", va="center", weight="bold")


def graph(
    axes: Axes, panel: Panel, series: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    marks: Sequence[tuple[float, str]],
) -> None:  # fmt: skip
    """Draw series over seconds. marks: moments and colours of annotations."""
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    stacked = custom["stacking"]["mode"] == "normal"
    floor: dict[float, float] = {}
    for place, (name, times, values) in enumerate(series):
        special = looks(panel, name)
        colour = PALETTE[place % len(PALETTE)]
        if "color" in special:
            colour = COLOURS[special["color"]["fixedColor"]]
        if "custom.lineStyle" in special:
            axes.plot(times, values, color=colour, lw=1.2, ls=(0, (5, 4)), label=name)
            continue
        below = [floor.get(t, 0.0) if stacked else 0.0 for t in times]
        above = [v + b for v, b in zip(values, below, strict=True)]
        floor.update(zip(times, above, strict=True))
        if custom["drawStyle"] == "bars":
            width = (times[-1] - times[0]) / max(1, len(times)) if len(times) > 1 else 1
            axes.bar(times, values, width=width, bottom=below, color=colour, label=name)
            continue
        axes.plot(times, above, color=colour, lw=1.3, label=name)
        axes.fill_between(
            times, below, above, color=colour, alpha=custom["fillOpacity"] / 100, lw=0
        )
    for moment, colour in marks:
        axes.axvline(moment, color=COLOURS[colour], lw=0.8, ls=":", alpha=0.8)
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        for step in defaults["thresholds"]["steps"]:
            if step.get("value"):
                axes.axhline(step["value"], color=COLOURS[step["color"]], lw=1, ls="--")
    _scale(axes, defaults, columns(panel))


def _scale(axes: Axes, defaults: Mapping[str, Any], names: int) -> None:
    top = defaults.get("max") or max(axes.get_ylim()[1], defaults["custom"].get("axisSoftMax", 0))
    axes.set_ylim(0, top if top > 0 else 1)
    unit = defaults["unit"]
    axes.yaxis.set_major_formatter(lambda value, _: number(value, unit))
    axes.yaxis.set_major_locator(_locator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    axes.tick_params(labelsize=7.5, length=0, colors="#666")
    axes.grid(color="#eceded", lw=0.7)
    for spine in axes.spines.values():
        spine.set_visible(False)
    # Below the labels of the axis: the panel was given room for it.
    height = axes.get_window_extent().height
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -16 / height), ncol=names, fontsize=7.5,
                frameon=False, handlelength=1.2, columnspacing=1.2, borderpad=0)  # fmt: skip


def columns(panel: Panel) -> int:
    """Return how many names a line of its legend has room for."""
    width: int = panel["gridPos"]["w"]
    return max(2, min(5, width // 3))


def room_for(panel: Panel, series: int) -> int:
    """Return the pixels that the axis and the legend of so many series take below a graph."""
    return 26 + 15 * -(-max(series, 1) // columns(panel))


def _locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5, min_n_ticks=3)


def meters(axes: Axes, panel: Panel, rows: Sequence[tuple[str, float]]) -> None:
    """Draw horizontal bars."""
    defaults = panel["fieldConfig"]["defaults"]
    top = defaults.get("max") or max((value for _, value in rows), default=1) or 1
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(-len(rows) + 0.4, 0.6))
    # The names have half of a panel, their bars the rest.
    longest = max((len(name) for name, _ in rows), default=0)
    left = min(0.47, max(0.27, longest * 0.0145))
    width = 0.85 - left
    for place, (name, value) in enumerate(rows):
        axes.barh(-place, width, left=left, height=0.55, color="#eceded")
        filled = width * min(1.0, value / top)
        axes.barh(-place, filled, left=left, height=0.55, color=colour_of(value, defaults))
        axes.text(left - 0.02, -place, name or "(none)", fontsize=9, ha="right", va="center")
        axes.text(0.87, -place, number(value, defaults["unit"]), fontsize=9, va="center")


def bands(
    axes: Axes, panel: Panel, series: Sequence[tuple[str, Sequence[float], Sequence[float]]]
) -> None:
    """Draw states over time."""
    defaults = panel["fieldConfig"]["defaults"]
    for place, (_, times, values) in enumerate(series):
        start = 0
        for index in range(1, len(values) + 1):
            if index < len(values) and values[index] == values[start]:
                continue
            end = times[min(index, len(times) - 1)]
            colour = colour_of(values[start], defaults)
            axes.barh(-place, end - times[start], left=times[start], height=0.8, color=colour)
            mapped = mapping_of(values[start], defaults)
            if mapped and end - times[start] > (times[-1] - times[0]) * 0.06:
                axes.text((end + times[start]) / 2, -place, mapped["text"], fontsize=8.5,
                          color="white", ha="center", va="center")  # fmt: skip
            start = index
    axes.set(yticks=[-place for place in range(len(series))], yticklabels=[s[0] for s in series])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    axes.tick_params(labelsize=8, length=0, colors="#666")
    for spine in axes.spines.values():
        spine.set_visible(False)


def table(axes: Axes, panel: Panel, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Draw a table; a cell is a number, a text or None."""
    axes.axis("off")
    lines = max(8, len(rows) + 1)
    axes.set(xlim=(0, 1), ylim=(-lines, 0))
    widths = [float(looks(panel, name).get("custom.width", 110)) for name in names]
    lefts = [sum(widths[:index]) / sum(widths) for index in range(len(widths))]
    for left, name in zip(lefts, names, strict=True):
        axes.text(left + 0.002, -0.5, name, fontsize=8.5, color="#3274d9", va="center")
    for line, row in enumerate(rows, start=1):
        axes.axhline(-line, color="#eceded", lw=0.7)
        for left, width, name, value in zip(lefts, widths, names, row, strict=True):
            _cell(axes, panel, name, value, (left, -line - 0.5, width / sum(widths)))


def fitting(text: str, pixels: float) -> str:
    """Return a text, cut where a cell of so many pixels ends, as Grafana does."""
    room = max(1, int(pixels / 6.2))
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _cell(
    axes: Axes, panel: Panel, name: str, value: object, place: tuple[float, float, float]
) -> None:
    x, y, width = place
    special = {**panel["fieldConfig"]["defaults"], **looks(panel, name)}
    kind = special.get("custom.cellOptions", {}).get("type")
    mapped = mapping_of(value, special)
    colour = "#333"
    text = "" if value is None else str(value)
    if isinstance(value, float):
        text = number(value, special["unit"], special.get("decimals"))
        if kind == "gauge":
            filled = width * 0.55 * min(1.0, value)
            axes.barh(y, width * 0.55, left=x, height=0.5, color="#eceded")
            axes.barh(y, filled, left=x, height=0.5, color=colour_of(value, special))
            x += width * 0.58
        elif kind == "color-text":
            colour = colour_of(value, special)
    if mapped:
        text, colour = mapped["text"], COLOURS[mapped["color"]]
    text = fitting(text, width * axes.get_window_extent().width)
    axes.text(x + 0.002, y, text, fontsize=8.5, color=colour, va="center")
