"""What all sections of the configuration have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from otel_budget.errors import InvalidValueError


class RefusedKey(InvalidValueError):  # noqa: N818 - what is refused is a key
    """Refuse a key of a section that is only found to be wrong beside others.

    at: the path of keys to it, from the section.
    """

    def __init__(self, at: tuple[str, ...], sentence: str) -> None:
        """Take what is wrong, in words."""
        self.at = at
        super().__init__(".".join(at), None, "", sentence=sentence)


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
