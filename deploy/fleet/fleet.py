#!/usr/bin/env python3
"""A fleet, started for real: run.sh says how, docs/fleet.md what it shows.

    fleet.py BUILT TOOL SECONDS

Hosts write, each to a log of its own, and some are killed and started again, as the collector is. Lines go by
the collector to Kafka and from there into ClickHouse (chdb); checkpoints go to a witness; copies of the trees are
gathered. Then all must be there. Then one line is dropped, one altered and one doubled in the database, one
host is put back to an older state, and each must be named, by the tool and by the view.
"""

import base64
import collections
import contextlib
import hashlib
import json
import pathlib
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

from chdb.session import Session
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic

HERE = pathlib.Path(__file__).parent
HOSTS = [f"web-{number:03}" for number in range(100)]
DROPPED, ALTERED, DOUBLED, PUT_BACK = "web-007", "web-023", "web-042", "web-099"
# How long what was written may take to come to rest in the database.
LATEST = 300
NULL = subprocess.DEVNULL


def until(what, is_so, seconds=60):
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            sys.exit(f"not in {seconds} s: {what}")
        time.sleep(0.2)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def listens(port):
    with contextlib.closing(socket.socket()) as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


class Fleet:
    def __init__(self, built, tool, scratch, stack):
        self.built, self.tool, self.scratch, self.stack = built, tool, scratch, stack
        self.processes, self.vkeys, self.counts = {}, {}, collections.Counter()
        self.said = open(scratch / "said", "ab")
        (scratch / "hosts").mkdir()

    def start(self, command, **more):
        """Starts a program that ends with the run."""
        process = subprocess.Popen(command, **{"stdin": NULL, "stdout": self.said, "stderr": self.said, **more})
        self.stack.callback(lambda: (process.poll() is None and process.kill(), process.wait()))
        return process

    def run(self, *command, **more):
        return subprocess.run([self.tool, *command], capture_output=True, text=True, **more)

    def directory(self, name):
        return self.scratch / "hosts" / name

    # What stands behind the hosts.

    def start_witness(self):
        key, agent = self.scratch / "witness.key", self.scratch / "agent"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.start(["ssh-agent", "-D", "-a", agent])
        until("ssh-agent", agent.exists)
        subprocess.run(["ssh-add", "-q", key], check=True, env={"SSH_AUTH_SOCK": str(agent), "PATH": "/usr/bin:/bin"})
        fingerprint = subprocess.run(["ssh-keygen", "-lf", key], check=True, capture_output=True, text=True).stdout.split()[1]
        database, said, port = self.scratch / "witness.db", self.scratch / "witness.said", free_port()
        options = ["-name", "witness.example/w", "-key", fingerprint, "-ssh-agent", agent, "-db", database]
        with open(said, "wb") as to:
            self.start([self.built / "litewitness", *options, "-listen", f"127.0.0.1:{port}"], stderr=to)
        until("the witness", lambda: listens(port) and "vkey=" in said.read_text())
        vkey = said.read_text().split("vkey=")[1].split()[0].strip('"')
        self.policy = self.scratch / "policy"
        self.policy.write_text(f"witness w {vkey} http://127.0.0.1:{port}\nquorum w\n")
        # It's told of every log: a name, a key, and that nothing was seen yet.
        empty = base64.b64encode(hashlib.sha256(b"").digest()).decode()
        with contextlib.closing(sqlite3.connect(database, timeout=60)) as logs:
            for name in HOSTS:
                self.directory(name).mkdir()
                origin = f"fleet.example/{name}"
                made = self.run("keygen", "--origin", origin, "-o", self.directory(name) / "key", check=True)
                self.vkeys[name] = made.stdout.strip()
                logs.execute("INSERT INTO log VALUES (?, 0, ?)", (origin, empty))
                logs.execute("INSERT INTO key VALUES (?, ?)", (origin, self.vkeys[name]))
            logs.commit()

    def start_kafka(self):
        self.broker = f"127.0.0.1:{free_port()}"
        controller = f"127.0.0.1:{free_port()}"
        properties = self.scratch / "kafka.properties"
        properties.write_text(
            "process.roles=broker,controller\nnode.id=1\n"
            f"controller.quorum.voters=1@{controller}\nlisteners=PLAINTEXT://{self.broker},CONTROLLER://{controller}\n"
            f"advertised.listeners=PLAINTEXT://{self.broker}\ncontroller.listener.names=CONTROLLER\n"
            f"log.dirs={self.scratch}/kafka\nmessage.max.bytes=4194304\noffsets.topic.replication.factor=1\n"
        )
        java = ["java", "-Xmx512m", "-cp", f"{self.built}/kafka/*"]
        formatting = ["format", "-t", base64.urlsafe_b64encode(random.randbytes(16)).decode()[:22], "-c", properties]
        subprocess.run([*java, "kafka.tools.StorageTool", *formatting], check=True, stdout=self.said, stderr=self.said)
        self.start([*java, "kafka.Kafka", properties])
        until("Kafka", lambda: listens(int(self.broker.split(":")[1])), 180)
        admin = AdminClient({"bootstrap.servers": self.broker})
        admin.create_topics([NewTopic("audit", 4, 1)])["audit"].result(60)
        self.consumer = Consumer({
            "bootstrap.servers": self.broker, "group.id": "warehouse", "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "fetch.message.max.bytes": 4194304,
        })
        self.consumer.subscribe(["audit"])
        self.stack.callback(self.consumer.close)

    def start_database(self):
        self.database = Session(str(self.scratch / "database"))
        self.stack.callback(self.database.close)
        for statement in (HERE / "../clickhouse/far_end.sql").read_text().split(";\n"):
            self.database.query(statement)

    def start_collector(self):
        config = self.scratch / "otelcol.yaml"
        if not config.exists():
            text = (HERE / "otelcol.yaml").read_text()
            for what, by in [("HOSTS", self.scratch / "hosts"), ("STATE", self.scratch / "otelcol"), ("BROKER", self.broker)]:
                text = text.replace(what, str(by))
            config.write_text(text)
        gate = "--feature-gates=stanza.synchronousLogEmitter"
        self.collector = self.start([self.built / "otelcol", gate, f"--config=file:{config}"])

    # The hosts.

    def start_host(self, name):
        integrity = {
            "key_file": str(self.directory(name) / "key"), "origin": f"fleet.example/{name}",
            "witness_policy": str(self.policy), "witness_interval_s": 20, "seal_interval_ms": 5000,
        }
        config = {"output_path": str(self.directory(name) / "log"), "integrity": integrity}
        command = [self.built / "host", name, json.dumps(config)]
        self.processes[name] = self.start(command, stdin=subprocess.PIPE)

    def end_hosts(self, names):
        for name in names:
            self.processes[name].stdin.close()
        for name in names:
            if self.processes[name].wait(180) != 0:
                sys.exit(f"{name} failed: {(self.scratch / 'said').read_text()[-2000:]}")

    def lines(self):
        """What the hosts have written."""
        for path in sorted(self.scratch.glob("hosts/*/log/audit_*.jsonl")):
            yield from (line for line in path.read_bytes().splitlines() if line.strip(b" "))

    # The far end.

    def query(self, text, form="JSONEachRow"):
        said = str(self.database.query(text, form)).splitlines()
        return [json.loads(line) for line in said if line]

    def insert(self, lines):
        batch = self.scratch / "batch"
        batch.write_bytes(b"".join(line + b"\n" for line in lines))
        self.database.query(f"INSERT INTO audit_lines SELECT * FROM file('{batch}', LineAsString, 'line String')")

    def consume(self, seconds=1.0):
        came = self.consumer.consume(5000, seconds)
        if came:
            self.insert(json.loads(message.value()).encode() for message in came)
            self.consumer.commit(asynchronous=False)
        return len(came)

    def keep_checkpoints(self):
        """As far as the far end knows each host's log, in a place that the host can't write."""
        (self.scratch / "kept").mkdir(exist_ok=True)
        for name in HOSTS:
            with contextlib.suppress(FileNotFoundError):
                (self.scratch / "kept" / name).write_bytes((self.directory(name) / "log/.integrity/checkpoint").read_bytes())

    def gather(self):
        """Copies the trees, and writes the list of hosts."""
        gathered = self.scratch / "gathered"
        shutil.rmtree(gathered, ignore_errors=True)
        for name in HOSTS:
            shutil.copytree(self.directory(name) / "log/.integrity", gathered / name / ".integrity")
        hosts = [{
            "name": name, "tree": f"gathered/{name}", "vkey": self.vkeys[name], "policy": "policy",
            "checkpoints": [f"kept/{name}"], "silent_after_s": 1800,
        } for name in HOSTS]
        self.list = self.scratch / "fleet.json"
        self.list.write_text(json.dumps({"hosts": hosts}))

    def verified(self):
        """What the tool says of the lines in the database, and what the view does."""
        lines = self.scratch / "lines"
        lines.write_bytes(self.database.query("SELECT line FROM audit_lines", "TSVRaw").bytes())
        began = time.monotonic()
        said = self.run("verify", "--lines", lines, "--fleet", self.list, "--json")
        took = time.monotonic() - began
        digests = self.scratch / "digests"
        digests.write_text(self.run("digests", "--fleet", self.list).stdout)
        columns = "host String, file String, number UInt64, hex String, said String"
        self.database.query(
            "INSERT INTO audit_sealed (host, file, number, hex, said) "
            f"SELECT * FROM file('{digests}', TSV, '{columns}')"
        )
        view = self.query(
            "SELECT host, sum(missing) AS missing, sum(altered) AS altered, sum(overdue) AS overdue, sum(unknown) AS unknown, sum(doubled) AS doubled, "
            "sum(findings) AS findings FROM audit_found_by_day GROUP BY host "
            "SETTINGS output_format_json_quote_64bit_integers = 0"
        )
        return json.loads(said.stdout), said.returncode, {row.pop("host"): row for row in view}, took


