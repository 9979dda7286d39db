"""The adapter of a client of the openai package, alone and below LangChain, and gunicorn, with what is
installed of them: test_openai.py SERVER DIRECTORY."""

import asyncio
import gc
import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Dict, List

import audit_logger
import openai
from audit_logger.openai import audit, calling_for

SERVER, DIRECTORY = sys.argv[1], Path(tempfile.mkdtemp(dir=sys.argv[2]))
MESSAGES: Any = [{"role": "user", "content": "one two"}]
COMMON: Any = {"base_url": SERVER, "api_key": "sk-test", "max_retries": 0}


def is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def entries(name: str) -> List[Dict[str, Any]]:
    lines: List[Dict[str, Any]] = []
    for path in sorted((DIRECTORY / name).glob("audit_*.jsonl")):
        lines += map(json.loads, path.read_text().splitlines())
    return lines


def only(name: str, **wanted: Any) -> None:
    """The one entry says that, and no call is left open."""
    (entry,) = entries(name)
    assert {field: entry[field] for field in wanted} == wanted, entry


def client(name: str) -> Any:
    log = audit_logger.AuditLogger(str(DIRECTORY / name))
    return audit(openai.OpenAI(**COMMON), log, "user-1")


def said(name: str) -> str:
    return audit_logger.AuditLogger(str(DIRECTORY / name)).hash("You said: one two")


def test_an_answer() -> None:
    completion = client("answer").chat.completions.create(model="m", messages=MESSAGES)
    assert completion.choices[0].message.content == "You said: one two"
    only("answer", status="success", user_id="user-1", model="m", event_type="chat_completion",
         prompt_tokens=2, completion_tokens=4, response_hash=said("answer"))


def test_a_stream() -> None:
    with calling_for("user-2", {"feature": "search"}):
        stream = client("stream").chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    only("stream", status="success", user_id="user-2", metadata={"feature": "search"}, prompt_tokens=2,
         response_hash=said("stream"))


def test_raw_and_streamed_responses() -> None:
    completions = client("raw").chat.completions
    assert completions.with_raw_response.create(model="m", messages=MESSAGES).parse().usage.total_tokens == 6
    with completions.with_streaming_response.create(model="m", messages=MESSAGES) as response:
        assert response.parse().usage.total_tokens == 6
    assert {entry["response_hash"] for entry in entries("raw")} == {said("raw")}
    with completions.with_streaming_response.create(model="m", messages=MESSAGES, stream=True) as response:
        assert list(response.iter_lines())
    # Who reads the lines himself knows alone what came.
    assert [entry["error_type"] for entry in entries("raw")] == [None, None, "OutcomeUnknown"]


def test_an_error_has_the_class_that_is_raised() -> None:
    try:
        client("error").chat.completions.create(model="test/429", messages=MESSAGES)
    except openai.RateLimitError:
        only("error", status="error", error_type="RateLimitError")
    else:
        raise AssertionError("no error")


def test_retries_are_one_call() -> None:
    again = client("retries").with_options(max_retries=2)
    again.chat.completions.create(model="test/flaky", messages=[{"role": "user", "content": str(time.time())}])
    only("retries", status="success")


def test_a_stream_that_breaks_and_one_that_is_left() -> None:
    completions = client("cut").chat.completions
    try:
        list(completions.create(model="test/cut", messages=MESSAGES, stream=True))
    except Exception as error:
        only("cut", status="error", error_type=type(error).__name__)
    with completions.create(model="test/endless", messages=MESSAGES, stream=True) as stream:
        next(iter(stream))
    stream = completions.create(model="test/endless", messages=MESSAGES, stream=True)
    next(iter(stream))
    del stream
    # That package's streams hold themselves: one that is dropped is over when Python collects it.
    gc.collect()
    assert [entry["error_type"] for entry in entries("cut")][1:] == ["Cancelled"] * 2


def test_nothing_is_sent_for_nobody() -> None:
    log = audit_logger.AuditLogger(str(DIRECTORY / "nobody"))
    try:
        audit(openai.OpenAI(**COMMON), log).chat.completions.create(model="m", messages=MESSAGES)
    except audit_logger.ArgumentError as error:
        assert "calling_for" in str(error)
    else:
        raise AssertionError("sent")
    assert entries("nobody") == []


