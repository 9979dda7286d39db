"""What the library answers."""

from dataclasses import dataclass, field
from typing import Optional


@dataclass(frozen=True)
class Reply:
    """What the library said: of a call, or of another function. Absent is None."""

    #: The status by its name in C, "AUDIT_OK" of a success. "AUDIT_E_LOG_PENDING": the call was made, and
    #: its entry follows by itself; don't make it again.
    status: str
    #: The answer, or the part of it that came; of hash, the hash.
    content: Optional[str] = None
    #: JSON: the response, or what the function reports.
    json: Optional[str] = field(default=None, repr=False)
    #: JSON: the entry, as its line stands in the log.
    entry: Optional[str] = None
    entry_id: Optional[str] = None
    error_type: str = ""
    error_message: str = ""
    finish_reason: Optional[str] = None
    model: Optional[str] = None
    provider: Optional[str] = None
    generation_id: Optional[str] = None
    provider_error_type: Optional[str] = None
    http_status: Optional[int] = None
    #: How far the call came, by its name in C: AUDIT_OUTCOME_NOT_SENT, _ANSWERED or _UNKNOWN.
    outcome: Optional[str] = None
    prompt_tokens: Optional[int] = None
    completion_tokens: Optional[int] = None
    retry_after_ms: Optional[int] = None
    attempts: Optional[int] = None
