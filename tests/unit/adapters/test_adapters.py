"""The adapters for LangChain and LiteLLM: what they make of the protocols, over stand-ins."""

import asyncio
import contextlib
import gc
import logging
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from otel_budget import BudgetExceeded
from tests.support.monitors import Make
from tests.support.stand_ins import Callbacks, Message, counts, parts, unique


# --- LangChain -----------------------------------------------------------------------------------
def result(usage: dict[str, Any] | None, message_id: str = "run-1", **about: Any) -> Any:
    """Return a result of LangChain with one message."""
    message = SimpleNamespace(usage_metadata=usage, response_metadata=about, id=message_id)
    return SimpleNamespace(generations=[[SimpleNamespace(message=message)]], llm_output=None)


def test_langchains_parts_are_counted_and_anthropics_writes_by_age(
    langchain: Any, make: Make
) -> None:
    usage = {
        "input_tokens": 100, "output_tokens": 10, "output_token_details": {"reasoning": 4},
        "input_token_details": {"cache_read": 60, "cache_creation": 0,
                                "ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 3},
    }  # fmt: skip
    handler = langchain.BudgetCallbackHandler()
    with make() as monitor:
        run_id = uuid.uuid4()
        handler.on_chat_model_start({}, [[]], run_id=run_id, metadata={"ls_model_name": "m"})
        handler.on_llm_end(result(usage), run_id=run_id)
    assert counts(monitor) == (1, 0, 0, 110)
    assert parts(monitor) == (60, 10, 4)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (ValueError("refused"), (1, 1, 0, 0)),
        (GeneratorExit(), (1, 0, 1, 0)),
        (asyncio.CancelledError(), (1, 0, 1, 0)),
    ],
)
def test_a_call_of_langchain_that_was_left_is_unknown_and_one_that_failed_is_failed(
    langchain: Any, make: Make, error: BaseException, wanted: tuple[int, ...]
) -> None:
    handler = langchain.BudgetCallbackHandler()
    with make() as monitor:
        run_id = uuid.uuid4()
        handler.on_llm_start({}, ["hi"], run_id=run_id)
        handler.on_llm_error(error, run_id=run_id)
    assert counts(monitor) == wanted


def test_an_answer_of_langchain_that_has_not_the_form_wanted_is_counted_all_the_same(
    langchain: Any, make: Make
) -> None:
    handler = langchain.BudgetCallbackHandler()
    usage = b'{"model": "gpt-4o", "usage": {"prompt_tokens": 100, "completion_tokens": 10}}'
    with make() as monitor:
        for is_success, content in ((True, usage), (True, b"<html>"), (False, usage)):
            run_id, error = uuid.uuid4(), ValueError("1 validation error")
            vars(error)["response"] = SimpleNamespace(is_success=is_success, content=content)
            handler.on_llm_start({}, ["hi"], run_id=run_id)
            handler.on_llm_error(error, run_id=run_id)
    assert counts(monitor) == (3, 2, 0, 110)


def test_a_call_in_a_thread_of_a_graph_is_that_of_the_run_the_graph_was_begun_in(
    langchain: Any, make: Make
) -> None:
    """Nodes side by side get a copy of a context that a web server may have left without a run."""
    handler = langchain.BudgetCallbackHandler()
    graph, node, tool, model = (uuid.uuid4() for _ in range(4))

    def unattributed(work: Any) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def in_a_node() -> None:
        handler.on_chain_start({}, {}, run_id=node, parent_run_id=graph)
        handler.on_tool_start({}, "", run_id=tool, parent_run_id=node)
        handler.on_chat_model_start({}, [[]], run_id=model, parent_run_id=tool)
        handler.on_llm_end(result({"input_tokens": 9, "output_tokens": 1}), run_id=model)
        handler.on_tool_end("", run_id=tool)
        handler.on_chain_end({}, run_id=node)

    with make() as monitor, make() as other:
        with monitor.attach():
            handler.on_chain_start({}, {}, run_id=graph)
        unattributed(in_a_node)
        handler.on_chain_end({}, run_id=graph)
    assert (counts(monitor), counts(other)) == ((1, 0, 0, 10), (0, 0, 0, 0))
    assert not handler._inside


