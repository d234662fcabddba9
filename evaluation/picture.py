"""The picture beside the tables: errors over the share of the limit that is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from evaluation.contestants import OURS
from evaluation.measure import CALLS_LEFT, SCRAPES, SECONDS_LEFT
from evaluation.page import DOCS
from otel_budget import semconv

if TYPE_CHECKING:
    from evaluation.wording import Results

PICTURE: Final = DOCS / "pictures" / "forecast.png"
_TITLES: Final = {
    CALLS_LEFT: "calls left until a limit of tokens",
    SECONDS_LEFT: "seconds left until a limit of tokens",
}
_COLOURS: Final = ("#8e8e8e", "#5794f2", "#b877d9", "#ff9830", "#e02f44", "#37872d")


def draw(results: Results) -> None:
    """Draw it from the results, with matplotlib (the extra ``plot``)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), dpi=110, layout="constrained")
    for axes, (what, title) in zip(figure.subplots(1, 2), _TITLES.items(), strict=True):
        _panel(axes, results, what)
        axes.set_title(title, fontsize=11)
    figure.axes[0].set_ylabel("median error, % of what came")
    figure.axes[1].legend(fontsize=8.5, loc="upper left", ncols=2, framealpha=0.9)
    figure.suptitle(
        f"{results['made']['recorded']['scored']} recorded runs, from scrapes every 15 s",
        fontsize=9,
    )
    figure.savefig(PICTURE, metadata={"Software": None})


def _panel(axes: Any, results: Results, what: str) -> None:
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    here = [
        each
        for each in results["scores"]
        if (each["what"], each["resource"], each["limit"], each["seen"])
        == (what, semconv.TOKENS, 1.0, SCRAPES)
        and each["median"] is not None
    ]
    names = sorted({each["by"] for each in here} - {OURS})
    for name, colour in zip((OURS, *names), ("#111111", *_COLOURS), strict=False):
        points = sorted(
            (each["used"] * 100, each["median"] * 100) for each in here if each["by"] == name
        )
        mine = {"linewidth": 2.6, "zorder": 3} if name == OURS else {"linewidth": 1.4}
        axes.plot(
            *zip(*points, strict=True), "o-", color=colour, label=name, markersize=3.5, **mine
        )
    axes.set_yscale("log")
    axes.set_ylim(0.8, 1200)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("% of the limit used")
    axes.grid(visible=True, which="major", alpha=0.35)
