#!/bin/sh
# Before rsyslogd starts (ExecStartPre=): has a day of which only the beginning was read be read again.
# imfile (8.2302 to 8.2608 at least) notes where it is as soon as it has read 512 bytes of a file, before it has sent
# them. Where the target is away, or rsyslogd is killed in that moment, the next start would go on behind a line that
# nobody has (findings/rsyslog-imfile-skips-what-it-never-sent.sh shows it). What was sent comes twice.
#
#     rsyslog-start.sh [WORKDIRECTORY]
set -eu
export LC_ALL=C
for state in "${1:-/var/lib/rsyslog}"/imfile-state:*; do
    [ -f "$state" ] || continue
    file=$(sed -n 's/.*"filename": "\([^"]*\)".*/\1/p' "$state" | sed 's|\\/|/|g')
    read=$(sed -n 's/.*"curr_offs": \([0-9]*\).*/\1/p' "$state")
    case $file in */audit_*.jsonl) ;; *) continue ;; esac
    [ -f "$file" ] || continue
    first=$(awk '{ end += length($0) + 1 } end >= 512 { print end; exit }' "$file")
    [ "$read" != "$first" ] || rm "$state"
done
