#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: a seed says all that happens, recoveries included, wherever malloc(3) puts things. Method:
# runs of a few seeds with the counters of all that they and their recoveries did, once as usual and
# once with a malloc that keeps nothing of what was freed for the next who asks for as much.
set -u
sim=$1
fail=0

counters()
{
	"$sim" --progress 0 --shrink 0 --seed "$2" "$1" | sed 's/, [0-9]* s, .*//'
}

for run in evict:3 evict:4 short:5 gc:2; do
	mode=${run%:*} seed=${run#*:}
	usual=$(counters "$mode" "$seed")
	other=$(GLIBC_TUNABLES=glibc.malloc.tcache_count=0 counters "$mode" "$seed")
	if [ "${usual#*recoveries}" = "$usual" ]; then
		echo "FAILED: $mode, seed $seed: no recoveries told of"
		fail=1
	elif [ "$usual" != "$other" ]; then
		echo "FAILED: $mode, seed $seed: not the same with another malloc"
		diff <(echo "$usual") <(echo "$other")
		fail=1
	else
		echo "ok: $mode, seed $seed"
	fi
done
exit $fail
