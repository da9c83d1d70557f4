#!/usr/bin/env python3
# fmt: off
# ruff: noqa: B023, B905, E401, I001, PTH112, PTH114, PTH118, SIM905
"""Check a guiju run without guiju (Python 3.11 or later, nothing else): python3 verify.py RUN [--against NOTE] [--json]

Recomputes every entry, the chain, the tree (RFC 6962), the signature (Ed25519, RFC 8032), the digest of each file, and
each finding from the measurement that it cites. NOTE is a signed note of this run kept elsewhere: without one, nobody
sees that whoever holds the key has rewritten or shortened the whole run. Exit code: 0 all holds, 1 something does not,
2 the question makes no sense. The formats are specified in docs/evidence.md.
"""
import argparse, base64, datetime, decimal, hashlib, json, math, os, re, stat, sys
ENTRIES, NOTE, KEYS, ELSEWHERE = "ledger/entries.jsonl", "ledger/note", "ledger/keys.pub", "the note kept elsewhere"
KINDS = """run-created stage-started stage-finished source-registered sample-drawn plan training-event checkpoint
    measurement generation cost attestation finding recovered run-finished""".split()
FORMS = {name: dict(field.split(":") for field in text.split()) for name, text in {  # t text, b true or false, c count,
    "entry": "index:c time:t kind:t actor:t reason:t inputs:d outputs:d body:d previous:t",  # f figure, d dict, l list
    "measurement": "measure:t what:t count:c0 n:c0 value:ft0 unit:t sampled:b details:d",  # 0 null
    "finding": "standard:t edition:t as_of:t clause:t verdict:t method:t confidence:t count:c0 n:c0 estimate:f0 low:f0 "
               "high:f0 verified_by:t0 note:t0 meets_letter:b0 supported:b0 evidence:l threshold:dl0"}.items()}
LETTERS = {str: "t", bool: "b", float: "f", dict: "d", list: "l", type(None): "0"}
LONGEST_LINE, FROM_BEST = 4 << 20, ["pass", "not-assessed", "needs-person", "inconclusive", "fail"]

def need(holds, message):
    if not holds:
        raise ValueError(message)

# ---- Ed25519 (RFC 8032) on points (X, Y, Z, T): x = X/Z, y = Y/Z, xy = T/Z
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
def add(a, b):
    m, n = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    return (n - m) * (d - c) % P, (d + c) * (n + m) % P, (d - c) * (d + c) % P, (n - m) * (n + m) % P
def times(scalar, point):
    result = (0, 1, 1, 0)
    for bit in bin(scalar)[2:]:
        result = add(add(result, result), point) if bit == "1" else add(result, result)
    return result
def point_of(data):
    """The point that 32 bytes stand for; None where they stand for none, or are not its one spelling."""
    sign, y = divmod(int.from_bytes(data, "little"), 1 << 255)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        return None
    x = x if x % 2 == sign else P - x
    return x, y, 1, x * y % P
