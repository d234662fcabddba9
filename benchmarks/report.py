"""What a benchmark found: a table and its goals, for the terminal and for docs/performance.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that was set before measuring."""

    text: str
    measured: float
    at_most: float
    digits: int = 2
    at_least: float | None = None
    """The lower bound; None: there is none."""

    @property
    def met(self) -> bool:
        """True if the bounds were kept; what could not be measured (NaN) keeps none."""
        return (self.at_least is None or self.measured >= self.at_least) and (
            self.measured <= self.at_most
        )

    def words(self) -> str:
        """Return goal, figure and outcome in one line."""
        outcome = "met" if self.met else "MISSED"
        measured = f"{self.measured:.{self.digits}f}"
        least = "" if self.at_least is None else f"at least {self.at_least:g}, "
        return f"{self.text}: {least}at most {self.at_most:g}, measured {measured}: {outcome}"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one benchmark."""

    title: str
    about: str
    """What was done, in a sentence or two."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    goals: tuple[Goal, ...] = ()

    def show(self, console: Console) -> None:
        """Print it."""
        console.print(Text(f"\n{self.title}", style="bold"))
        console.print(Text(self.about))
        table = Table(box=SIMPLE_HEAD)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*(Text(value) for value in row))
        console.print(table)
        for goal in self.goals:
            console.print(Text(f"  {goal.words()}", style="green" if goal.met else "bold red"))

    def markdown(self) -> str:
        """Return it as a section of a page."""
        ruler = ["---"] + ["---:"] * (len(self.columns) - 1)
        table = "\n".join(f"| {' | '.join(row)} |" for row in (self.columns, ruler, *self.rows))
        goals = "\n".join(f"- {goal.words()}" for goal in self.goals)
        return f"## {self.title}\n\n{self.about}\n\n{table}\n\n{goals}".rstrip() + "\n"
