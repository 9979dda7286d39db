"""Clients in the shape of the openai package's, over the library's queue."""

import asyncio
import json
import select
import weakref
from collections import deque
from typing import (
    Any,
    AsyncIterator,
    Coroutine,
    Deque,
    Dict,
    Generic,
    Iterator,
    Literal,
    Mapping,
    Optional,
    Sequence,
    TypeVar,
    Union,
    overload,
)

from ._errors import raise_for
from ._library import Queue, milliseconds
from ._logger import AuditLogger
from ._reply import Reply
from ._types import ChatCompletion, ChatCompletionChunk

__all__ = ["AsyncClient", "AsyncStream", "AuditedOpenRouterClient", "Client", "Stream"]

Messages = Sequence[Mapping[str, Any]]
#: As many calls of one event loop run at once; the others wait in order.
RUNNING = 1000


def _completion(reply: Reply) -> ChatCompletion:
    raise_for(reply)
    completion = ChatCompletion(json.loads(reply.json or "{}"))
    completion.audit = reply
    return completion


class _Chunks:
    """What both streams know."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        options = (request.get("params") or {}).get("stream_options") or {}
        self._shows_usage = bool(options.get("include_usage"))
        self._audit: Optional[Reply] = None

    @property
    def audit(self) -> Optional[Reply]:
        """What the library says of the call, once it's over: the whole answer, its entry."""
        return self._audit

    def _chunk(self, event: Union[str, Reply]) -> Optional[ChatCompletionChunk]:
        """The chunk of an event, if it has one to show. Raises what went wrong."""
        if isinstance(event, Reply):
            self._audit = event
            raise_for(event)
            return None
        chunk = json.loads(event)
        # The library asks for it; who didn't doesn't expect a chunk without a choice.
        hidden = not self._shows_usage and chunk.get("usage") and not chunk.get("choices")
        return None if hidden else ChatCompletionChunk(chunk)


class Stream(_Chunks):
    """The chunks of an answer as they come. Closing it, or dropping it, cancels the call."""

    def __init__(self, logger: AuditLogger, request: Mapping[str, Any]) -> None:
        super().__init__(request)
        # One for each call: the server waits for who reads slowly, a fork finds no lock that is held, and
        # nothing is shared by threads.
        self._queue = Queue(logger.handle, 1)
        self._free = weakref.finalize(self, self._queue.free)
        # Daemon threads still read then; the library ends their calls when they have stopped.
        self._free.atexit = False
        # Not the queue's next, in which Python would hear of no Ctrl-C.
        self._poll = select.poll()
        self._poll.register(self._queue.fd, select.POLLIN)
        try:
            self._queue.submit(request, 0)
        except BaseException:
            self._free()
            raise

    def _event(self) -> Union[str, Reply]:
        while True:
            event = self._queue.take()
            if event is not None:
                return event[1]
            self._poll.poll()

    def whole(self) -> Reply:
        """Waits for the end of the call."""
        with self:
            while self._audit is None:
                event = self._event()
                if isinstance(event, Reply):
                    self._audit = event
        return self._audit

    def __iter__(self) -> Iterator[ChatCompletionChunk]:
        return self

    def __next__(self) -> ChatCompletionChunk:
        try:
            while self._audit is None:
                chunk = self._chunk(self._event())
                if chunk is not None:
                    return chunk
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def cancel(self) -> None:
        """Has the call end, from any thread: who reads it gets a CancelledError."""
        self._queue.cancel(0)

    def close(self) -> None:
        """Cancels the call, unless it's over. Its entry is written when this returns."""
        if self._free.alive:
            try:
                self.cancel()
                while self._audit is None:
                    event = self._event()
                    if isinstance(event, Reply):
                        self._audit = event
            finally:
                self._free()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Call:
    """A call of an event loop: what came and wasn't read yet. It may be all of an answer, which is bounded
    by max_response_bytes."""

    def __init__(self, tag: int) -> None:
        self.tag = tag
        self.events: Deque[Union[str, Reply]] = deque()
        self.news = asyncio.Event()


