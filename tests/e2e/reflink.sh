#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: copies made by copy_file_range(2), and so by `bcfs reflink` and cp, take no space for data; they
# are their own when either is changed; space comes back with the last owner; a kill and a full device
# do no harm.
# Method: the daemon's counter of user data; files against copies outside; random ranges against a model
# in memory; fsck behind all.
. "$(dirname "$0")/lib.sh"

img=$T/img
mnt=$T/mnt
mkdir "$mnt"
make_image "$img" 256M
mount_image "$img" "$mnt"

user()
{
	sync -f "$mnt"
	"$bcfs" counters "$mnt" | awk '$1 == "usage.user" { print $2 }'
}
is_used()
{
	local now
	now=$(user)
	[ "$now" = "$1" ] || { echo "$now sectors, not $1"; return 1; }
}

head -c 9000001 /dev/urandom >"$T/a"
cp "$T/a" "$mnt/a"
was=$(user)
ok "a file that shares all" "$bcfs" reflink "$mnt/a" "$mnt/b"
ok "no space for its data" is_used "$was"
ok "it is the same" cmp "$T/a" "$mnt/b"
ok "again, over it" "$bcfs" reflink "$mnt/a" "$mnt/b"
ok "no space for that either" is_used "$was"
no "onto itself" "$bcfs" reflink "$mnt/a" "$mnt/a"
no "from elsewhere" "$bcfs" reflink "$T/a" "$mnt/c"
ok "the source is what it was" cmp "$T/a" "$mnt/a"
ends()
{
	local want=$1 text=$2 status=0 out
	shift 2
	out=$(timeout 20 "$@" 2>&1) || status=$?
	[ "$status" = "$want" ] && grep -qF -- "$text" <<<"$out" || { echo "status $status: $out"; return 1; }
}
mkfifo "$mnt/fifo"
ok "from a fifo: nobody waits" ends 1 "not a file" "$bcfs" reflink "$mnt/fifo" "$mnt/c"
ok "nor to one" ends 1 "" "$bcfs" reflink "$mnt/a" "$mnt/fifo"
ok "nothing to be compared in one" ends 1 "not a file" "$bcfs" dedupe "$mnt/fifo" 0 "$mnt/a" 0 4K
ok "to elsewhere" ends 1 "not on the same filesystem" "$bcfs" reflink "$mnt/a" "$T/elsewhere"
no "that leaves nothing there" ls "$T/elsewhere"
no "nor here" ls "$mnt/c"
echo mine >"$T/elsewhere"
ok "to what is there elsewhere" ends 1 "not on the same filesystem" "$bcfs" reflink "$mnt/a" "$T/elsewhere"
ok "which stays" grep -qx mine "$T/elsewhere"
rm "$mnt/fifo"

cp "$T/a" "$T/b"
for f in "$T/b" "$mnt/b"; do
	printf changed | dd of="$f" bs=1 seek=1234567 conv=notrunc status=none
done
ok "one changes" cmp "$T/b" "$mnt/b"
ok "the other does not" cmp "$T/a" "$mnt/a"
ok "a block for that" is_used $((was + 8))
rm "$mnt/a"
ok "what only the first had is free" is_used "$was"
ok "the second has all" cmp "$T/b" "$mnt/b"
rm "$mnt/b"
ok "all is free" is_used 0

# The same bytes in two files; then but for one.
head -c 3000001 "$T/a" >"$mnt/d1"
cp "$mnt/d1" "$T/d"
cat "$T/d" >"$mnt/d2"
ok "two copies" is_used $((2 * 733 * 8))
shares()
{
	local n=$1 out
	shift
	out=$("$bcfs" dedupe "$@") && [ "$out" = "$n bytes are shared" ] || { echo "$out"; return 1; }
}
ok "some blocks" shares 40960 "$mnt/d1" 8K "$mnt/d2" 8K 40K
ok "less space" is_used $(((2 * 733 - 10) * 8))
ok "not other blocks" shares 0 "$mnt/d1" 8K "$mnt/d2" 12K 40K
no "not in parts of blocks" "$bcfs" dedupe "$mnt/d1" 100 "$mnt/d2" 100 40K
no "not over itself" "$bcfs" dedupe "$mnt/d1" 0 "$mnt/d1" 4K 40K
mtime=$(stat -c %y "$mnt/d2")
ok "all" shares 3000001 "$mnt/d1" 0 "$mnt/d2" 0 1G
ok "half the space" is_used $((733 * 8))
[ "$mtime" = "$(stat -c %y "$mnt/d2")" ]
result $? "its mtime stays"
printf x | dd of="$mnt/d2" bs=1 seek=2000000 conv=notrunc status=none
ok "up to a difference" shares 1998848 "$mnt/d1" 0 "$mnt/d2" 0 1G
ok "the first is the same" cmp "$T/d" "$mnt/d1"
printf x | dd of="$T/d" bs=1 seek=2000000 conv=notrunc status=none
ok "the second has its own" cmp "$T/d" "$mnt/d2"
rm "$mnt/d1" "$mnt/d2"
ok "all is free again" is_used 0

