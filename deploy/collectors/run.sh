#!/bin/sh
# Runs the collectors against a log that grows, each for some seconds (300 if nothing is said), and fails if one loses a
# line: see try.py. Gets rsyslog and syslog-ng as Debian packages and unpacks them below target, and builds the
# OpenTelemetry Collector from Go modules. Nothing is installed, and all talk to 127.0.0.1 alone.
set -eu
cd "$(dirname "$0")"
seconds=${1:-300}
here=$PWD
built=${CARGO_TARGET_DIR:-$here/../../target}/collectors
mkdir -p "$built/packages"
root=$(cd "$built" && pwd)/root

if [ ! -d "$root" ]; then
    (cd "$built/packages" && apt-get download rsyslog libestr0 libfastjson4 liblognorm5 \
        syslog-ng-core libivykis0 libnet1 libpcre3 libwrap0)
    for package in "$built"/packages/*.deb; do dpkg -x "$package" "$root.part"; done
    mv "$root.part" "$root"
fi
(cd otelcol && go build -o "$root/usr/bin/otelcol" .)

PATH=$root/usr/sbin:$root/usr/bin:$PATH
libraries=$(dirname "$(ls "$root"/usr/lib/*/libivykis.so.0)")
LD_LIBRARY_PATH=$libraries:$root/lib/$(basename "$libraries"):$root/usr/lib/syslog-ng
RSYSLOG_MODDIR=$libraries/rsyslog
export PATH LD_LIBRARY_PATH RSYSLOG_MODDIR
failed=0
for collector in rsyslog syslog-ng otelcol; do
    python3 try.py "$collector" "$seconds" || failed=1
done
exit $failed
