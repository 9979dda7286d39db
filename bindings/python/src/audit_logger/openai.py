"""Audits a client of the openai package, and whatever speaks through it (LangChain, LlamaIndex, Instructor).

    client = audit(openai.OpenAI(), audit_logger.AuditLogger("audit_logs"), user_id="batch")

    with calling_for("user-42", {"feature": "search"}):
        client.chat.completions.create(model=..., messages=...)

Each call has exactly one entry, its retries included: whole or streamed, parsed, raw, failed or cancelled.
Nothing is sent that the log can't take (LogError), and a call that the process dies in has its entry.
"""

import contextlib
import contextvars
import functools
import inspect
import json
from typing import Any, Callable, Coroutine, Iterator, List, Mapping, Optional, Tuple, TypeVar

from ._errors import ArgumentError
from ._logger import AuditLogger, Pending
from ._reply import Reply

_Client = TypeVar("_Client")
_Caller = Tuple[str, Optional[Mapping[str, Any]]]
_caller: "contextvars.ContextVar[Optional[_Caller]]" = contextvars.ContextVar("audit_logger_caller", default=None)

#: What their entries are called. Of all others, the path.
_EVENTS = {"chat/completions": "chat_completion"}


@contextlib.contextmanager
def calling_for(user_id: str, metadata: Optional[Mapping[str, Any]] = None) -> Iterator[None]:
    """On whose behalf the calls within are made, in this thread or task, and what their entries say more."""
    token = _caller.set((user_id, metadata))
    try:
        yield
    finally:
        _caller.reset(token)


def audit(client: _Client, logger: AuditLogger, user_id: Optional[str] = None) -> _Client:
    """Has every call of an openai.OpenAI or AsyncOpenAI, or of a subclass, leave its entry; returns it. So do
    the clients that its with_options and copy make. user_id: of calls outside of calling_for whose request
    names no "user"; without any such a call raises ArgumentError, and isn't made."""
    base: Any = type(client)

    def begin(options: Any) -> Optional["_Call"]:
        if options.method.lower() != "post":
            return None
        body = options.json_data if isinstance(options.json_data, dict) else {}
        who, metadata = _caller.get() or (body.get("user") or user_id or "", None)
        if not who:
            wrong = "user_id: on whose behalf the call is made must be said, by calling_for or audit's user_id"
            raise ArgumentError(Reply("AUDIT_E_ARGUMENT", error_type="AUDIT_E_ARGUMENT", error_message=wrong))
        path = options.url.strip("/")
        asked = body.get("messages", body.get("input", body.get("prompt", "")))
        begun = logger.begin(
            event_type=_EVENTS.get(path, path),
            user_id=who,
            model=str(body.get("model") or ""),
            prompt=_prompt(asked),
            metadata=metadata,
        )
        return _Call(begun)

    async def audited(options: Any, streams: bool, request: Callable[[], Any]) -> Any:
        call = begin(options)
        if call is None:
            return await _settled(request())
        try:
            result = await _settled(request())
            if not streams:
                call.answered(await _settled(_read(result)))
                return result
            stream = await _settled(result.parse() if hasattr(result, "http_response") else result)
        except BaseException as error:
            call.failed(error)
            raise
        stream._iterator = _Chunks(stream._iterator, call)
        for closed in (stream, result):
            if hasattr(closed, "close"):
                closed._audited = call
                closed.__class__ = _noted(closed.__class__)
        return result

    # Of this client too if it's audited already, whose request is another.
    is_async = inspect.iscoroutinefunction(base.post)

    class Audited(base):  # type: ignore[misc]
        def request(self, cast_to: Any, options: Any, **more: Any) -> Any:
            request = functools.partial(super().request, cast_to, options, **more)
            made = audited(options, bool(more.get("stream")), request)
            return made if is_async else _now(made)

    made: Any = client
    made.__class__ = _disguised(Audited, base)
    return client


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs one that has nothing to wait for: that of a synchronous client."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a synchronous client returned something to be awaited")


