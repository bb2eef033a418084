#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes libbcfs.a: one object out of the layers' archives, in which every symbol but the public
# API's is local, so that a program that links it statically may use any other name itself.
#
# usage: static_lib.sh OUTPUT OBJCOPY AR COMPILER... -- ARCHIVE...
set -eu
out=$1 objcopy=$2 ar=$3
shift 3

# The command line in the same order, with what asks for one object in place of the "--".
n=$# i=0 link=1
while [ "$i" -lt "$n" ]; do
	i=$((i + 1))
	word=$1
	shift
	if [ "$link" = 1 ] && [ "$word" = -- ]; then
		link=0
		set -- "$@" -r -nostdlib -o "$out.o" -Wl,--whole-archive
	else
		set -- "$@" "$word"
	fi
done
trap 'rm -f "$out.o"' EXIT
"$@" -Wl,--no-whole-archive
"$objcopy" --localize-hidden --wildcard --keep-global-symbol='bcfs_*' "$out.o"
rm -f "$out"
"$ar" crsD "$out" "$out.o"
