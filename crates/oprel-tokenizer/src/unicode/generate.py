#!/usr/bin/env python3
"""Writes table.rs, the general categories of Unicode 15.1 as runs.

    pip install unicodedata2==15.1.0 && python3 generate.py > table.rs

15.1 and no other: it is the version whose tables the reference implementation carries, and a character that a later
version assigns is "unassigned" there.
"""
import unicodedata2 as ud

assert ud.unidata_version == "15.1.0"
CLASSES = "NLZMPSC"  # index 7: unassigned


def class_of(cp):
    category = ud.category(chr(cp))
    return 7 if category == "Cn" else CLASSES.index(category[0])


runs, start, current = [], 0, class_of(0)
for cp in range(1, 0x110001):
    c = class_of(cp) if cp < 0x110000 else -1
    if c != current:
        runs.append((cp - start) << 3 | current)
        start, current = cp, c

print("//! General categories of Unicode 15.1 as runs; written by `generate.py`, never by hand.")
print()
print("/// Runs in code point order: `length << 3 | class`, classes N L Z M P S C and unassigned.")
print("#[rustfmt::skip]")
print(f"pub(super) const RUNS: [u32; {len(runs)}] = [")
line = "   "
for r in runs:
    if len(line) + len(str(r)) + 2 > 100:
        print(line)
        line = "   "
    line += f" {r},"
print(line)
print("];")
