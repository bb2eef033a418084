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
    magic, version, nr, sector = struct.unpack("<QQQI", log.read(28))
    if magic != MAGIC or version != 1:
        sys.exit("not a write log")
    size = os.fstat(log.fileno()).st_size
    at = sector
    for i in range(nr):
        log.seek(at)
        head = log.read(sector)
        if len(head) != sector:
            sys.exit(f"entry {i} is cut off")
        where, count, flags, mark = struct.unpack_from("<QQQQ", head)
        at += sector
        data = None
        if flags & MARK:
            data = head[32 : 32 + mark]
        elif count and not flags & DISCARD:
            data = log.read(count * sector)
            if len(data) != count * sector:
                sys.exit(f"the data of entry {i} are cut off")
            at += count * sector
        yield i, where * sector, count * sector, flags, data
    if at > size:
        sys.exit("the log is shorter than its entries")


def replay(log, image, limit):
    with open(image, "r+b") as f:
        for i, offset, length, flags, data in entries(log):
            if i >= limit:
                break
            f.seek(offset)
            if flags & DISCARD:
                f.write(b"\0" * length)
            elif data and not flags & MARK:
                f.write(data)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as log:
        if sys.argv[2] == "list":
            names = {FLUSH: "flush", FUA: "fua", DISCARD: "discard", MARK: "mark"}
            for i, offset, length, flags, data in entries(log):
                text = " ".join(n for bit, n in names.items() if flags & bit) or "write"
                print(i, offset, length, text, data.decode() if flags & MARK else "")
        elif sys.argv[2] == "flushes":
            for i, _, _, flags, _ in entries(log):
                if flags & (FLUSH | FUA):
                    print(i if flags & FLUSH else i + 1)
        elif sys.argv[2] == "replay":
            limit = int(sys.argv[4]) if len(sys.argv) > 4 else sys.maxsize
            replay(log, sys.argv[3], limit)
        else:
            sys.exit(__doc__)


main()
