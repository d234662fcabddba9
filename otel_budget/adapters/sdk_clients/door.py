"""``otel_budget.guard_client``: one door for the clients of both SDKs. It imports neither."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otel_budget.adapters.ending import INSTRUCTION
from otel_budget.errors import InvalidValueError
from otel_budget.logs.logger import logger

if TYPE_CHECKING:
    from otel_budget.adapters.ending import OnStop
    from otel_budget.adapters.open_call import Progress
    from otel_budget.genai.reported_call import HasUsageSink

ClientT = TypeVar("ClientT")
#: Package of an SDK to the adapter for it.
_ADAPTERS: Final = {
    "openai": "otel_budget.adapters.openai_sdk",
    "anthropic": "otel_budget.adapters.anthropic_sdk",
}


def guard_client(
    client: ClientT,
    monitor: HasUsageSink | None = None,
    *,
    on_stop: OnStop = "raise",
    instruction: str = INSTRUCTION,
    brief: bool = False,
    progress: Progress | None = None,
) -> ClientT:
    """Have a client of OpenAI's or Anthropic's SDK ask before each model call, and count it after.

    The same client is returned: it stays the object it is, and its copies (``with_options``) are
    guarded, too. monitor: of the run, by default that of the context of each call. A call that may
    not be made raises BudgetExceeded, and no request goes out.

    on_stop: with ``wrap_up`` the first call after a graceful stop goes out all the same, without
    tools and with the instruction, and its answer is marked (``cut_short``); the next one raises.
    brief: each request says, last of all, what is left of the budget. progress: of the body of a
    request, 0 to 1 or None, how far the run is. Raises InvalidValueError for what is no client of
    these SDKs.
    """
    for each in type(client).__mro__:
        adapter = _ADAPTERS.get(each.__module__.partition(".")[0])
        if adapter is not None:
            guarded: ClientT = importlib.import_module(adapter).guard(
                client,
                monitor,
                on_stop=on_stop,
                instruction=instruction,
                brief=brief,
                progress=progress,
            )
            return guarded
    raise InvalidValueError("client", client, "a client of OpenAI's or Anthropic's SDK")


def guard_all(**how: Any) -> tuple[str, ...]:
    """Guard every client of the SDKs that are installed; return which. how: as ``install`` takes.

    An SDK that cannot be imported is said.
    """
    found = []
    for package, adapter in _ADAPTERS.items():
        if importlib.util.find_spec(package) is None:
            continue
        try:
            importlib.import_module(adapter).install(**how)
            found.append(package)
        except ImportError as exc:
            logger.warning("clients of %s are not guarded: it cannot be imported: %s", package, exc)
    if not found:
        logger.warning("guard=True guards nothing: neither openai nor anthropic is installed")
    return tuple(found)
