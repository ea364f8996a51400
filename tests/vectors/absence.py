"""Proofs of absence, from section 5 of docs/audit-format.md alone."""

import hashlib
import struct

import vrf
from tlog import EMPTY_ROOT, MAX_PATH, Checkpoint, Note, Refused, decimal, leaf_hash, root_of, unbase64, utf8

HEADER = "mianzheng/absence@v1"
MALFORMED = "LEDGER_PROOF_MALFORMED"
MAX_FILE, MAX_RANGES = 64 << 20, 8192
SKEW, SETTLED = 5_000, 25_000
U16, I64 = (0, 2**16 - 1), (-(2**63), 2**63 - 1)


def malformed(what):
    raise Refused(MALFORMED, what)


def number(text, limits=(0, 2**64 - 1)):
    value = decimal(text, *limits)
    return malformed("a number that is none") if value is None else value


def binary(text, size=None):
    data = unbase64(text, size)
    return malformed("base64 that is none") if data is None else data


def after(line, word):
    return line[len(word) + 1 :] if line.startswith(word + " ") else malformed(f"no {word}")


class Statement:
    """What the ledger says about one closed range."""

    def __init__(self, note):
        said = Checkpoint(note, MALFORMED)
        self.note, self.name, self.leaves, self.head = note, said.origin, said.size, said.root
        self.origin, between, count = said.origin.rpartition("/absence/")
        if not between or len(said.extensions) != 7:
            malformed("not a statement about a range")
        log, before, since, until, shards, unbound, key = said.extensions
        self.number = number(count)
        parts = after(log, "log").split(" ")
        if len(parts) != 3:
            malformed("log has three parts")
        self.start, self.end = number(parts[0]), number(parts[1])
        self.root = binary(parts[2], 32)
        self.after, self.key = after(before, "after"), after(key, "key")
        if self.after == "-":
            self.after = None
        else:
            name, _, size = self.after.partition(" ")
            self.after = (name, number(size))
        self.since, self.until = number(after(since, "since"), I64), number(after(until, "until"), I64)
        self.shards, self.unbound = number(after(shards, "shards"), U16), number(after(unbound, "unbound"))
        if self.key == "-":
            self.key = None
        else:
            parts = self.key.split(" ")
            if len(parts) != 3:
                malformed("key has three parts")
            number(parts[2])
            self.key = binary(parts[0], 32)
        self.shown = []

    def shard(self):
        return decimal((["", ""] + self.origin.split("/"))[-2], *U16)


class Leaf:
    def __init__(self, line):
        parts = after(line, "leaf").split(" ")
        if not 2 <= len(parts) <= 2 + MAX_PATH:
            malformed("a leaf without its bytes, or a path that is too long")
        index, leaf, *path = parts
        data = binary(leaf, 56)
        self.index, self.hash, self.path = number(index), leaf_hash(data), [binary(h, 32) for h in path]
        self.key, (self.count, self.first, self.last) = data[:32], struct.unpack(">Qqq", data[32:])


def read(data):
    """Department, from, to, the label's proof, statements with their leaves."""
    text = utf8(data) if len(data) <= MAX_FILE else None
    lines = text[:-1].split("\n") if text and text.endswith("\n") else []
    if len(lines) < 5 or lines[0] != HEADER:
        malformed("not a proof of absence")
    ranges = []
    for line in lines[5:]:
        if line.startswith("note "):
            ranges.append(Statement(Note(binary(line[5:]), MALFORMED)))
        elif ranges and len(ranges[-1].shown) < 2:
            ranges[-1].shown.append(Leaf(line))
        else:
            malformed("a leaf too many")
    if len(ranges) > MAX_RANGES:
        malformed("too many ranges")
    return lines[1], number(lines[2], I64), number(lines[3], I64), binary(lines[4], 80), ranges


def find(said, wanted):
    """The leaf of this key; None when it is shown that there is none."""

    def wrong():
        raise Refused("LEDGER_PROOF_WRONG", f"the leaves of {said.name} prove nothing")

    if any(root_of(leaf.hash, leaf.index, said.leaves, leaf.path) != said.head for leaf in said.shown):
        wrong()
    match said.shown:
        case []:
            good = said.leaves == 0 and said.head == EMPTY_ROOT
        case _ if wanted is None:
            good = False
        case [leaf] if leaf.key == wanted:
            return leaf
        case [leaf]:
            before = leaf.index == 0 and wanted < leaf.key
            good = before or (leaf.index + 1 == said.leaves and leaf.key < wanted)
        case [left, right]:
            good = left.key < wanted < right.key and left.index + 1 == right.index
    return None if good else wrong()


def follows(said, before):
    if before.origin == said.origin:
        place = said.number == before.number + 1 and said.start == before.end and said.shards == before.shards
    else:
        place = said.number == 0 and said.start == 0 and said.after == (before.origin, before.end)
    return place and said.since == before.until and said.start <= said.end


def covers(ranges, many, start, end):
    """The ranges of one shard continue each other and cover the time."""
    before = None
    for said in ranges:
        good = said.since <= said.until and said.shards == many
        if not good or (before is not None and not follows(said, before)):
            raise Refused("LEDGER_ABSENCE_TIME", f"{said.name} does not continue what is before it")
        before = said
    first, last = ranges[0], ranges[-1]
    first_of_all = first.number == 0 and first.start == 0 and first.after is None
    begins = first_of_all or first.since + SKEW <= start
    if not (begins and start < end and last.until >= end + SETTLED):
        raise Refused("LEDGER_ABSENCE_TIME", "the time is not covered")


def verify(data, policy, person, label_keys):
    """What is proven about the person whose number this is (18 characters)."""
    department, start, end, proof, ranges = read(data)
    shards, found, witnesses, labels = {}, [], None, {}
    for said in ranges:
        if not policy.signed_by_log(said.note, said.origin):
            raise Refused("LEDGER_KEY_UNKNOWN", f"no log of the policy signed {said.name}")
        cosigned = policy.cosigned(said.note)
        witnesses = [name for name in cosigned if witnesses is None or name in witnesses]
        if said.unbound:
            raise Refused("LEDGER_RANGE_UNBOUND", f"people in {said.name} have no label")
        if said.key is None and said.leaves == 0:
            wanted = None
        elif said.key not in label_keys:
            raise Refused("LEDGER_KEY_UNKNOWN", "the label's key is none of those given")
        else:
            if said.key not in labels:
                labels[said.key] = vrf.value(said.key, person.encode("ascii"), proof)
            if labels[said.key] is None:
                raise Refused("LEDGER_ABSENCE_PERSON", "the proof is not about this person")
            content = b"mianzheng/absence/key/v1\n" + labels[said.key][:32] + department.encode()
            wanted = hashlib.sha256(content).digest()
        leaf = find(said, wanted)
        if leaf is not None and leaf.last >= start and leaf.first < end:
            found.append({"count": leaf.count, "first": leaf.first, "last": leaf.last})
        shards.setdefault(said.shard(), []).append(said)
    many = ranges[0].shards if ranges else 1
    if set(shards) != set(range(max(many, 1))):
        raise Refused("LEDGER_ABSENCE_TIME", "a shard is not shown, or one that is none")
    for shard in sorted(shards):
        covers(shards[shard], many, start, end)
    return {
        "department": department,
        "from": start,
        "to": end,
        "read": found,
        "ranges": len(ranges),
        "logs": list(dict.fromkeys(said.origin for said in ranges)),
        "witnesses": witnesses,
    }
