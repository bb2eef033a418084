#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: images made by earlier versions are read right, or refused with a message; never misread.
# Method: each is unpacked, checked, compared name by name with its manifest; then opened
# read-write (an unclean one recovers), changed a little, and compared and checked again.

set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$BCFS_BUILD
golden=$build/tests/golden/golden
fsck=$build/fsck/fsck.bcfs
nr=0
failed=0

command -v xz > /dev/null || { echo "1..0 # SKIP no xz"; exit 0; }
T=$(mktemp -d "${TMPDIR:-/tmp}/bcfs-golden.XXXXXX")
trap 'rm -rf "$T"' EXIT

result()
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr - $2"
		return
	fi
	failed=$((failed + 1))
	echo "not ok $nr - $2"
	sed 's/^/# /' "$T/out"
}

# Two lines differ in time alone after a change: the root's.
compare()
{
	"$golden" list "$T/img" > "$T/list" 2> "$T/out" || return 1
	LC_ALL=C sort "$T/list" | diff "$here/$1.manifest" - > "$T/out" 2>&1
}

compare_but_root()
{
	"$golden" list "$T/img" > "$T/list" 2> "$T/out" || return 1
	diff <(grep -v '^/ ' "$here/$1.manifest") <(LC_ALL=C sort "$T/list" | grep -v '^/ ') \
		> "$T/out" 2>&1
}

for img in "$here"/*.img.xz; do
	name=$(basename "$img" .img.xz)
	xz -dc "$img" | dd of="$T/img" bs=64K conv=sparse status=none
	truncate -s "$(xz -l --robot "$img" | awk '$1 == "file" {print $5}')" "$T/img"
	sum=$(cksum < "$T/img")
	unset BCFS_PASSPHRASE
	case $name in
	encrypted*) export BCFS_PASSPHRASE=golden ;;
	esac
	"$fsck" -n "$T/img" > "$T/out" 2>&1
	result $? "$name: fsck"
	compare "$name"
	result $? "$name: the same as in its manifest"
	[ "$sum" = "$(cksum < "$T/img")" ]
	result $? "$name: reading wrote nothing"
	"$golden" touch "$T/img" > "$T/out" 2>&1
	result $? "$name: read-write"
	compare_but_root "$name"
	result $? "$name: the same after that"
	"$fsck" -n "$T/img" > "$T/out" 2>&1
	result $? "$name: fsck after that"
	rm "$T/img"
done
echo "1..$nr"
exit "$((failed > 0))"