# Not to be changed, or only at the end: no target.
refused()
{
	local flag=$1 out
	echo some >"$mnt/f1"
	echo other >"$mnt/f2"
	chattr "+$flag" "$mnt/f2" || return
	out=$(python3 - "$mnt/f1" "$mnt/f2" 2>&1 <<-'END'
		import os, sys
		src, dst = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDWR)
		try:
		    os.copy_file_range(src, dst, 4)
		except PermissionError:
		    sys.exit(0)
		sys.exit("copied")
		END
	)
	local status=$?
	chattr "-$flag" "$mnt/f2" || return
	echo "$out"
	[ "$status" = 0 ] && [ "$(cat "$mnt/f2")" = other ]
}
if [ "$(id -u)" = 0 ]; then
	ok "not to an append-only file" refused a
	ok "not to an immutable file" refused i
fi
rm -f "$mnt/f1" "$mnt/f2"

ok_python "ranges against a model" "$mnt" <<-'END'
	import os, random, sys
	os.chdir(sys.argv[1])
	rnd = random.Random(1)
	files = []
	for i in range(4):
	    fd = os.open(f"r{i}", os.O_RDWR | os.O_CREAT)
	    model = bytearray(rnd.randbytes(rnd.randrange(50_000, 500_000)))
	    os.write(fd, model)
	    files.append((fd, model))
	def grow(m, n):
	    if len(m) < n:
	        m.extend(bytes(n - len(m)))
	for step in range(400):
	    (fd, m), (src, s) = rnd.choice(files), rnd.choice(files)
	    how = rnd.randrange(5)
	    at = rnd.randrange(len(m) + 1)
	    if how < 3 and len(s):
	        off = rnd.randrange(len(s))
	        if rnd.randrange(4):
	            off, at = off & ~4095, at & ~4095
	        n = rnd.choice([rnd.randrange(1, 200_000), len(s)])
	        n = min(n, len(s) - off)
	        if src == fd and off < at + n and at < off + n:
	            continue
	        data, done = s[off:off + n], 0
	        while done < n:
	            done += os.copy_file_range(src, fd, n - done, off + done, at + done)
	        grow(m, at + n)
	        m[at:at + n] = data
	    elif how == 3:
	        data = rnd.randbytes(rnd.randrange(1, 50_000))
	        os.pwrite(fd, data, at)
	        grow(m, at + len(data))
	        m[at:at + len(data)] = data
	    elif rnd.randrange(3) == 0:
	        os.ftruncate(fd, at)
	        del m[at:]
	    for fd, m in files:
	        a = rnd.randrange(len(m) + 1)
	        got = os.pread(fd, 100_000, a)
	        if got != m[a:a + 100_000]:
	            sys.exit(f"step {step}: differs")
	for i, (fd, m) in enumerate(files):
	    if os.pread(fd, len(m) + 1, 0) != m:
	        sys.exit(f"file {i} differs")
	    os.close(fd)
	END
cat "$mnt"/r? >"$T/all"
ok "unmount" "$bcfs" umount "$mnt"
ok "fsck" "$fsck" "$img"
mount_image "$img" "$mnt"
same()
{
	cat "$mnt"/r? | cmp - "$T/all"
}
ok "the same after a remount" same

# With no room for another copy.
head -c 160M /dev/urandom >"$mnt/big"
ok "larger than what is free" "$bcfs" reflink "$mnt/big" "$mnt/big2"
ok "the same" cmp "$mnt/big" "$mnt/big2"
sync "$mnt/big2"
for p in $(daemons_of "$img"); do
	kill -KILL "$p"
done
umount "$mnt" 2>/dev/null || umount -l "$mnt"
mount_image "$img" "$mnt"
ok "the same after a kill" cmp "$mnt/big" "$mnt/big2"
ok "all else, too" same
ok "unmount" "$bcfs" umount "$mnt"
ok "fsck" "$fsck" "$img"
done_testing
