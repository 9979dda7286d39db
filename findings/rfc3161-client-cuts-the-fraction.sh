#!/usr/bin/env bash
# rfc3161-client 1.0.9: gen_time has whole seconds, whatever the time stamp says.
#
# RFC 3161 section 2.4.2 allows a fraction in genTime where that is needed, and authorities that state an
# accuracy in microseconds write one. tst_info.gen_time is a datetime, which has microseconds, but they are
# always 0: no error, and accuracy, ordering and the token's bytes are whole. So a document of 22:26:47.5
# is proved to have existed at 22:26:47.0, before it was made, while the accuracy beside it says 0.1 ms; and
# two tokens of one second are equal, although ordering is true, which promises that genTime alone tells
# which came first. asn1crypto reads the same tokens to the microsecond.
#
# What to do: rfc3161-client to verify, asn1crypto for the time.
#
# Seen, of two tokens with ordering TRUE and an accuracy of 100 microseconds:
#   in the token             20261127222647.547296Z             20261127222647.927844Z
#   rfc3161-client gen_time  2026-11-27 22:26:47+00:00          2026-11-27 22:26:47+00:00
#   asn1crypto gen_time      2026-11-27 22:26:47.547296+00:00   2026-11-27 22:26:47.927844+00:00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check rfc3161-client==1.0.9 asn1crypto==1.5.1
"$work/env/bin/python" - <<'PYTHON'
import base64
import importlib.metadata

import rfc3161_client
from asn1crypto import tsp

# Two answers of `openssl ts -reply` with clock_precision_digits=6, of a key made for this.
FIRST = """
MIIB4TADAgEAMIIB2AYJKoZIhvcNAQcCoIIByTCCAcUCAQMxDzANBglghkgBZQMEAgEFADBxBgsqhkiG9w0BCRABBKBiBGAwXgIB
AQYDKgMEMDEwDQYJYIZIAWUDBAIBBQAEICzyTbpfsKMOJug7KsW54p4bFh5cH6dCXnMEM2KTi5gkAgFIGBYyMDI2MTEyNzIyMjY0
Ny41NDcyOTZaMAOBAWQBAf8xggE6MIIBNgIBATAmMA4xDDAKBgNVBAMMA1RTQQIUFf7Bwx7PeuK+5e7QogD5x/SNNlwwDQYJYIZI
AWUDBAIBBQCggaQwGgYJKoZIhvcNAQkDMQ0GCyqGSIb3DQEJEAEEMBwGCSqGSIb3DQEJBTEPFw0yNjExMjcyMjI2NDdaMC8GCSqG
SIb3DQEJBDEiBCABvFhh8SiYDjI6mEQsz7RxBDRt6EJD9Bsk4x3iM7YszTA3BgsqhkiG9w0BCRACLzEoMCYwJDAiBCAKkNU1RhSB
D9lzDlOK23J460T1PpOgUqMZ5e5oiRIX3TAKBggqhkjOPQQDAgRHMEUCIQDFx4m3Ty4dmbXig+gCqFxETxO2u3Yb6T2U60Lklavn
fgIgJMdNaUwPzsAFA15eyvSO3k6zOMkgDOZwlz8KuMTLk7U=
"""
SECOND = """
MIIB4DADAgEAMIIB1wYJKoZIhvcNAQcCoIIByDCCAcQCAQMxDzANBglghkgBZQMEAgEFADBxBgsqhkiG9w0BCRABBKBiBGAwXgIB
AQYDKgMEMDEwDQYJYIZIAWUDBAIBBQAEICzyTbpfsKMOJug7KsW54p4bFh5cH6dCXnMEM2KTi5gkAgFPGBYyMDI2MTEyNzIyMjY0
Ny45Mjc4NDRaMAOBAWQBAf8xggE5MIIBNQIBATAmMA4xDDAKBgNVBAMMA1RTQQIUFf7Bwx7PeuK+5e7QogD5x/SNNlwwDQYJYIZI
AWUDBAIBBQCggaQwGgYJKoZIhvcNAQkDMQ0GCyqGSIb3DQEJEAEEMBwGCSqGSIb3DQEJBTEPFw0yNjExMjcyMjI2NDdaMC8GCSqG
SIb3DQEJBDEiBCDSdJk6MY8F6nIzx9WqwCWAYcyZ8nMW4YTKQEsCV3cTgzA3BgsqhkiG9w0BCRACLzEoMCYwJDAiBCAKkNU1RhSB
D9lzDlOK23J460T1PpOgUqMZ5e5oiRIX3TAKBggqhkjOPQQDAgRGMEQCIDrrlGwLzRQrbezyAR+5rRbSgMlLRIrYBmUUp7rLJvPA
AiBBUOpH0kjSA3PbowxLDqTs5qxhYqTtpRyvBpV9+XtYeg==
"""


def read(encoded):
    answer = base64.b64decode(encoded)
    client = rfc3161_client.decode_timestamp_response(answer)
    assert client.as_bytes() == answer
    signed = tsp.TimeStampResp.load(answer)["time_stamp_token"]["content"]
    other = signed["encap_content_info"]["content"].parsed
    return client.tst_info, other


print("rfc3161-client", importlib.metadata.version("rfc3161-client"))
for encoded, text in ((FIRST, b"20261127222647.547296Z"), (SECOND, b"20261127222647.927844Z")):
    info, other = read(encoded)
    print(other["gen_time"].contents.decode(), "|", info.gen_time, "|", other["gen_time"].native)
    assert other["gen_time"].contents == text
    assert info.ordering and info.accuracy.micros == 100 and not info.accuracy.millis
    assert info.gen_time.microsecond == 0
    assert info.gen_time == other["gen_time"].native.replace(microsecond=0)
assert read(FIRST)[0].gen_time == read(SECOND)[0].gen_time
assert read(FIRST)[1]["gen_time"].native < read(SECOND)[1]["gen_time"].native
print("as described")
PYTHON
