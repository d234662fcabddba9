"""Who pushes: by token, or by address."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_budget.files.token_file import TokenFileError
from otel_budget.sidecar.receiver.push_tokens import PushTokens

A, B = "a" * 32, "b" * 32
HERE = "127.0.0.1"


def tokens_of(folder: Path, *lines: str) -> PushTokens:
    """Return who may push by a file with these lines."""
    (folder / "tokens").write_text("\n".join(lines))
    return PushTokens(folder / "tokens")


def bearer(token: str) -> str:
    """Return the header."""
    return f"Bearer {token}"


def test_without_a_file_everybody_is_the_address_they_come_from() -> None:
    """Whatever they send along."""
    everyone = PushTokens(None)
    assert everyone.peer_of("", HERE) == HERE
    assert everyone.peer_of(bearer(A), "::1") == "::1"
    assert not everyone.need_token


def test_one_token_without_a_name_lets_in_and_tells_nobody_apart(tmp_path: Path) -> None:
    """The address does."""
    known = tokens_of(tmp_path, A)
    assert (known.peer_of(bearer(A), HERE), known.peer_of(bearer(A), "::1")) == (HERE, "::1")
    assert known.peer_of(bearer(B), HERE) is None
    assert known.peer_of("", HERE) is None
    assert known.peer_of(f"Basic {A}", HERE) is None


def test_several_names_tell_pushers_apart(tmp_path: Path) -> None:
    """Lines without a name have their number."""
    known = tokens_of(tmp_path, f"ci:{A}", B)
    assert (known.peer_of(bearer(A), HERE), known.peer_of(bearer(B), HERE)) == ("ci", "token-2")
    assert known.peer_of(bearer(f"ci:{A}"), HERE) is None


def test_an_old_and_a_new_token_of_one_name_are_one_pusher(tmp_path: Path) -> None:
    """As during a rotation."""
    known = tokens_of(tmp_path, f"ci:{A}", f"ci:{B}", f"laptop:{'c' * 32}")
    assert known.peer_of(bearer(A), HERE) == known.peer_of(bearer(B), HERE) == "ci"


def test_a_file_that_changes_is_read_again_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    """Neither the tokens nor the names."""
    known = tokens_of(tmp_path, f"ci:{A}", f"laptop:{B}")
    for number, (lines, peer) in enumerate(
        [(("short",), "laptop"), ((f"desk:{B}", f"ci:{A}"), "desk")], 1
    ):
        (tmp_path / "tokens").write_text("\n".join(lines))
        os.utime(tmp_path / "tokens", (number, number))
        assert known.peer_of(bearer(B), HERE) == peer


def test_a_token_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    """A name before it makes it no longer."""
    with pytest.raises(TokenFileError, match="shorter than 16"):
        tokens_of(tmp_path, "a-long-name-for-a-pusher:short")
