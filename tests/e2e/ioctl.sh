#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: what goes through ioctls is right, for those alone who may: collapse and insert of ranges
# (`bcfs collapse`, `bcfs insert`), flags and project ids over a remount, FITRIM, the shutdown in its
# three modes, the label.
# Method: ranges against a model in memory, with dirty pages in the cache and a mapping; the image's
# own blocks before and after a trim; a mount after each shutdown, and fsck.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "flags and shutdown are for root"
mkdir "$T/mnt"
make_image "$T/img" 256M
mount_image "$T/img" "$T/mnt" -o nodiscard

# ---- collapse and insert ----
ok_python "ranges against a model" "$T/mnt" "$bcfs" <<-'END'
	import mmap, os, random, subprocess, sys
	os.chdir(sys.argv[1])
	rnd = random.Random(1)
	def fill(n): return rnd.randbytes(n)
	for file in range(4):
	    model = bytearray(fill(rnd.randrange(100_000, 600_000)))
	    name = f"r{file}"
	    fd = os.open(name, os.O_RDWR | os.O_CREAT)
	    os.write(fd, model)
	    for step in range(25):
	        # Dirty pages, and pages only read, on both sides of the range.
	        at = rnd.randrange(len(model))
	        new = fill(min(rnd.randrange(1, 20000), len(model) - at))
	        os.pwrite(fd, new, at)
	        model[at:at + len(new)] = new
	        at = rnd.randrange(len(model))
	        assert os.pread(fd, 30000, at) == model[at:at + 30000]
	        blocks = len(model) // 4096
	        off, n = rnd.randrange(blocks) * 4096, rnd.randrange(1, 20) * 4096
	        mapped = mmap.mmap(fd, 4096, offset=off)
	        mapped[:3] = b"map"
	        model[off:off + 3] = b"map"
	        if rnd.randrange(2) and off + n < len(model):
	            how = "collapse"
	            del model[off:off + n]
	        else:
	            how = "insert"
	            model[off:off] = bytes(n)
	        subprocess.run([sys.argv[2], how, name, str(off), str(n)], check=True)
	        mapped.close()
	        assert os.fstat(fd).st_size == len(model)
	        got = os.pread(fd, len(model) + 1, 0)
	        if got != model:
	            bad = next(i for i in range(len(model)) if got[i] != model[i])
	            sys.exit(f"{name} step {step}: {how} {off} {n}: differs at {bad}")
	    os.close(fd)
END
cp "$T/mnt/r0" "$T/r0"
no "not whole blocks" "$bcfs" collapse "$T/mnt/r0" 4096 100
no "behind the end" "$bcfs" insert "$T/mnt/r0" 1G 4096
no "all of the file" "$bcfs" collapse "$T/mnt/r0" 0 1G
ok "nothing has changed" cmp "$T/r0" "$T/mnt/r0"
chmod 666 "$T/mnt/r0"
no "somebody else's file" setpriv --reuid 1000 --regid 1000 --clear-groups \
	"$bcfs" collapse "$T/mnt/r0" 0 4096
ok "it has not changed" cmp "$T/r0" "$T/mnt/r0"
no "not on bcfs" "$bcfs" insert "$T/r0" 0 4096

# ---- flags ----
mkdir "$T/mnt/dir"
echo a >"$T/mnt/dir/i"
echo a >"$T/mnt/dir/a"
chattr +i "$T/mnt/dir/i"
chattr +ad "$T/mnt/dir/a"
chattr +A "$T/mnt/dir"
chattr -p 77 "$T/mnt/dir"
chattr +P "$T/mnt/dir"
# What is written before the flag counts, whenever the kernel passes it on; so does what is appended.
ok_python "fsync of what was written before chattr +i, and after chattr +a" "$T/mnt/dir" <<-'END'
	import fcntl, os, struct, sys
	os.chdir(sys.argv[1])
	for name, flag in ("i2", 0x10), ("a2", 0x20):
	    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
	    os.utime(name, (1000, 1000))
	    os.write(fd, b"text" * 5000)
	    fcntl.ioctl(fd, 0x40086602, struct.pack("i", flag))
	    if name == "a2":
	        os.write(fd, b"more")
	    os.fsync(fd)
	    os.close(fd)
