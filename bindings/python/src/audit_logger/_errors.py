"""What is raised: classes of the openai package's names for calls that failed, and the log's own."""

import json
import logging
from typing import Any, Dict, Optional, Type

from ._reply import Reply

__all__ = [
    "AuditError", "ArgumentError", "HandleError", "ConfigError", "LogError", "WitnessError", "CancelledError",
    "OpenAIError", "APIError", "APIResponseValidationError", "IncompleteResponse", "ResponseTooLarge",
    "APIConnectionError", "APITimeoutError", "APIStatusError", "BadRequestError", "AuthenticationError",
    "PermissionDeniedError", "NotFoundError", "ConflictError", "UnprocessableEntityError", "RateLimitError",
    "InternalServerError",
]


class AuditError(Exception):
    """The base of all. status is the library's, by its name in C; reply has what came nevertheless: a
    failed call's entry, the part of an answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.error_message)
        self.reply = reply
        self.status = reply.status
        self.error_type = reply.error_type
        self.message = reply.error_message

    def __reduce__(self) -> Any:
        return type(self), (self.reply,)


class ArgumentError(AuditError, ValueError):
    """Something that was passed can't be used: nothing was sent, nothing logged."""


class HandleError(AuditError):
    """The client, or the logger, was closed."""


class ConfigError(AuditError, ValueError):
    """The configuration can't be used; the message names the key."""


class LogError(AuditError, OSError):
    """The log can't take an entry: nothing was sent. Trying again is safe."""


class WitnessError(AuditError):
    """The log is on the disk and sealed, but too few of its witnesses have signed it in time."""


class CancelledError(AuditError):
    """The call was cancelled, by closing its client or at the end of the process. It has its entry."""


class OpenAIError(AuditError):
    """A call failed; it has its entry. The classes below have the openai package's names."""


class APIError(OpenAIError):
    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        #: The "error" of the response, the response if it has none, or its text if it isn't JSON.
        self.body: Any = _body(reply.json)
        of = self.body if isinstance(self.body, dict) else {}
        code = of.get("code")
        self.code: Optional[str] = None if code is None else str(code)
        self.param: Optional[str] = of.get("param")
        self.type: Optional[str] = of.get("type")


class APIResponseValidationError(APIError):
    """The response isn't an answer."""


class IncompleteResponse(APIError):
    """A stream ended without an end: what is missing can't be known."""


class ResponseTooLarge(APIError):
    """The response is longer than max_response_bytes, or than there is memory for."""


class APIStatusError(APIError):
    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        #: Of an error inside a response of status 200, that one.
        self.status_code: Optional[int] = reply.http_status


class APIConnectionError(APIError): ...
class APITimeoutError(APIConnectionError): ...
class BadRequestError(APIStatusError): ...
class AuthenticationError(APIStatusError): ...
class PermissionDeniedError(APIStatusError): ...
class NotFoundError(APIStatusError): ...
class ConflictError(APIStatusError): ...
class UnprocessableEntityError(APIStatusError): ...
class RateLimitError(APIStatusError): ...
class InternalServerError(APIStatusError): ...


def _body(text: Optional[str]) -> Any:
    if text is None:
        return None
    try:
        body = json.loads(text)
    except ValueError:
        return text
    return body.get("error", body) if isinstance(body, dict) else body


def _named(base: Type[AuditError]) -> Dict[str, Type[AuditError]]:
    classes = {base.__name__: base}
    for below in base.__subclasses__():
        classes.update(_named(below))
    return classes


_alarm = logging.getLogger("audit_logger")
_alarm.addHandler(logging.NullHandler())
_CALLS = {**_named(OpenAIError), "Cancelled": CancelledError}
_STATUSES: Dict[str, Type[AuditError]] = {
    "AUDIT_E_ARGUMENT": ArgumentError,
    "AUDIT_E_HANDLE": HandleError,
    "AUDIT_E_CONFIG": ConfigError,
    "AUDIT_E_LOG": LogError,
    "AUDIT_E_WITNESS": WitnessError,
    "AUDIT_E_CANCELLED": CancelledError,
}


def raise_for(reply: Reply) -> None:
    """Raises what the reply says went wrong. A success whose entry has to wait is none: the answer is
    there, and asking again would pay twice. It's an alarm of the logging module's."""
    if reply.status == "AUDIT_E_LOG_PENDING":
        _alarm.error("%s", reply.error_message)
        if reply.error_type == reply.status:
            return
    if reply.status in ("AUDIT_E_CALL", "AUDIT_E_LOG_PENDING"):
        # Some are of Python's own: what that client would raise where the answer isn't JSON.
        raise _CALLS.get(reply.error_type, APIResponseValidationError)(reply)
    if reply.status != "AUDIT_OK":
        raise _STATUSES.get(reply.status, AuditError)(reply)
