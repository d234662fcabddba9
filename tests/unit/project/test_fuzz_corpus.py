"""Every input that fuzzing began from or stumbled over, without the fuzzer: none raises."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS
from tests.support.paths import TESTS

CORPUS = TESTS / "fuzz" / "corpus"
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_input_of_the_corpus_raises(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_a_corpus_and_it_is_small() -> None:
    assert {path.parent.name for path in FILES} == set(TARGETS)
    assert sum(path.stat().st_size for path in FILES) < 100_000