END
before=$(stat -c "%n %s %Y" "$T/mnt/dir/i2" "$T/mnt/dir/a2")
no "a write then does not" dd if=/dev/zero of="$T/mnt/dir/i2" conv=notrunc,fsync count=1
no "the time of an append-only file is not chosen" touch -d 2001-01-01 "$T/mnt/dir/a2"
remount()
{
	"$bcfs" umount "$T/mnt" && mount_image "$T/img" "$T/mnt" -o nodiscard
}
ok "another mount" remount
ok "flags are kept" test "$(lsattr -d "$T/mnt/dir" "$T/mnt/dir/i" "$T/mnt/dir/a" | tr -d e- |
	awk '{ printf "%s ", $1 }')" = "AP i ad "
ok "sizes and times are kept" test "$(stat -c "%n %s %Y" "$T/mnt/dir/i2" "$T/mnt/dir/a2")" = "$before"
touch "$T/mnt/dir/new"
ok "a project is inherited" test "$(lsattr -pd "$T/mnt/dir/new" | awk '{ print $1 }')" = 77
no "rename of an immutable file" mv "$T/mnt/dir/i" "$T/mnt/i"
no "truncation of an append-only file" truncate -s 0 "$T/mnt/dir/a"
echo b >"$T/mnt/dir/o"
chattr +i "$T/mnt/dir/o"
ok "a mount with open=on" eval '"$bcfs" umount "$T/mnt" &&
	mount_image "$T/img" "$T/mnt" -o nodiscard,open=on,writeback=off'
no "an immutable file is not opened to be written" eval 'echo c >>"$T/mnt/dir/o"'
ok "but to be read" grep -q b "$T/mnt/dir/o"
no "an append-only file is opened to append alone" dd if=/dev/zero of="$T/mnt/dir/a" conv=notrunc count=1
ok "to append" eval 'echo more >>"$T/mnt/dir/a"'
ok_python "a map's pages, written before chattr +i" "$T/mnt/dir/m" <<-'END'
	import fcntl, mmap, os, struct, sys
	fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
	os.ftruncate(fd, 8192)
	m = mmap.mmap(fd, 8192)
	m[:4] = b"text"
	fcntl.ioctl(fd, 0x40086602, struct.pack("i", 0x10))
	m.flush()
END
chattr -i "$T/mnt/dir/o"
ok "another mount" remount
ok "they can be removed without the flags" eval 'chattr -i "$T/mnt/dir/i" &&
	chattr -a "$T/mnt/dir/a" && rm "$T/mnt/dir/i" "$T/mnt/dir/a"'
no "a link into another project" ln "$T/mnt/r0" "$T/mnt/dir/link"

# ---- trim ----
head -c 64M /dev/urandom >"$T/mnt/big"
sync "$T/mnt/big"
rm "$T/mnt/big"
sync
before=$(stat -c %b "$T/img")
ok "fstrim" fstrim "$T/mnt"
after=$(stat -c %b "$T/img")
ok "the image has fewer blocks ($before, $after)" test "$after" -lt $((before - 100000))
# More than is looked at in one go, and more than there is.
trimmed()
{
	fstrim -v -m "$1" "$T/mnt" | sed 's/.*(\([0-9]*\) bytes.*/\1/'
}
ok "long free rows alone" test "$(trimmed 96M)" -gt $((96 << 20))
ok "none is so long" test "$(trimmed 1G)" = 0
no "a user may not" setpriv --reuid 1000 --regid 1000 --clear-groups fstrim "$T/mnt"
ok "what is there is whole" cmp "$T/r0" "$T/mnt/r0"
ok "bcfs umount" "$bcfs" umount "$T/mnt"
ok "fsck" "$fsck" "$T/img"

