"""The arguments of a call of a model, and what they become for the last one."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

from otel_budget.adapters.asked import Arguments

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_TOOLS: Final[Mapping[str, Any]] = {"tool_choice": None, "parallel_tool_calls": None}


class Asked(Arguments):
    """The arguments of a call."""

    NAMES = (
        "system_instructions", "input", "model_settings", "tools", "output_schema", "handoffs",
        "tracing",
    )  # fmt: skip

    def says_last(self, text: str) -> Asked:
        """Return the call with a text from the user at its end; empty: as it is.

        The run's own items stay as they are.
        """
        if not text:
            return self
        asked, said = Asked(self.args, self.about), self["input"]
        items = [{"role": "user", "content": said}] if isinstance(said, str) else list(said or ())
        asked["input"] = [*items, {"role": "user", "content": text}]
        return asked

    def without_tools(self, instruction: str) -> Asked:
        """Return it as the last call: told to answer, without tools and handoffs."""
        asked = self.says_last(instruction)
        asked["tools"], asked["handoffs"] = [], []
        settings = self["model_settings"]
        if settings is not None:
            known = {each.name for each in fields(settings)}
            asked["model_settings"] = replace(
                settings, **{name: value for name, value in _NO_TOOLS.items() if name in known}
            )
        return asked