def test_a_refusal_is_not_logged_by_langchain_as_an_error_of_the_callback(
    langchain: Any, caplog: pytest.LogCaptureFixture, make: Make
) -> None:
    """It logs whatever a callback raises, and lets it through; a real error is logged as ever."""
    handler = langchain.BudgetCallbackHandler()
    theirs = logging.getLogger("langchain_core.callbacks.manager")
    with make(max_api_calls=1) as monitor:
        monitor.record_operation(1, api_call=True)
        with pytest.raises(BudgetExceeded) as refused:
            handler.on_chat_model_start({}, [[]], run_id=uuid.uuid4())
    for error in (refused.value, ValueError("broken")):
        theirs.warning(
            "Error in %s.%s callback: %s", "BudgetCallbackHandler", "on_chat_model_start",
            repr(error),
        )  # fmt: skip
    assert [r.getMessage()[-22:] for r in caplog.records if r.name == theirs.name] == [
        ": ValueError('broken')"
    ]


def test_what_langchains_own_cache_answers_is_no_call(langchain: Any, make: Make) -> None:
    handler = langchain.BudgetCallbackHandler()
    cached = result({"input_tokens": 100, "output_tokens": 10})
    from_cache = langchain.cache.BaseChatModel()._convert_cached_generations
    with make() as monitor:
        run_id = uuid.uuid4()
        handler.on_chat_model_start({}, [[]], run_id=run_id)
        from_cache(cached.generations[0])
        handler.on_llm_end(cached, run_id=run_id)
    assert counts(monitor) == (0, 0, 0, 0)