class _Loop:
    """The queue of one event loop, which watches it; no thread."""

    def __init__(self, logger: AuditLogger, loop: asyncio.AbstractEventLoop) -> None:
        self.queue = Queue(logger.handle, RUNNING)
        self._calls: Dict[int, _Call] = {}
        self._last = 0
        # The loop isn't to keep it.
        drain = weakref.WeakMethod(self._drain)
        loop.add_reader(self.queue.fd, lambda: (drain() or int)())
        weakref.finalize(self, _leave, weakref.ref(loop), self.queue).atexit = False

    def submit(self, request: Mapping[str, Any]) -> _Call:
        self._last += 1
        call = _Call(self._last)
        self.queue.submit(request, call.tag)
        self._calls[call.tag] = call
        return call

    def _drain(self) -> None:
        # The loop has other things to do as well.
        for _ in range(256):
            taken = self.queue.take()
            if taken is None:
                return
            tag, event = taken
            call = self._calls.pop(tag) if isinstance(event, Reply) else self._calls[tag]
            call.events.append(event)
            call.news.set()

    async def event(self, call: _Call) -> Union[str, Reply]:
        try:
            while not call.events:
                call.news.clear()
                await call.news.wait()
        except asyncio.CancelledError:
            # Its entry is to be there when the task is over; that takes up to 100 ms.
            self.queue.cancel(call.tag)
            while call.tag in self._calls:
                call.news.clear()
                await call.news.wait()
            raise
        return call.events.popleft()

    async def whole(self, call: _Call) -> Reply:
        while True:
            event = await self.event(call)
            if isinstance(event, Reply):
                return event


def _leave(held: "weakref.ref[asyncio.AbstractEventLoop]", queue: Queue) -> None:
    loop = held()
    if loop is not None and not loop.is_closed():
        loop.remove_reader(queue.fd)
    queue.free()


class AsyncStream(_Chunks):
    """The chunks of an answer as they come. Closing it, or dropping it, cancels the call."""

    def __init__(self, loop: _Loop, request: Mapping[str, Any]) -> None:
        super().__init__(request)
        self._loop, self._call = loop, loop.submit(request)
        self._cancel = weakref.finalize(self, loop.queue.cancel, self._call.tag)
        self._cancel.atexit = False

    def __aiter__(self) -> AsyncIterator[ChatCompletionChunk]:
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        while self._audit is None:
            chunk = self._chunk(await self._loop.event(self._call))
            if chunk is not None:
                return chunk
        raise StopAsyncIteration

    async def close(self) -> None:
        """Cancels the call, unless it's over. Its entry is written when this returns."""
        if self._audit is None:
            self._cancel()
            self._audit = await self._loop.whole(self._call)

    async def __aenter__(self) -> "AsyncStream":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


_Whole = TypeVar("_Whole")
_Parts = TypeVar("_Parts")
_Said = TypeVar("_Said")


class Completions(Generic[_Whole, _Parts]):
    def __init__(self, client: Any) -> None:
        self._client = client

    @overload
    def create(
        self, *, messages: Messages, user_id: str, stream: Literal[True], **params: Any
    ) -> _Parts: ...

    @overload
    def create(
        self, *, messages: Messages, user_id: str, stream: Literal[False] = False, **params: Any
    ) -> _Whole: ...

    @overload
    def create(
        self, *, messages: Messages, user_id: str, stream: bool, **params: Any
    ) -> Union[_Whole, _Parts]: ...

    def create(
        self,
        *,
        messages: Messages,
        user_id: str,
        stream: bool = False,
        model: Optional[str] = None,
        metadata: Optional[Mapping[str, Any]] = None,
        timeout: Optional[float] = None,
        extra_headers: Optional[Mapping[str, str]] = None,
        extra_body: Optional[Mapping[str, Any]] = None,
        **params: Any,
    ) -> Any:
        """Makes a chat call. user_id: on whose behalf. metadata: for its entry alone. params: for the
        provider (temperature, tools, ...). timeout: seconds for the whole call."""
        request = {
            "user_id": user_id,
            "model": model,
            "metadata": metadata,
            "stream": stream,
            "options": _options(timeout, headers=extra_headers),
            "params": {**params, "messages": messages, **(extra_body or {})},
        }
        return self._client.request(request)


