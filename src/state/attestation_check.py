"""Reads an attestation as others' libraries do: attestation_check.py ENVELOPE PUBLIC_KEY. Prints the commit and the files that it is about; ends
with 1 where the envelope is not signed by the key, or its payload is no statement of in-toto's."""

import json
import sys

import google.protobuf.json_format as json_format
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

with open(sys.argv[1], encoding="utf-8") as file:
    written = json.load(file)
keyid = written["signatures"][0]["keyid"]
envelope = Envelope.from_dict(written)
with open(sys.argv[2], "rb") as file:
    key = SSlibKey.from_crypto(load_pem_public_key(file.read()), keyid=keyid)
envelope.verify([key], 1)
if envelope.payload_type != "application/vnd.in-toto+json":
    sys.exit("another type of payload")
message = json_format.Parse(envelope.payload, statement_pb2.Statement())
statement = Statement.copy_from_pb(message)
# The library copies what it reads over what it makes.
statement.validate()
digests = {subject.name: dict(subject.digest) for subject in message.subject}
print(json.dumps({
    "commit": digests.pop("commit", {}).get("gitCommit"),
    "files": {name: digest["sha256"] for name, digest in digests.items()},
}))
