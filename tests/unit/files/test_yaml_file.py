"""YAML that remembers its lines, and refuses in one way whatever it is given."""

from pathlib import Path

import pytest

from otel_budget.core.limits import ResourceLimits
from otel_budget.errors import ConfigFileError, InvalidValueError
from otel_budget.files.yaml_file import YamlFile

TEXT = """\
source:
  scrape:
    targets:
      - http://a
      - url: http://b
        timeout: 1s

listen: {address: "127.0.0.1:9465"}
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("source",), 1),
        (("source", "scrape", "targets"), 3),
        (("source", "scrape", "targets", 0), 4),
        (("source", "scrape", "targets", 1, "timeout"), 6),
        (("listen", "address"), 8),
        (("listen", "nothing"), 8),
        (("source", "scrape", "targets", 1, "nothing", "at", "all"), 5),
    ],
)
def test_every_key_knows_its_line_and_an_absent_one_that_of_the_nearest_above(
    keys: tuple[str | int, ...], line: int
) -> None:
    """Lines count from 1."""
    assert YamlFile.parse(TEXT, "a.yaml").where(*keys) == f"a.yaml:{line}"


def test_a_key_of_nowhere_has_the_file_alone() -> None:
    """Better than a wrong line."""
    assert YamlFile.parse(TEXT, "a.yaml").where("nothing") == "a.yaml"


def test_a_section_keeps_the_lines_of_the_file() -> None:
    """It reads like a file of its own."""
    section = YamlFile.parse(TEXT, "a.yaml").section("source").section("scrape")
    assert section.data["targets"] == ["http://a", {"url": "http://b", "timeout": "1s"}]
    assert section.where("targets", 1, "timeout") == "a.yaml:6"


def test_an_absent_and_an_empty_section_are_empty() -> None:
    """No limits section is no error."""
    assert YamlFile.parse("a:\n").section("a").data == {}
    assert YamlFile.parse("a: 1\n").section("b").data == {}


@pytest.mark.parametrize("text", ["", "# only words\n", "---\n", "~\n"])
def test_an_empty_file_is_an_empty_mapping(text: str) -> None:
    """All defaults."""
    assert YamlFile.parse(text).data == {}


def test_a_key_twice_is_refused_with_both_lines() -> None:
    """YAML would take the last one in silence."""
    with pytest.raises(InvalidValueError, match=r"a.yaml:3: x.y: .*line 2$") as caught:
        YamlFile.parse("x:\n  y: 1\n  y: 2\n", "a.yaml")
    assert (caught.value.where, caught.value.key) == ("a.yaml:3", "x.y")
    assert "is not allowed" not in str(caught.value)


def test_the_same_key_in_two_places_is_fine() -> None:
    """Also in the items of a list, and under an alias."""
    text = "a: &x {k: 1}\nb: *x\nc:\n  - {k: 1}\n  - {k: 2}\n"
    data = YamlFile.parse(text).data
    assert data == {"a": {"k": 1}, "b": {"k": 1}, "c": [{"k": 1}, {"k": 2}]}


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2\n",
        "a: b: c\n",
        "\tx: 1\n",
        "a: !!python/object:os.system {}\n",
        "a: *nothing\n",
        "a: \x00\n",
        "--- 1\n--- 2\n",
        "? [1, 2]\n: 3\n",
        "a: 2026-13-45\n",
        "a: !!int x\n",
        "a: " + "9" * 5000 + "\n",
        "[" * 5000,
    ],
)
def test_what_is_not_yaml_is_refused_on_one_line_with_the_file(text: str) -> None:
    """Whatever the parser raises for it."""
    with pytest.raises(ConfigFileError, match=r"is not YAML") as caught:
        YamlFile.parse(text, "a.yaml")
    assert str(caught.value).startswith("a.yaml:")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x: 1\na: b: c\n", "a.yaml:2: is not YAML: mapping values are not allowed here"),
        ("a: 1\nb: *nothing\n", "a.yaml:2: is not YAML: found undefined alias 'nothing'"),
        ("a: 1\nb: \x07\n", "a.yaml:2: is not YAML: it holds the character U+0007, which"),
        ("\na: [1, 2\n", "a.yaml:3: is not YAML: while parsing a flow sequence from line 2: exp"),
    ],
)
def test_what_is_not_yaml_is_refused_with_the_line_and_without_a_picture(
    text: str, said: str
) -> None:
    """A caret under a piece of the file makes no sense on one line."""
    with pytest.raises(ConfigFileError) as caught:
        YamlFile.parse(text, "a.yaml")
    assert str(caught.value).startswith(said)
    assert "^" not in str(caught.value)


def test_an_unknown_key_of_the_limits_is_told_which_was_meant() -> None:
    """As the sidecar's own configuration is."""
    section = YamlFile.parse("resource_limits:\n  max_token: 5\n", "a.yaml").section(
        "resource_limits"
    )
    with pytest.raises(InvalidValueError, match=r"did you mean 'max_tokens'\?$") as caught:
        section.build(ResourceLimits.from_mapping)
    assert caught.value.where == "a.yaml:2"


@pytest.mark.parametrize(("text", "kind"), [("- 1\n", "list"), ("5\n", "int"), ("word\n", "str")])
def test_what_is_no_mapping_is_refused(text: str, kind: str) -> None:
    """A configuration has keys."""
    with pytest.raises(ConfigFileError, match=f"holds {kind}, not a mapping"):
        YamlFile.parse(text)


def test_an_alias_in_a_circle_ends() -> None:
    """It is a mapping that holds itself, which whoever builds from it refuses."""
    data = YamlFile.parse("a: &a\n  b: *a\n").data
    assert isinstance(data["a"], dict)
    assert data["a"]["b"] is data["a"]


def test_aliases_of_aliases_do_not_multiply() -> None:
    """A few lines would hold more values than anybody can walk, or show in a refusal."""
    rows = ["a0: &a0 {k: 1}"]
    rows += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, 30)]
    assert YamlFile.parse("\n".join(rows[:4])).where("a3") == "<string>:4"
    with pytest.raises(ConfigFileError, match="holds more than 100,000 values"):
        YamlFile.parse("\n".join(rows))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: \xe4\n"])
def test_a_file_in_another_encoding_is_refused(tmp_path: Path, content: bytes) -> None:
    """UTF-8 is what is read."""
    file = tmp_path / "a.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigFileError, match=r"cannot be read"):
        YamlFile.read(file)


@pytest.mark.parametrize("name", ["", "nothing/here.yaml", "a\0b"])
def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, name: str) -> None:
    """A folder, nothing, and what can be no path."""
    with pytest.raises(ConfigFileError, match=r"cannot be read"):
        YamlFile.read(f"{tmp_path}/{name}")


def test_a_refusal_gets_the_place_of_its_key() -> None:
    """The maker names the key, the file knows where it stands."""

    def refuse(_: object) -> None:
        raise InvalidValueError("address", 5, "text")

    with pytest.raises(InvalidValueError, match=r"a.yaml:8: address: 5") as caught:
        YamlFile.parse(TEXT, "a.yaml").section("listen").build(refuse)
    assert isinstance(caught.value.__cause__, InvalidValueError)