def test_nothing_is_sent_that_the_log_cannot_take() -> None:
    closed = audit_logger.AuditLogger(str(DIRECTORY / "closed"))
    made = audit(openai.OpenAI(**COMMON), closed, "user-1")
    closed.close(5)
    try:
        made.chat.completions.create(model="m", messages=MESSAGES)
    except audit_logger.HandleError:
        return
    raise AssertionError("sent")


def test_the_client_stays_what_it_was() -> None:
    made = client("same")
    assert isinstance(made, openai.OpenAI) and type(made).__name__ == "OpenAI"
    assert isinstance(made.copy(), type(made))


def test_an_asynchronous_client() -> None:
    async def main() -> None:
        log = audit_logger.AuditLogger(str(DIRECTORY / "async"))
        made = audit(openai.AsyncOpenAI(**COMMON), log, "user-1")
        create: Any = made.chat.completions.create
        assert (await create(model="m", messages=MESSAGES)).choices
        async for _ in await create(model="m", messages=MESSAGES, stream=True):
            pass
        raw = await made.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
        assert raw.parse().choices
        assert {entry["response_hash"] for entry in entries("async")} == {said("async")}
        try:
            await asyncio.wait_for(create(model="test/hang", messages=MESSAGES), 0.3)
        except asyncio.TimeoutError:
            pass
        async with await create(model="test/endless", messages=MESSAGES, stream=True) as stream:
            async for _ in stream:
                break
        kinds = [entry["error_type"] for entry in entries("async")]
        assert kinds == [None, None, None, "Cancelled", "Cancelled"], kinds
        await made.close()

    asyncio.run(main())


def test_langchain() -> None:
    if not is_there("langchain_openai"):
        return
    from langchain_openai import ChatOpenAI

    log = audit_logger.AuditLogger(str(DIRECTORY / "langchain"))
    model = ChatOpenAI(model="m", **COMMON)
    audit(model.root_client, log, "user-1")
    audit(model.root_async_client, log, "user-1")
    with calling_for("user-3"):
        assert model.invoke("one two").content == "You said: one two"
        assert "".join(str(piece.content) for piece in model.stream("one two")) == "You said: one two"
        assert asyncio.run(model.ainvoke("one two")).content == "You said: one two"
        # A chain hands the context on to its threads.
        assert len(model.batch(["one two", "one two"])) == 2
    logged = entries("langchain")
    assert [entry["user_id"] for entry in logged] == ["user-3"] * 5, logged
    assert {entry["response_hash"] for entry in logged} == {said("langchain")}


APP = """
import os
import audit_logger

client = audit_logger.Client(output_path=os.environ["LOG"], base_url=os.environ["SERVER"], api_key="sk-test")
client.chat("before the fork", "master")

def app(environ, start_response):
    start_response("200 OK", [])
    return [client.chat("p", str(os.getpid())).encode()]
"""


def test_gunicorn_forks_with_a_client_that_was_used() -> None:
    if not is_there("gunicorn"):
        return
    (DIRECTORY / "app.py").write_text(APP)
    bound = f"unix:{DIRECTORY}/socket"
    environment = {**os.environ, "LOG": str(DIRECTORY / "gunicorn"), "SERVER": SERVER}
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "-b", bound, "app:app"]
    server = subprocess.Popen(command, cwd=DIRECTORY, env=environment, stderr=subprocess.DEVNULL)
    try:
        class Local(http.client.HTTPConnection):
            def connect(self) -> None:
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.connect(f"{DIRECTORY}/socket")

        until = time.monotonic() + 30
        answers = 0
        while answers < 8:
            connection = Local("localhost", timeout=30)
            try:
                connection.request("GET", "/")
                assert connection.getresponse().read() == b"You said: p"
                answers += 1
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < until
                time.sleep(0.1)
            finally:
                connection.close()
    finally:
        server.terminate()
        assert server.wait(30) == 0
    logged = entries("gunicorn")
    assert len(logged) == 9 and {entry["status"] for entry in logged} == {"success"}, logged


def main() -> None:
    failed = False
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            try:
                test()
            except BaseException:
                traceback.print_exc()
                print(f"{name} failed", file=sys.stderr)
                failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
