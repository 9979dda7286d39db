#!/usr/bin/env bash
# langchain4j-open-ai 1.19.0: tool calls whose pieces alternate are reported as complete, without arguments.
#
# In a streamed chat completion each piece of a tool call has an index, by which it belongs to its call; no
# order among the calls is promised. A server that decodes several calls at once may send them by turns.
# langchain4j's streaming model takes each change of the index for the end of the call before. So
# onCompleteToolCall, by which tools can be run while the rest still comes, is given f with {} instead of
# {"x":1}, then g with {}, then calls without a name; and at last the whole answer is refused: "name cannot
# be null or blank". The same pieces, one call after the other, come through. An index that doesn't begin
# at 0 (proxies that count blocks of text along do that) is a change as well: a call without name and id is
# reported as complete before the first, and that answer isn't refused. Put together by index, from the
# pieces as openai's Python client gives them, all three are the same. (The model for Anthropic had the like,
# and is mended.)
#
# What to do: run tools from onCompleteResponse alone, not from onCompleteToolCall.
#
# Seen, the calls that onCompleteToolCall was given, and the end:
#   one by one, 0 and 1    f {"x":1}, g {"y":2}              response of both
#   by turns, 0 and 1      f {}, g {}, and without a name    IllegalArgumentException
#   one by one, 1 and 3    null {}, f {"x":1}, g {"y":2}     response of both
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --no-compile --disable-pip-version-check openai==3.57.0
cd "$work"
cat >pom.xml <<'XML'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>ask</groupId>
  <artifactId>ask</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>dev.langchain4j</groupId>
      <artifactId>langchain4j-open-ai</artifactId>
      <version>1.19.0</version>
    </dependency>
  </dependencies>
</project>
XML
mvn -q -B dependency:copy-dependencies -DoutputDirectory=jars -DincludeScope=runtime >mvn.log 2>&1 || {
    cat mvn.log
    exit 1
}

cat >Ask.java <<'JAVA'
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.CompleteToolCall;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;
import dev.langchain4j.model.openai.OpenAiStreamingChatModel;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

class Ask {
    public static void main(String[] arguments) throws Exception {
        StringBuffer seen = new StringBuffer();
        CompletableFuture<String> end = new CompletableFuture<>();
        OpenAiStreamingChatModel.builder().baseUrl(arguments[0]).apiKey("none").modelName("m").build()
            .chat("?", new StreamingChatResponseHandler() {
                public void onPartialResponse(String text) {}

                public void onCompleteToolCall(CompleteToolCall call) {
                    var request = call.toolExecutionRequest();
                    seen.append(request.name() + " " + request.arguments() + ", ");
                }

                public void onCompleteResponse(ChatResponse response) {
                    StringBuilder calls = new StringBuilder("response:");
                    response.aiMessage().toolExecutionRequests()
                        .forEach(call -> calls.append(" " + call.name() + " " + call.arguments()));
                    end.complete(calls.toString());
                }

                public void onError(Throwable error) {
                    end.complete(error.toString());
                }
            });
        String last = end.get(60, TimeUnit.SECONDS);
        System.out.println(seen + last);
        System.exit(0);
    }
}
JAVA

cat >show.py <<'PYTHON'
import http.server
import importlib.metadata
import json
import subprocess
import threading

import openai


def piece(index, **function):
    call = {"index": index, "function": function}
    if "name" in function:
        call |= {"id": "call-" + function["name"], "type": "function"}
    return {"tool_calls": [call]}


F = [("name", "f"), ("arguments", '{"x":'), ("arguments", "1}")]
G = [("name", "g"), ("arguments", '{"y":'), ("arguments", "2}")]
STREAMS = {
    "one by one, 0 and 1": [piece(0, **{k: v}) for k, v in F] + [piece(1, **{k: v}) for k, v in G],
    "by turns, 0 and 1": [piece(i, **{k: v}) for pair in zip(F, G) for i, (k, v) in enumerate(pair)],
    "one by one, 1 and 3": [piece(1, **{k: v}) for k, v in F] + [piece(3, **{k: v}) for k, v in G],
}
BOTH = 'response: f {"x":1} g {"y":2}'
# How it begins, and how it ends: callbacks still come after the error, so what is between isn't certain.
EXPECTED = {
    "one by one, 0 and 1": ('f {"x":1}, g {"y":2}, ' + BOTH, BOTH),
    "by turns, 0 and 1": ("f {}, g {}, ", "IllegalArgumentException: name cannot be null or blank"),
    "one by one, 1 and 3": ('null {}, f {"x":1}, g {"y":2}, ' + BOTH, BOTH),
}


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        deltas = [*STREAMS.values()][int(self.path.split("/")[1])]
        choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for choice in choices:
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            self.wfile.write(b"data: %s\n\n" % json.dumps(chunk).encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


def of_openai(url):
    calls = {}
    client = openai.OpenAI(base_url=url, api_key="none")
    question = [{"role": "user", "content": "?"}]
    for chunk in client.chat.completions.create(model="m", messages=question, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            name, text = calls.get(call.index, ("", ""))
            calls[call.index] = name + (call.function.name or ""), text + (call.function.arguments or "")
    return "response: " + " ".join(f"{name} {text}" for name, text in calls.values())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("langchain4j-open-ai 1.19.0, openai", importlib.metadata.version("openai"))
for number, name in enumerate(STREAMS):
    url = f"http://127.0.0.1:{server.server_port}/{number}"
    assert of_openai(url) == BOTH
    java = ["java", "-cp", "jars/*", "Ask.java", url]
    done = subprocess.run(java, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    got = done.stdout.strip()
    print(f"{name}: {got}")
    begins, ends = EXPECTED[name]
    assert got.startswith(begins) and got.endswith(ends), got
print("as described")
PYTHON
env/bin/python show.py