BASE = point_of((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
def signature_holds(public, message, signature):
    key, s = point_of(public), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= L or key is None or times(8, key)[0] == 0:  # a point of small order is no key
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    x, y, z, _ = add(times(s, BASE), times(L - k, key))
    x, y = x * pow(z, -1, P) % P, y * pow(z, -1, P) % P
    return (y | x % 2 << 255).to_bytes(32, "little") == signature[:32]

# ---- notes and keys (C2SP signed-note and tlog-checkpoint), each in its one spelling; the tree (RFC 6962, 2.1)
def unbase64(text):
    raw = base64.b64decode(text)
    need(base64.b64encode(raw).decode() == text, "its base64 has stray bits")
    return raw
def read_key(data):
    found = re.fullmatch(r"([!-*,-~]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})\n", data.decode())
    need(found, "it is no line NAME+HASH+KEY")
    raw = unbase64(found[3])
    own_hash = hashlib.sha256(found[1].encode() + b"\n" + raw).hexdigest()[:8]
    need(raw[0] == 1 and own_hash == found[2], "it is no Ed25519 key, or has not the hash of its name and key")
    return found[1], found[0][:-1], raw[1:], bytes.fromhex(found[2])
def read_note(data, key):
    form = "(([^\n]+)\n([1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n)\n\u2014 ([^ \n]+) ([A-Za-z0-9+/]{91}=)\n"
    found = re.fullmatch(form, data.decode())
    need(found and found[5] == found[2], "it is no signed note")
    signature = unbase64(found[6])
    need(not key or found[2] == key[0], f"it is about {found[2]}, and this is another run")
    signed = not key or (signature[:4] == key[3] and signature_holds(key[2], found[1].encode(), signature[4:]))
    need(signed, f"its signature is not one of the key in {KEYS}")
    return int(found[3]), unbase64(found[4])
def leaf_of(line):
    return hashlib.sha256(b"\0" + line.removesuffix(b"\n")).digest()
def root_of(leaves):
    k = 1 << max(0, (len(leaves) - 1).bit_length() - 1)
    return leaves[0] if len(leaves) == 1 else hashlib.sha256(b"\1" + root_of(leaves[:k]) + root_of(leaves[k:])).digest()

# ---- canonical JSON (RFC 8785)
def number(x):
    """As ECMAScript writes a double."""
    if x == 0 or not math.isfinite(x):
        return "0" if x == 0 else "no number"
    minus, digits, exponent = decimal.Decimal(repr(x)).normalize().as_tuple()
    text, point, minus = "".join(map(str, digits)), len(digits) + exponent, "-" * minus
    if 0 < point <= 21:
        return minus + text.ljust(point, "0")[:point] + ("." + text[point:] if text[point:] else "")
    if -6 < point <= 0:
        return minus + "0." + "0" * -point + text
    return f"{minus}{text[0]}{'.' if text[1:] else ''}{text[1:]}e{point - 1:+d}"
def written(value):
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(written(key) + ":" + written(value[key]) for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return number(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
def read(line):
    """The data of a canonical line. Python writes the same form, save some numbers, and keys beyond the basic plane."""
    odd = []
    def real(literal):
        value = float(literal)
        plain = repr(value) == literal and "e" not in literal and not literal.endswith(".0")
        need(plain or number(value) == literal, "a number is not in its canonical form")
        odd.extend([literal] * (not plain))
        return value
    def whole(literal):
        return int(literal) if len(literal) < 16 or abs(int(literal[:99])) < 2**53 else real(literal)
    need(line.endswith(b"\n") and len(line) <= LONGEST_LINE, "it is cut off, or too long")
    text = line[:-1].decode()
    data = json.loads(text, parse_float=real, parse_int=whole, parse_constant=real)
    odd += re.findall("[\U00010000-\U0010ffff]", text)
    again = written(data) if odd else json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    need(again == text, "it is not in canonical form")
    return data

# ---- entries: their form, and whether a finding follows from the measurement that it cites
def fits(value, letters):
    letter = LETTERS.get(type(value))
    return letter in letters if letter else type(value) is int and ("f" in letters or ("c" in letters and value >= 0))
def check_form(data, name):
    need(type(data) is dict and data.keys() >= FORMS[name].keys(), f"it lacks a field of a {name}")
    need(all(fits(data[field], letters) for field, letters in FORMS[name].items()), f"a field of the {name} is no such")
def check_entry(entry):
    check_form(entry, "entry")
    need(len(entry) == 9 and entry["kind"] in KINDS, "it has fields too many, or its kind is not known")
    need((entry["kind"] == "run-created") == (entry["index"] == 0), "a run is created by entry 0 and by no other")
    need(re.fullmatch(r"(?a)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", entry["time"]), "its time is none")
    datetime.datetime.fromisoformat(entry["time"])
    digests = [entry["previous"], *entry["inputs"].values(), *(d for d in entry["outputs"].values() if d is not None)]
    need(all(type(d) is str and re.fullmatch("[0-9a-f]{64}", d) for d in digests), "one of its digests is none")
    parts = [path.split("/") for path in entry["outputs"]]
    need(not any(p[0] == "ledger" or {"", ".", ".."} & set(p) or "\0" in "".join(p) for p in parts), "a path leads out")
    if entry["kind"] in FORMS:
        check_form(entry["body"], entry["kind"])
        count, n, sampled = entry["body"]["count"], entry["body"]["n"], entry["body"].get("sampled")
        need(count is None or (n is not None and count <= n <= (10**7 if sampled else n)), f"it counts {count} of {n}")
def edge(k, n):
    """The p at which k or more of n happen with a probability of 2.5 %: Clopper and Pearson's lower bound."""
    low, high = 0.0, k / n
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    for _ in range(60 if k else 0):
        p, j, tail = (low + high) / 2, k, 0.0
        term = math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p)) if 0 < p < 1 else 0.0
        while term > tail * 1e-17 and j <= n:
            tail, term, j = tail + term, term * (n - j) / (j + 1) * p / (1 - p), j + 1
        low, high = (p, high) if tail < 0.025 else (low, p)
    return low
def same(given, true):
    return given is true or (None not in (given, true) and math.isclose(given, true, rel_tol=1e-9, abs_tol=1e-9))
def figures_of(m):
    """count, n, estimate, low and high as a measurement gives them."""
    count, n = (m["count"], m["n"]) if m else (None, None)
    if count is None:
        return [None, n, *[m["value"] if m and fits(m["value"], "f") else None] * 3]
    rate = count / n if n else None
    return [count, n, rate, *((edge(count, n), 1 - edge(n - count, n)) if n and m["sampled"] else (rate, rate))]
def hold(part, m):
    """One bound of a clause against a measurement: the verdict, and whether the bare figure keeps the bound."""
    (count, n, rate, low, high), bound, sign = figures_of(m), part["value"], part["comparator"]
    what, population = part.get("part") or ("value" if count is None else "rate"), m and m["details"].get("population")
    actual = {"n": n, "rate": None if count is None else rate, "value": m and m["value"],
              "share": n / population if n is not None and fits(population, "c") and population else None}[what]
    if not fits(actual, "f"):
        return "not-assessed", False
    keeps = {"<=": actual <= bound, ">=": actual >= bound, "==": actual == bound}[sign]
    if what != "rate" or not m["sampled"]:
        return "pass" if keeps else "fail", keeps
    if sign == "==":  # a sample can only refute it, and one counter-example refutes "all" and "none"
        return "fail" if not low <= bound <= high or (bound in (0, 1) and not keeps) else "inconclusive", keeps
    good, bad = (high <= bound, low > bound) if sign == "<=" else (low >= bound, high < bound)
    return "pass" if good else "fail" if bad else "inconclusive", keeps

def check_finding(f, index, seen):
    several, single = type(f["threshold"]) is list, type(f["threshold"]) is dict
    parts = f["threshold"] if several else [f["threshold"]] * single
    for part in parts:
        need(type(part) is dict and part.get("comparator") in ("<=", ">=", "==") and fits(part.get("value"), "f")
             and part.get("part") in ("rate", "n", "share", "value", *[None] * (not several))
             and (not several or part.get("verdict") in FROM_BEST), "its threshold cannot be read")
    need(f["verdict"] in FROM_BEST and f["confidence"] in ("high", "medium", "low"), "verdict or confidence is none")
    need(all(fits(i, "c") and i < index for i in f["evidence"]), "it cites what is no entry before it")
    cited = [i for i in f["evidence"] if seen.get(i, " ")[0] == "measurement"]
    stated = [i for i in f["evidence"] if seen.get(i, " ")[0] == "attestation"]
    m = seen[cited[0]][1] if cited else None
    need(not m or (len(cited) == 1 and seen["measurement", m["measure"]] == cited[0]
         and f.get("measure") in (None, m["measure"])), "it does not rest on the one last measurement of its measure")
    need(all(seen[i][1].get("clause") == f["clause"] for i in stated), "it cites an attestation about another clause")
    method = "none" if m is None else "rate" if m["count"] is not None and m["sampled"] else "exact"
    figures, held = figures_of(m), [hold(part, m) for part in parts]
    given = [f[name] for name in ("count", "n", "estimate", "low", "high")]
    need(f["method"] in (method, "attested") and all(map(same, given, figures)), f"it should be {method}, {figures}")
    for part, (verdict, _) in zip(parts if several else [], held):
        given = [part.get(name) for name in ("count", "n", "actual", "low", "high")] if part["part"] == "rate" else []
        need(part["verdict"] == verdict and all(a is None or same(a, b) for a, b in zip(given, figures)), f"not {held}")
    by_figures = max((verdict for verdict, _ in held), key=FROM_BEST.index, default=None)
    by_person = None if not stated else "pass" if seen[stated[-1]][1].get("holds", True) is True else "fail"
    by_both = by_figures and by_person and max(by_figures, by_person, key=FROM_BEST.index)
    need(f["meets_letter"] in (None, bool(held) and all(keeps for _, keeps in held)), "its meets_letter is wrong")
    need(f["supported"] in (None, by_figures == "pass"), "its supported is wrong")
    unsure, verdict = f["confidence"] == "low" and not f["verified_by"], f["verdict"]
    if unsure or verdict in ("not-assessed", "needs-person"):  # to hold a verdict back takes a written reason
        good = verdict == "not-assessed" if unsure else by_figures in (None, verdict) or f["note"]
    else:
        good = verdict in ((by_person,) if f["method"] == "attested" else (by_figures, by_both))
    need(good, f"it says {verdict}, the figures {by_figures}, a person {by_person}" + ", of low confidence" * unsure)

# ---- the run
def content(path, as_digest=False):  # never through a link, and never waiting
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        need(stat.S_ISREG(os.fstat(file.fileno()).st_mode), "it is no plain file")
        return hashlib.file_digest(file, "sha256").hexdigest() if as_digest else file.read()

def check_run(run, against=None):
    """Problems as (entry, file, message), number of entries, number of files; `against`: the bytes of a note."""
    problems, blamed, links, manifest, seen, found, shift, time = [], {}, [], {}, {}, [], 0, ""
    def attempt(file, work, *inputs, entry=None):
        try:
            return work(*inputs)
        except (ValueError, OSError) as problem:
            problems.append((entry, os.fsencode(file).decode(errors="backslashreplace"), str(problem)))
    key = attempt(KEYS, lambda: read_key(content(f"{run}/{KEYS}")))
    note = attempt(NOTE, lambda: read_note(content(f"{run}/{NOTE}"), key))
    anchor = None if against is None else attempt(ELSEWHERE, read_note, against, key)
    lines = re.findall(b"[^\n]*\n|[^\n]+", attempt(ENTRIES, content, f"{run}/{ENTRIES}") or b"")
    leaves = list(map(leaf_of, lines))
    for index, line in enumerate(lines):
        links.append(None)  # the hash that this entry gives for the one before
        at = index
        try:
            entry = read(line)
            check_entry(entry)
            kind, body, link, says = entry["kind"], entry["body"], bytes.fromhex(entry["previous"]), entry["index"]
            before, shift = shift, says - index or shift
            at = says if 0 < says < index and link == leaves[says - 1] and leaves[says] != leaves[index] else index
            need(shift == before or says == index, f"around here an entry was taken out, put in or moved: {says}")
            links[-1], at = link, index
            need(entry["time"] >= time, "its time is before that of an entry in front of it")
            time = entry["time"]
            manifest.update({path: (digest, index) for path, digest in entry["outputs"].items()})
            seen.update({index: (kind, body), (kind, str(body.get("measure"))): index})
            need(kind != "run-created" or (body.get("format") == 1 and fits(body["format"], "c")), "it is no format 1")
            need(kind != "run-created" or not key or (body.get("origin"), body.get("key")) == key[:2], f"not of {KEYS}")
            if kind == "finding":
                check_finding(body, index, seen)
        except (ValueError, TypeError, RecursionError) as problem:
            blamed.setdefault(at, str(problem))
    broken = {i for i, link in enumerate(links) if link not in (None, leaves[i - 1] if i else bytes(32))}
    for i in sorted(broken - {i + 1 for i in broken - {0}}):  # two in a row: the entry between is at fault
        mended = lines[i].replace(links[i].hex().encode(), leaves[i - 1].hex().encode())  # the last has none behind it
        last = i + 1 == len(lines) and note == (i + 1, root_of([*leaves[:-1], leaf_of(mended)]))
        itself = i == 0 or i + 1 in broken or last
        blamed.setdefault(i - (not itself), "it does not fit into the chain: it is not what was written in its place")
    problems += [(index, ENTRIES, blamed[index]) for index in sorted(blamed)]
    for (size, root), name in [(note, NOTE)] * bool(note) + [(anchor, ELSEWHERE)] * bool(key and anchor):
        if size > len(lines):
            problems.append((len(lines), ENTRIES, f"the end is missing: {name} covers {size} entries"))
        elif root != root_of(leaves[:size]):
            last = None if blamed or name != NOTE else size - 1
            problems.append((last, ENTRIES, f"the first {size} entries are not those of {name}"))
        if size < len(lines) and name == NOTE:
            problems.append((size, ENTRIES, f"from this entry on nothing is signed: {NOTE} covers {size}"))
    for place, folders, files in os.walk(run, onerror=lambda e: attempt(os.path.relpath(e.filename, run), need, 0, e)):
        files += [name for name in folders if os.path.islink(os.path.join(place, name))]
        found += [os.path.relpath(os.path.join(place, name), run) for name in files]
    found = sorted(set(found) - {ENTRIES, NOTE, KEYS})
    for path in found:
        digest, entry = manifest.pop(path, None) or (None, None)
        text = f"its content is not what entry {entry} recorded" if digest else "no entry names this file"
        attempt(path, lambda: need(content(f"{run}/{path}", True) == digest, text), entry=entry)
    problems += [(entry, path, "it is missing") for path, (digest, entry) in sorted(manifest.items()) if digest]
    return problems, len(lines), len(found)

def main():
    parser = argparse.ArgumentParser(description="Check a guiju run without guiju.")
    parser.add_argument("run", help="the run folder")
    parser.add_argument("--against", metavar="NOTE", type=argparse.FileType("rb"), help="a signed note kept elsewhere")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    os.path.isdir(options.run) or parser.error(f"{options.run} is no folder; give a run folder, as runs/quickstart")
    problems, entries, files = check_run(options.run, options.against and options.against.read())
    if options.json:
        named = [dict(zip(("entry", "file", "message"), problem)) for problem in problems]
        print(json.dumps({"ok": not named, "problems": named, "entries": entries, "files": files}))
        return bool(problems)
    for entry, file, message in problems:
        print(f"{file}, entry {entry}: {message}".replace(", entry None", ""))
    print(f"{entries} entries, {files} files:", "NOT as recorded" if problems else "all is as recorded"
          + " (as far as anybody can see who has no note from elsewhere: --against NOTE)" * (not options.against))
    return bool(problems)

if __name__ == "__main__":
    sys.exit(main())
