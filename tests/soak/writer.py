#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A writer of the kill soak: makes calls until one fails or it is told to stop by SIGTERM.

usage: writer.py DIRECTORY BASE LOG WRITER ROUND SEED [WRITE-LOG]

BASE is the pickled beginning; LOG gets a record before and after each call. Exit status 0: told to stop
and all files closed; 1: a call failed (it is in the log); 2: something was read that was not written.
"""
import os
import pickle
import signal
import struct
import sys
import time

sys.dont_write_bytecode = True
import oracle  # noqa: E402


class Log:
    def __init__(self, path, write_log):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self.wl = os.open(write_log, os.O_RDONLY) if write_log else None

    def entries(self):
        """How many entries the write log has: read twice, since it is being written."""
        if self.wl is None:
            return 0
        last = None
        while True:
            now = struct.unpack("<Q", os.pread(self.wl, 8, 16))[0]
            if now == last:
                return now
            last = now

    def put(self, kind, nr, code=0):
        # Whatever the moment is used for, the interval between begin and end is rather too long.
        if kind == oracle.BEGIN:
            entries, ns = self.entries(), time.monotonic_ns()
        else:
            ns = time.monotonic_ns()
            entries = self.entries()
        os.write(self.fd, oracle.RECORD.pack(kind, nr, ns, entries, code))


def main():
    top, base, log, wid, rnd, seed = sys.argv[1:7]
    with open(base, "rb") as f:
        gen = oracle.Gen(int(wid), int(rnd), seed, oracle.clone(pickle.load(f)))
    log = Log(log, sys.argv[7] if len(sys.argv) > 7 else None)
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    doer = oracle.Doer(top, gen)
    nr, finishing = 0, False
    while True:
        if stop and not finishing:
            finishing = True
            log.put(oracle.FINISH, nr)
            gen.finish()
        if finishing and not gen.queue:
            return 0
        op = gen.next()
        log.put(oracle.BEGIN, nr)
        try:
            doer.do(op)
        except OSError as e:
            log.put(oracle.FAILED, nr, e.errno or 0)
            print(f"call {nr} {oracle.short(op)}: {e}", flush=True)
            return 1
        except oracle.WrongContent as e:
            log.put(oracle.WRONG, nr)
            print(f"call {nr}: {e}", flush=True)
            return 2
        log.put(oracle.END, nr)
        for _ in gen.apply(op):
            pass
        nr += 1


sys.exit(main())