def test_a_langchain_that_does_not_tell_what_its_cache_answers_is_said(
    langchain: Any, make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers count as calls: too many, and not too few."""
    monkeypatch.setattr(langchain.cache, "BaseChatModel", type("Newer", (), {}))
    handler = langchain.BudgetCallbackHandler()
    with make() as monitor:
        run_id = uuid.uuid4()
        handler.on_chat_model_start({}, [[]], run_id=run_id)
        handler.on_llm_end(result({"input_tokens": 100, "total_cost": 0}), run_id=run_id)
    assert counts(monitor)[0] == 1
    assert "what its cache answers" in caplog.text


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"usage": {"total_cost": 0.0}}, 0),
        ({"usage": {"total_cost": 0}}, 0),
        ({"usage": {"total_cost": 0.0421}}, "0.0421"),
        ({"usage": {"total_cost": 0.5}, "token_usage": {"cost": 0.25}}, "0.5"),
        ({"token_usage": {"cost": 0.0421, "is_byok": False}}, "0.0421"),
        ({"token_usage": {"cost": 0}}, 0),
        ({"token_usage": {"cost": -1}}, "0.003"),
        ({"token_usage": {"cost": float("nan")}}, "0.003"),
        ({"headers": {"x-litellm-response-cost": "0.0421"}}, "0.0421"),
        ({"usage": {"total_cost": None}}, "0.003"),
    ],
)
def test_what_a_call_of_langchain_was_charged_goes_before_the_list(
    langchain: Any, make: Make, said: dict[str, Any], wanted: Any
) -> None:
    """By the list it would be $0.003; 0 is a cost, too, and the call counts."""
    usage = {"input_tokens": 800, "output_tokens": 100, **said.pop("usage", {})}
    handler = langchain.BudgetCallbackHandler()
    with make() as monitor:
        run_id = uuid.uuid4()
        handler.on_chat_model_start({}, [[]], run_id=run_id)
        handler.on_llm_end(result(usage, model_name="gpt-4o", **said), run_id=run_id)
    assert counts(monitor) == (1, 0, 0, 900)
    used = monitor.get_usage_report()
    assert (used.cost_usd, used.unpriced_calls) == (Decimal(wanted), 0)


SONNET, MINI = "claude-sonnet-4-5", "gpt-5-mini"


@pytest.mark.parametrize(
    ("usage", "about", "content", "wanted"),
    [
        # 5 searches at $0.01, by the usage, and by the answer's parts where a stream has none
        ({}, {"model": SONNET, "usage": {"server_tool_use": {"web_search_requests": 5}}}, [],
         "0.5"),
        ({}, {"model": SONNET, "usage": {"server_tool_use": {"web_search_requests": 0}}},
         [{"type": "server_tool_use", "name": "web_search"}], "0.45"),
        ({}, {"model": SONNET}, [{"type": "server_tool_use", "name": "web_search"}] * 5, "0.5"),
        ({}, {"model_name": MINI}, [{"type": "web_search_call", "action": {"type": "search"}},
                                    {"type": "web_search_call", "action": {"type": "open_page"}}],
         "0.055"),
        ({"input_token_details": {"ephemeral_5m_input_tokens": 30_000,
                                  "ephemeral_1h_input_tokens": 20_000}},
         {"model": SONNET}, [], "0.5325"),
        # the service tier stands before the names of the tokens: half of $0.25, $0.025 and $2
        ({"input_token_details": {"flex": 60_000, "flex_cache_read": 40_000},
          "output_token_details": {"flex": 9_000, "flex_reasoning": 1_000}},
         {"model_name": MINI}, [], "0.018"),
        ({}, {"model_name": MINI, "service_tier": "default"}, [], "0.045"),
        ({"input_token_details": {"audio": 50_000}}, {"model_name": "gemini-2.5-flash"}, [],
         "0.09"),
        ({}, {"model_name": "gemini-2.5-flash",
              "grounding_metadata": {"web_search_queries": ["a", "b"]}}, [], "0.09"),
        ({}, {"model_name": "gemini-3-flash-preview",
              "grounding_metadata": {"web_search_queries": ["a", "b"]}}, [], "0.108"),
    ],
)  # fmt: skip
def test_what_langchain_says_beside_plain_tokens_is_priced(
    langchain: Any, make: Make, *, usage: dict[str, Any], about: dict[str, Any],
    content: list[Any], wanted: str,
) -> None:  # fmt: skip
    said = result({"input_tokens": 100_000, "output_tokens": 10_000} | usage)
    vars(said.generations[0][0].message).update(content=content, response_metadata=about)
    handler = langchain.BudgetCallbackHandler()
    with make() as monitor:
        run_id = uuid.uuid4()
        handler.on_chat_model_start({}, [[]], run_id=run_id)
        handler.on_llm_end(said, run_id=run_id)
    used = monitor.get_usage_report()
    assert (used.cost_usd, used.unpriced_calls) == (Decimal(wanted), 0)


def test_a_tier_that_was_asked_for_and_not_answered_is_the_calls(
    langchain: Any, litellm: Any, make: Make
) -> None:
    """Not every server repeats it; one that answers with another one has served that."""
    handler = langchain.BudgetCallbackHandler()
    usage = {"input_tokens": 100_000, "output_tokens": 10_000}
    asked = {"invocation_params": {"service_tier": "flex"}}
    served = SimpleNamespace(prompt_tokens=100_000, completion_tokens=10_000)
    with make() as monitor:
        for said in ({}, {"service_tier": "default"}):
            run_id = uuid.uuid4()
            handler.on_chat_model_start({}, [[]], run_id=run_id, **asked)
            handler.on_llm_end(result(usage, model_name=MINI, **said), run_id=run_id)
        last = answer(model=MINI, usage=served)
        litellm.budgeted(lambda **_: last)(service_tier="flex")
    assert monitor.get_usage_report().cost_usd == Decimal("0.0225") * 2 + Decimal("0.045")


def test_a_stream_of_langchains_that_repeats_its_usage_is_not_added_up(
    langchain: Any, make: Make
) -> None:
    """As LangChain does; what is part of it goes along, and what comes in parts is a sum."""
    handler = langchain.BudgetCallbackHandler()
    repeated = [(35, 0), (35, 10), (35, 20), (35, 20)]
    in_parts = [(35, 1), (0, 19)]
    with make() as monitor:
        for chunks in (repeated, in_parts):
            run_id = uuid.uuid4()
            handler.on_chat_model_start({}, [[]], run_id=run_id)
            for into, out in chunks:
                usage = {"input_tokens": into, "output_tokens": out,
                         "input_token_details": {"cache_read": 30 if into else 0}}  # fmt: skip
                message = SimpleNamespace(usage_metadata=usage)
                handler.on_llm_new_token("x", chunk=SimpleNamespace(message=message), run_id=run_id)
            total = {  # as LangChain makes it
                "input_tokens": sum(into for into, _ in chunks),
                "output_tokens": sum(out for _, out in chunks),
                "input_token_details": {"cache_read": sum(30 for into, _ in chunks if into)},
            }
            handler.on_llm_end(result(total), run_id=run_id)
            assert not handler._chunks
    assert counts(monitor) == (2, 0, 0, 110)
    assert parts(monitor)[0] == 30 + 30


def test_what_a_stream_of_openais_api_was_charged_is_seen_in_its_chunks(
    langchain: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LangChain's package for it drops the cost; it may be loaded after the adapter."""

    class ChatOpenAI:
        def _convert_chunk_to_generation_chunk(self, chunk: dict[str, Any], *_: Any) -> Any:
            used = chunk["usage"] and {"input_tokens": 800, "output_tokens": 100}
            return SimpleNamespace(message=Message(usage_metadata=used))

    handler = langchain.BudgetCallbackHandler()
    module = ModuleType("langchain_openai.chat_models.base")
    vars(module)["BaseChatOpenAI"] = ChatOpenAI
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with make() as monitor:
        run_id = uuid.uuid4()
        handler.on_chat_model_start({}, [[]], run_id=run_id)
        for usage in (None, {"cost": 0.0421}):
            made = ChatOpenAI()._convert_chunk_to_generation_chunk({"usage": usage}, None, None)
            handler.on_llm_new_token("x", chunk=made, run_id=run_id)
        summed = {"input_tokens": 800, "output_tokens": 100}
        handler.on_llm_end(result(summed, model_name="gpt-4o"), run_id=run_id)
    assert monitor.get_usage_report().cost_usd == Decimal("0.0421")
    del made
    gc.collect()
    assert not langchain.results._CHARGES


def test_an_end_without_a_beginning_counts_nothing(langchain: Any, make: Make) -> None:
    handler = langchain.BudgetCallbackHandler()
    with make() as monitor:
        handler.on_llm_end(result(None), run_id=uuid.uuid4())
        handler.on_llm_error(ValueError(), run_id=uuid.uuid4())
        handler.on_llm_new_token("x", run_id=uuid.uuid4())
    assert counts(monitor) == (0, 0, 0, 0)


def test_langchain_lets_a_refusal_through_to_the_application(langchain: Any, make: Make) -> None:
    handler = langchain.BudgetCallbackHandler(make(max_api_calls=0))
    assert handler.raise_error
    assert handler.run_inline
    with pytest.raises(BudgetExceeded):
        handler.on_chat_model_start({}, [[]], run_id=uuid.uuid4())


def test_an_installed_handler_is_first_and_gives_way_to_one_that_is_handed_over(
    langchain: Any,
) -> None:
    installed = langchain.install()
    manager: type[Callbacks] = langchain.handler.CallbackManager
    assert manager.configure(["another"]).handlers == [installed, "another"]
    handed_over = langchain.BudgetCallbackHandler()
    assert manager.configure(["another", handed_over]).handlers == [handed_over, "another"]


# --- LiteLLM -------------------------------------------------------------------------------------
def answer(**more: Any) -> Any:
    """Return an answer of LiteLLM."""
    usage = SimpleNamespace(
        prompt_tokens=100, completion_tokens=10,
        prompt_tokens_details=SimpleNamespace(cached_tokens=60, cache_write_tokens=10),
        completion_tokens_details=SimpleNamespace(reasoning_tokens=4),
    )  # fmt: skip
    return SimpleNamespace(**{"usage": usage, "id": unique(), "model": "m"} | more)


class Stream:
    """A stream of LiteLLM, whose last chunk has the usage."""

    def __init__(self, *chunks: Any) -> None:
        """Hold what comes."""
        self._chunks = iter(chunks)

    def __iter__(self) -> Iterator[Any]:
        """Iterate."""
        return self

    def __aiter__(self) -> AsyncIterator[Any]:
        """Iterate."""
        return self

    def __next__(self) -> Any:
        """Return the next chunk."""
        chunk = next(self._chunks)
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    async def __anext__(self) -> Any:
        """Return the next chunk."""
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None


def test_a_function_of_litellm_counts_and_is_not_called_when_it_may_not(
    litellm: Any, make: Make
) -> None:
    called: list[str] = []

    def completion(model: str) -> Any:
        called.append(model)
        return answer()

    with make(max_api_calls=1) as monitor:
        wrapped = litellm.budgeted(completion)
        wrapped("m")
        with pytest.raises(BudgetExceeded):
            wrapped("m")
    assert called == ["m"]
    assert counts(monitor) == (1, 0, 0, 110)
    assert parts(monitor) == (60, 10, 4)


def test_a_coroutine_of_litellm_counts_and_one_that_is_cancelled_is_unknown(
    litellm: Any, make: Make
) -> None:
    async def acompletion(model: str, *, wait: bool = False) -> Any:
        if wait:
            await asyncio.Event().wait()
        return answer()

    async def both() -> None:
        wrapped = litellm.budgeted(acompletion)
        await wrapped("m")
        task = asyncio.create_task(wrapped("m", wait=True))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with make() as monitor:
        asyncio.run(both())
    assert counts(monitor) == (2, 0, 1, 110)


def test_a_call_of_litellm_that_fails_is_a_call_and_what_its_cache_answers_is_none(
    litellm: Any, make: Make
) -> None:
    def completion(model: str) -> Any:
        if model == "broken":
            raise ValueError(model)
        return answer(_hidden_params={"cache_hit": True})

    with make() as monitor:
        litellm.budgeted(completion)("m")
        with pytest.raises(ValueError, match="broken"):
            litellm.budgeted(completion)("broken")
    assert counts(monitor) == (1, 1, 0, 0)


def test_a_stream_of_litellm_stays_of_its_class_and_counts_at_its_end(
    litellm: Any, make: Make
) -> None:
    chunk = answer(usage=None)
    last = answer(usage=None, _hidden_params={"usage": answer().usage})
    streams = [Stream(chunk, last), Stream(chunk, answer())]

    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    with make() as monitor:
        first, second = (litellm.budgeted(lambda each=each: each)() for each in streams)
        assert isinstance(first, Stream)
        assert len(list(first)) == 2
        assert counts(monitor) == (1, 0, 0, 110)
        asyncio.run(read(second))
    assert counts(monitor) == (2, 0, 0, 220)


def test_a_stream_of_litellm_that_is_left_is_unknown_and_one_that_breaks_is_failed(
    litellm: Any, make: Make
) -> None:
    begun = answer(usage=SimpleNamespace(prompt_tokens=100, completion_tokens=1))
    with make() as monitor:
        left = litellm.budgeted(lambda: Stream(begun, answer()))()
        next(left)
        del left
        gc.collect()
        assert counts(monitor) == (1, 0, 1, 100)
        broken = litellm.budgeted(lambda: Stream(ValueError("cut")))()
        with pytest.raises(ValueError, match="cut"):
            next(broken)
    assert counts(monitor) == (2, 1, 1, 100)


def test_a_refusal_is_final_for_litellms_routers_and_comes_out_of_its_fallbacks(
    litellm: Any, make: Make
) -> None:
    asked: list[str] = []

    def completion(model: str) -> Any:
        asked.append(model)
        raise ValueError(model)

    attempt = litellm.budgeted(completion)

    def completion_with_fallbacks(model: str) -> Any:
        for each in (model, "another"):
            with contextlib.suppress(Exception):
                return attempt(each)
        raise RuntimeError("all attempts failed")

    with make(max_api_calls=1) as monitor:
        with pytest.raises(litellm.StoppedByBudget) as caught:
            litellm.budgeted(completion_with_fallbacks)("m")
        assert caught.value.verdict.session_id
        assert caught.value.status_code == 400  # tried again by no router
    assert asked == ["m"]
    assert counts(monitor) == (1, 1, 0, 0)


def test_a_function_of_litellm_that_takes_a_text_first_does_not_take_it_for_the_model(
    litellm: Any, make: Make
) -> None:
    def text_completion(prompt: str, model: str) -> Any:
        raise ValueError(prompt, model)

    with make() as monitor, pytest.raises(ValueError, match="a text"):
        litellm.budgeted(text_completion)("a text", "m")
    assert {model for _, model in monitor._record.counters_by_phase} == {"unspecified", "m"}


def test_a_generator_of_litellms_is_a_call_of_unknown_use(litellm: Any, make: Make) -> None:
    with make() as monitor:
        stream = litellm.budgeted(lambda: (each for each in "ab"))()
        assert list(stream) == ["a", "b"]
    assert counts(monitor) == (1, 0, 1, 0)


@pytest.mark.parametrize(
    ("model", "said", "hidden", "wanted"),
    [
        ("nobody-knows-it", {"cost": 0.25}, {}, "0.25"),
        ("gpt-4o", {"cost": 0.25}, {"response_cost": 0.5}, "0.25"),  # charged
        ("gpt-4o", {"cost": 0}, {"response_cost": 0.5}, "0"),
        ("gpt-4o", {}, {"response_cost": 0.5}, "0.00035"),  # worked out: ours goes before it
        ("nobody-knows-it", {}, {"response_cost": 0.5}, "0.5"),
        ("gpt-4o", {}, {"additional_headers": {
            "llm_provider-x-litellm-response-cost": 0.25}}, "0.25"),
    ],
)  # fmt: skip
def test_what_litellm_was_charged_goes_before_the_list_and_its_own_estimate_behind(
    litellm: Any,
    make: Make,
    *,
    model: str,
    said: dict[str, Any],
    hidden: dict[str, Any],
    wanted: str,
) -> None:
    usage = SimpleNamespace(prompt_tokens=100, completion_tokens=10, **said)
    last = answer(model=model, usage=usage, _hidden_params=hidden)
    with make() as monitor:
        list(litellm.budgeted(lambda: Stream(last))())
    used = monitor.get_usage_report()
    assert (used.cost_usd, used.unpriced_calls) == (Decimal(wanted), 0)


def test_what_litellm_says_beside_plain_tokens_is_priced(litellm: Any, make: Make) -> None:
    """Searches, and the longer-lived cache; a later chunk that says nothing takes nothing away."""
    usage = SimpleNamespace(
        prompt_tokens=100_000, completion_tokens=10_000,
        server_tool_use=SimpleNamespace(web_search_requests=5),
        prompt_tokens_details=SimpleNamespace(
            cache_creation_tokens=50_000,
            cache_creation_token_details=SimpleNamespace(ephemeral_1h_input_tokens=20_000),
        ),
    )  # fmt: skip
    chunks = answer(model=SONNET, usage=usage), answer(model=SONNET, usage=None)
    with make() as monitor:
        list(litellm.budgeted(lambda: Stream(*chunks))())
    used = monitor.get_usage_report()
    assert (used.cost_usd, used.unpriced_calls) == (Decimal("0.5825"), 0)


def test_litellms_0_is_a_price_it_does_not_know_unless_the_application_gave_it(
    litellm: Any, make: Make
) -> None:
    """Prices that a call is given are the application's word, before every list."""
    usage = SimpleNamespace(prompt_tokens=100, completion_tokens=10)

    def asked(cost: float, **prices: float) -> tuple[Decimal, int]:
        last = answer(model="gpt-4o", usage=usage, _hidden_params={"response_cost": cost})
        if not prices:
            last.model = "nobody-knows-it"
        with make() as monitor:
            litellm.budgeted(lambda **_: last)(**prices)
        report = monitor.get_usage_report()
        return report.cost_usd, report.unpriced_calls

    free = Decimal(0)
    assert asked(0.0) == (free, 1)
    assert asked(0.0, input_cost_per_token=0, output_cost_per_token=0) == (free, 0)
    assert asked(0.25, input_cost_per_token=0.0025) == (Decimal("0.25"), 0)
