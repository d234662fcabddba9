"""The arguments that a framework's model is called with, and all classes of its models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class Arguments:
    """The arguments of a call, by name or by place."""

    NAMES: ClassVar[tuple[str, ...]] = ()
    """In the order that the framework's interface of models gives them."""

    def __init__(self, args: Sequence[Any], about: Mapping[str, Any]) -> None:
        """Take a call's arguments."""
        self.args, self.about = list(args), dict(about)

    def __getitem__(self, name: str) -> Any:
        """Return an argument; None: it is not there."""
        place = self.NAMES.index(name)
        return self.args[place] if place < len(self.args) else self.about.get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        """Set an argument."""
        place = self.NAMES.index(name)
        if place < len(self.args):
            self.args[place] = value
        else:
            self.about[name] = value


def for_each_class(kind: Any, mark: str, do: Callable[[type], None]) -> None:
    """Do something to all classes below one, once for each, and to those that are made later.

    mark: the attribute that tells that it was done; again it does nothing.
    """
    if getattr(kind, mark, False):
        return
    plain = vars(kind).get("__init_subclass__")

    def made(cls: type, **about: Any) -> None:
        if plain is None:
            super(kind, cls).__init_subclass__(**about)
        else:
            plain.__get__(None, cls)(**about)
        do(cls)

    for each in _all_below(kind):
        do(each)
    setattr(kind, mark, True)
    kind.__init_subclass__ = classmethod(made)  # type: ignore[assignment, arg-type] # as it is looked up


def _all_below(kind: Any) -> Iterator[type]:
    each: type
    for each in kind.__subclasses__():
        yield each
        yield from _all_below(each)
