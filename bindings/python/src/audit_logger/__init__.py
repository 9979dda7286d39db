"""LLM calls that each leave exactly one entry in an append-only audit log.

    import audit_logger

    client = audit_logger.Client(output_path="audit_logs", base_url="https://openrouter.ai/api/v1", api_key=...)
    completion = client.chat.completions.create(
        model="openai/gpt-4-turbo",
        messages=[{"role": "user", "content": "Why is the sky blue?"}],
        user_id="user-42",
        metadata={"feature": "search"},
    )
    print(completion.choices[0].message.content, completion.audit.entry_id)

Client and AsyncClient have the shape of the openai package's, and its classes of errors. Who has a client of
that package already audits it with audit_logger.openai.audit.
"""

from ._client import *
from ._errors import *
from ._library import version
from ._logger import *
from ._reply import *
from ._types import *

__version__ = version()
