#!/usr/bin/env python3
"""An independent verifier, written from docs/wire-format.md alone. Standard library only.

    python3 tests/vectors/verify.py            checks every vector beside it
    exit status 0: all as expected; 1: the first difference is printed
"""

import hashlib
import json
import pathlib
import re
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
MAX_DATUM, MAX_SEAL, MAX_META, MAX_NAME, MAX_ID = 262144, 16384, 1024, 128, 512
MAX_FIELDS, MAX_BATCH, MAX_DEPTH, MAX_ITEMS = 256, 1 << 20, 24, 65536
MAX_TIME = 253402300799999
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")


class Refused(Exception):
    """Carries the reason code."""


def refuse(code):
    raise Refused(code)


def sha256(data):
    return hashlib.sha256(data).digest()


# ---------------------------------------------------------------- Avro (section 1)


class Avro:
    """Reads one datum strictly; every fault is `code`."""

    def __init__(self, data, code):
        self.data, self.at, self.code, self.items = data, 0, code, MAX_ITEMS

    def take(self, n):
        if n < 0 or self.at + n > len(self.data):
            refuse(self.code)
        self.at += n
        return self.data[self.at - n : self.at]

    def long(self):
        raw, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            raw |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= 70:
                refuse(self.code)
        if raw >> 64 or (byte == 0 and shift > 7):
            refuse(self.code)
        return (raw >> 1) ^ -(raw & 1)

    def int(self):
        value = self.long()
        return value if -(2**31) <= value < 2**31 else refuse(self.code)

    def bytes(self):
        return self.take(self.long())

    def string(self):
        try:
            return self.bytes().decode("utf-8")
        except UnicodeDecodeError:
            refuse(self.code)

    def boolean(self):
        byte = self.take(1)[0]
        return bool(byte) if byte < 2 else refuse(self.code)

    def index(self, count):
        value = self.int()
        return value if 0 <= value < count else refuse(self.code)

    def decimal(self, data, precision):
        if not 1 <= len(data) <= 16 or abs(int.from_bytes(data, "big", signed=True)) >= 10**precision:
            refuse(self.code)

    def blocks(self, each):
        while True:
            count = self.long()
            if count == 0:
                return
            end = None
            if count < 0:
                count, size = -count, self.long()
                end = self.at + size
                if size < 0 or end > len(self.data):
                    refuse(self.code)
            self.items -= count
            if self.items < 0:
                refuse(self.code)
            for _ in range(count):
                each()
            if end is not None and end != self.at:
                refuse(self.code)

    def walk(self, schema, names, depth=0):
        if depth > MAX_DEPTH:
            refuse(self.code)
        if isinstance(schema, list):
            return self.walk(schema[self.index(len(schema))], names, depth + 1)
        if isinstance(schema, str) and schema in names:
            schema = names[schema]
        attributes = schema if isinstance(schema, dict) else {}
        kind = attributes.get("type", schema)
        if isinstance(kind, (dict, list)):
            return self.walk(kind, names, depth)
        precision = attributes.get("precision") if attributes.get("logicalType") == "decimal" else None
        if kind == "null":
            pass
        elif kind == "boolean":
            self.boolean()
        elif kind == "int":
            self.int()
        elif kind == "long":
            self.long()
        elif kind == "float":
            self.take(4)
        elif kind == "double":
            self.take(8)
        elif kind == "string":
            self.string()
        elif kind in ("bytes", "fixed"):
            data = self.bytes() if kind == "bytes" else self.take(attributes["size"])
            if precision is not None:
                self.decimal(data, precision)
        elif kind == "enum":
            self.index(len(attributes["symbols"]))
        elif kind == "array":
            self.blocks(lambda: self.walk(attributes["items"], names, depth + 1))
        elif kind == "map":
            self.blocks(lambda: (self.string(), self.walk(attributes["values"], names, depth + 1)))
        elif kind == "record":
            for field in attributes["fields"]:
                self.walk(field["type"], names, depth + 1)
        else:
            raise ValueError(f"no such type: {kind}")


def named_types(schema, space="", into=None):
    """Every named definition under its full and, inside its namespace, its short name."""
    into = {} if into is None else into
    if isinstance(schema, list):
        for branch in schema:
            named_types(branch, space, into)
    elif isinstance(schema, dict):
        if schema.get("type") in ("record", "enum", "fixed"):
            space = schema.get("namespace", space)
            into[schema["name"]] = schema
            into[f"{space}.{schema['name']}"] = schema
        for key in ("items", "values", "type"):
            if isinstance(schema.get(key), (dict, list)):
                named_types(schema[key], space, into)
        for field in schema.get("fields", []):
            named_types(field["type"], space, into)
    return into


