"""aics-tlog from PyPI on our checkpoints, proofs and tiles."""
import aics_tlog
from aics_tlog.checkpoint import checkpoint_from_note
from common import answer, b64


def opened(note, vkey):
    key = aics_tlog.parse_vkey(vkey)
    result = aics_tlog.verify_checkpoint(aics_tlog.parse_note(note), key, expected_origin=key.name)
    if not result.ok:
        raise ValueError(result.error)
    return checkpoint_from_note(note)[0]


def inclusion(case):
    tree = opened(case["note"], case["vkey"])
    path = [b64(hash) for hash in case["path"]]
    return aics_tlog.verify_leaf_inclusion(b64(case["leaf"]), case["index"], tree.size, path, tree.root)


def consistency(case):
    old, new = opened(case["old_note"], case["vkey"]), opened(case["note"], case["vkey"])
    path = [b64(hash) for hash in case["path"]]
    return aics_tlog.verify_consistency(old.size, new.size, old.root, new.root, path)


def tiles(case):
    with open(f"{case['folder']}/checkpoint", encoding="utf-8") as file:
        tree = opened(file.read(), case["vkey"])
    report = aics_tlog.audit_tiles(aics_tlog.FileSystemTileReader(case["folder"]), tree.size, tree.root)
    return report.bundles == -(-tree.size // 256)


answer({
    "checkpoint": lambda case: opened(case["note"], case["vkey"]),
    "inclusion": inclusion,
    "consistency": consistency,
    "tiles": tiles,
})
