"""tlog-scales from PyPI: our checkpoints and proofs, and our tlog-proof made again from our tiles, byte for byte."""
from common import answer, b64
from tlog_scales import tiles, tlog
from tlog_scales.backend import make_backend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.utils import b64enc


def opened(note, key):
    checkpoint = tlog.Checkpoint.from_text(note)
    checkpoint.verify(Vkey.from_string(key))
    return checkpoint


def inclusion(case):
    tree = opened(case["note"], case["vkey"])
    path = [b64(hash) for hash in case["path"]]
    tlog.InclusionProof(case["index"], tree.size, path).check(tiles.leaf_hash(b64(case["leaf"])), tree.root_hash)
    return True


def consistency(case):
    old, new = opened(case["old_note"], case["vkey"]), opened(case["note"], case["vkey"])
    path = [b64(hash) for hash in case["path"]]
    tlog.ConsistencyProof(old.size, new.size, path).check(old.root_hash, new.root_hash)
    return True


def proof(case):
    reader = TilesReader(make_backend(case["folder"]))
    tree = reader.get_checkpoint()
    tree.verify(Vkey.from_string(case["vkey"]))
    made = reader.get_inclusion_proof(case["index"], tree.size)
    leaf = reader.get_entry(case["index"])
    made.check(tiles.leaf_hash(leaf), tree.root_hash)
    lines = ["c2sp.org/tlog-proof@v1", f"index {case['index']}", *map(b64enc, made.node_hashes), "", tree.serialize()]
    return "\n".join(lines) == case["proof"] and leaf == b64(case["leaf"])


answer({
    "checkpoint": lambda case: opened(case["note"], case["vkey"]),
    "inclusion": inclusion,
    "consistency": consistency,
    "proof": proof,
})
