"""rfc3161-client accepts a kept time stamp: accepts.py FILE ROOT.pem OTHER_ROOT.pem"""

import base64
import sys

from cryptography.x509 import load_pem_x509_certificate
from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

note, _, token = open(sys.argv[1], "rb").read().partition(b"\n-----BEGIN CMS-----\n")
token = base64.b64decode(token.removesuffix(b"-----END CMS-----\n"))


def sequence(content):
    length = len(content).to_bytes(2, "big")
    return b"\x30\x82" + length + content


# A token alone is no response: that begins with a status, here "granted".
response = decode_timestamp_response(sequence(b"\x30\x03\x02\x01\x00" + token))
root, other = (load_pem_x509_certificate(open(path, "rb").read()) for path in sys.argv[2:4])


def accepts(root, message):
    verifier = VerifierBuilder(roots=[root]).build()
    try:
        return verifier.verify_message(response, message)
    except VerificationError:
        return False


assert accepts(root, note)
assert not accepts(other, note)
assert not accepts(root, note + b"\n")
print(response.tst_info.gen_time.strftime("%Y-%m-%dT%H:%M:%SZ"))
