#!/usr/bin/env python3
"""A second verifier of what the ledger gives out, written from docs/audit-format.md and the C2SP specifications:
`.tlog-proof` files, `.absence` files, departments' statements that the log is complete. Offline. Needs
`cryptography` and the files beside it; nothing of ours.

    verify_proof.py --policy tlog-policy FILE…
    verify_proof.py --policy tlog-policy --label-key BASE64 x.absence < number.txt

Prints one JSON object for each file. Exit status 0: all verify; 1: one is refused, with its `code`; 2: usage.
The policy (c2sp.org/tlog-policy) names the logs and witnesses that you trust. `--label-key` is the public key
that bus.keys.yaml lists with `use: vrf`; whom an .absence file is about is read from standard input, because it
does not say so.
"""

import argparse
import json
import pathlib
import sys

import absence
from tlog import MAX_PATH, PLAIN, Checkpoint, Key, Note, Policy, PolicyFault, Refused
from tlog import decimal, leaf_hash, root_of, unbase64, utf8
from verify import Avro, rfc3339
from verify import Refused as Malformed

SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "schemas/bus/audit.v1.avsc"
HEADER, COMPLETE = "c2sp.org/tlog-proof@v1", "mianzheng/witness/complete/v1"
MALFORMED = "LEDGER_PROOF_MALFORMED"
MAX_EXTRA, MAX_PROOF = 64 * 1024, 3 * 64 * 1024 + 4096


# ---------------------------------------------------------------- entries (sections 1 and 2)


def value(reader, schema, names):
    """One Avro value of the kinds that records of the bus have."""
    schema = names.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        return value(reader, schema[reader.index(len(schema))], names)
    if not isinstance(schema, dict):
        schema = {"type": schema}
    if "name" in schema:
        names[schema["name"]] = schema
    match schema["type"]:
        case "record":
            return {field["name"]: value(reader, field["type"], names) for field in schema["fields"]}
        case "enum":
            return schema["symbols"][reader.index(len(schema["symbols"]))]
        case "fixed":
            return reader.take(schema["size"])
        case "null":
            return None
        case "int":
            return reader.int()
        case "long":
            return reader.long()
        case "string":
            return reader.string()
        case "bytes":
            return reader.bytes()
        case dict() | list() as other:
            return value(reader, other, names)
        case other if other in names:
            return value(reader, names[other], names)
        case other:
            raise ValueError(f"no such type: {other}")


def audit_record(entry, schema):
    """Entries of kind 01 hold the value of a record of bus.audit."""
    reader = Avro(entry[1:], MALFORMED)
    try:
        record = value(reader, schema, {}) if entry[:1] == b"\x01" else {}
    except Malformed:
        record = {}
    if record.get("version") != 1 or reader.at != len(entry) - 1:
        raise Refused(MALFORMED, "the entry is no audit record")
    return record


