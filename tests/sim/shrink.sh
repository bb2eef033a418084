#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Goal: what bcfs-sim does about a violation: it is run again to see that it replays alike, cut down
# to what matters, kept as a case, and the case fails in the same way.
# Method: a mistake that is asked for; what it takes is a file, a truncate and a chmod.
set -eu
sim=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

fail()
{
	echo "FAILED: $*" >&2
	cat "$dir/log" >&2
	exit 1
}

rc=0
BCFS_SIM_MISTAKE="truncate chmod" "$sim" --seed 7 --runs 20 --jobs 1 --shrink 120 --keep "$dir/case" long \
	>"$dir/log" 2>&1 || rc=$?
[ "$rc" = 1 ] || fail "a violation should end it with 1, and it was $rc"
grep -q "a mistake that was asked for" "$dir/log" || fail "it does not say what was wrong"
grep -q "^replay: bcfs-sim --seed [0-9]* long" "$dir/log" || fail "it does not say how to replay it"
grep -q "^it replays alike" "$dir/log" || fail "it does not replay alike"
left=$(sed -n 's/^\([0-9]*\) of [0-9]* operations are left:$/\1/p' "$dir/log")
was=$(sed -n 's/^[0-9]* of \([0-9]*\) operations are left:$/\1/p' "$dir/log")
[ "${left:-99}" -le 6 ] || fail "${left:-all} operations are left, and three should be"
[ "$was" -ge 30 ] || fail "there were only $was operations to cut down"

rc=0
BCFS_SIM_MISTAKE="truncate chmod" "$sim" --shrink 0 --case "$dir/case" >"$dir/log" 2>&1 || rc=$?
[ "$rc" = 1 ] || fail "the case that was kept ends with $rc"
grep -q "a mistake that was asked for" "$dir/log" || fail "the case fails in another way"
"$sim" --shrink 0 --case "$dir/case" >"$dir/log" 2>&1 || fail "the case fails without the mistake"
echo "$left of $was operations were left"