def by_host(report):
    """What the tool's report says of each host, in the view's form."""
    found = collections.defaultdict(collections.Counter)
    for day in report["days"]:
        found[day["host"]].update({what: day[what] for what in ["missing", "altered", "overdue", "unknown", "doubled"]})
    for log in report["logs"]:
        found[log["host"]]["findings"] += len(log.get("findings", ["no answer"]))
    return found


def write(fleet, seconds):
    """Hosts write and are killed, the collector too, one is copied; meanwhile all is gathered."""
    for name in HOSTS:
        fleet.start_host(name)
    end, kept, copied = time.monotonic() + seconds, 0, False
    while time.monotonic() < end:
        fleet.counts["consumed"] += fleet.consume()
        if time.monotonic() - kept > 15:
            fleet.keep_checkpoints()
            kept = time.monotonic()
        name = random.choice([name for name in HOSTS if name != PUT_BACK])
        fleet.processes[name].kill()
        fleet.processes[name].wait()
        fleet.start_host(name)
        fleet.counts["hosts killed"] += 1
        if random.random() < 0.04:
            fleet.collector.kill()
            fleet.collector.wait()
            fleet.start_collector()
            fleet.counts["collector killed"] += 1
        if not copied and time.monotonic() > end - seconds / 2:
            fleet.end_hosts([PUT_BACK])
            shutil.copytree(fleet.directory(PUT_BACK), fleet.scratch / "older")
            fleet.start_host(PUT_BACK)
            copied = True
    fleet.end_hosts(HOSTS)
    fleet.keep_checkpoints()


