#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: many small files take little more than their size, are read back after a remount and after a
# kill, grow and shrink, and fsck agrees with what is counted.
# Method: files of 1 KiB with contents by their number; counters and df say what they take.
# INLINE_FILES: how many (500).
. "$(dirname "$0")/lib.sh"

img=$T/img
mnt=$T/mnt
mkdir "$mnt"
n=${INLINE_FILES:-500}

counter()
{
	sync -f "$mnt"
	"$bcfs" counters "$mnt" | awk -v n="$1" '$1 == n { print $2 }'
}

counter_is()
{
	local is
	is=$(counter "$1")
	[ "$is" = "$2" ] || { echo "$1 is $is, not $2"; return 1; }
}

used()
{
	sync -f "$mnt"
	df -B1 --output=used "$mnt" | tail -n1
}

fails_with()
{
	local text=$1 out
	shift
	out=$("$@" 2>&1) && { echo "it did not fail: $out"; return 1; }
	grep -qF -- "$text" <<<"$out" || { echo "$out"; return 1; }
}

# files.py write|check DIR NUMBER SIZE: each file's content is its number, again and again.
cat >"$T/files.py" <<'P'
import os, sys
how, top, n, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for i in range(n):
    d = f"{top}/{i // 1000}"
    data = (b"%d," % i * size)[:size]
    if how == "write":
        if i % 1000 == 0:
            os.makedirs(d, exist_ok=True)
        with open(f"{d}/{i}", "wb") as f:
            f.write(data)
    elif open(f"{d}/{i}", "rb").read() != data:
        sys.exit(f"file {i} is not as it was written")
P

shows()
{
	"$bcfs" dump superblock "$img" | grep -qE "^ *inline data:? +$1$"
}

truncate -s 1G "$img"
ok "mkfs refuses what has no room" fails_with "at most 1936" "$mkfs" --inline-max 1937 "$img"
ok "mkfs refuses what nodes have no room for" fails_with "at most 1024" \
	"$mkfs" --node-size 16K --inline-max 1025 "$img"
ok "mkfs with none" "$mkfs" -q --inline-max 0 "$img"
ok "it says so" shows none
mount_image "$img" "$mnt"
echo x >"$mnt/x"
ok "nothing is inline" counter_is data.inline_writes 0
ok "unmount" "$bcfs" umount "$mnt"
ok "mkfs" "$mkfs" -q -f "$img"
ok "it says how much" shows "up to 1536 bytes"
mount_image "$img" "$mnt"

was=$(used)
little_more()
{
	local took=$(($(used) - was))
	echo "# $n files of 1 KiB take $took bytes"
	[ "$took" -lt $((n * 1024 * 2 + (4 << 20))) ]
}
python3 "$T/files.py" write "$mnt/small" "$n" 1024
ok "they take no sectors" counter_is usage.user 0
ok "but bytes in keys" counter_is usage.inline_data $((n * 1024))
ok "little more than their size" little_more
ok "all is there" python3 "$T/files.py" check "$mnt/small" "$n" 1024
has_blocks()
{
	[ "$(stat -c %b "$mnt/small/0/1")" = 8 ]
}
ok "a file has the sectors of its block" has_blocks
ok "unmount" "$bcfs" umount "$mnt"
ok "fsck is clean" "$fsck" "$img"
mount_image "$img" "$mnt"
ok "all is there after a remount" python3 "$T/files.py" check "$mnt/small" "$n" 1024

# In parts, around the limit, beside the same in another filesystem.
changed()
{
	python3 - "$mnt/part" "$T/part" <<-'P'
		import mmap, os, random, sys
		r = random.Random(7)
		fds = [os.open(p, os.O_RDWR | os.O_CREAT) for p in sys.argv[1:]]
		direct = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
		page = mmap.mmap(-1, 4096)
		for i in range(800):
		    at, n = r.randrange(3000), r.choice([1, 10, 100, 700])
		    data = r.randbytes(n)
		    size = os.fstat(fds[1]).st_size
		    for fd in fds:
		        if i % 5 == 0:
		            os.ftruncate(fd, at)
		        elif i % 29 == 0:
		            os.ftruncate(fd, 10000)
		        elif i % 4 == 0 and at + n <= size:
		            with mmap.mmap(fd, size) as m:
		                m[at : at + n] = data
		        else:
		            os.pwrite(fd, data, at)
		    if i % 3 == 0:
		        os.fsync(fds[0])
		    if i % 11 == 0:
		        os.posix_fadvise(fds[0], 0, 0, os.POSIX_FADV_DONTNEED)
		    want = os.pread(fds[1], 20000, 0)
		    if os.pread(fds[0], 20000, 0) != want:
		        sys.exit(f"step {i}")
		    if i % 7 == 0 and (got := page[: os.preadv(direct, [page], 0)]) != want[:4096]:
		        sys.exit(f"step {i}, read directly: {len(got)} bytes")
	P
}
ok "changed in parts" changed
python3 "$T/files.py" write "$mnt/grown" 20 1024
python3 "$T/files.py" write "$mnt/grown" 20 5000
python3 "$T/files.py" write "$mnt/shrunk" 20 5000
python3 "$T/files.py" write "$mnt/shrunk" 20 500
all_there()
{
	python3 "$T/files.py" check "$mnt/small" "$n" 1024 &&
		python3 "$T/files.py" check "$mnt/grown" 20 5000 &&
		python3 "$T/files.py" check "$mnt/shrunk" 20 500 &&
		cmp "$mnt/part" "$T/part"
}
sync "$mnt/part"
for p in $(daemons_of "$img"); do
	kill -KILL "$p"
done
umount "$mnt" 2>/dev/null || umount -l "$mnt"
mount_image "$img" "$mnt"
ok "all is there after a kill" all_there
rm -r "$mnt/small" "$mnt/part" "$mnt/shrunk"
ok "in keys are only the tails of those that grew" counter_is usage.inline_data $((20 * (5000 - 4096)))
ok "and all else in blocks" counter_is usage.user $((20 * 8))
rm -r "$mnt/grown"
ok "nothing is left in keys" counter_is usage.inline_data 0
ok "unmount" "$bcfs" umount "$mnt"
ok "fsck is clean again" "$fsck" "$img"
done_testing
