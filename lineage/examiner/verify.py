"""Verify the record of a Plimsoll ledger without trusting its operator.

    python verify.py log FOLDER                  the whole log: every record, every link, the signed count and root
    python verify.py record PROOF.json           one record, by the proof that came with it
    python verify.py extends CHECKPOINT FOLDER   the log, and that it still continues a checkpoint that you kept

One file, the standard library and `cryptography`; it writes nothing. --vkey KEY is the log's key from a source that you
trust, --witness KEY requires that witness's cosignature, --json answers in JSON. Exit status: 0 yes, 1 no, 2 not read.

A log is a folder of segments `000000000001.jsonl`, named by the number of their first record, one record a line. A line
ends in `,"seq":N,"v":2}`, N from 1 up. Its last `"prev":"…"` is the hash of the line before: SHA-256 of a zero byte and
that line without its newline; 64 zeros in the first. Records without "v" are older, come first and name the plain
SHA-256 of the line before. The lines are the leaves of a Merkle tree (RFC 9162); `checkpoint` is a signed note of their
number and root (c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature). `handover-0001`, … are checkpoints with two
more lines, signed by a former key of the log and by the one after it. Only bytes are checked: records changed,
moved, removed or added are found; whether a record was legal is not checked.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import hashlib
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from operator import add, itemgetter
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LOG, WITNESS = 1, 4  # kinds of key
PREV = b'"prev":"'
LEAF, NODE = hashlib.sha256(b"\x00").copy, hashlib.sha256(b"\x01").copy  # RFC 9162 2.1.1: no leaf passes for a node
Key = tuple[int, str, bytes, bytes]  # kind, name, id, Ed25519 public key
Checkpoint = dict[str, Any]  # origin, size, root in base64; with a witness key also its name and the time
Peaks = list[list[bytes]]  # a Merkle tree so far: at [h] the root of a complete subtree of 2**h leaves, or nothing


class Finding(ValueError):
    """A fault: the number of the first bad record (0 if it is not about a record), and a message."""


def unbase64(text: str) -> bytes:
    """The decoded bytes; empty if the text is not their canonical base64, so that any changed letter is found."""
    with contextlib.suppress(ValueError):
        if base64.b64encode(data := base64.b64decode(text, validate=True)).decode() == text:
            return data
    return b""


def parse_key(vkey: str, kind: int) -> Key:
    """Parse a key `name+id+base64(kind || key)`; its id is SHA-256(name || newline || kind || key)[:4]."""
    name, shown, encoded = (*vkey.split("+", 2), "", "")[:3]
    blob = unbase64(encoded)
    key_id = hashlib.sha256(f"{name}\n".encode(errors="replace") + blob).digest()[:4]
    if len(blob) != 33 or blob[0] != kind or key_id.hex() != shown:
        raise Finding(0, f"{vkey[:100]!r} is not the key of a {'log' if kind == LOG else 'witness'}")
    return kind, name, key_id, blob[1:]


def open_note(note: bytes, what: str, key: Key) -> tuple[str, str]:
    """The text signed by `key` and, for a witness's key, the time of the cosignature."""
    kind, owner, key_id, public = key
    text, _, signatures = note.decode(errors="replace").rstrip("\n").rpartition("\n\n")
    mine = b""
    for line in signatures.split("\n"):
        parts = re.fullmatch(r"— ([^\s+]+) (\S+)", line)
        if not parts or len(blob := unbase64(parts[2])) < 68:
            raise Finding(0, f"the {what} is missing or not a signed note")
        if (parts[1], blob[:4]) == (owner, key_id):
            mine = blob[4:]
    message, moment = f"{text}\n".encode(), 0
    if kind == WITNESS:
        moment, mine = int.from_bytes(mine[:8], "big"), mine[8:]
        message = b"cosignature/v1\ntime %d\n" % moment + message
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(mine, message)
    except InvalidSignature:
        raise Finding(0, f"the {what} carries no signature of {owner} that holds") from None
    return text, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