def come_to_rest(fleet):
    written = len(set(fleet.lines()))

    def is_there():
        while came := fleet.consume():
            fleet.counts["consumed"] += came
        return fleet.query("SELECT toUInt32(uniqExact(digest)) AS n FROM audit_lines")[0]["n"] >= written

    until(f"all {written} lines in the database", is_there, LATEST)
    return written


def damage(fleet):
    def one_of(name):
        return fleet.query(
            f"SELECT line, hex(digest) AS hex FROM audit_lines WHERE JSONExtractString(line, 'details', 'host') = '{name}' ORDER BY digest LIMIT 1"
        )[0]

    for name in [DROPPED, ALTERED]:
        line = one_of(name)
        fleet.database.query(f"ALTER TABLE audit_lines DELETE WHERE digest = unhex('{line['hex']}') SETTINGS mutations_sync = 1")
        if name == ALTERED:
            fleet.insert([line["line"].replace("user-1", "user-2").encode()])
    fleet.insert([one_of(DOUBLED)["line"].encode()])
    # The older copy in the host's place, and it goes on from there.
    shutil.rmtree(fleet.directory(PUT_BACK))
    shutil.copytree(fleet.scratch / "older", fleet.directory(PUT_BACK))
    fleet.start_host(PUT_BACK)
    time.sleep(15)
    fleet.end_hosts([PUT_BACK])


