"""Signed notes, checkpoints, cosignatures, policies and Merkle paths, from the C2SP specifications that
docs/audit-format.md names (signed-note, tlog-checkpoint, tlog-cosignature, tlog-policy) and RFC 6962.
Standard library and `cryptography`; nothing of ours but the curve of verify.py."""

import base64
import binascii
import hashlib
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from verify import decompress, small_order

PLAIN, COSIGNATURE = 0x01, 0x04
MAX_SIZE = MAX_TIME = 2**63 - 1
MAX_NOTE, MAX_SIGNATURES, MAX_PATH = 64 * 1024, 100, 63
MAX_POLICY, MAX_ITEMS = 256 * 1024, 256
EMPTY_ROOT = hashlib.sha256(b"").digest()


class Refused(Exception):
    """Code, and what is wrong."""

    def __init__(self, code, what):
        super().__init__(f"{code}: {what}")
        self.code = code


# ---------------------------------------------------------------- texts, one spelling each


def unbase64(text, size=None):
    """Standard base64 with padding, and only as it would be written; else None."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    good = base64.b64encode(data).decode() == text and size in (None, len(data))
    return data if good else None


def decimal(text, least=0, most=2**64 - 1):
    """A decimal number without a plus or leading zeros; else None."""
    if not re.fullmatch(r"0|-?[1-9][0-9]{0,19}", text, re.ASCII):
        return None
    return int(text) if least <= int(text) <= most else None


def utf8(data):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


# ---------------------------------------------------------------- keys and notes


class Key:
    """A name, what kind of signature it makes, and 32 bytes."""

    def __init__(self, name, kind, public):
        point = decompress(public)
        if not re.fullmatch(r"[^\s+\x00-\x1f]+", name) or point is None or small_order(point):
            raise ValueError("not a name and an Ed25519 key that signs")
        self.name, self.kind, self.public = name, kind, public
        self.id = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]

    @classmethod
    def read(cls, text):
        """`<name>+<eight hexadecimal digits>+<base64 of kind and key>`."""
        name, number, rest = (text.split("+", 2) + ["", ""])[:3]
        data = unbase64(rest, 33)
        if data is None or data[0] not in (PLAIN, COSIGNATURE):
            raise ValueError("not a verifier key")
        key = cls(name, data[0], data[1:])
        if key.id.hex() != number:
            raise ValueError("the key hash is another key's")
        return key

    def holds(self, message, signature):
        point = decompress(signature[:32]) if len(signature) == 64 else None
        if point is None or small_order(point):
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Note:
    """A text and signature lines below it. Reading it verifies nothing."""

    def __init__(self, data, code):
        def malformed(what):
            raise Refused(code, what)

        text = utf8(data) if len(data) <= MAX_NOTE else None
        if text is None or not text.endswith("\n") or re.search(r"[\x00-\x09\x0b-\x1f]", text):
            malformed("not a note")
        blank = text.rfind("\n\n")
        if blank < 0 or blank + 2 >= len(text):
            malformed("a note without signatures")
        self.text, self.signatures = text[: blank + 1], []
        for line in text[blank + 2 : -1].split("\n"):
            match = re.fullmatch(r"\u2014 ([^\s+\x00-\x1f]+) ([A-Za-z0-9+/=]+)", line)
            signature = unbase64(match[2]) if match else None
            if signature is None or len(signature) < 5 or len(self.signatures) == MAX_SIGNATURES:
                malformed("a line that is no signature")
            self.signatures.append((match[1], signature[:4], signature[4:]))

    def signed(self, key):
        """None: not signed by this key. False: a signature of it does not hold. Else True, or a cosignature's
        time, the latest: every signature by the key is checked."""
        latest = None
        for name, number, signature in self.signatures:
            if (name, number) != (key.name, key.id):
                continue
            if key.kind == PLAIN:
                said, holds = True, key.holds(self.text.encode(), signature)
            else:
                said = int.from_bytes(signature[:8], "big")
                message = f"cosignature/v1\ntime {said}\n{self.text}".encode()
                holds = said <= MAX_TIME and key.holds(message, signature[8:])
            if not holds:
                return False
            latest = said if latest is None else max(latest, said)
        return latest


class Checkpoint:
    """Origin, size, root, further lines."""

    def __init__(self, note, code):
        lines = note.text[:-1].split("\n")
        good = len(lines) >= 3 and all(lines)
        self.origin, size, root = (lines + ["", "", ""])[:3]
        self.size = decimal(size, 0, MAX_SIZE) if good else None
        self.root, self.extensions = unbase64(root, 32), lines[3:]
        if self.size is None or self.root is None or (self.size == 0 and self.root != EMPTY_ROOT):
            raise Refused(code, "the note is no checkpoint")


# ---------------------------------------------------------------- policies


class PolicyFault(Exception):
    pass


class Policy:
    """`log`, `witness`, `group` and `quorum` lines: octets, not characters."""

    def __init__(self, data):
        self.logs, self.witnesses, self.quorum = [], {}, None
        groups, taken = {}, set()
        self.members = groups

        def fault(what):
            raise PolicyFault(f"policy line {number}: {what}")

        def key(text, kind, known):
            try:
                read = Key.read(text.decode("utf-8"))
            except ValueError as error:
                fault(error)
            # Logs of one ledger share a key under names of their own.
            same = [other for other in known if other.public == read.public]
            if read.kind != kind or any(kind == COSIGNATURE or other.name == read.name for other in same):
                fault("a key of the other kind, or one that is listed already")
            if len(known) == MAX_ITEMS:
                fault("too many")
            return read

        def defined(name):
            return name in self.witnesses or name in groups

        def fresh(name):
            return name if name != b"none" and not defined(name) else fault("the name is taken")

        number = 1
        if len(data) > MAX_POLICY or not data.endswith(b"\n"):
            fault("too long, or the last line does not end")
        for number, line in enumerate(data[:-1].split(b"\n"), 1):
            if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", line):
                fault("control characters")
            match re.findall(rb"[^ \t]+", line):
                case []:
                    pass
                case [first, *_] if first.startswith(b"#"):
                    pass
                case [b"log", text, *url] if len(url) < 2:
                    self.logs.append(key(text, PLAIN, self.logs))
                case [b"witness", name, text, *url] if len(url) < 2:
                    read = key(text, COSIGNATURE, self.witnesses.values())
                    self.witnesses[fresh(name)] = read
                case [b"group", name, threshold, *names] if names:
                    words = {b"any": 1, b"all": len(names)}
                    count = words.get(threshold) or decimal(threshold.decode("latin-1"), 1, len(names))
                    if count is None or len(groups) == MAX_ITEMS:
                        fault("a threshold is any, all or 1 to the number of members; or too many groups")
                    for member in names:
                        if not defined(member) or member in taken:
                            fault("a member is defined before, and a member once")
                        taken.add(member)
                    groups[fresh(name)] = (count, names)
                case [b"quorum", name] if self.quorum is None and (name == b"none" or defined(name)):
                    self.quorum = name
                case _:
                    fault("not a line of a policy")
        if self.quorum is None:
            fault("no quorum")

    def signed_by_log(self, note, origin):
        """Whether a key that is listed for this origin signed, and none of those signed badly."""
        said = [note.signed(key) for key in self.logs if key.name == origin]
        return False not in said and True in said

    def cosigned(self, note):
        """Names and times of the witnesses that cosigned, when they are a quorum."""
        times = {name: note.signed(key) for name, key in self.witnesses.items()}
        if any(time is False for time in times.values()):
            raise Refused("LEDGER_QUORUM", "a cosignature of a listed witness does not hold")
        met = {name: time is not None for name, time in times.items()}
        for name, (count, names) in self.members.items():
            met[name] = sum(met[member] for member in names) >= count
        if self.quorum != b"none" and not met[self.quorum]:
            raise Refused("LEDGER_QUORUM", "too few cosignatures")
        return {name.decode("utf-8", "replace"): time for name, time in times.items() if time is not None}


# ---------------------------------------------------------------- RFC 6962


def leaf_hash(entry):
    return hashlib.sha256(b"\x00" + entry).digest()


def root_of(leaf, index, size, path):
    """The root to which the path leads (RFC 9162 section 2.1.3.2); None when it has the wrong length."""
    if index >= size:
        return None
    path, last = list(path), size - 1
    while last:
        if index & 1 or index < last:
            if not path:
                return None
            pair = (path.pop(0), leaf) if index & 1 else (leaf, path.pop(0))
            leaf = hashlib.sha256(b"\x01" + pair[0] + pair[1]).digest()
        index, last = index >> 1, last >> 1
    return None if path else leaf