class Keys(list[tuple[Key, int, int]]):
    """The keys of a log, oldest first, each with the smallest and the largest number of records that it signs for."""

    def __init__(self, trusted: Key, handovers: Iterable[bytes]) -> None:
        super().__init__([(trusted, 0, sys.maxsize)])
        self.signed: dict[str, Checkpoint] = {}
        self.named: list[tuple[str, str]] = []  # both keys of each hand-over
        for number, note in enumerate(handovers, 1):
            what = f"hand-over {number}"
            lines = note.decode(errors="replace").partition("\n\n")[0].split("\n")
            if len(lines) != 5 or lines[3][:5] != "from " or lines[4][:3] != "to ":
                raise Finding(0, f"the {what} is missing or not a signed note")
            old, new = parse_key(lines[3][5:], LOG), parse_key(lines[4][3:], LOG)
            one = state_of("\n".join(lines[:3]), what, new)
            follows = number == 1 or (self[-1][0] == old and one["size"] >= self[-1][1])
            if not all(open_note(note, what, key) for key in (old, new)) or old[1] != new[1] or not follows:
                raise Finding(0, f"the {what} does not follow the key before it")
            if number == 1:
                self[:] = [(old, 0, 0)]
            self[-1:] = [(old, self[-1][1], one["size"]), (new, one["size"], sys.maxsize)]
            self.signed[what] = one
            self.named.append((lines[3][5:], lines[4][3:]))
        if trusted not in [key for key, _, _ in self]:
            raise Finding(0, "the log's own file `vkey` does not hold the key that was given")

    def check(self, records: list[Any], notes: dict[str, bytes], signed: dict[str, Checkpoint]) -> None:
        """Compare hand-overs and signers of notes with what the log records of its keys."""
        records = [one for one in records if isinstance(one, dict) and isinstance(one.get("data"), dict)]
        told = {(one["data"].get("key"), one["kind"], one["seq"]): one["data"] for one in records}
        for number, (old, new) in enumerate(self.named, 1):
            at = [
                seq
                for (key, kind, seq), data in told.items()
                if (key, kind) == ("ledger", "KeyRotated")
                and [(data[name] or {}).get("public") for name in ("old", "new")] == [old, new]
            ]
            if not at or at[0] > signed[f"hand-over {number}"]["size"]:
                raise Finding(0, f"the hand-over {number} to another key is not on record")
        for (key, kind, _), data in told.items():
            for what in notes if (key, kind) == ("ledger", "KeyRevoked") else ():
                revoked = self.signer(notes[what], what)[2].hex() == data["id"]
                if revoked and signed[what]["size"] >= data["from_record"]:
                    raise Finding(0, f"the {what} is signed by a key that is revoked from {data['from_record']} on")

    def signer(self, note: bytes, what: str) -> Key:
        """The key that signed a checkpoint, of those that sign for its number of records."""
        size = note.split(b"\n")[1:2]
        number = int(size[0]) if size and size[0].isdigit() and len(size[0]) < 16 else 0
        fitting = [key for key, least, most in reversed(self) if least <= number <= most]
        for key in fitting[:-1]:
            with contextlib.suppress(Finding):
                return open_note(note, what, key) and key
        return open_note(note, what, fitting[-1]) and fitting[-1]


def state_of(text: str, what: str, key: Key) -> Checkpoint:
    head = re.fullmatch(r"(.+)\n(0|[1-9][0-9]{0,14})\n(\S+)", text)
    if not head or head[1] != key[1] or len(unbase64(head[3])) != 32 or (head[2] == "0") != (head[3] == root_of([])):
        raise Finding(0, f"the {what} does not state number and root of the records of {key[1]}")
    return {"origin": head[1], "size": int(head[2]), "root": head[3]}


def open_checkpoint(note: bytes, what: str, keys: Keys, witness: Key | None = None) -> Checkpoint:
    key = keys.signer(note, what)
    found = state_of(open_note(note, what, key)[0], what, key)
    seen = {"witness": witness[1], "at": open_note(note, what, witness)[1]} if witness else {}
    return {**found, **seen}


def hashes(fresh: Any, entries: Iterable[bytes]) -> list[bytes]:
    digests = []
    for entry in entries:
        state = fresh()  # a copy of a state that has taken in the prefix is cheaper than a new one
        state.update(entry)
        digests.append(state.digest())
    return digests


