"""Makes calls with the seed's client and reads entries with its AuditEntry, as tests/seed.rs asks.

One request a line on stdin, one answer a line on stdout, both JSON. Metadata, keyword arguments,
entries and bodies travel as JSON texts inside it: Python keeps every digit of their numbers, and
writes both sides' values in one and the same way.
"""

import dataclasses
import faulthandler
import json
import sys

# A test that waits for an answer that never comes should say where it was lost.
faulthandler.dump_traceback_later(300, exit=True)


def answer(value):
    print(json.dumps(value), flush=True)


try:
    import openai
except ImportError as error:
    answer({"missing": str(error)})
    sys.exit()

import audit_seed


def call(request):
    arguments = {"prompt": request["prompt"], "user_id": request["user_id"]}
    if request["model"] is not None:
        arguments["model"] = request["model"]
    if request["metadata"] is not None:
        arguments["metadata"] = json.loads(request["metadata"])
    for text in request["keywords"]:
        arguments.update(json.loads(text))
    try:
        client = audit_seed.AuditedOpenRouterClient(
            api_key=request["api_key"],
            audit_logger=audit_seed.AuditLogger(request["output_path"]),
        )
        client.client = client.client.with_options(
            base_url=request["base_url"], max_retries=request["max_retries"]
        )
        return {"answer": client.chat(**arguments)}
    except Exception as error:
        return {"raised": type(error).__name__}


def stream(request):
    """Each chunk as the client reads it, and what its own accumulator makes of all."""
    client = openai.OpenAI(
        api_key=request["api_key"], base_url=request["base_url"], max_retries=0
    )
    chunks = []
    try:
        with client.chat.completions.stream(
            model="m", messages=[{"role": "user", "content": "hello"}]
        ) as events:
            for event in events:
                if event.type == "chunk":
                    chunks.append(event.chunk.to_dict(mode="json"))
            final = events.get_final_completion()
    except Exception as error:
        return {"chunks": chunks, "raised": type(error).__name__}
    choices = [
        {
            "index": choice.index,
            "content": choice.message.content,
            "refusal": choice.message.refusal,
            "calls": [
                [call.id, call.function.name, call.function.arguments]
                for call in choice.message.tool_calls or []
            ],
            "finish_reason": choice.finish_reason,
        }
        for choice in final.choices
    ]
    usage = final.usage and [final.usage.prompt_tokens, final.usage.completion_tokens]
    said = {"id": final.id, "model": final.model, "choices": choices, "usage": usage}
    return {"chunks": chunks, "said": said}


def entry(line):
    fields = json.loads(line)
    fields.pop("details", None)
    read = dataclasses.asdict(audit_seed.AuditEntry(**fields))
    texts = {key: json.dumps(value) for key, value in read.items()}
    texts["keys"] = json.dumps(list(fields))
    return texts


def body(text):
    return json.dumps(json.loads(text), sort_keys=True)


TASKS = {"call": call, "stream": stream, "entry": entry, "body": body}

answer({"openai": openai.__version__})
for line in sys.stdin:
    [(task, request)] = json.loads(line).items()
    answer(TASKS[task](request))
