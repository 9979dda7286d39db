"""What `audit-logger stats` and `report` take beside DuckDB for the same question, in CPU time, side by side.

    cargo build --release --features cli
    pip install duckdb==2.0.1
    python benches/reading.py [ENTRIES]

The log lies in a temporary directory: 1.1 GB for each million of entries (1,000,000 unless told). Its lines are those that the
library writes, of 5 models and 5,000 users, most of whom call seldom, 3 % of them errors. Each is run three times in turn, and the
median counts.
"""

import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import uuid

TOOL = pathlib.Path(__file__).parent.parent / "target/release/audit-logger"
DAY = 200_000
MODELS = ["openai/gpt-4-turbo", "openai/gpt-4o", "anthropic/claude", "google/gemini", "mistral/large"]
# Less than what stats tells: neither classes of errors nor unknown outcomes, no total, and ids that come twice count twice.
QUESTION = """
import duckdb, sys
columns = {"model": "VARCHAR", "status": "VARCHAR", "prompt_tokens": "BIGINT", "completion_tokens": "BIGINT", "latency_ms": "DOUBLE",
    "details": "STRUCT(cost DOUBLE)"}
duckdb.sql("set threads = 2")
log = duckdb.read_json(sys.argv[1] + "/*.jsonl", format="newline_delimited", columns=columns)
duckdb.sql('''
    select model, count(*), count(*) filter (status <> 'success'), sum(prompt_tokens), sum(completion_tokens), sum(details.cost),
        approx_quantile(latency_ms, 0.5), approx_quantile(latency_ms, 0.9), approx_quantile(latency_ms, 0.99)
    from log group by model order by model''').fetchall()
"""


def lines(random_, day, count):
    def hashed():
        return f"{random_.getrandbits(256):064x}"

    for number in range(count):
        second = number * 86_400 // count
        time = f"{day}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{random_.randrange(10**6):06}Z"
        user = f"user-{min(int(random_.paretovariate(0.5)), 5000)}"
        model = random_.choice(MODELS)
        prompt, answer = random_.randrange(5000), random_.randrange(800)
        head = (
            f'{{"id":"{uuid.UUID(int=random_.getrandbits(128), version=4)}","timestamp":"{time}","event_type":"chat_completion",'
            f'"user_id":"{user}","model":"{model}","prompt_hash":"{hashed()}","response_hash":"{hashed()}",'
        )
        latency = f'"latency_ms":{random_.lognormvariate(6.5, 1):.3f}'
        tail = f'"metadata":{{"feature":"search","ticket":{number}}},"details":{{"schema":2,"host":"host","pid":11780,"started_at":"{time}",'
        if random_.random() < 0.03:
            yield (
                f'{head}"prompt_tokens":null,"completion_tokens":null,{latency},"status":"error","error_type":"RateLimitError",{tail}'
                f'"attempts":[{{"http_status":429}},{{"http_status":429}}],"http_status":429,"usage_reported":false,"stream":false,'
                f'"prompt_form":"text","outcome":"failed","request_hash":"{hashed()}"}}}}\n'
            )
        else:
            yield (
                f'{head}"prompt_tokens":{prompt},"completion_tokens":{answer},{latency},"status":"success","error_type":null,{tail}'
                f'"attempts":[{{"http_status":200}}],"http_status":200,"generation_id":"gen-{number:010}","served_model":"{model}",'
                f'"provider":"Provider","finish_reason":"stop","cost":{(prompt * 3 + answer * 15) / 1e6!r},"cached_tokens":0,'
                f'"reasoning_tokens":0,"usage_reported":true,"stream":false,"prompt_form":"text","outcome":"answered",'
                f'"request_hash":"{hashed()}","response_body_hash":"{hashed()}","native_finish_reason":"stop","is_byok":false}}}}\n'
            )


def cpu(*command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main():
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    random_ = random.Random(1)
    with tempfile.TemporaryDirectory() as directory:
        log = pathlib.Path(directory) / "log"
        log.mkdir(mode=0o700)
        for number in range(0, entries, DAY):
            day = f"2026-{number // DAY // 28 + 1:02}-{number // DAY % 28 + 1:02}"
            with open(log / f"audit_{day}.jsonl", "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.writelines(lines(random_, day, min(DAY, entries - number)))
        page = log.parent / "report.html"
        commands = {
            "DuckDB, by model": [sys.executable, "-c", QUESTION, log],
            "stats --by model": [TOOL, "stats", log, "--by", "model"],
            "stats --by user": [TOOL, "stats", log, "--by", "user"],
            "report --no-verify": [TOOL, "report", log, "--no-verify", "-o", page],
        }
        taken = {name: [] for name in commands}
        for _ in range(3):
            for name, command in commands.items():
                page.unlink(missing_ok=True)
                taken[name].append(cpu(*command))
        size = page.stat().st_size
    base = statistics.median(taken["stats --by model"])
    for name, times in taken.items():
        median = statistics.median(times)
        print(f"{name:20} {median * 1e6 / entries:6.2f} us of CPU an entry, {median / base:5.2f} x stats")
    print(f"the report's page: {size:,} bytes")


if __name__ == "__main__":
    main()
