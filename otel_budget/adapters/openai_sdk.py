"""OpenAI's SDK: ask before each model call of its clients, and count it after.

    client = guard_client(OpenAI())    # otel_budget.guard_client: one client, and its copies
    install()                          # or every client of the process

Chat Completions, Responses, Embeddings and the old Completions, whole and streamed, raw and by the
helpers, of every client the SDK has (Azure's, the module's own). A stop raises BudgetExceeded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from openai._base_client import AsyncAPIClient, SyncAPIClient

from otel_budget.adapters.base import register
from otel_budget.adapters.ending import INSTRUCTION, Ending
from otel_budget.adapters.marks import cut_short
from otel_budget.adapters.request_shapes import CHAT, RESPONSES
from otel_budget.adapters.sdk_clients.guard import Endpoint, Guarding, Sdk, guard_class, guarded
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from otel_budget.adapters.ending import OnStop
    from otel_budget.adapters.open_call import Progress
    from otel_budget.genai.reported_call import HasUsageSink

__all__ = ["cut_short", "guard", "install"]

_SDK: Final = Sdk(
    register("otel_budget.openai_sdk", "OpenAI's SDK", "otel-budget's guard of OpenAI's clients"),
    provider="openai",
    host="openai.com",
    endpoints={
        "/chat/completions": Endpoint(shape=CHAT),
        "/completions": Endpoint("text_completion"),
        "/responses": Endpoint(shape=RESPONSES),
        "/responses/compact": Endpoint(),
        "/embeddings": Endpoint("embeddings"),
    },
)


def install(
    monitor: HasUsageSink | None = None,
    *,
    on_stop: OnStop = "raise",
    instruction: str = INSTRUCTION,
    brief: bool = False,
    progress: Progress | None = None,
) -> None:
    """Guard every client of the process, those that were made before, too. Again: as told last.

    The arguments are those of ``otel_budget.guard_client``.
    """
    guarding = Guarding(_SDK, monitor, Ending(on_stop, instruction, brief), progress)
    for kind in (SyncAPIClient, AsyncAPIClient):
        guard_class(kind, guarding)


def guard(
    client: Any,
    monitor: HasUsageSink | None = None,
    *,
    on_stop: OnStop = "raise",
    instruction: str = INSTRUCTION,
    brief: bool = False,
    progress: Progress | None = None,
) -> Any:
    """Guard one client, as ``otel_budget.guard_client`` does."""
    if not isinstance(client, SyncAPIClient | AsyncAPIClient):
        raise InvalidValueError("client", client, "a client, not a part of one")
    return guarded(client, Guarding(_SDK, monitor, Ending(on_stop, instruction, brief), progress))
