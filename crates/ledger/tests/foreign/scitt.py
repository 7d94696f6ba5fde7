"""scitt-cose from PyPI on our COSE Receipts (RFC 9942)."""
from common import answer, b64
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from scitt_cose import receipt


def cose(case):
    key = Ed25519PublicKey.from_public_bytes(b64(case["public"]))
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    leaf = b64(case["leaf"]).hex()
    result = receipt.verify_receipt(b64(case["receipt"]), leaf_entry_hex=leaf, log_public_key_pem=pem)
    if not result.ok:
        raise ValueError(f"{result.failed_at}: {result.errors}")
    return (result.tree_size, result.leaf_index) == (case["size"], case["index"])


answer({"cose": cose})