def spans(schema, datum):
    if len(datum) > MAX_DATUM:
        refuse("TOO_LARGE")
    reader, names, out = Avro(datum, "DATUM_MALFORMED"), named_types(schema), []
    for field in schema["fields"]:
        start = reader.at
        reader.walk(field["type"], names)
        out.append(datum[start : reader.at])
    if reader.at != len(datum):
        refuse("TRAILING_BYTES")
    return out


def avro_string(text):
    data = text.encode("utf-8")
    raw, out = len(data) * 2, b""
    while raw >= 0x80:
        out += bytes([raw & 0x7F | 0x80])
        raw >>= 7
    return out + bytes([raw]) + data


# ---------------------------------------------------------------- Ed25519, strict (section 5)

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def mul(s, p):
    q = (0, 1, 1, 0)
    while s:
        if s & 1:
            q = add(q, p)
        p, s = add(p, p), s >> 1
    return q


def decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * SQRT_M1 % P
    if (x * x - x2) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def compress(p):
    z = pow(p[2], P - 2, P)
    x, y = p[0] * z % P, p[1] * z % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def small_order(p):
    x, y, z, _ = mul(8, p)
    return x % P == 0 and (y - z) % P == 0


BASE = decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def check_signature(public, message, signature):
    key = decompress(public)
    if key is None or small_order(key):
        refuse("SMALL_ORDER_KEY")
    r, s = decompress(signature[:32]), int.from_bytes(signature[32:], "little")
    if r is None or small_order(r) or s >= L:
        refuse("SIGNATURE_INVALID")
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    minus = (P - key[0], key[1], key[2], P - key[3])
    if compress(add(mul(s, BASE), mul(k, minus))) != signature[:32]:
        refuse("SIGNATURE_INVALID")


# ---------------------------------------------------------------- the seal (sections 3, 6, 7)


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            refuse("SEAL_MALFORMED")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def text(self, length, limit):
        if length > limit:
            refuse("TOO_LARGE")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            refuse("SEAL_MALFORMED")


def parse_meta(data):
    reader = Avro(data, "SEAL_MALFORMED")
    meta = {
        "bus": reader.string(),
        "department": reader.string(),
        "stream": reader.string(),
        "dataset": reader.string(),
        "lane": reader.int(),
        "sequence": reader.long(),
        "ce_id": reader.take(16),
        "ce_time": reader.long(),
        "schema": reader.take(32),
        "field_count": reader.int(),
        "epoch": reader.long(),
        "counter": reader.long(),
        "withdrawn": reader.boolean(),
    }
    well = (
        reader.at == len(data)
        and all(NAME.match(meta[name]) for name in ("bus", "department", "stream", "dataset"))
        and 0 <= meta["lane"] <= 0xFFFF
        and meta["sequence"] >= 1
        and meta["counter"] >= 1
        and 1 <= meta["epoch"] < 2**32
        and 0 <= meta["ce_time"] <= MAX_TIME
        and 0 <= meta["field_count"] <= 0xFFFF
    )
    return meta if well else refuse("SEAL_MALFORMED")


def path_length(index, count):
    length = 0
    while count > 1:
        length += index ^ 1 < count
        index, count = index >> 1, (count + 1) >> 1
    return length


