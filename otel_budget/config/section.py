"""What all sections of the configuration have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from otel_budget.errors import InvalidValueError
from otel_budget.files.yaml_file import KeyPath, dotted


class RefusedKey(InvalidValueError):  # noqa: N818 - what is refused is a key
    """Refuse a key of a section that is only found to be wrong beside others.

    at: the path of keys to it, from the section. value, allowed: where the value is at fault.
    """

    def __init__(
        self, at: KeyPath, sentence: str, *, value: object = None, allowed: str = ""
    ) -> None:
        """Take what is wrong, in words; empty if it follows from the value and what is allowed."""
        self.at = at
        super().__init__(dotted(at), value, allowed, sentence=sentence)


class Strict(BaseModel):
    """A section: an unknown key is an error, and nothing changes once it is read."""

    # pydantic itself never shows a value: load says what is wrong, with file and line.
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True
    )


class Section(Strict):
    """A section that may be left out or empty."""

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_empty(cls, data: Any) -> Any:
        return {} if data is None else data
