#!/usr/bin/env bash
# litellm 1.110.2: a streamed event whose data has two lines is dropped, unless the provider is openai/.
#
# In an event stream (WHATWG HTML, section 9.2.6) each data: line of an event adds one line to its data, so
# JSON with line feeds is sent as several data: lines; a proxy or a server that prints JSON with indents
# does it. With openai/ litellm hands the stream to the openai client, which puts the lines together. The
# providers that litellm speaks to itself (hosted_vllm/, deepseek/, openrouter/, groq/, ...) are read line
# by line: a line that isn't JSON by itself is passed over, without an error or a warning. What was in the
# event is missing in the middle of an answer that ends properly with "stop"; if it was the usage, the
# counts of tokens are litellm's own estimate, and look like the provider's. Where every event is indented
# the answer is empty, and ends as "stop".
#
# What to do: openai/ and api_base for any server that speaks OpenAI's protocol; JSON on one line from
# servers.
#
# Seen (text, finish_reason, usage), for "Hello " + "world", 1000 and 2000 tokens:
#   sent                        openai/                        hosted_vllm/ and the others
#   each event one line         Hello world, stop, 1000/2000   Hello world, stop, 1000/2000
#   "Hello " of two lines       Hello world, stop, 1000/2000   world, stop, 1000/2000
#   the usage of two lines      Hello world, stop, 1000/2000   Hello world, stop, an estimate
#   all of two lines            Hello world, stop, 1000/2000   nothing, stop, an estimate
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --no-compile --disable-pip-version-check litellm==1.110.2 openai==3.57.0
LITELLM_LOCAL_MODEL_COST_MAP=True "$work/env/bin/python" - <<'PYTHON'
import http.server
import importlib.metadata
import json
import threading

import litellm


def chunk(choices, **more):
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}


def choice(text, finish):
    return {"index": 0, "delta": {"content": text}, "finish_reason": finish}


EVENTS = [
    chunk([choice("Hello ", None)]),
    chunk([choice("world", "stop")]),
    chunk([], usage={"prompt_tokens": 1000, "completion_tokens": 2000, "total_tokens": 3000}),
]


def stream(indented):
    for number, event in enumerate(EVENTS):
        text = json.dumps(event)
        if number in indented:
            text = text.replace(', "choices"', ',\n "choices"')
        yield "".join(f"data: {line}\n" for line in text.split("\n")) + "\n"
    yield "data: [DONE]\n\n"


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write("".join(stream(json.loads(self.path.split("/")[1]))).encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()


def ask(provider, indented):
    text, finish, usage = "", None, None
    for part in litellm.completion(
        model=f"{provider}/m",
        api_base=f"http://127.0.0.1:{server.server_port}/{json.dumps(indented, separators=(',', ':'))}",
        api_key="none",
        messages=[{"role": "user", "content": "?"}],
        stream=True,
        stream_options={"include_usage": True},
        timeout=20,
    ):
        for one in part.choices:
            text += one.delta.content or ""
            finish = one.finish_reason or finish
        usage = getattr(part, "usage", None) or usage
    return text, finish, usage and (usage.prompt_tokens, usage.completion_tokens)


print("litellm", importlib.metadata.version("litellm"))
whole, sent = "Hello world", (1000, 2000)
for indented, text, reported in (
    ([], whole, True),
    ([0], "world", True),
    ([2], whole, False),
    ([0, 1, 2], "", False),
):
    for provider in ("openai", "hosted_vllm", "deepseek", "openrouter", "groq"):
        got = ask(provider, indented)
        print("indented:", indented, provider, *got)
        if provider == "openai":
            assert got == (whole, "stop", sent), got
        else:
            assert got[:2] == (text, "stop"), got
            assert (got[2] == sent) == reported, got
print("as described")
PYTHON