def check(is_so, what):
    print(("ok      " if is_so else "FAILED  ") + what, flush=True)
    return not is_so


def main(built, tool, seconds):
    began = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, contextlib.ExitStack() as stack:
        fleet = Fleet(pathlib.Path(built), tool, pathlib.Path(scratch), stack)
        fleet.start_witness()
        fleet.start_kafka()
        fleet.start_database()
        fleet.start_collector()
        write(fleet, seconds)
        written = come_to_rest(fleet)
        fleet.gather()
        report, code, view, took = fleet.verified()
        print(f"{len(HOSTS)} hosts, {written} lines, {dict(fleet.counts)}, {report['doubled']} came twice; verify took {took:.1f} s", flush=True)
        strange = {name: row for name, row in view.items() if any(row[what] for what in row if what != "doubled")}
        witnessed = sum(log["grade"].startswith("witnessed") for log in report["logs"])
        failed = check(code == 0 and report["complete"], "every line of every host arrived, by the tool")
        failed |= check(not strange, f"and by the view {strange or ''}")
        failed |= check(witnessed == len(HOSTS), f"{witnessed} logs are witnessed")
        before = by_host(report)
        if failed:
            print(json.dumps(report)[:3000], (fleet.scratch / "said").read_text()[-2000:])

        damage(fleet)
        fleet.gather()
        report, code, view, _ = fleet.verified()
        for who, found in [("the tool", by_host(report)), ("the view", view)]:
            nothing = collections.Counter()
            failed |= check(found.get(DROPPED, nothing)["missing"] == 1, f"{DROPPED}: a line is missing, by {who}")
            failed |= check(found.get(ALTERED, nothing)["altered"] == 1, f"{ALTERED}: a line was altered, by {who}")
            more = found.get(DOUBLED, nothing)["doubled"] - before[DOUBLED]["doubled"]
            failed |= check(more == 1, f"{DOUBLED}: a line came once more, by {who}")
            failed |= check(found.get(PUT_BACK, nothing)["findings"] >= 1, f"{PUT_BACK}: was put back, by {who}")
            others = [
                name for name, row in found.items() if name not in [DROPPED, ALTERED, PUT_BACK]
                and any(row[what] for what in ["missing", "altered", "unknown", "findings"])
            ]
            failed |= check(not others, f"nothing else is named, by {who} {others or ''}")
        classes = {finding["class"] for log in report["logs"] if log["host"] == PUT_BACK for finding in log["findings"]}
        failed |= check(code == 1 and "rolled_back" in classes, f"the tool's exit code is 1, and {PUT_BACK} is {classes}")
        print(f"took {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
