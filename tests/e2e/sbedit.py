#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Changes a field of every superblock copy of an image, checksums kept right.

usage: sbedit.py IMAGE version|incompat|error VALUE   (error: that one was met)
       sbedit.py IMAGE options BITS                   (of words of options: these change)
       sbedit.py IMAGE label TEXT                     (any bytes, of which 32 count)
       sbedit.py IMAGE areas                          (prints where the copies lie: bytes, lengths)
"""
import os
import struct
import sys

FIELDS = {"version": (48, "<H"), "incompat": (232, "<Q"), "error": (168, "<Q"),
          "label": (104, "32s"), "options": (176, "<Q")}


def crc32c(data):
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    crc = 0xFFFFFFFF
    for b in data:
        crc = crc >> 8 ^ table[(crc ^ b) & 255]
    return crc ^ 0xFFFFFFFF


def print_areas(path):
    with open(path, "rb") as f:
        f.seek(4096)
        sb = f.read(4096)
    for off in struct.unpack_from("<8Q", sb, 320)[:sb[312]]:
        print(off * 512, 512 << sb[313])


def main():
    path, field = sys.argv[1], sys.argv[2]
    if field == "areas":
        print_areas(path)
        return
    new = os.fsencode(sys.argv[3]) if field == "label" else int(sys.argv[3], 0)
    where, form = FIELDS[field]
    with open(path, "r+b") as f:
        f.seek(4096)
        sb = f.read(4096)
        nr_copies = sb[312]
        offsets = struct.unpack_from("<8Q", sb, 320)[:nr_copies]
        for off in offsets:
            f.seek(off * 512)
            sb = bytearray(f.read(4096))
            size = 384 + 8 * struct.unpack_from("<I", sb, 148)[0]
            f.seek(off * 512)
            sb = bytearray(f.read(size))
            old = struct.unpack_from("<I", sb)[0]
            if crc32c(sb[32:]) != old:
                sys.exit(f"the superblock at sector {off} has another checksum than thought")
            value = new
            if field == "error":
                value = struct.unpack_from(form, sb, where)[0] & ~4 | (4 if new else 0)
            if field == "options":
                value ^= struct.unpack_from(form, sb, where)[0]
            struct.pack_into(form, sb, where, value)
            struct.pack_into("<I", sb, 0, crc32c(sb[32:]))
            f.seek(off * 512)
            f.write(sb)


main()
