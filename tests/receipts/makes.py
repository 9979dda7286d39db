"""scitt-cose makes a receipt of its own, of a log's tree and by its key: makes.py LOG LINE RECEIPT"""

import base64
import hashlib
import json
import pathlib
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from scitt_cose import build_receipt

log, line = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_bytes()
# PRIVATE+KEY+name+id+base64 of the type and the seed, in which there may be a plus too.
name, key_id, key = (log / ".state/key").read_text().strip()[len("PRIVATE+KEY+") :].split("+", 2)
pem = Ed25519PrivateKey.from_private_bytes(base64.b64decode(key)[1:]).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
tile, entries = (log / ".integrity/tile/entries/000").read_bytes(), []
while tile:
    length = int.from_bytes(tile[:2], "big")
    entries.append(tile[2 : 2 + length].hex())
    tile = tile[2 + length :]
entry = hashlib.sha256(line.rstrip(b"\n")).hexdigest()
receipt = build_receipt(
    leaf_entry_hex=entry,
    leaf_index=entries.index(entry),
    tree_entries_hex=entries,
    alg="EdDSA",
    log_private_key_pem=pem,
    iss=name,
    sub=json.loads(line)["id"],
    kid=bytes.fromhex(key_id),
    iat=1_700_000_000,
)
pathlib.Path(sys.argv[3]).write_bytes(receipt)