def grow(peaks: Peaks, nodes: list[bytes]) -> Peaks:
    """The peaks after adding nodes at the lowest level: pairs make nodes of the next level, one may be left."""
    if not nodes:
        return peaks
    nodes = [*peaks[0], *nodes] if peaks else nodes
    return [nodes[len(nodes) // 2 * 2 :], *grow(peaks[1:], hashes(NODE, map(add, nodes[::2], nodes[1::2])))]


def root_of(peaks: Peaks) -> str:
    smallest_first = [peak for level in peaks for peak in level] or [hashlib.sha256().digest()]
    root = functools.reduce(lambda right, left: hashes(NODE, [left + right])[0], smallest_first)
    return base64.b64encode(root).decode()


def root_by(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162 2.1.3.1, from the top); it consumes the proof."""
    if size <= 1:
        return leaf if index == 0 else b""
    sibling, half = proof.pop() if proof else b"", 1 << (size - 1).bit_length() - 1
    if index < half:
        return hashes(NODE, [root_by(leaf, index, half, proof) + sibling])[0]
    return hashes(NODE, [sibling + root_by(leaf, index - half, size - half, proof)])[0]


def loaded(line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError):
        return b""  # which JSON never is


def parse(line: bytes, number: int, version: int = 1) -> tuple[bytes, int]:
    """The hash that the line names, with its closing quote, and the version, if it can be record `number`."""
    if line.endswith(b',"seq":%d,"v":2}' % number):
        return line[line.rfind(PREV) :][len(PREV) :][:65], 2
    record = loaded(line)
    if not isinstance(record, dict):
        raise Finding(number, "was changed: its line is not JSON")
    if type(record.get("seq")) is not int or record["seq"] != number:
        raise Finding(number, "is missing or was moved: another line stands in its place")
    if "v" in record or version > 1:
        raise Finding(number, "is of a version that is not known here or does not belong here")
    return f'{record.get("prev")}"'.encode(errors="replace"), 1


class Walk:
    """One pass over a log from its first line, compared with the checkpoints in `signed`."""

    def __init__(self, folder: Path, signed: dict[str, Checkpoint]) -> None:
        self.signed, self.blocks = signed, filter(None, self.read(folder))
        self.records = self.torn = 0
        self.about_keys: list[Any] | None = None  # records about keys, where they are wanted
        self.empty = False  # whether the last segment holds nothing
        self.version, self.line, self.leaf = 1, b"", bytes(32)  # of the last record so far
        self.peaks = self.before = Peaks()  # `before`: without the records that were taken last

    def read(self, folder: Path) -> Iterator[list[bytes]]:
        paths = sorted(path for path in folder.iterdir() if re.fullmatch(r"[0-9]{12}\.jsonl", path.name))
        number, counted = 1, max((one["size"] for one in self.signed.values()), default=sys.maxsize)
        for path in paths:
            if path.name != f"{number:012d}.jsonl":
                raise Finding(number, f"is missing: {path.name} stands where it belongs")
            rest, first = b"", number
            with path.open("rb") as file:
                while block := file.read(1 << 17):
                    *lines, rest = (rest + block).split(b"\n")
                    doubtful = range(max(0, counted + 1 - number), len(lines)) if path == paths[-1] else ()
                    whole = next((at for at in doubtful if loaded(lines[at]) == b""), len(lines))  # a crash left it
                    lines, rest = lines[:whole], b"\n".join([*lines[whole:], rest])
                    number += len(lines)
                    yield lines
            if rest and path != paths[-1]:
                raise Finding(number, "is cut short, and another segment follows")
            self.torn, self.empty = len(rest), number == first

    def run(self) -> None:
        for lines in self.blocks:
            if self.about_keys is not None:
                self.about_keys += [loaded(line) for line in lines if b'"kind":"KeyR' in line]
            leaves = hashes(LEAF, lines)
            near = any(0 < one["size"] - self.records <= len(lines) + 1 for one in self.signed.values())
            if not near and self.linked(lines, leaves):
                self.take(lines, leaves, 2)
            else:
                self.link(lines, leaves)
        for what, one in self.signed.items():
            if one["size"] > self.records:
                raise Finding(self.records + 1, f"is gone: {one['size']} records were signed ({what})")

    def linked(self, lines: list[bytes], leaves: list[bytes]) -> bool:
        """Whether all lines link as version 2; checked for many lines at once, since most do."""
        ends = b',"seq":%d,"v":2}' * len(lines) % tuple(range(self.records + 1, self.records + 1 + len(lines)))
        if b"".join(map(itemgetter(slice(-(len(ends) // len(lines)), None)), lines)) != ends:
            return False
        before = b"".join([self.leaf, *leaves[:-1]]).hex('"', 32) + '"'
        with contextlib.suppress(ValueError):  # one of them names none
            return before.encode() == b"".join([line[(at := line.rindex(PREV) + 8) : at + 65] for line in lines])
        return False

    def link(self, lines: list[bytes], leaves: list[bytes]) -> None:
        for at, line in enumerate(lines):
            number = self.records + 1
            named, version = parse(line, number, self.version)
            before = self.leaf if version == 2 or number == 1 else hashlib.sha256(self.line).digest()
            if named != before.hex().encode() + b'"':
                following = lines[at + 1 :]
                with contextlib.suppress(Finding):  # something further on
                    following = following or next(self.blocks, [])
                raise Finding(number - self.intact(number, named, line, following), "was changed after it was recorded")
            self.take([line], [leaves[at]], version)

    def intact(self, number: int, named: bytes, line: bytes, following: list[bytes]) -> bool:
        """Whether this line is as recorded; if so, the line before it was changed."""
        if number == 1 or not re.fullmatch(rb'[0-9a-f]{64}"', named):
            return False
        leaf, plain = hashes(LEAF, [line])[0], hashlib.sha256(line).digest()
        if following:
            return any(PREV + own.hex().encode() in following[0] for own in (leaf, plain))
        tree = grow(self.before, [bytes.fromhex(named[:64].decode()), leaf])  # if the line before were the one it names
        return any(one["size"] == number and one["root"] == root_of(tree) for one in self.signed.values())

    def take(self, lines: list[bytes], leaves: list[bytes], version: int) -> None:
        self.before, self.peaks = self.peaks, grow(self.peaks, leaves)
        self.version, self.line, self.leaf = version, lines[-1], leaves[-1]
        self.records += len(lines)
        for what, one in self.signed.items():
            if one["size"] == self.records and one["root"] != root_of(self.peaks):
                raise Finding(self.records, f"is not what was signed ({what}): it was changed, or the log written anew")


def steady(path: Path) -> bytes:
    """The content of a small file overwritten in place: read until two readings agree; empty if it is missing."""
    while (note := path.read_bytes() if path.exists() else b"") and note != path.read_bytes():
        continue
    return note


def unfinished(folder: Path) -> str:
    """What the end of a log holds that is no whole record; looked at for a second, since the log may be written."""
    found = ""
    for _ in range(20):
        last = max(folder.glob("[0-9]" * 12 + ".jsonl"), default=None)
        if last is None:
            return ""
        with last.open("rb") as file:
            file.seek(max(0, last.stat().st_size - (1 << 20)))
            *whole, rest = file.read().split(b"\n")
        if not rest and whole and loaded(whole[-1]) != b"":
            return ""
        found = f"{last.name} {'ends in bytes that are no record' if rest or whole else 'holds no record'}"
        time.sleep(0.05)
    return found


def verify_log(facts: dict[str, Any], vkey: str | None, by: Key | None, folder: Path, kept: Path | None = None) -> None:
    signed: dict[str, Checkpoint] = {}
    walk = Walk(folder, signed)
    try:  # before the lines: the log may grow meanwhile
        stored = steady(folder / "vkey").decode(errors="replace") if (folder / "vkey").exists() else f"{vkey or ''}\n"
        keys = Keys(parse_key(vkey or stored[:-1], LOG), map(Path.read_bytes, sorted(folder.glob("handover-[0-9]*"))))
        if stored[-1:] != "\n" or parse_key(stored[:-1], LOG) not in [key for key, _, _ in keys[-2:]]:
            raise Finding(0, "the log's own file `vkey` does not hold the key that was given")
        walk.about_keys = [] if keys.named else None
        signed.update(keys.signed)
        note = steady(folder / "checkpoint")
        signed["checkpoint"] = open_checkpoint(note if len(note) == 512 else b"", "checkpoint", keys)
        notes = {"checkpoint": note}
        if kept:
            notes["kept"] = kept.read_bytes()
            signed["kept"] = open_checkpoint(notes["kept"], "kept checkpoint", keys)
        if (path := folder / "cosigned").exists() or by:
            notes[name := "witnessed" if by else "cosigned"] = steady(path)
            signed[name] = open_checkpoint(notes[name], "cosigned note", keys, by)
    finally:
        try:  # even if a note is wrong: a bad record is what counts
            walk.run()
        finally:
            beyond = max(0, walk.records - signed.get("checkpoint", {"size": 0})["size"])
            facts.update({"records": walk.records, "beyond": beyond, "torn_bytes": walk.torn}, **signed)
    if walk.about_keys is not None:
        keys.check(walk.about_keys, notes, signed)
    if (walk.torn or walk.empty) and (what := unfinished(folder)):
        raise Finding(walk.records + 1, f"is not whole: {what}. A crash leaves that, and so does a change after it")


def verify_record(facts: dict[str, Any], vkey: str | None, by: Key | None, path: Path) -> None:
    proof = loaded(path.read_bytes())
    kinds = {"record": str, "index": int, "proof": list, "checkpoint": str, "vkey": str}
    if not isinstance(proof, dict) or any(type(proof.get(name)) is not kind for name, kind in kinds.items()):
        raise ValueError(f"expected a proof with {', '.join(kinds)}")
    line, index, siblings = proof["record"].encode(), proof["index"], [unbase64(str(one)) for one in proof["proof"]]
    parse(line, index + 1)
    handovers = [str(one).encode() for one in proof.get("handovers", [])]
    keys = Keys(parse_key(vkey or proof["vkey"], LOG), handovers)
    one = open_checkpoint(proof["checkpoint"].encode(), "checkpoint", keys, by)
    facts.update(record=index + 1, checkpoint=one, witnessed=one if by else {})
    if root_by(hashes(LEAF, [line])[0], index, one["size"], siblings) != unbase64(one["root"]) or siblings:
        raise Finding(index + 1, f"is not shown to be among the {one['size']} records that were signed")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Exit status: 0 verified, 1 not verified, 2 usage or unreadable")
    parser.add_argument("command", choices=["log", "record", "extends"])
    parser.add_argument("paths", nargs="+", type=Path, help="FOLDER, or PROOF.json, or CHECKPOINT FOLDER")
    parser.add_argument("--vkey", type=lambda key: parse_key(key, LOG) and key, help="key of the log")
    parser.add_argument("--witness", type=lambda key: parse_key(key, WITNESS), help="require its cosignature")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    kinds = {("log", 1): verify_log, ("record", 1): verify_record, ("extends", 2): verify_log}
    verify: Any = kinds.get((given.command, len(given.paths))) or parser.error("too few or too many paths; see --help")
    verdict, source = "VERIFIED", "as given" if given.vkey else "from the log itself: not confirmed by another source"
    answer: dict[str, Any] = {"ok": True, "problems": [], "checkpoint": {}, "witnessed": {}, "key": source}
    try:
        verify(answer, given.vkey, given.witness, *reversed(given.paths))
    except Finding as finding:
        record, problem = finding.args
        answer |= {"ok": False, "problems": [{"record": record, "problem": problem}]}
        verdict = f"NOT VERIFIED: {f'record {record} ' if record else ''}{problem}"
    except (OSError, ValueError) as error:
        parser.error(f"{given.paths[-1]} cannot be verified: {error}")
    plain = "\n".join([verdict, *(f"{name}: {answer[name] or 'none'}" for name in list(answer)[2:])])
    sys.stdout.write((json.dumps(answer) if given.json else plain) + "\n")
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
