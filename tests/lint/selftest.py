#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shows that every lint check bites: it passes a small clean tree and finds each planted fault.

Goal: a check that finds nothing any more fails here. Method: for each row, the
clean tree with one file added or replaced; the check must name that file.
usage: selftest.py ROOT CC...   (prints TAP)
"""
import os
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import lint  # noqa: E402

SPDX = "// SPDX-License-Identifier: LGPL-2.1-or-later\n"
CLEAN = {
    "include/bcfs/bcfs.h": SPDX + "#ifndef B\n#define B\nint bcfs_open(const char *path);\n#endif\n",
    "include/bcfs/format/types.h": SPDX + "#include <stdint.h>\n",
    "src/util/a.h": SPDX + '#ifndef A\n#define A\n#include "bcfs/format/types.h"\n'
                           "uint8_t a(void);\n#endif\n",
    "src/util/a.c": SPDX + '#include "util/a.h"\n\n/* time(NULL) in words is no call */\n'
                           'uint8_t a(void)\n{\n\treturn sizeof("pread(") + 1;\n}\n',
    "src/env/real.c": SPDX + "#include <pthread.h>\n#include <time.h>\n",
    "src/dev/uring.c": SPDX + "#include <pthread.h>\n\nint io(void);\n\n"
                              "int io(void)\n{\n\treturn pread(0, 0, 0, 0);\n}\n",
    "src/util/grow.c": SPDX + "int grow(void);\n\nint grow(void)\n{\n\treturn !malloc(1);\n}\n",
    "src/btree/b.c": SPDX + '#include "util/a.h"\n\nint b(struct ops *o);\n\n'
                            "int b(struct ops *o)\n{\n\treturn o->read(o) + o->time(o);\n}\n",
    "src/core/api.c": SPDX + '#include "bcfs/bcfs.h"\n#include "btree/b.h"\n',
    "src/util/planted.def": "x(short_one, util, 3, \"what\")\nx(late_one, btree, 0, \"what\")\n",
    "src/util/p.c": SPDX + "bool p(void);\n\nbool p(void)\n{\n"
                           "\treturn planted(short_one) || planted(late_one);\n}\n",
    "src/btree/b.h": SPDX + "#ifndef BB\n#define BB\n#endif\n",
    "fuse/own.h": SPDX + "#ifndef O\n#define O\n#endif\n",
    "fuse/main.c": SPDX + '#include "bcfs/bcfs.h"\n#include "own.h"\n',
    "tests/unit/rand.h": SPDX + "#ifndef R\n#define R\n#endif\n",
    "tests/unit/btree/t.c": SPDX + '#include "../rand.h"\n#include "btree/b.h"\n',
    "meson.build": "# SPDX-License-Identifier: LGPL-2.1-or-later\n",
}

LONG = "int f(void);\n\nint f(void)\n{\n" + "\tf();\n" * 101 + "}\n"

# (check, file with the fault, its text)
FAULTS = [
    ("format", "src/util/x.c", SPDX + "int  x ;\n"),
    ("format", "tests/unit/util/x.c", SPDX + "static int x(void) {\n    return 0;\n}\n"),
    ("layers", "src/util/x.c", SPDX + '#include "btree/b.h"\n'),
    ("layers", "src/btree/x.c", SPDX + '#include "core/api.h"\n'),
    ("layers", "src/btree/x.c", SPDX + '#  include   "fs/x.h"\n'),
    ("layers", "src/btree/x.c", SPDX + '#include "b.h"\n'),
    ("layers", "src/btree/x.c", SPDX + '#include "../util/a.h"\n'),
    ("layers", "src/btree/x.c", SPDX + '#include "bcfs/bcfs.h"\n'),
    ("layers", "src/snapshot/x.c", SPDX + "#include <bcfs/bcfs.h>\n"),
    ("layers", "src/fs/x.c", SPDX + "#include <fuse_lowlevel.h>\n"),
    ("layers", "src/stray.c", SPDX),
    ("layers", "src/nolayer/x.c", SPDX),
    ("layers", "include/bcfs/format/x.h", SPDX + '#include "util/a.h"\n'),
    ("layers", "include/bcfs/bcfs.h", SPDX + '#include "bcfs/format/types.h"\n'),
    ("layers", "fuse/x.c", SPDX + '#include "fs/inode.h"\n'),
    ("layers", "mkfs/x.c", SPDX + '#include "bcfs/format/types.h"\n'),
    ("layers", "cli/x.c", SPDX + '#include "../fuse/missing.h"\n'),
    ("layers", "tests/unit/util/x.c", SPDX + '#include "btree/b.h"\n'),
    ("headers", "src/util/x.h", SPDX + "static inline u64 x(u64 v)\n{\n\treturn v;\n}\n"),
    ("headers", "src/util/x.h", SPDX + "struct x {\n\tint y;\n};\n"),
    ("headers", "include/bcfs/format/x.h", SPDX + '#include "gone.h"\n'),
    ("headers", "include/bcfs/bcfs.h", SPDX + "#ifndef B\n#define B\n#include <stddef.h>\n"
                                              "struct b {\n\tint x[0];\n};\n#endif\n"),
    ("env", "src/btree/x.c", SPDX + "long x(void)\n{\n\treturn time(NULL);\n}\n"),
    ("env", "src/util/x.c", SPDX + "void x(void)\n{\n\tclock_gettime (0, p);\n}\n"),
    ("env", "src/fs/x.c", SPDX + "int x(void)\n{\n\treturn rand();\n}\n"),
    ("env", "src/codec/x.c", SPDX + "void x(void)\n{\n\trandombytes_buf(p, 8);\n}\n"),
    ("env", "src/data/x.c", SPDX + "void x(void)\n{\n\tif (!pread(fd, p, 8, 0))\n\t\treturn;\n}\n"),
    ("env", "src/journal/x.c", SPDX + "void x(void)\n{\n\tpthread_mutex_lock(m);\n}\n"),
    ("env", "src/journal/x.h", SPDX + "struct x {\n\tpthread_mutex_t lock;\n};\n"),
    ("env", "src/alloc/x.c", SPDX + "#include <pthread.h>\n"),
    ("env", "src/core/x.c", SPDX + "void x(void)\n{\n\tusleep(1);\n}\n"),
    ("env", "src/core/x.c", SPDX + "void x(void)\n{\n\tp = malloc(1);\n}\n"),
    ("env", "src/dev/x.c", SPDX + "void x(void)\n{\n\tclock_gettime(0, p);\n}\n"),
    ("spdx", "src/util/x.c", "int x;\n"),
    ("spdx", "tests/x.py", "#!/usr/bin/env python3\n"),
    ("spdx", "src/util/meson.build", "src += files()\n"),
    ("spdx", "src/util/x.h", "// SPDX-License-Identifier: GPL-2.0\n"),
    ("planted", "src/util/planted.def", "x(late_one, btree, 0, \"what\")\n"
                                        "x(short_one, util, 3, \"what\")\n"
                                        "x(no_place, util, 1, \"what\")\n"),
    ("planted", "src/util/planted.def", "x(late_one, btree, 0, \"what\")\n"
                                        "x(short_one, util, 12, \"what\")\n"),
    ("planted", "src/util/planted.def", "x(late_one, btree, 0, \"what\")\n"
                                        "x(short_one, nolayer, 1, \"what\")\n"),
    ("planted", "src/util/planted.def", "x(late_one, btree, 0, \"what\")\n" * 2 +
                                        "x(short_one, util, 1, \"what\")\n"),
    ("planted", "src/fs/x.c", SPDX + "bool x(void);\n\nbool x(void)\n{\n"
                                     "\treturn planted(no_row);\n}\n"),
    ("planted", "src/util/x.c", SPDX + "bool x(void);\n\nbool x(void)\n{\n"
                                       "\treturn planted(late_one);\n}\n"),
    ("words", "src/util/x.c", SPDX + "/* TODO: later */\n"),
    ("words", "fuse/x.c", SPDX + "int x; // FIXME\n"),
    ("words", "include/bcfs/format/x.h", SPDX + "/* XXX */\n"),
    ("sizes", "src/util/x.c", SPDX + LONG),
    ("sizes", "src/util/x.c", SPDX + "int x;\n" * 1000),
]


def write_tree(root, tree):
    for path, text in tree.items():
        where = os.path.join(root, path)
        os.makedirs(os.path.dirname(where) or root, exist_ok=True)
        with open(where, "w", encoding="utf-8") as f:
            f.write(text)


def run_check(name, root, cc):
    args = cc if name == "headers" else []
    return lint.CHECKS[name](root, *args)


def build_library(where, cc, source):
    """A shared library of one source; its path."""
    lib = os.path.join(where, "lib.so")
    subprocess.run([*cc, "-shared", "-fPIC", "-x", "c", "-", "-o", lib], input=source, text=True,
                   check=True)
    return lib


def tree_case(source_root, cc, name, fault):
    """The problems a check finds in the clean tree with one fault, None for none."""
    with tempfile.TemporaryDirectory() as root:
        shutil.copy(os.path.join(source_root, ".clang-format"), root)
        write_tree(root, CLEAN)
        write_tree(root, fault)
        return run_check(name, root, cc)


def exports_case(cc, source):
    with tempfile.TemporaryDirectory() as root:
        write_tree(root, CLEAN)
        return lint.check_exports(root, build_library(root, cc, source))


def main():
    source_root, cc = sys.argv[1], sys.argv[2:] or ["cc"]
    results = []  # (ok, text, problems)

    def add(text, want_bad, path, problems):
        if want_bad:
            ok = any(path in p for p in problems)
        else:
            ok = not problems
        results.append((ok, text, problems))

    skipped = set()
    for name in lint.CHECKS:
        if name == "exports":
            continue
        try:
            add(f"{name}: the clean tree passes", False, "", tree_case(source_root, cc, name, {}))
        except lint.Skip:
            skipped.add(name)
    for nr, (name, path, text) in enumerate(FAULTS):
        if name not in skipped:
            add(f"{name}: fault {nr} in {path}", True, path,
                tree_case(source_root, cc, name, {path: text}))

    add("exports: bcfs_* pass", False, "", exports_case(cc, "int bcfs_x(void) { return 0; }\n"))
    add("exports: another name", True, "inner",
        exports_case(cc, "int bcfs_x(void) { return 0; } int inner(void) { return 0; }\n"))
    add("exports: a variable", True, "table",
        exports_case(cc, "int bcfs_x(void) { return 0; } int table[4] = {1};\n"))
    add("exports: planted bugs", True, "planted_chosen", exports_case(
        cc, "__attribute__((visibility(\"hidden\"))) int planted_chosen = 1;\n"
            "int bcfs_x(void) { return planted_chosen; }\n"))
    add("exports: nothing", True, "nothing", exports_case(cc, "static int x;\n"))
    add("exports: no library", True, "gone",
        lint.check_exports(source_root, os.path.join(source_root, "gone.so")))

    print(f"1..{len(results)}")
    for nr, (ok, text, problems) in enumerate(results, 1):
        print(f"{'ok' if ok else 'not ok'} {nr} {text}")
        if not ok:
            print("\n".join(f"# {line}" for p in problems for line in p.splitlines()) or
                  "# nothing was found")
    return 0 if all(ok for ok, _, _ in results) else 1


sys.exit(main())
