#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: no order of reads and writes, in whatever way they are made, shows bytes that were not
# written there; no two processes make a filesystem that fsck does not find sound.
# Method: posix-fsx against its model, over mounts with different options; posix-stress, then fsck.
# BCFS_TEST_SEED: another seed. BCFS_TEST_SCALE: so many times the operations.
# usage: random.sh POSIX-FSX POSIX-STRESS
. "$(dirname "$0")/../e2e/lib.sh"

fsx=$(realpath "$1")
stress=$(realpath "$2")
seed=${BCFS_TEST_SEED:-1}
scaled()
{
	awk -v n="$1" -v s="${BCFS_TEST_SCALE:-1}" 'BEGIN { n = int(n * s); print n < 1 ? 1 : n }'
}

mkdir "$T/mnt"
try()
{
	"$fuse" ${opts:+-o "$opts"} "$T/img" "$T/mnt" || return 1
	"$@"
	local status=$?
	unmount || return 1
	return "$status"
}

unmount()
{
	local i
	for i in $(seq 100); do
		if [ "$(id -u)" = 0 ]; then
			umount "$T/mnt" && return 0
		else
			fusermount3 -u "$T/mnt" && return 0
		fi
		sleep 0.1
	done
	return 1
}

# All programs take it from there; derivation is made cheap.
encrypted()
{
	unset BCFS_PASSPHRASE
	made=()
	[ "$1" = encrypted ] || return 0
	export BCFS_PASSPHRASE=random
	made=(--encrypt --kdf-passes 1 --kdf-memory 8K)
}

for row in "" writeback=off open=on,readers=1,threads=2 compression=zstd \
	writeback=off,compression=lz4 encrypted; do
	encrypted "$row"
	opts=${row#encrypted}
	name=${row:-default options}
	make_image "$T/img" 128M "${made[@]}"
	rm -f "$T/model"
	for round in 1 2 3; do
		ok "fsx, $name, seed $((seed + round)), mount $round" try \
			"$fsx" --seed $((seed + round)) --ops "$(scaled 1500)" --model "$T/model" "$T/mnt"
	done
	ok "fsx, $name: fsck" "$fsck" -n "$T/img"
	rm -f "$T/img"
done

if [ "$(id -u)" = 0 ]; then
	for row in "" writeback=off compression=zstd:1 encrypted; do
		encrypted "$row"
		opts=${row#encrypted}
		make_image "$T/img" 256M "${made[@]}"
		for round in 1 2; do
			ok "stress, ${row:-default options}, seed $((seed + round))" try \
				"$stress" --seed $((seed + round)) --ops "$(scaled 2000)" --procs 4 "$T/mnt"
			ok "stress, ${row:-default options}, seed $((seed + round)): fsck" \
				"$fsck" -n "$T/img"
		done
		rm -f "$T/img"
	done
fi
done_testing
