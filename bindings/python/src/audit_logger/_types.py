"""Answers, in the shape of the openai package's: attributes, and to_dict for the rest."""

import json
from typing import Any, ClassVar, Dict, FrozenSet, List, Mapping, Optional, Type

from ._reply import Reply

__all__ = ["ChatCompletion", "ChatCompletionChunk", "Choice", "Message", "Object", "Usage"]


class Object:
    """A JSON object whose members are attributes; one that its class names and that is absent is None."""

    #: Of what class a member is that is an object, or a list of some.
    _members: ClassVar[Mapping[str, "Type[Object]"]] = {}
    _names: ClassVar[FrozenSet[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        cls._names = cls._names.union(cls.__annotations__)

    def __init__(self, data: Dict[str, Any]) -> None:
        self._data = data

    def __getattr__(self, name: str) -> Any:
        # Who streams reads one member of many.
        data = self.__dict__.get("_data", {})
        if name in data:
            value = self.__dict__[name] = _wrapped(data[name], self._members.get(name, Object))
            return value
        if name in self._names:
            return None
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Object) and self._data == other._data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._data!r})"

    def to_dict(self) -> Dict[str, Any]:
        """The object as it came."""
        return self._data

    model_dump = to_dict

    def to_json(self) -> str:
        return json.dumps(self._data, ensure_ascii=False)

    model_dump_json = to_json


def _wrapped(value: Any, kind: Type[Object]) -> Any:
    if isinstance(value, dict):
        return kind(value)
    if isinstance(value, list):
        return [_wrapped(item, kind) for item in value]
    return value


class Function(Object):
    name: Optional[str]
    arguments: Optional[str]


class ToolCall(Object):
    _members = {"function": Function}
    index: Optional[int]
    id: Optional[str]
    type: Optional[str]
    function: Function


class Message(Object):
    """A message, or in a chunk what is added to one."""

    _members = {"tool_calls": ToolCall, "function_call": Function}
    role: Optional[str]
    content: Optional[str]
    refusal: Optional[str]
    reasoning: Optional[str]
    tool_calls: Optional[List[ToolCall]]


class Choice(Object):
    _members = {"message": Message, "delta": Message}
    index: int
    finish_reason: Optional[str]
    message: Message
    delta: Message


class Usage(Object):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Answer(Object):
    _members = {"choices": Choice, "usage": Usage}
    id: str
    model: str
    created: int
    provider: Optional[str]
    choices: List[Choice]
    usage: Optional[Usage]


class ChatCompletionChunk(_Answer):
    """A piece of an answer."""


class ChatCompletion(_Answer):
    #: What the library says of the call: its entry, its outcome.
    audit: Reply