# ---- shutdown ----
# usage: shutdown MODE; what was written before: one file fsynced, one not
shut_down()
{
	mount_image "$T/img" "$T/mnt" || return 1
	echo safe >"$T/mnt/safe-$1" && sync "$T/mnt/safe-$1" && echo late >"$T/mnt/late-$1"
	"$bcfs" shutdown --mode "$1" "$T/mnt"
}
for mode in sync flush now; do
	ok "shutdown, $mode" shut_down "$mode"
	no "reading a directory" ls "$T/mnt"
	no "a new file" touch "$T/mnt/x"
	ok "umount" umount "$T/mnt"
	ok "fsck after it" "$fsck" "$T/img"
	ok "another mount" mount_image "$T/img" "$T/mnt"
	ok "what was synced is there" grep -q safe "$T/mnt/safe-$mode"
	[ "$mode" != sync ] || ok "and what was not" grep -q late "$T/mnt/late-$mode"
	ok "umount" "$bcfs" umount "$T/mnt"
done
# By number, as test suites do it: the caller's memory says which, and what is left says that it was read.
# usage: shut_down_by_number N; before that, a file open with dirty pages, and one that was closed
shut_down_by_number()
{
	mount_image "$T/img" "$T/mnt" -o journal_flush_delay=600000 && python3 -c '
import fcntl, os, struct, sys
os.chdir(sys.argv[1])
n = int(sys.argv[2])
fd = os.open(".", os.O_RDONLY)
dirty = open(f"open-{n}", "w", encoding="utf-8")
print("text", file=dirty, flush=True)
with open(f"closed-{n}", "w", encoding="utf-8") as f:
    print("text", file=f)
fcntl.ioctl(fd, 0x8004587d, struct.pack("I", n), False)
try:
    os.listdir(".")
except OSError as e:
    sys.exit(e.errno != 5)
sys.exit(1)' "$T/mnt" "$1"
}
for row in "0 text text" "1 none text" "2 absent absent"; do
	read -r nr open closed <<<"$row"
	ok "a shutdown by number, $nr" shut_down_by_number "$nr"
	ok "umount" umount "$T/mnt"
	ok "fsck" "$fsck" "$T/img"
	mount_image "$T/img" "$T/mnt"
	for file in "open-$nr $open" "closed-$nr $closed"; do
		read -r name want <<<"$file"
		got=$(cat "$T/mnt/$name" 2>/dev/null) || got=absent
		ok "$name: $want" test "${got:-none}" = "$want"
	done
	ok "bcfs umount" "$bcfs" umount "$T/mnt"
done

# ---- the label ----
mount_image "$T/img" "$T/mnt"
cat >"$T/label.py" <<-'END'
	import fcntl, sys
	with open(sys.argv[1], "rb") as f:
	    fcntl.ioctl(f, 0x41009432, sys.argv[2].encode().ljust(256, b"\0"))
END
# Files, since a user may not open the directory of the tests.
chmod 755 "$T" "$T/mnt"
label()
{
	python3 "$T/label.py" "${2:-$T/mnt/r0}" "$1"
}
ok "a label of 32 bytes" label "12345678901234567890123456789012"
no "not of 33" label "123456789012345678901234567890123"
no "not with control characters" label $'a\nb'
no "not by a user" setpriv --reuid 1000 --regid 1000 --clear-groups \
	python3 "$T/label.py" "$T/mnt/r0" user
ok "it is on the device at once" bash -c '"$0" probe "$1" | grep -q "^LABEL=12345678901234567890123456789012$"' \
	"$bcfs" "$T/img"
ok "an empty one" label ""
ok "and another" label "a läbel"
ok "bcfs umount" "$bcfs" umount "$T/mnt"
ok "it stays" bash -c '"$0" probe "$1" | grep -q "^LABEL=a läbel$"' "$bcfs" "$T/img"
mount_image "$T/img" "$T/mnt" -o ro
no "not on a read-only mount" label other
ok "bcfs umount" "$bcfs" umount "$T/mnt"
ok "fsck" "$fsck" "$T/img"
done_testing