def _disguised(made: type, base: type) -> type:
    """What prints a class, or looks it up by its name, is to see the one that it knows."""
    made.__name__, made.__qualname__, made.__module__ = base.__name__, base.__qualname__, base.__module__
    return made


@functools.lru_cache(maxsize=None)
def _noted(base: Any) -> type:
    """A stream, or a response, whose call is over when it's closed."""
    if hasattr(base, "_audited"):
        return base  # type: ignore[no-any-return]

    class Noted(base):  # type: ignore[misc]
        _audited: "_Call"

        def close(self) -> Any:
            self._audited.failed(None)
            return super().close()

    return _disguised(Noted, base)


def _prompt(asked: Any) -> str:
    """As the entry's hash covers it: a text as it is, messages as JSON with sorted keys."""
    if isinstance(asked, str):
        return asked
    return json.dumps(asked, ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=str)


def _read(result: Any) -> Any:
    """The response's body, of a raw response; else the object that was made of it."""
    if not hasattr(result, "http_response"):
        return result.model_dump(warnings=False) if hasattr(result, "model_dump") else {}
    read = getattr(result, "read", None)
    return read() if read is not None else result.http_response.content


class _Call:
    """A call that is being made."""

    def __init__(self, pending: Pending) -> None:
        self._pending: Optional[Pending] = pending
        self._text: List[str] = []
        self._usage: Mapping[str, Any] = {}
        self._was_heard = False

    def _finish(self, **record: Any) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            tokens = [
                self._usage.get(name, self._usage.get(other))
                for name, other in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
            ]
            if all(isinstance(count, int) and count >= 0 for count in tokens):
                record["prompt_tokens"], record["completion_tokens"] = tokens
            pending.finish(response="".join(self._text), **record)

    def answered(self, body: Any) -> None:
        if isinstance(body, (bytes, str)):
            try:
                body = json.loads(body)
            except ValueError:
                body = {}
        if isinstance(body, dict):
            self.heard(body)
        self._finish()

    def failed(self, error: Optional[BaseException]) -> None:
        """Of an error that isn't an Exception it was cancelled. None: its reader left it, or read the
        response itself, and what came isn't known here."""
        kind = type(error).__name__ if isinstance(error, Exception) else "Cancelled"
        if error is None and not self._was_heard:
            kind = "OutcomeUnknown"
        self._finish(status="error", error_type=kind)

    def ended(self) -> None:
        self._finish()

    def heard(self, body: Mapping[str, Any]) -> None:
        """Takes what an answer, or a chunk of one, has of text and usage: of chat completions, completions
        and responses."""
        self._was_heard = True
        self._usage = body.get("usage") or self._usage
        for choice in (body.get("choices") or [])[:1]:
            content = (choice.get("message") or choice.get("delta") or choice).get("content", choice.get("text"))
            if isinstance(content, str):
                self._text.append(content)
        if body.get("type") == "response.completed":
            body = body["response"]
            self._usage = body.get("usage") or self._usage
        for item in body.get("output") or []:
            for part in item.get("content") or []:
                self._text.append(part.get("text") or "")


class _Chunks:
    """The iterator of a stream, sync or async, heard on its way."""

    def __init__(self, of: Any, call: _Call) -> None:
        self._of, self._call = of, call

    def _hear(self, chunk: Any) -> Any:
        data = chunk if isinstance(chunk, dict) else chunk.model_dump(warnings=False) if hasattr(chunk, "model_dump") else {}
        self._call.heard(data)
        return chunk

    def __iter__(self) -> "_Chunks":
        return self

    def __next__(self) -> Any:
        try:
            return self._hear(next(self._of))
        except StopIteration:
            self._call.ended()
            raise
        except BaseException as error:
            self._call.failed(error)
            raise

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> Any:
        try:
            return self._hear(await self._of.__anext__())
        except StopAsyncIteration:
            self._call.ended()
            raise
        except BaseException as error:
            self._call.failed(error)
            raise

    def __del__(self) -> None:
        self._call.failed(None)
