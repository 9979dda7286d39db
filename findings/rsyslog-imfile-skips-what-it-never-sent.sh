#!/usr/bin/env bash
# rsyslog 8.2302.0: imfile begins a file by noting as read what it hasn't sent, and skips it after a crash.
#
# With persistStateAfterSubmission="on" and queues of the kind Direct, imfile is documented to write its
# state after lines were submitted: while the target is away the file is the queue, and a restart goes on
# where it was. Every line but those at the beginning of a file: a state file's name holds a hash of
# the file's first 512 bytes, and to get that name right the state is written in between as soon as so
# many were read, before the line that reached them was submitted, or any before it in the batch. Killed
# then, because the target is away or by chance, rsyslog goes on behind them. A shorter file keeps all.
# 8.2608 has the same lines of code. SIGTERM while the target is away is no better: now and then all of the
# batch that waits is noted as submitted (not shown here, for it depends on the moment).
#
# What to do: before each start remove a state that stands at the end of the line with byte 512, and stop
# such an rsyslogd by SIGKILL.
#
# Seen (lines written while the target was away / those that arrived, after SIGKILL and a start):
#   4 lines of 100 bytes       0 to 3     0 to 3
#   10 lines of 100 bytes      0 to 9     6 to 9
#   3 lines of 700 bytes       0 to 2     1 to 2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -qq rsyslog=8.2302.0-1+deb12u2 libestr0=0.1.11-1 libfastjson4=1.2304.0-1 2>apt.log
for package in ./*.deb; do dpkg -x "$package" unpacked; done
libraries=$(dirname "$(ls "$work"/unpacked/usr/lib/*/libestr.so.0)")
export LD_LIBRARY_PATH=$libraries RSYSLOG_MODDIR=$libraries/rsyslog PATH=$work/unpacked/usr/sbin:$PATH
rsyslogd -v | head -n 1
cat >show.py <<'PYTHON'
import pathlib
import socket
import subprocess
import tempfile
import threading
import time

CONFIG = """
global(workDirectory="%(place)s")
module(load="imfile" mode="inotify")
input(type="imfile" file="%(place)s/*.log" tag="t" ruleset="r" persistStateAfterSubmission="on")
template(name="line" type="string" string="%%msg%%")
ruleset(name="r" queue.type="Direct") {
    action(type="omfwd" target="127.0.0.1" port="%(port)d" protocol="tcp" template="line"
        queue.type="Direct" action.resumeRetryCount="-1" action.resumeInterval="1")
}
"""


QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def arrive(count, size):
    """Which of so many lines come, if the target begins to listen after a crash."""
    with tempfile.TemporaryDirectory() as place, socket.socket() as target:
        target.bind(("127.0.0.1", 0))
        config = pathlib.Path(place, "config")
        config.write_text(CONFIG % {"place": place, "port": target.getsockname()[1]})
        command = ["rsyslogd", "-n", "-f", config, "-i", config.with_name("pid")]
        came = []
        lines = [f"{number:04} ".ljust(size - 1, "x") for number in range(count)]
        with subprocess.Popen(command, **QUIET) as running:
            time.sleep(2)
            pathlib.Path(place, "a.log").write_text("".join(line + "\n" for line in lines))
            time.sleep(3)
            running.kill()
        target.listen()
        target.settimeout(60)
        with subprocess.Popen(command, **QUIET) as running:
            try:
                connection, _ = target.accept()
                reading = threading.Thread(target=lambda: came.extend(connection.makefile()), daemon=True)
                reading.start()
                time.sleep(5)
            finally:
                running.kill()
        reading.join(10)
        connection.close()
        return [int(line[:4]) for line in came]


for count, size, expected in [(4, 100, range(4)), (10, 100, range(6, 10)), (3, 700, range(1, 3))]:
    got = arrive(count, size)
    print(f"{count} lines of {size} bytes:", got)
    assert got == list(expected), got
print("as described")
PYTHON
python3 show.py
