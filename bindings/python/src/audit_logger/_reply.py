"""What the library answers."""

from dataclasses import dataclass, field
from typing import Any, Optional

__all__ = ["Reply"]


def _number(number: int, **more: Any) -> Any:
    """A field by its AUDIT_REPLY_ number: texts have those below 100, integers the others."""
    return field(metadata={"number": number}, **{"default": None, **more})


@dataclass(frozen=True)
class Reply:
    """What the library said: of a call, or of another function. Absent is None."""

    #: The status by its name in C, "AUDIT_OK" of a success. "AUDIT_E_LOG_PENDING": the call was made, and
    #: its entry follows by itself; don't make it again.
    status: str
    #: The answer, or the part of it that came; of hash, the hash.
    content: Optional[str] = _number(1)
    #: JSON: the response, or what the function reports.
    json: Optional[str] = _number(2, repr=False)
    #: JSON: the entry, as its line stands in the log.
    entry: Optional[str] = _number(3)
    entry_id: Optional[str] = _number(4)
    error_type: str = _number(5, default="")
    error_message: str = _number(6, default="")
    finish_reason: Optional[str] = _number(7)
    model: Optional[str] = _number(8)
    provider: Optional[str] = _number(9)
    generation_id: Optional[str] = _number(10)
    provider_error_type: Optional[str] = _number(11)
    http_status: Optional[int] = _number(101)
    #: How far the call came, by its name in C: AUDIT_OUTCOME_NOT_SENT, _ANSWERED or _UNKNOWN.
    outcome: Optional[str] = _number(102)
    prompt_tokens: Optional[int] = _number(103)
    completion_tokens: Optional[int] = _number(104)
    retry_after_ms: Optional[int] = _number(105)
    attempts: Optional[int] = _number(106)
