"""--plot: real pictures of the size that is said, or an error before anything is read."""

import importlib.util
import re
import struct
from pathlib import Path

import pytest

from otel_budget.errors import InvalidValueError, MissingExtraError
from otel_budget.replay import plot
from otel_budget.replay.frontier import Curve, Point
from otel_budget.replay.plot import (
    HEIGHT,
    WIDTH,
    Panel,
    PictureError,
    RunLine,
    checked_path,
    draw_frontier,
    draw_use,
)


def point(kept: int, spent: int, *, resolved: int = 10) -> Point:
    """Return what a limit did that kept so many of ten, for so many tokens of a hundred."""
    cut = 10 - kept
    return Point(
        10, cut, {"limit_exceeded": cut}, resolved, kept if resolved else 0,
        {"tokens": spent}, {"tokens": 100},
    )  # fmt: skip


def curve(name: str, *points: Point, resource: str = "tokens") -> Curve:
    """Return a policy at one limit after the other."""
    return Curve(name, resource, tuple((100_000 * (i + 1), p) for i, p in enumerate(points)))


TWO = (
    curve("strict.yaml", point(0, 10), point(4, 50), point(10, 100)),
    curve("wide.yaml", point(0, 8), point(6, 50), point(10, 98)),
)
RUN, STOPPED = RunLine((0, 1, 2), (0.0, 0.4, 0.7)), RunLine((0, 1), (0.0, 1.02), stopped=True)


def size_of(png: Path) -> tuple[int, int]:
    """Return width and height, as a PNG's header says them."""
    head = png.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:])
    return width, height


def texts_of(svg: Path) -> list[str]:
    """Return the comments in which matplotlib says what it wrote by outlines."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text(encoding="utf-8"))


@pytest.mark.parametrize("curves", [TWO, TWO[:1]])
def test_a_frontier_is_a_picture_of_the_size_that_is_said(
    tmp_path: Path, curves: tuple[Curve, ...]
) -> None:
    """One policy, or two compared."""
    draw_frontier(tmp_path / "frontier.png", curves)
    assert size_of(tmp_path / "frontier.png") == (WIDTH, HEIGHT)
    assert [file.name for file in tmp_path.iterdir()] == ["frontier.png"]


def test_both_policies_and_their_limits_are_named_in_the_picture(tmp_path: Path) -> None:
    """Beside the curves: there is no legend to look up."""
    draw_frontier(tmp_path / "frontier.svg", TWO)
    words = texts_of(tmp_path / "frontier.svg")
    assert {"strict.yaml", "wide.yaml", "100k", "300k"} <= set(words)
    assert "What a limit keeps, and what it spends: max_tokens" in words
    assert "10 runs, 10 of them resolved" in words
    assert "resolved runs kept, %" in words


def test_where_no_run_is_known_to_be_resolved_the_picture_says_so(tmp_path: Path) -> None:
    """Then it shows the runs that were not cut."""
    draw_frontier(tmp_path / "g.svg", (curve("a", *(point(k, 50, resolved=0) for k in (4, 9))),))
    assert {"10 runs, none known to be resolved", "runs not cut, %"} <= set(
        texts_of(tmp_path / "g.svg")
    )


def test_the_use_of_runs_is_drawn_with_their_stops(tmp_path: Path) -> None:
    """A panel for each policy; runs that are not drawn are counted."""
    panels = (Panel("a.yaml", (RUN, STOPPED), 2, 1), Panel("b.yaml", (RUN,), 900, 0))
    draw_use(tmp_path / "use.png", panels)
    assert size_of(tmp_path / "use.png") == (WIDTH, HEIGHT)
    draw_use(tmp_path / "use.svg", panels)
    words = set(texts_of(tmp_path / "use.svg"))
    assert {"a.yaml", "b.yaml", "1 not stopped", "(1 of 900 runs drawn)", "the limit"} <= words


def test_runs_without_use_or_limit_can_be_drawn(tmp_path: Path) -> None:
    """An empty picture, and a run of no length."""
    draw_use(tmp_path / "none.png", (Panel("a", (), 0, 0),))
    draw_use(tmp_path / "short.png", (Panel("a", (RunLine((0,), (0.0,)),), 1, 0),))
    assert size_of(tmp_path / "short.png") == (WIDTH, HEIGHT)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_numbers_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    """So that a picture that is kept changes only with what it shows."""
    one, other = tmp_path / f"1.{suffix}", tmp_path / f"2.{suffix}"
    draw_frontier(one, TWO)
    draw_frontier(other, TWO)
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", ["frontier.pdf", "frontier", "frontier.png.txt"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    """The suffix decides what is written."""
    with pytest.raises(InvalidValueError, match=r"--plot: .* a file that ends in \.png or \.svg"):
        checked_path(str(tmp_path / name))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Before an hour of replay, not after it."""
    assert checked_path(str(tmp_path / "a.PNG")) == tmp_path / "a.PNG"
    with pytest.raises(InvalidValueError, match=r"--plot: .* a file in a folder that is there"):
        checked_path(str(tmp_path / "none" / "a.png"))


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how to install it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"--plot needs .*'matplotlib'.*\[plot\]"):
        checked_path(str(tmp_path / "a.png"))


def test_a_picture_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    """What stands in the way is named; half a picture is none."""
    place = tmp_path / "a.png"
    place.mkdir()
    with pytest.raises(PictureError, match=r"cannot write .*a\.png: "):
        draw_use(place, (Panel("a", (RUN,), 1, 0),))
    assert list(tmp_path.iterdir()) == [place]


def test_the_module_loads_without_matplotlib() -> None:
    """Only a picture needs it."""
    assert "matplotlib" not in vars(plot)


def test_names_of_files_are_as_short_as_tells_them_apart(tmp_path: Path) -> None:
    folder = "/etc/a-folder-with-a-long-name/production"
    names = f"{folder}/one/sidecar.yaml", f"{folder}/two/sidecar.yaml"
    draw_use(tmp_path / "use.svg", [Panel(name, [RUN], 1, 0) for name in names])
    assert {"one/sidecar.yaml", "two/sidecar.yaml"} <= set(texts_of(tmp_path / "use.svg"))
    curves = [curve(f"{folder}/one.yaml", point(4, 50)), curve(f"{folder}/two.yaml", point(6, 60))]
    draw_frontier(tmp_path / "frontier.svg", curves)
    assert {"one.yaml", "two.yaml"} <= set(texts_of(tmp_path / "frontier.svg"))
    long = ["/x" * 30 + "/a.yaml"] * 2
    draw_use(tmp_path / "same.svg", [Panel(name, [RUN], 1, 0) for name in long])
    assert "a.yaml" in texts_of(tmp_path / "same.svg")


def test_panels_have_one_scale_of_time(tmp_path: Path) -> None:
    """So that a run is as long in the one as in the other."""
    short, long = Panel("a.yaml", [RUN], 1, 0), Panel("b.yaml", [RunLine((0, 60), (0, 1))], 1, 0)
    draw_use(tmp_path / "two.svg", [short, long])
    assert texts_of(tmp_path / "two.svg").count("60") >= 2
