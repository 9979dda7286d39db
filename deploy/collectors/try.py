#!/usr/bin/env python3
"""Runs a collector by its configuration here against a log that grows, and counts what arrives.

    python3 deploy/collectors/try.py rsyslog|syslog-ng|otelcol [SECONDS]

Days begin while lines are written, old ones are compressed as maintenance does it, lines have up to 1 MiB, and
the collector is ended, killed and started again. Every line must arrive, to the byte; some may come twice. Needs
the collector and Python's own library, and only talks to 127.0.0.1.
rsyslog is always killed, as its unit has it.
"""

import datetime
import gzip
import hashlib
import http.server
import json
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

HERE = pathlib.Path(__file__).parent
LOG = "/var/lib/myservice/audit_logs"
# How long what was written may take to arrive in the end.
LATEST = 180


def digest(line):
    return hashlib.sha256(line).digest()


class Lines:
    """Digests of what arrived, and how often it did."""

    def __init__(self):
        self.counts, self.lock = {}, threading.Lock()

    def add(self, line):
        with self.lock:
            self.counts[digest(line)] = self.counts.get(digest(line), 0) + 1


def take_tcp(lines):
    """Takes lines over TCP. Returns its port, and what lets it begin."""

    def read(connection):
        with connection, connection.makefile("rb") as stream:
            try:
                for line in stream:
                    # What a connection that ends has of a line counts as nothing.
                    if line.endswith(b"\n"):
                        lines.add(line)
            except OSError:
                pass

    def accept():
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=read, args=(connection,), daemon=True).start()

    def begin():
        listening.listen()
        threading.Thread(target=accept, daemon=True).start()

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    return listening.getsockname()[1], begin


def take_otlp(lines):
    """Takes OTLP logs as JSON over HTTP. Returns its port, and what lets it begin."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in body["resourceLogs"]:
                for scope in resource["scopeLogs"]:
                    for record in scope["logRecords"]:
                        lines.add(record["body"]["stringValue"].encode() + b"\n")
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):
            """The collector was killed amid a request."""

    def begin():
        server.server_activate()
        threading.Thread(target=server.serve_forever, daemon=True).start()

    server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.daemon_threads = True
    server.server_bind()
    return server.server_address[1], begin


def rsyslog(state):
    start = ["sh", "-c", 'sh "$0" "$1" && exec rsyslogd -n -f "$2" -i "$1/pid"', HERE / "rsyslog-start.sh", state]
    return "rsyslog.conf", take_tcp, lambda config: [*start, config]


def syslog_ng(state):
    files = {"persist-file": "persist", "pidfile": "pid", "control": "control"}
    files = [f"--{option}={state / name}" for option, name in files.items()]
    program = pathlib.Path(shutil.which("syslog-ng") or "syslog-ng")
    # Where it was only unpacked, its modules are beside it.
    modules = program.resolve().parent.parent / "lib/syslog-ng/3.38"
    files += [f"--module-path={modules}"] if modules.is_dir() else []
    return "syslog-ng.conf", take_tcp, lambda config: [program, "-F", f"--cfgfile={config}", *files]


def otelcol(_):
    return "otelcol.yaml", take_otlp, lambda config: ["otelcol", "--feature-gates=stanza.synchronousLogEmitter", f"--config=file:{config}"]


COLLECTORS = {"rsyslog": rsyslog, "syslog-ng": syslog_ng, "otelcol": otelcol}


class Collector:
    def __init__(self, name, scratch, log, lines):
        state = scratch / "state"
        state.mkdir()
        config, take, command = COLLECTORS[name](state)
        text = (HERE / config).read_text().replace(LOG, str(log))
        text = re.sub(r"/var/lib/(rsyslog|syslog-ng|otelcol)", str(state), text)
        port, self.target = take(lines)
        for target in ["collector.example", "6514", "4318"]:
            text = text.replace(target, "127.0.0.1" if target == "collector.example" else str(port))
        # Buffers are made as large as they may become: none of 10 GiB is needed here.
        text = text.replace("10737418240", "268435456").replace("https://", "http://")
        path = scratch / config
        path.write_text(text)
        self.command, self.said = command(path), scratch / "said"
        self.start()

    def start(self):
        with open(self.said, "ab") as said:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    def end(self, kill):
        if self.process.poll() is not None:
            sys.exit(f"the collector ended by itself: {self.said.read_text()[-2000:]}")
        self.process.kill() if kill else self.process.terminate()
        self.process.wait(60)


def write(log, date, written):
    path = log / f"audit_{date}.jsonl"
    with open(path, "ab", buffering=0) as file:
        for _ in range(random.randrange(1, 40)):
            # An entry has some 600 bytes at least.
            filling = "x" * random.choice([500, 900, 9000, 70_000, (1 << 20) - 100])
            line = json.dumps({"id": str(uuid.uuid4()), "filling": filling}).encode() + b"\n"
            assert file.write(line) == len(line)
            written[digest(line)] = f"{path.name}, {len(line)} bytes"


def compress(plain):
    compressed = plain.with_suffix(".jsonl.gz")
    compressed.write_bytes(gzip.compress(plain.read_bytes(), 1))
    plain.unlink()


def run(name, seconds, scratch):
    log, lines, written = scratch / "log", Lines(), {}
    log.mkdir()
    collector = Collector(name, scratch, log, lines)
    date, turn, end = datetime.date(2026, 11, 1), 0, time.monotonic() + seconds
    counts = {"days": 1, "compressed": 0, "ended": 0, "killed": 0}

    def end_somehow():
        kill = name == "rsyslog" or random.random() < 0.5
        collector.end(kill)
        counts["killed" if kill else "ended"] += 1

    def midnight():
        counts["days"] += 1
        return date + datetime.timedelta(days=1)

    try:
        # The target is away while the first day begins and the collector is started again.
        time.sleep(1)
        write(log, date, written)
        time.sleep(2)
        end_somehow()
        collector.start()
        collector.target()
        while time.monotonic() < end:
            write(log, date, written)
            turn += 1
            if turn % 5 == 0:
                date = midnight()
            # A day is compressed when it's long over and was read, as an operator sees to it.
            oldest = min(log.glob("*.jsonl"))
            over = datetime.date.fromisoformat(oldest.stem[6:]) < date - datetime.timedelta(days=2)
            if over and all(digest(line) in lines.counts for line in open(oldest, "rb")):
                compress(oldest)
                counts["compressed"] += 1
            if turn % 7 == 3:
                end_somehow()
                # What is written meanwhile, at midnight too, is there when it comes back.
                if random.random() < 0.5:
                    date = midnight()
                write(log, date, written)
                collector.start()
            time.sleep(random.random() / 2)
        latest = time.monotonic() + LATEST
        while written.keys() - lines.counts.keys() and time.monotonic() < latest:
            time.sleep(0.5)
        collector.end(False)
    finally:
        if collector.process.poll() is None:
            collector.process.kill()
            collector.process.wait()
    lost, foreign = written.keys() - lines.counts.keys(), lines.counts.keys() - written.keys()
    doubled = sum(1 for count in lines.counts.values() if count > 1)
    print(f"{name}: {len(written)} lines, {counts}: {len(lost)} lost, {doubled} came twice, {len(foreign)} others")
    for line in list(lost)[:3]:
        print("lost:", written[line])
    return 1 if lost or foreign else 0


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COLLECTORS:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(run(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 60, pathlib.Path(scratch)))
