"""What README and the examples say is run; what is generated is up to date."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from otel_budget import semconv
from otel_budget.config.schema import SidecarConfig

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

#: A line each example must print: what it is there to show.
SAID = {
    "approaching.py": "half-way: 4 of 10 steps; stop: approaching_limit",
    "basic.py": "Tokens: 20.0%",
    "checkpoints.py": "resumed with 4,500 tokens and state {'chapters': ['one']}",
    "ending.py": "5 steps, with 9,000 of 10,000 tokens used",
    "exceeded.py": "exceeded: api_calls: api_calls at 100.0% (2 of 2)",
    "feasibility.py": "50% done, 20 more calls: False",
    "from_spans.py": "4 calls, 5,200 tokens, 2,400 of them cached",
    "interrupt.py": "interrupted at 1000 tokens: limit_exceeded",
    "orchestrate.py": "completed: 9,900 tokens in all",
    "remaining.py": "tokens left: 3800",
    "spans.py": "otel_budget.run: session_id=spans tokens=1020",
}


def run(*command: str, cwd: Path = ROOT) -> str:
    """Run a Python program as a user would; return what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        capture_output=True, text=True, cwd=cwd, env=environment, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: str(path.name))
def test_every_example_runs_and_shows_what_it_is_there_for(example: Path) -> None:
    """An example without a line to look for is a test that is missing."""
    assert SAID[example.name] in run(str(example))


def test_the_readmes_ten_lines_run_unchanged(tmp_path: Path) -> None:
    """With phases and an execute_phase of the reader's own, and the root in a temporary folder."""
    lines = next(block for block in blocks("python") if "for phase in phases" in block)
    before = "phases = ['a', 'b']\nexecute_phase = str.upper\nestimated_tokens = 250_000\n"
    script = tmp_path / "ten_lines.py"
    root = f'Path("{tmp_path}/new/project")'
    script.write_text(before + lines.replace('Path("/project")', root), encoding="utf-8")
    assert run(str(script)).splitlines() == ["Tokens: 50.0%"]
    newest = max((tmp_path / "new/project/.otel_budget/checkpoints/my-session").iterdir())
    assert json.loads(newest.read_text(encoding="utf-8"))["usage"]["tokens"] == 500_000


def test_the_readmes_configuration_is_accepted() -> None:
    """The first YAML block is a whole configuration, to which the other adds budgets."""
    block, budgets = map(yaml.safe_load, blocks("yaml"))
    config = SidecarConfig.model_validate({**block, **budgets})
    assert len(config.budgets) == 2
    assert config.source.prometheus is not None
    assert config.verdicts.hold == 300


def test_the_configuration_of_a_sidecar_behind_a_proxy_is_accepted() -> None:
    """The page's first YAML block; the other one is Envoy's."""
    page = (ROOT / "docs" / "reverse-proxies.md").read_text(encoding="utf-8")
    config = SidecarConfig.model_validate(yaml.safe_load(blocks("yaml", page)[0]))
    assert config.listen.allowed_hosts == ("budget.example.org",)
    assert config.listen.trusted_proxies == ("127.0.0.1",)


@pytest.mark.parametrize("name", ["security", "operating", "troubleshooting"])
def test_the_configurations_that_a_document_shows_are_accepted(name: str) -> None:
    """Those that are sections of a sidecar's file; a source is given where a block has none."""
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    texts = [textwrap.dedent(text) for text in re.findall(r" *```yaml\n(.*?)```", page, re.DOTALL)]
    shown = [yaml.safe_load(text) for text in texts]
    sections = set(SidecarConfig.model_fields)
    found = [one for one in shown if isinstance(one, dict) and set(one) <= sections]
    source = {"scrape": {"targets": ["http://127.0.0.1:9464/metrics"]}}
    for one in found:
        SidecarConfig.model_validate({"source": source, **one})
    assert found or name != "security"


def blocks(language: str, text: str = README) -> list[str]:
    """Return the code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


DOCUMENTS = [
    *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md"),
    *ROOT.glob("examples/*.md"),
]  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_and_heading_a_document_links_to_is_there(document: Path) -> None:
    """A link to nothing is how documents begin to rot."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"(?<!`)\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        if anchor:
            assert anchor in headings(target), link


def headings(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as Git hosts make them."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_generated_documents_are_up_to_date() -> None:
    """docs/metrics.md and docs/openapi.json come out of the code."""
    run("docs/generate.py", "--check")


def test_no_metric_name_is_written_out_beside_semconv() -> None:
    """A name that stands in one place cannot be wrong in another."""
    every = (*semconv.SESSION_METRICS, *semconv.PROCESS_METRICS, *semconv.SIDECAR_METRICS)
    names = {metric.name for metric in every}
    assert len(names) > 40
    found = [
        f"{path.name}: {name}"
        for path in (ROOT / "otel_budget").rglob("*.py")
        if path.name != "semconv.py"
        for name in names
        if f'"{name}"' in path.read_text(encoding="utf-8")
    ]
    assert found == []


def test_the_demo_ends_its_runs_in_as_many_ways_as_it_says(tmp_path: Path) -> None:
    """Piped to a file: one finishes, one stops by itself, one is stopped by the sidecar. Then, of
    two that share a budget, the one that can still finish does.
    """
    said = run("-m", "otel_budget", "demo", "--speed", "20", "--keep", str(tmp_path))
    rows = {
        line.split()[0]: line.split()
        for line in said.splitlines()
        if re.match(r"\S+ +(completed|stopped) ", line)
    }
    assert rows["nearly-done"][1:3] == ["completed", "finishing"]
    assert rows["own-limit"][1:5] == ["stopped", "approaching_limit", "own", "limits"]
    assert rows["sidecar-limit"][1:5] == ["stopped", "approaching_limit", "the", "sidecar"]
    assert rows["can-finish"][1:3] == ["completed", "finishing"]
    assert rows["cannot-finish"][1:5] == ["stopped", "budget_low", "the", "sidecar"]
    assert rows["on-its-own"][1] == "completed"
    assert "\x1b[" not in said, "escape sequences in a file"
    saved = sorted(tmp_path.glob(".otel_budget/checkpoints/*/*.json"))
    assert {path.parent.name for path in saved} == {
        "demo-nearly-done",
        "demo-own-limit",
        "demo-sidecar-limit",
        "demo-can-finish",
        "demo-cannot-finish",
        "demo-on-its-own",
    }
    newest = json.loads(saved[-1].read_text(encoding="utf-8"))
    assert newest["state"]["results"], "the partial results are in the checkpoint"
