"""What the openai client makes of calls: a server's base URL, and a JSON list of them, each with its "stream" beside
what is sent. Prints what came of each, as a list."""

import json
import sys

import openai
from openai.lib.streaming.chat import ChatCompletionStreamState


def ask(stream, model, messages, **more):
    # A new one each time: without retries it fails on a kept connection that the server closed after an error.
    client = openai.OpenAI(api_key="none", base_url=sys.argv[1], max_retries=0)
    answer = client.chat.completions.create(model=model, messages=messages, stream=stream, extra_body=more)
    if not stream:
        return answer
    state = ChatCompletionStreamState()
    for chunk in answer:
        state.handle_chunk(chunk)
    return state.get_final_completion()


def said(answer):
    choices = [
        {
            "content": choice.message.content or "",
            "calls": [[call.function.name, call.function.arguments] for call in choice.message.tool_calls or []],
            "finish_reason": choice.finish_reason,
        }
        for choice in answer.choices
    ]
    usage = answer.usage and [answer.usage.prompt_tokens, answer.usage.completion_tokens]
    return {"model": answer.model, "choices": choices, "usage": usage}


def made(call):
    try:
        return said(ask(**call))
    except Exception as error:
        return {"raised": type(error).__name__, "status": getattr(error, "status_code", None)}


print(json.dumps([made(call) for call in json.loads(sys.argv[2])]))
