#!/usr/bin/env bash
# pandas 3.1.1: read_json(precise_float=True) refuses a file for a number that is too small.
#
# precise_float is documented as the function of higher precision for decoding. It refuses, with the
# whole input, every number below the smallest normal double (2.2250738585072014e-308), although
# doubles go on to 5e-324 and json.loads and the pyarrow engine read them: probabilities and
# likelihoods do get there. Without precise_float most of them are read, and the smallest become 0.
# Past the largest double it is the other way round: the default reads 1e309 as inf, precise_float
# refuses it.
#
# What to do: engine="pyarrow", or json.loads and a DataFrame.
#
# Seen:
#   number    default     precise_float   engine="pyarrow"
#   1e-307    1e-307      1e-307          1e-307
#   1e-308    1e-308      ValueError      1e-308
#   5e-324    0           ValueError      5e-324
#   1e309     inf         ValueError      ArrowInvalid
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check pandas==3.1.1 pyarrow==26.0.1
"$work/env/bin/python" - <<'PYTHON'
import io
import json

import pandas as pd


def read(number, **how):
    text = b'{"p": 0.5}\n{"p": %s}\n' % number.encode()
    try:
        return float(pd.read_json(io.BytesIO(text), lines=True, **how)["p"][1])
    except ValueError as error:
        return type(error).__name__


print("pandas", pd.__version__)
for number, expected in {
    "1e-307": (1e-307, 1e-307, 1e-307),
    "1e-308": (1e-308, "ValueError", 1e-308),
    "5e-324": (0.0, "ValueError", 5e-324),
    "1e309": (float("inf"), "ValueError", "ArrowInvalid"),
}.items():
    got = read(number), read(number, precise_float=True), read(number, engine="pyarrow")
    print(number, *got)
    assert got == expected, got
    assert json.loads(number) == float(number)
print("as described")
PYTHON
