#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: what is written compressed is read back, whichever way it was asked for, takes less space, and
# survives overwriting in parts, a kill and another choice.
# Method: a tree of sources and random data in directories with different choices; counters of the daemon
# say what was compressed; files are compared after a remount, fsck follows.
. "$(dirname "$0")/lib.sh"

img=$T/img
mnt=$T/mnt
mkdir "$mnt"
src=$here/../../src

counter()
{
	sync -f "$mnt"
	"$bcfs" counters "$mnt" | awk -v n="usage.$1" '$1 == n { print $2 }'
}

fails_with()
{
	local text=$1 out
	shift
	out=$("$@" 2>&1) && { echo "it did not fail: $out"; return 1; }
	grep -qF -- "$text" <<<"$out" || { echo "$out"; return 1; }
}

there='none zstd[:-50 to 19] lz4[:1 to 12]'
truncate -s 1G "$img"
ok "mkfs refuses an unknown type" fails_with "unknown compression \"gzip\"; there are: $there" \
	"$mkfs" --compression gzip "$img"
ok "mkfs refuses a level" fails_with "compression level 20 of zstd: not one of -50 to 19" \
	"$mkfs" --compression zstd:20 "$img"
ok "mkfs refuses what is no level" fails_with "compression level fast of zstd: not one of -50 to 19" \
	"$mkfs" --compression zstd:fast "$img"
ok "nor is 0" fails_with "compression level 0 of lz4: not one of 1 to 12" \
	"$mkfs" --compression lz4:0 "$img"
ok "mkfs" "$mkfs" -q --compression zstd:3 "$img"
ok "mount refuses an unknown type" fails_with "there are: $there" \
	"$fuse" -o compression=rar "$img" "$mnt"
mount_image "$img" "$mnt"

data_is_smaller()
{
	local before after
	before=$(counter uncompressed) after=$(counter compressed)
	echo "# $before sectors are $after"
	[ "$after" -gt 0 ] && [ $((after * 2)) -lt "$before" ]
}

cp -r "$src" "$mnt/tree"
ok "a tree of sources takes less than half" data_is_smaller

was=$(counter compressed)
head -c 4M /dev/urandom >"$T/random"
cp "$T/random" "$mnt/random"
stays()
{
	[ "$(counter compressed)" = "$was" ]
}
ok "random data is stored as it is" stays

# By directory and by file; new ones have what their directory has.
mkdir "$mnt/plain" "$mnt/lz4"
ok "a directory's choice" setfattr -n bcfs.compression -v none "$mnt/plain"
ok "another's" setfattr -n bcfs.compression -v lz4:9 "$mnt/lz4"
was=$(counter compressed)
cp -r "$src" "$mnt/plain/tree"
ok "nothing is compressed there" stays
cp -r "$src" "$mnt/lz4/tree"
has()
{
	[ "$(getfattr --only-values -n bcfs.compression "$1")" = "$2" ]
}
more()
{
	[ "$(counter compressed)" -gt "$was" ]
}
ok "something is compressed here" more
ok "it is inherited" has "$mnt/lz4/tree/fs" lz4:9
ok "it can be removed" setfattr -x bcfs.compression "$mnt/lz4/tree/fs"
no "and is gone" getfattr -n bcfs.compression "$mnt/lz4/tree/fs"
ok "by the program" "$bcfs" set-option compression=zstd:9 "$mnt/lz4/tree/fs"
says()
{
	[ "$("$bcfs" get-option "$mnt/lz4/tree/fs")" = "$mnt/lz4/tree/fs: compression=zstd:9" ]
}
ok "which says so" says
ok "and takes it back" "$bcfs" set-option compression= "$mnt/lz4/tree/fs"
ok "no such value by the program" fails_with "compression level 99 of zstd: not one of -50 to 19" \
	"$bcfs" set-option compression=zstd:99 "$mnt/lz4"
ok "no such type by the program" fails_with "unknown compression \"gzip\"; there are: $there" \
	"$bcfs" set-option background-compression=gzip "$mnt/lz4"