class Chat(Generic[_Whole, _Parts, _Said]):
    """The calls of a client; of an AsyncClient they are to be awaited."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.completions: Completions[_Whole, _Parts] = Completions(client)

    def __call__(
        self,
        prompt: str,
        user_id: str,
        model: Optional[str] = None,
        metadata: Optional[Mapping[str, Any]] = None,
        **params: Any,
    ) -> _Said:
        """Asks, and returns the answer's text. The entry has the hash of the prompt as it is."""
        request = {"user_id": user_id, "prompt": prompt, "model": model, "metadata": metadata, "params": params}
        said: _Said = self._client._say(request)
        return said


def _options(timeout: Optional[float], **options: Any) -> Dict[str, Any]:
    if timeout is not None:
        options["timeout_ms"] = milliseconds(timeout)
    return {name: value for name, value in options.items() if value is not None}


class _Base:
    """What both clients know.

    output_path: the log's directory. base_url, api_key, model: the server's; the key is OPENROUTER_API_KEY
    from the environment if it's absent. timeout: seconds for a whole call. config: further keys of
    docs/configuration.md. logger: an AuditLogger in place of a log of its own; of the others only api_key
    and timeout go with one."""

    def __init__(
        self,
        *,
        output_path: Optional[str] = None,
        base_url: Optional[str] = None,
        api_key: Optional[str] = None,
        timeout: Optional[float] = None,
        default_headers: Optional[Mapping[str, str]] = None,
        logger: Optional[AuditLogger] = None,
        **config: Any,
    ) -> None:
        config.update(_options(None, output_path=output_path, base_url=base_url, headers=default_headers))
        if logger is None:
            self.logger = AuditLogger(**config, **_options(None, api_key=api_key))
            self._options = _options(timeout)
        elif config:
            raise TypeError(f"{', '.join(config)}: the logger's to say, where one is passed")
        else:
            self.logger = logger
            self._options = _options(timeout, api_key=api_key)

    def _full(self, request: Mapping[str, Any]) -> Dict[str, Any]:
        options = {**self._options, **(request.get("options") or {})}
        stream = "chunks" if request.get("stream") else False
        return {**request, "options": options, "stream": stream}


class Client(_Base):
    """Makes calls, each with its entry. One for the whole process is enough: any thread may use it, and a
    forked child. A call waits without the GIL, and Ctrl-C ends it."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.chat: Chat[ChatCompletion, Stream, str] = Chat(self)

    def request(self, request: Mapping[str, Any]) -> Union[ChatCompletion, Stream]:
        """Makes a chat call of a request as schema/request.json has it: with a prompt, a system message."""
        stream = Stream(self.logger, self._full(request))
        return stream if request.get("stream") else _completion(stream.whole())

    def _say(self, request: Mapping[str, Any]) -> str:
        answer = self.request(request).audit
        return answer.content or "" if answer else ""

    def close(self, timeout: Optional[float] = None) -> None:
        """As AuditLogger.close."""
        self.logger.close(timeout)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close(5)


class AuditedOpenRouterClient(Client):
    """A client by the name and with the arguments of the recipe that this library grew from."""

    def __init__(self, api_key: Optional[str], audit_logger: AuditLogger) -> None:
        super().__init__(api_key=api_key, logger=audit_logger)


_Coming = Coroutine[Any, Any, _Whole]


class AsyncClient(_Base):
    """Makes calls in an event loop of asyncio, on its thread; a task that is cancelled ends its call. Any
    loop may use it."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.chat: Chat[_Coming[ChatCompletion], _Coming[AsyncStream], _Coming[str]] = Chat(self)
        self._loops: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop]" = (
            weakref.WeakKeyDictionary()
        )

    async def request(self, request: Mapping[str, Any]) -> Union[ChatCompletion, AsyncStream]:
        """As Client.request."""
        running = asyncio.get_running_loop()
        loop = self._loops.get(running)
        if loop is None:
            loop = self._loops[running] = _Loop(self.logger, running)
        full = self._full(request)
        if full["stream"]:
            return AsyncStream(loop, full)
        return _completion(await loop.whole(loop.submit(full)))

    async def _say(self, request: Mapping[str, Any]) -> str:
        answer = (await self.request(request)).audit
        return answer.content or "" if answer else ""

    async def close(self, timeout: Optional[float] = None) -> None:
        """As AuditLogger.close."""
        running = asyncio.get_running_loop()
        await running.run_in_executor(None, self.logger.close, timeout)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close(5)
