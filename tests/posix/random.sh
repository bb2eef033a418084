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

# Options of mounts and mkfs. All programs take the passphrase from there; derivation is made cheap.
row_is()
{
	unset BCFS_PASSPHRASE
	made=()
	opts=$1
	[ "$1" = encrypted ] || return 0
	export BCFS_PASSPHRASE=random
	made=(--encrypt --kdf-passes 1 --kdf-memory 8K)
	opts=compression=zstd
}

# Three mounts of one filesystem. usage: fsx_rounds NAME [OPTION-OF-FSX]...
fsx_rounds()
{
	local name=$1 round
	shift
	rm -f "$T/model"
	for round in 1 2 3; do
		ok "fsx, $name, seed $((seed + round)), mount $round" try "$fsx" "$@" \
			--seed $((seed + round)) --ops "$(scaled 1500)" --model "$T/model" "$T/mnt"
	done
	ok "fsx, $name: fsck" "$fsck" -n "$T/img"
	rm -f "$T/img"
}

for row in "" writeback=off open=on,readers=1,threads=2 compression=zstd \
	writeback=off,compression=lz4 writeback=off,background-compression=zstd:1 encrypted; do
	row_is "$row"
	make_image "$T/img" 128M "${made[@]}"
	fsx_rounds "${row:-default options}"
done
row_is ""
make_image "$T/img" 128M --inline-max 0
fsx_rounds "nothing inline"
for opts in "" compression=zstd background-compression=lz4; do
	make_image "$T/img" 128M
	fsx_rounds "most data are shared${opts:+, $opts}" --copies 40
done
opts=
make_image "$T/img" 128M --block-size 512 --inline-max 0
fsx_rounds "most data are shared, blocks of 512, nothing inline" --copies 40

if [ "$(id -u)" = 0 ]; then
	for row in "" writeback=off compression=zstd:1 background-compression=lz4 encrypted; do
		row_is "$row"
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
