"""scitt-cose accepts a receipt, and none that was changed: accepts.py RECEIPT LINE VKEY ID

Prints which bits say nothing: the byte and the bit of each.
"""

import base64
import hashlib
import sys

import cbor2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from scitt_cose import verify_receipt

receipt, line = (open(path, "rb").read() for path in sys.argv[1:3])
name, key_id, key = open(sys.argv[3]).read().strip().split("+", 2)
key = Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:]).public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
entry = hashlib.sha256(line.rstrip(b"\n")).hexdigest()


def check(receipt, entry=entry):
    return verify_receipt(receipt, leaf_entry_hex=entry, log_public_key_pem=key)


good = check(receipt)
assert good.ok, good.errors
assert (good.issuer, good.subject) == (name, sys.argv[4]), (good.issuer, good.subject)

# Its CBOR is the deterministic one, so nothing can be said in two ways.
message = cbor2.loads(receipt)
protected = cbor2.loads(message.value[0])
assert dict(protected) == {
    1: -8,
    4: bytes.fromhex(key_id),
    15: {1: name, 2: sys.argv[4]},
    395: 1,
}, protected
assert cbor2.dumps(cbor2.CBORTag(18, list(message.value)), canonical=True) == receipt

assert not check(receipt, hashlib.sha256(line + b" ").hexdigest()).ok
# Size and index aren't signed: another size can have the same path, to the same root.
for at in range(len(receipt)):
    for bit in range(8):
        changed = bytearray(receipt)
        changed[at] ^= 1 << bit
        result = check(bytes(changed))
        if result.ok:
            assert result.root == good.root, (at, bit)
            assert (result.tree_size, result.leaf_index) != (good.tree_size, good.leaf_index), (at, bit)
            print(at, bit)
    assert not check(receipt[:at]).ok, at
