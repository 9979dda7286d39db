"""1,000 streams of 5 s at once on one thread of asyncio, and Ctrl-C: bench.py SERVER DIRECTORY.

The server is `cargo run --release -p example-server`; both want `ulimit -n 8192`. Prints how long the streams
took together, how late a timer of the same loop ever was, the processor's time, and how long after SIGINT
the program's calls had ended with their entries."""

import asyncio
import os
import signal
import sys
import threading
import time
from typing import List

import audit_logger

STREAMS = 1000
#: A word every 100 ms; the server's echo has two of its own.
PROMPT = " ".join(["word"] * 48)


async def stream(client: audit_logger.AsyncClient, model: str) -> int:
    chunks = 0
    messages = [{"role": "user", "content": PROMPT}]
    create = client.chat.completions.create
    async for _ in await create(model=model, messages=messages, user_id="bench", stream=True):
        chunks += 1
    return chunks


async def late(worst: List[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.01)
        worst[0] = max(worst[0], time.perf_counter() - began - 0.01)


async def main() -> None:
    client = audit_logger.AsyncClient(output_path=sys.argv[2], base_url=sys.argv[1], api_key="sk-test")
    worst = [0.0]
    timer = asyncio.ensure_future(late(worst))
    began, used = time.perf_counter(), time.process_time()
    chunks = await asyncio.gather(*(stream(client, "m") for _ in range(STREAMS)))
    took, used = time.perf_counter() - began, time.process_time() - used
    timer.cancel()
    print(f"{STREAMS} streams, {sum(chunks)} chunks: {took:.2f} s, {used:.2f} s of the processor's,", end=" ")
    print(f"a timer at most {worst[0] * 1000:.0f} ms late, {threading.active_count()} thread of Python's")

    def interrupt() -> None:
        global interrupted
        interrupted = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(2, interrupt).start()
    await asyncio.gather(*(stream(client, "test/endless") for _ in range(100)))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print(f"Ctrl-C ended 100 streams in {(time.perf_counter() - interrupted) * 1000:.0f} ms")
