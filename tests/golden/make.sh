#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes the golden images anew: make.sh BUILD-DIRECTORY [NAME...]. Only for a name that is new, or
# before a first release: an image of a format that was released stays as it is, and every later
# version reads it. The content is the same every time, the bytes of an image are not (numbers and
# times are drawn when it is made).

set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
shift
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT

one()
{
	local name=$1 how=$2
	shift 2
	"$build/mkfs/mkfs.bcfs" -q -L "golden $name" -U 6f6c6465-6e2d-4267-8000-000000000001 \
		"$@" "$T/$name.img"
	"$build/tests/golden/golden" "$how" "$T/$name.img"
	"$build/tests/golden/golden" list "$T/$name.img" | LC_ALL=C sort > "$here/$name.manifest"
	xz -9e -c "$T/$name.img" > "$here/$name.img.xz"
}

wanted()
{
	local name=$1
	shift
	[ $# = 0 ] || [[ " $* " == *" $name "* ]]
}

if wanted default "$@"; then
	one default make --size 16M
fi
if wanted small "$@"; then
	one small make --size 8M -b 512 --node-size 8K --bucket-size 32K --extent-max 16K \
		--checksum-chunk 4K --data-checksum xxh3 --metadata-checksum xxh3
fi
if wanted unclean "$@"; then
	one unclean crash --size 16M
fi
if wanted compressed "$@"; then
	one compressed compress --size 16M --compression zstd
fi
# Not much of it: what is encrypted does not get smaller.
if wanted encrypted "$@"; then
	BCFS_PASSPHRASE=golden one encrypted encrypt --size 8M -b 512 --node-size 8K --bucket-size 32K \
		--encrypt --kdf-passes 1 --kdf-memory 8K --compression zstd
fi
if wanted shared "$@"; then
	one shared share --size 16M
fi