def told(record):
    """What a verifier tells a person about an audit record."""
    writer, bits = record["writer"].lower(), record["fields"]
    positions = [i for i in range(8 * len(bits)) if bits[i // 8] >> (i % 8) & 1]
    try:
        at = rfc3339(record["at_ms"])
    except OverflowError:
        at = record["at_ms"]
    texts = ("agreement", "consumer", "purpose", "dataset", "rule", "operator", "reason", "lane")
    return {name: record[name] for name in texts} | {
        "audit_id": f"{writer}-{record['lane']}-{record['number']}",
        "at": at,
        "kind": record["kind"].lower(),
        "cause": record["cause"].lower(),
        "fields": positions,
        "contract": record["contract"].hex(),
        "event": record["event"].hex(),
        "sequence": record["output_sequence"],
    }


# ---------------------------------------------------------------- .tlog-proof (section 4)


def verify_proof(data, policy, schema):
    def malformed(what):
        raise Refused(MALFORMED, what)

    text = utf8(data) if len(data) <= MAX_PROOF else None
    head, blank, note = (text or "").partition("\n\n")
    lines = head.split("\n")
    if not blank or len(lines) < 3 or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        malformed("not a proof with its entry")
    entry, index = unbase64(lines[1][6:]), decimal(lines[2][6:])
    path = [unbase64(line, 32) for line in lines[3:]]
    if not entry or len(entry) > MAX_EXTRA or index is None or None in path or len(path) > MAX_PATH:
        malformed("entry, index or a hash")
    note = Note(note.encode(), MALFORMED)
    said = Checkpoint(note, MALFORMED)
    if not policy.signed_by_log(note, said.origin):
        raise Refused("LEDGER_KEY_UNKNOWN", "no log of the policy signed the checkpoint")
    if root_of(leaf_hash(entry), index, said.size, path) != said.root:
        raise Refused("LEDGER_PROOF_WRONG", "the entry is not under the checkpoint")
    facts = told(audit_record(entry, schema))
    witnesses = policy.cosigned(note)
    return facts | {"log": said.origin, "entry": index, "size": said.size, "witnesses": witnesses}


# ---------------------------------------------------------------- "complete" (section 4)


def verify_complete(data, policy):
    code = "WITNESS_COSIGNATURE_MALFORMED"
    note = Note(data, code)
    first, *lines = note.text[:-1].split("\n")
    if first != COMPLETE or len(lines) < 4:
        raise Refused(code, "not a statement of a witness")
    origin, size, root, department, *rest = lines
    pairs = [line.split(" ") for line in rest]
    lanes = [(decimal(pair[0], 0, 2**16 - 1), decimal(pair[1])) for pair in pairs if len(pair) == 2]
    wrong = None in sum(lanes, ()) or len(lanes) != len(rest)
    if wrong or decimal(size) is None or unbase64(root, 32) is None:
        raise Refused(code, "a number or the root")
    if any(one[0] >= next_one[0] for one, next_one in zip(lanes, lanes[1:])):
        raise Refused(code, "lanes ascend")
    # The same public keys as the policy's witnesses, for a plain signature: another key hash.
    keys = [Key(key.name, PLAIN, key.public) for key in policy.witnesses.values()]
    signers = [(key.name, note.signed(key)) for key in keys]
    names = [name for name, signed in signers if signed]
    if not names or any(signed is False for _, signed in signers):
        raise Refused("WITNESS_KEY_UNKNOWN", "no witness of the policy signed the statement")
    bus = origin.partition("/audit/")[0]
    if f"{bus}/witness/{department}" not in names:
        raise Refused("WITNESS_ORIGIN_FOREIGN", "another department's key")
    return {"log": origin, "size": int(size), "root": root, "department": department, "lanes": dict(lanes)}


# ---------------------------------------------------------------- one file


def outcome(data, policy, schema, person="", label_keys=()):
    """The facts that a file proves, or why it proves none."""
    try:
        if data.startswith(absence.HEADER.encode()):
            facts = {"form": "absence"} | absence.verify(data, policy, person, label_keys)
        elif data.startswith(COMPLETE.encode()):
            facts = {"form": "complete"} | verify_complete(data, policy)
        elif data.startswith(HEADER.encode() + b"\n"):
            facts = {"form": "tlog-proof"} | verify_proof(data, policy, schema)
        else:
            raise Refused(MALFORMED, "a file of no known form")
    except Refused as refused:
        return {"verdict": "refused", "code": refused.code, "why": str(refused)}
    return {"verdict": "verified"} | facts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--policy", required=True, type=pathlib.Path)
    parser.add_argument("--schema", default=SCHEMA, type=pathlib.Path, help="audit.v1.avsc")
    parser.add_argument("--label-key", action="append", default=[], metavar="BASE64")
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    try:
        policy = Policy(args.policy.read_bytes())
    except PolicyFault as fault:
        parser.error(str(fault))
    labels = [unbase64(text, 32) or parser.error("a label's key is base64 of 32 bytes") for text in args.label_key]
    schema = json.loads(args.schema.read_text())
    files = [(path, path.read_bytes()) for path in args.files]
    asks = any(data.startswith(absence.HEADER.encode()) for _, data in files)
    person = sys.stdin.readline().strip().upper() if asks else ""
    if not person.isascii():
        parser.error("an identity number is ASCII")
    good = True
    for path, data in files:
        said = outcome(data, policy, schema, person, labels)
        good = good and said["verdict"] == "verified"
        print(json.dumps({"file": str(path)} | said, ensure_ascii=False))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