ok "not elsewhere by the program" fails_with "not on a bcfs filesystem" \
	"$bcfs" set-option compression=zstd "$T/random"
ok "no such option by the program" fails_with 'unknown option "comp": there is compression' \
	"$bcfs" set-option comp=zstd "$mnt/lz4"
no "no such value" setfattr -n bcfs.compression -v zstd:99 "$mnt/plain"
no "no such option" setfattr -n bcfs.compress -v zstd "$mnt/plain"

# Overwritten in parts, at every alignment.
overwritten()
{
	python3 - "$mnt/part" "$T/part" <<-'P'
		import os, random, sys
		r = random.Random(5)
		text = (b"a line of text that repeats itself, " * 9000)[:300000]
		with open(sys.argv[1], "wb") as f, open(sys.argv[2], "wb") as g:
		    f.write(text), g.write(text)
		fd, gd = os.open(sys.argv[1], os.O_RDWR), os.open(sys.argv[2], os.O_RDWR)
		for i in range(400):
		    at, n = r.randrange(330000), r.choice([1, 100, 512, 4096, 5000, 40000])
		    data = r.randbytes(n) if i % 3 else bytes([i & 255]) * n
		    os.pwrite(fd, data, at), os.pwrite(gd, data, at)
		    if i % 7 == 0:
		        os.fsync(fd)
		    a, m = r.randrange(330000), r.randrange(1, 9000)
		    if os.pread(fd, m, a) != os.pread(gd, m, a):
		        sys.exit(f"at {a}")
	P
}
ok "overwritten in parts" overwritten

same()
{
	diff -r "$src" "$mnt/tree" && diff -r "$src" "$mnt/plain/tree" && diff -r "$src" "$mnt/lz4/tree" &&
		cmp "$T/random" "$mnt/random" && cmp "$T/part" "$mnt/part"
}
ok "unmount" "$bcfs" umount "$mnt"
ok "fsck is clean" "$fsck" "$img"
mount_image -o compression=lz4 "$img" "$mnt"
ok "all is there" same
ok "still the directory's choice" has "$mnt/plain" none
sync -f "$mnt"
cp -r "$src" "$mnt/again"
sync "$mnt/again"
for p in $(daemons_of "$img"); do
	kill -KILL "$p"
done
umount "$mnt" 2>/dev/null || umount -l "$mnt"
mount_image "$img" "$mnt"
ok "all is there after a kill" same
ok "unmount again" "$bcfs" umount "$mnt"
ok "fsck is clean again" "$fsck" "$img"

# Who sets an attribute gets an errno: the log says what there is, and nobody forges its lines.
"$fuse" -f "$img" "$mnt" 2>"$T/log" &
for _ in $(seq 100); do
	mountpoint -q "$mnt" && break
	sleep 0.1
done
no "no such value" setfattr -n bcfs.compression -v $'gzip\nx' "$mnt/plain"
ok "the log has the list" grep -qF "bcfs.compression: unknown compression \"gzip\\012x\"; there are: $there" "$T/log"
no "nor a long one" setfattr -n bcfs.compression -v "$(printf 'x%.0s' {1..40})" "$mnt/plain"
ok "it is logged, too, but not all of it" grep -qF \
	"unknown compression \"$(printf 'x%.0s' {1..31})...\"; there are: $there" "$T/log"
no "nor one with a zero inside" setfattr -n bcfs.compression -v 0x7a73746400 "$mnt/plain"
ok "it is logged as it is" grep -qF "unknown compression \"zstd\\000\"; there are: $there" "$T/log"
mkfifo "$mnt/fifo"
ok "what is no file has no options" fails_with "only files and directories have options" \
	"$bcfs" set-option compression=zstd "$mnt/fifo"
once()
{
	[ "$("$bcfs" get-option "$T/random" 2>&1 | wc -l)" = 1 ]
}
ok "what is elsewhere is told once" once
ok "unmount at last" "$bcfs" umount "$mnt"
done_testing
