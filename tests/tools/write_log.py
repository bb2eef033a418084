#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a write log in the format of dm-log-writes and replays it onto an image.

usage: write_log.py LOG list
       write_log.py LOG replay IMAGE [ENTRIES]   apply the first ENTRIES (default: all)
       write_log.py LOG flushes                  numbers of entries in front of which all is durable

Written from the format's description alone, so that it is a second opinion on the writer.
"""
import os
import struct
import sys

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


def entries(log):
    """[(offset, length, flags, where its data are in the log, text of a mark)]"""
    log.seek(0)
    magic, version, nr, sector = struct.unpack("<QQQI", log.read(28))
    if magic != MAGIC or version != 1:
        sys.exit("not a write log")
    size = os.fstat(log.fileno()).st_size
    at = sector
    found = []
    for i in range(nr):
        log.seek(at)
        head = log.read(sector)
        if len(head) != sector:
            sys.exit(f"entry {i} is cut off")
        where, count, flags, mark = struct.unpack_from("<QQQQ", head)
        at += sector
        text = head[32 : 32 + mark].decode() if flags & MARK else ""
        found.append((where * sector, count * sector, flags, at, text))
        if not flags & (DISCARD | MARK):
            at += count * sector
    if at > size:
        sys.exit("the log is shorter than its entries")
    return found


def replay(log, image, some, without=()):
    """Applies the entries whose numbers are in the range, but those in without."""
    every = entries(log)
    with open(image, "r+b") as f:
        for i in some:
            if i >= len(every):
                break
            offset, length, flags, at, _ = every[i]
            if i in without or flags & MARK or not length:
                continue
            log.seek(at)
            f.seek(offset)
            f.write(b"\0" * length if flags & DISCARD else log.read(length))


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as log:
        if sys.argv[2] == "list":
            names = {FLUSH: "flush", FUA: "fua", DISCARD: "discard", MARK: "mark"}
            for i, (offset, length, flags, _, mark) in enumerate(entries(log)):
                text = " ".join(n for bit, n in names.items() if flags & bit) or "write"
                print(i, offset, length, text, mark)
        elif sys.argv[2] == "flushes":
            for i, (_, _, flags, _, _) in enumerate(entries(log)):
                if flags & (FLUSH | FUA):
                    print(i if flags & FLUSH else i + 1)
        elif sys.argv[2] == "replay":
            replay(log, sys.argv[3], range(int(sys.argv[4]) if len(sys.argv) > 4 else sys.maxsize))
        else:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
