"""What the table can't say, of the installed package: test_client.py SERVER DIRECTORY."""

import asyncio
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List

import audit_logger

SERVER, DIRECTORY = sys.argv[1], Path(sys.argv[2])
MESSAGES = [{"role": "user", "content": "one two"}]
#: What an answer would take is 30 s; whoever is done before that didn't wait for it.
SOON = 15


def config(name: str) -> Dict[str, Any]:
    log = str(DIRECTORY / name)
    return {"output_path": log, "base_url": SERVER, "api_key": "sk-test", "max_retries": 0}


def entries(name: str) -> List[Dict[str, Any]]:
    lines: List[Dict[str, Any]] = []
    for path in sorted((DIRECTORY / name).glob("audit_*.jsonl")):
        lines += map(json.loads, path.read_text().splitlines())
    return lines


def kinds(name: str) -> List[Any]:
    return sorted(str(entry["error_type"]) for entry in entries(name))


def endless(client: audit_logger.Client, user: str = "u") -> audit_logger.Stream:
    return client.chat.completions.create(
        model="test/endless", messages=MESSAGES, user_id=user, stream=True
    )


def hang(client: audit_logger.Client) -> str:
    return client.chat("p", "u", "test/hang")


def child(part: str) -> "subprocess.CompletedProcess[str]":
    """A function of this file in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", __file__, SERVER, str(DIRECTORY), part],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
    )


def interrupt_soon(stats: Callable[[], Dict[str, Any]], calls: int) -> None:
    """As Ctrl-C does, a moment after so many calls are running."""

    def interrupt() -> None:
        while stats()["running"] < calls:
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()


def test_the_recipes_client_needs_another_import_alone() -> None:
    log = audit_logger.AuditLogger(**config("recipe"))
    client = audit_logger.AuditedOpenRouterClient("sk-other", log)
    assert client.chat("hello", user_id="user-1", metadata={"k": 1}, temperature=0.5) == "You said: hello"
    headers = json.loads(client.chat("hello", "user-1", model="test/headers"))
    assert headers["authorization"] == "Bearer sk-other"
    entry = log.create_entry(
        user_id="user-1", model="m", prompt="p", response="r", prompt_tokens=1, completion_tokens=2,
        latency_ms=3.5, status="error", error_type="Oops", metadata=None,
    )
    log.log(entry)
    assert kinds("recipe") == ["None", "None", "Oops"]


def test_errors_have_the_openai_packages_names_and_attributes() -> None:
    client = audit_logger.Client(**config("errors"))
    try:
        client.chat("p", "u", "test/429")
    except audit_logger.RateLimitError as error:
        assert isinstance(error, audit_logger.APIStatusError) and isinstance(error, audit_logger.APIError)
        assert error.status_code == 429 and error.code == "429" and error.body["code"] == 429
        assert error.reply.entry_id == entries("errors")[0]["id"]
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and again.reply == error.reply
    else:
        raise AssertionError("no error")


def test_an_answer_has_the_openai_packages_shape() -> None:
    client = audit_logger.Client(**config("shape"))
    answer = client.chat.completions.create(model="m", messages=MESSAGES, user_id="u")
    assert answer.choices[0].message.content == "You said: one two"
    assert answer.choices[0].message.tool_calls is None
    assert answer.usage is not None and answer.usage.total_tokens == 6
    assert answer.to_dict()["object"] == "chat.completion"
    assert not hasattr(answer, "nothing_of_that_name")


def test_usage_comes_in_a_stream_if_it_was_asked_for() -> None:
    client = audit_logger.Client(**config("usage"))
    create = client.chat.completions.create
    with create(messages=MESSAGES, user_id="u", stream=True) as stream:
        assert all(chunk.choices for chunk in stream)
    assert stream.audit is not None and stream.audit.prompt_tokens == 2
    with create(
        messages=MESSAGES, user_id="u", stream=True, stream_options={"include_usage": True}
    ) as stream:
        assert [chunk.usage.total_tokens for chunk in stream if chunk.usage] == [6]


def test_a_stream_that_is_dropped_is_cancelled() -> None:
    client = audit_logger.Client(**config("dropped"))
    stream = endless(client)
    next(stream)
    del stream
    gc.collect()
    assert kinds("dropped") == ["Cancelled"]


def test_another_thread_cancels_a_stream() -> None:
    client = audit_logger.Client(**config("cancel"))
    stream = endless(client)
    threading.Timer(0.3, stream.cancel).start()
    try:
        for _ in stream:
            pass
    except audit_logger.CancelledError as error:
        assert error.error_type == "Cancelled"
    else:
        raise AssertionError("it ended by itself")


def test_ctrl_c_ends_a_call_and_its_entry_is_there() -> None:
    client = audit_logger.Client(**config("interrupt"))
    for call in (hang, lambda client: list(endless(client))):
        began = time.monotonic()
        interrupt_soon(client.logger.stats, 1)
        try:
            call(client)
        except KeyboardInterrupt:
            assert time.monotonic() - began < SOON
        else:
            raise AssertionError("not interrupted")
    assert kinds("interrupt") == ["Cancelled"] * 2


def test_ctrl_c_ends_the_calls_of_an_event_loop() -> None:
    assert child("interrupted_loop").returncode == 0
    assert kinds("interrupted_loop") == ["Cancelled"] * 20


def interrupted_loop() -> None:
    async def main() -> None:
        client = audit_logger.AsyncClient(**config("interrupted_loop"))
        interrupt_soon(client.logger.stats, 20)
        await asyncio.gather(*(client.chat("p", "u", "test/hang") for _ in range(20)))

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        return
    raise AssertionError("not interrupted")


def test_a_task_that_is_cancelled_has_its_entry_when_it_is_over() -> None:
    async def main() -> None:
        client = audit_logger.AsyncClient(**config("task"))
        try:
            await asyncio.wait_for(client.chat("p", "u", "test/hang"), 0.2)
        except asyncio.TimeoutError:
            pass
        assert kinds("task") == ["Cancelled"]
        stream = await client.chat.completions.create(
            model="test/endless", messages=MESSAGES, user_id="u", stream=True
        )
        async with stream:
            async for _ in stream:
                break
        assert kinds("task") == ["Cancelled"] * 2

    asyncio.run(main())


def test_an_event_loop_goes_on_beside_calls_on_one_thread() -> None:
    async def main() -> None:
        client = audit_logger.AsyncClient(**config("loop"))
        before = threading.active_count()
        calls = [asyncio.ensure_future(client.chat("p", "u", "test/slow")) for _ in range(100)]
        ticks = 0
        while not all(call.done() for call in calls):
            await asyncio.sleep(0.05)
            ticks += 1
        assert ticks > 5 and threading.active_count() == before
        assert {call.result() for call in calls} == {"You said: p"}
        await client.close(5)

    asyncio.run(main())


def test_any_number_of_event_loops_use_one_client() -> None:
    client = audit_logger.AsyncClient(**config("loops"))
    descriptors = set()
    for _ in range(5):
        assert asyncio.run(client.chat("p", "u")) == "You said: p"
        gc.collect()
        descriptors.add(len(os.listdir("/proc/self/fd")))
    assert len(descriptors) <= 2, descriptors


def test_threads_share_one_client() -> None:
    client = audit_logger.Client(**config("threads"))
    said: List[str] = []
    threads = [
        threading.Thread(target=lambda n=n: said.append(client.chat(f"{n}\0\u2602", "u"))) for n in range(32)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == sorted(f"You said: {n}\0\u2602" for n in range(32))


def test_a_forked_child_uses_the_clients_and_the_parents_calls_go_on() -> None:
    assert child("forked").returncode == 0
    assert kinds("forked") == ["Cancelled", "None", "None", "None"]


def forked() -> None:
    client = audit_logger.Client(**config("forked"))
    asynchronous = audit_logger.AsyncClient(logger=client.logger)
    asyncio.run(asynchronous.chat("p", "u"))
    stream = endless(client)
    next(stream)
    process = os.fork()
    if process == 0:
        client.chat("p", "child")
        asyncio.run(asynchronous.chat("p", "child"))
        # The parent's calls are the parent's: nothing here waits for them, or ends them.
        try:
            next(stream)
        except audit_logger.AuditError as error:
            sys.exit(error.status != "AUDIT_E_FORKED")
        sys.exit(1)
    assert os.waitpid(process, 0)[1] == 0
    next(stream)
    stream.close()


def test_the_interpreter_ends_while_daemon_threads_stream() -> None:
    ended = child("daemons")
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    assert kinds("daemons") == ["Cancelled"] * 4


def daemons() -> None:
    client = audit_logger.Client(**config("daemons"))
    going = threading.Semaphore(0)

    def read() -> None:
        for _ in endless(client):
            going.release()

    for call in (read, read, read, lambda: (going.release(), hang(client))):
        threading.Thread(target=call, daemon=True).start()
        going.acquire()
    time.sleep(0.3)


def test_the_interpreter_ends_while_a_loop_streams() -> None:
    ended = child("left_loop")
    assert (ended.returncode, ended.stderr) == (3, ""), ended
    assert kinds("left_loop") == ["Cancelled"]


def left_loop() -> None:
    async def main() -> None:
        client = audit_logger.AsyncClient(**config("left_loop"))
        stream = await client.chat.completions.create(
            model="test/endless", messages=MESSAGES, user_id="u", stream=True
        )
        async for _ in stream:
            sys.exit(3)

    asyncio.run(main())


def main() -> None:
    # A shell's job in the background inherits that it's ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[3:]:
        globals()[sys.argv[3]]()
        return
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
