#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: checksums chosen at mkfs or at a mount are those of what is written from then on, and all that
# is there is read and verified, whatever it has.
# Method: a file under each choice, keys and journal dumped, one image through all of them, fsck.
. "$(dirname "$0")/lib.sh"

img=$T/img
mnt=$T/mnt
mkdir "$mnt"
head -c 303104 /dev/urandom >"$T/data"

there='none crc32c crc64 xxh3 blake2b'
refused()
{
	local text=$1 out
	shift
	out=$("$@" 2>&1) && { echo "it did not fail: $out"; return 1; }
	grep -qF -- "$text" <<<"$out" || { echo "$out"; return 1; }
}
ok "mkfs" "$mkfs" -q --size 256M --data-checksum crc64 "$img"
ok "mkfs refuses an unknown type" refused "unknown checksum \"md5\"; there are: $there" \
	"$mkfs" -f --metadata-checksum md5 "$img"
ok "a mount does" refused "unknown checksum \"md5\"; there are: $there" \
	"$fuse" -o data-checksum=md5 "$img" "$mnt"
ok "what encryption uses is none" refused "what encryption uses; there are: $there" \
	"$mkfs" -f --data-checksum xchacha20_poly1305 "$img"
ok "and metadata without any" refused "never without" "$fuse" -o metadata-checksum=none "$img" "$mnt"

# All extents of an inode.
data_has()
{
	local type=$1 inode=$2 keys
	keys=$("$bcfs" dump keys -b extents -s "$inode" -e "$inode:18446744073709551615" "$img")
	[ -n "$keys" ] || return 1
	if [ "$type" = none ]; then
		! grep 'crc32c\|crc64\|xxh3\|blake2b' <<<"$keys"
	else
		! grep -v "$type" <<<"$keys"
	fi
}

# In the entry of the end; as made: crc32c.
journal_has()
{
	"$bcfs" dump journal "$img" | grep "^seq" | tail -1 | grep -q " csum ${1:-crc32c} "
}

files=()
for type in "" none crc32c xxh3 blake2b; do
	opts=${type:+data-checksum=$type,metadata-checksum=${type/none/crc64}}
	mount_image ${opts:+-o "$opts"} "$img" "$mnt"
	cp "$T/data" "$mnt/${type:-made}"
	files+=("${type:-crc64} $(stat -c %i "$mnt/${type:-made}")")
	ok "${opts:-as made}: unmount" "$bcfs" umount "$mnt"
	ok "${opts:-as made}: fsck" "$fsck" -n "$img"
	ok "${opts:-as made}: the journal has it, too" journal_has "${opts:+${type/none/crc64}}"
done
for row in "${files[@]}"; do
	read -r type nr <<<"$row"
	ok "data have checksums of type $type" data_has "$type" "$nr"
done
if [ "$(id -u)" = 0 ]; then
	mount_image "$img" "$mnt"
	ok "remounted with others" "$fuse" -o remount,data-checksum=xxh3,metadata-checksum=blake2b "$img" "$mnt"
	cp "$T/data" "$mnt/again"
	ok "remounted with others again, twice the same" \
		"$fuse" -o remount,data-checksum=crc32c,data-checksum=blake2b,compression=zstd "$img" "$mnt"
	yes again | head -c 200000 >"$mnt/other"
	ok "an unknown type is refused" refused "unknown checksum \"md5\"; there are: $there" \
		"$fuse" -o remount,data-checksum=md5 "$img" "$mnt"
	ok "what else cannot be changed is, too" refused "can be changed: unmount it" \
		"$fuse" -o remount,data-checksum=crc32c,threads=3 "$img" "$mnt"
	cp "$T/data" "$mnt/last"
	nrs=$(stat -c %i "$mnt/again" "$mnt/other" "$mnt/last" | tr '\n' ' ')
	ok "unmount" "$bcfs" umount "$mnt"
	ok "fsck" "$fsck" -n "$img"
	read -r again other last <<<"$nrs"
	ok "data have the first" data_has xxh3 "$again"
	ok "data have the second" data_has blake2b "$other"
	ok "and are compressed" data_has zstd "$other"
	ok "what was refused has changed nothing" data_has blake2b "$last"
	ok "the journal has the first" journal_has blake2b
fi
mount_image "$img" "$mnt"
rm -f "$mnt/other"
all_there()
{
	local f
	for f in "$mnt"/*; do
		cmp "$f" "$T/data" || return 1
	done
}
ok "all is read" all_there
ok "unmount" "$bcfs" umount "$mnt"
done_testing