def parse_seal(data, form):
    if len(data) > MAX_SEAL:
        refuse("TOO_LARGE")
    cursor, seal = Cursor(data), {}
    if cursor.number("B") != 1:
        refuse("SUITE_UNKNOWN")
    if cursor.number("B") != form:
        refuse("SEAL_MALFORMED")
    length = cursor.number("H")
    if length > MAX_META:
        refuse("TOO_LARGE")
    seal["meta_bytes"] = cursor.take(length)
    seal["meta"] = meta = parse_meta(seal["meta_bytes"])
    if meta["field_count"] > MAX_FIELDS:
        refuse("TOO_LARGE")
    if form == 1:
        seal["seed"] = cursor.take(32)
        seal["record"] = cursor.text(cursor.number("H"), MAX_ID)
    else:
        leaves = cursor.number("H")
        if leaves != meta["field_count"] + 3:
            refuse("SEAL_MALFORMED")
        salted = leaves - 1
        bitmap = cursor.take((salted + 7) // 8)
        bits = [bitmap[i // 8] >> (7 - i % 8) & 1 for i in range(len(bitmap) * 8)]
        if any(bits[salted:]):
            refuse("SEAL_MALFORMED")
        seal["disclosed"] = [None] + [bool(bit) for bit in bits[:salted]]
        seal["parts"] = [None] + [cursor.take(16 if bit else 32) for bit in bits[:salted]]
        seal["subject"] = cursor.text(cursor.number("H"), MAX_ID) if bits[0] else None
        seal["record"] = cursor.text(cursor.number("H"), MAX_ID) if bits[1] else None
    seal["key_id"] = cursor.text(cursor.number("B"), MAX_NAME)
    if not NAME.match(seal["key_id"]):
        refuse("SEAL_MALFORMED")
    seal["batch"], seal["count"], seal["index"] = cursor.number("Q"), cursor.number("I"), cursor.number("I")
    hashes = cursor.number("B")
    if seal["batch"] == 0:
        refuse("SEAL_MALFORMED")
    if seal["count"] > MAX_BATCH:
        refuse("TOO_LARGE")
    if seal["index"] >= seal["count"] or hashes != path_length(seal["index"], seal["count"]):
        refuse("PATH_INVALID")
    seal["path"] = [cursor.take(32) for _ in range(hashes)]
    seal["signature"] = cursor.take(64)
    if cursor.at != len(data):
        refuse("TRAILING_BYTES")
    return seal


# ---------------------------------------------------------------- digest and batch (sections 4, 5)


def salts(seed, count):
    data = b"".join(sha256(b"\x13" + seed + struct.pack(">I", i)) for i in range((count + 1) // 2))
    return [data[i * 16 : i * 16 + 16] for i in range(count)]


def leaf(index, salt, content):
    return sha256(b"\x11" + struct.pack(">H", index) + salt + content)


def event_digest(leaves):
    return sha256(b"\x12" + struct.pack(">H", len(leaves)) + b"".join(leaves))


def climb(digest, index, count, path):
    node, path = sha256(b"\x00" + digest), list(path)
    while count > 1:
        if index ^ 1 < count:
            sibling = path.pop(0)
            node = sha256(b"\x01" + (sibling + node if index & 1 else node + sibling))
        index, count = index >> 1, (count + 1) >> 1
    return node


def payload(seal, root):
    meta = seal["meta"]
    names = b"".join(bytes([len(n)]) + n.encode() for n in (seal["key_id"], meta["department"], meta["stream"]))
    numbers = struct.pack(">IQI", meta["epoch"], seal["batch"], seal["count"])
    return b"mianzheng/seal/v1\n" + b"\x01" + names + numbers + root


# ---------------------------------------------------------------- the whole (section 10)


class World:
    def __init__(self):
        self.setup = json.loads((HERE / "setup.json").read_text())
        self.avsc = (HERE / "source.avsc").read_bytes()
        self.schema = json.loads(self.avsc)
        self.keys = {(k["department"], k["id"]): k for k in self.setup["keys"]}
        assert sha256(self.avsc).hex() == self.setup["schema_sha256"], "schema_sha256"

    def origin(self, meta, lane):
        setup = self.setup
        if meta["bus"] != setup["bus"]:
            refuse("BUS_FOREIGN")
        if meta["dataset"] != setup["dataset"]:
            refuse("META_CONTRADICTS")
        if meta["department"] != setup["department"] or meta["stream"] not in setup["streams"]:
            refuse("STREAM_FOREIGN")
        if meta["lane"] != lane:
            refuse("LANE_WRONG")
        if meta["schema"] != sha256(self.avsc) or meta["field_count"] != len(self.schema["fields"]):
            refuse("SCHEMA_MISMATCH")

    def prove(self, seal, digest):
        meta = seal["meta"]
        key = self.keys.get((meta["department"], seal["key_id"]))
        if key is None:
            refuse("KEY_UNKNOWN")
        if key["status"] != "active":
            last = key["status"]["revoked"]["last_batch"].get(meta["stream"])
            if last is None or (meta["epoch"], seal["batch"]) > (last["epoch"], last["batch"]):
                refuse("KEY_REVOKED")
        root = climb(digest, seal["index"], seal["count"], seal["path"])
        check_signature(bytes.fromhex(key["public"]), payload(seal, root), seal["signature"])
        return root

    def receive(self, event, schema_id):
        """Steps 1 and 2: headers, framing. Returns headers, seal bytes and datum."""
        headers = {}
        for name, value in event["headers"]:
            known = name.startswith("mz-") or name.startswith("ce_") or name == "content-type"
            if known and name in headers:
                refuse("HEADER_DUPLICATE")
            headers[name] = raw(value)
        if "mz-seal" not in headers:
            refuse("NO_SEAL")
        value = raw(event["value"])
        if len(value) > MAX_DATUM + 5:
            refuse("TOO_LARGE")
        if len(value) < 5 or value[0] != 0:
            refuse("FRAMING_INVALID")
        if struct.unpack(">I", value[1:5])[0] != schema_id:
            refuse("SCHEMA_UNKNOWN")
        return headers, headers["mz-seal"], value[5:]

    def source(self, event):
        headers, seal_bytes, datum = self.receive(event, self.setup["schema_id"])
        seal = parse_seal(seal_bytes, 1)
        self.origin(seal["meta"], event["lane"])
        fields = spans(self.schema, datum)
        subject = fields[self.setup["subject_field"]]
        contents = [subject, avro_string(seal["record"])] + fields
        salt = salts(seal["seed"], len(contents))
        leaves = [sha256(b"\x10" + seal["meta_bytes"])]
        leaves += [leaf(j + 1, salt[j], content) for j, content in enumerate(contents)]
        digest = event_digest(leaves)
        root = self.prove(seal, digest)
        check_headers(headers, seal["meta"])
        return seal, salt, leaves, digest, root

    def delivery(self, event, kept):
        headers, seal_bytes, datum = self.receive(event, self.setup["projected_schema_id"])
        seal = parse_seal(seal_bytes, 2)
        self.origin(seal["meta"], event["lane"])
        projected = dict(self.schema, fields=[self.schema["fields"][i] for i in kept])
        names = named_types(self.schema)
        fields = iter(projected_spans(projected, names, datum))
        leaves = [sha256(b"\x10" + seal["meta_bytes"])]
        for index in range(1, len(seal["parts"])):
            part, disclosed = seal["parts"][index], seal["disclosed"][index]
            if index >= 3 and disclosed != (index - 3 in kept):
                refuse("DISCLOSURE_MISMATCH")
            if disclosed:
                own = {1: seal["subject"], 2: seal["record"]}
                part = leaf(index, part, avro_string(own[index]) if index in own else next(fields))
            leaves.append(part)
        digest = event_digest(leaves)
        self.prove(seal, digest)
        check_headers(headers, seal["meta"])
        return digest


def projected_spans(schema, names, datum):
    """Types may be defined in withheld fields, so names come from the source schema."""
    reader, out = Avro(datum, "DATUM_MALFORMED"), []
    for field in schema["fields"]:
        start = reader.at
        reader.walk(field["type"], names)
        out.append(datum[start : reader.at])
    if reader.at != len(datum):
        refuse("TRAILING_BYTES")
    return out


def check_headers(headers, meta):
    h = meta["ce_id"].hex()
    want = {
        "ce_specversion": "1.0",
        "ce_id": f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}",
        "ce_source": f"/{meta['department']}/{meta['stream']}",
        "ce_type": meta["dataset"],
        "ce_time": rfc3339(meta["ce_time"]),
        "content-type": "application/avro",
    }
    for name, value in want.items():
        if name not in headers:
            refuse("HEADER_MISSING")
        if headers[name] != value.encode():
            refuse("META_CONTRADICTS")


def rfc3339(millis):
    import datetime

    epoch = datetime.datetime(1970, 1, 1)
    return (epoch + datetime.timedelta(milliseconds=millis)).isoformat(timespec="milliseconds") + "Z"


def raw(value):
    if isinstance(value, str):
        return value.encode()
    return bytes.fromhex(value["hex"]) + bytes(value.get("zeros", 0))


def outcome(check, *arguments):
    try:
        check(*arguments)
        return "ok"
    except Refused as refusal:
        return str(refusal)


def main():
    world, checked = World(), 0

    def expect(name, got, want):
        nonlocal checked
        checked += 1
        if got != want:
            sys.exit(f"{name}: got {got}, want {want}")

    for vector in json.loads((HERE / "events.json").read_text()):
        seal, salt, leaves, digest, root = world.source(vector)
        name, batch = vector["name"], vector["batch"]
        expect(name + " record", seal["record"], vector["record"])
        expect(name + " salts", [s.hex() for s in salt], vector["salts"])
        expect(name + " leaves", [x.hex() for x in leaves], vector["leaves"])
        expect(name + " digest", digest.hex(), vector["event_digest"])
        expect(name + " root", root.hex(), batch["root"])
        expect(name + " payload", payload(seal, root).hex(), batch["payload"])
        expect(name + " counter", seal["meta"]["counter"], vector["meta"]["counter"])

    for vector in json.loads((HERE / "deliveries.json").read_text()):
        expect(vector["name"], world.delivery(vector, vector["kept"]).hex(), vector["event_digest"])

    for vector in json.loads((HERE / "altered.json").read_text()):
        only_gateway = vector["needs_gateway"] and vector["code"] != "SCHEMA_UNKNOWN"
        expect(vector["name"], outcome(world.source, vector), "ok" if only_gateway else vector["code"])

    kept = world.setup["kept"]
    for vector in json.loads((HERE / "altered-deliveries.json").read_text()):
        expect(vector["name"], outcome(world.delivery, vector, kept), vector["code"])

    print(f"{checked} checks as expected")


if __name__ == "__main__":
    main()
