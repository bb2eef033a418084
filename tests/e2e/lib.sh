# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# What the end-to-end tests share: the programs' paths, a directory of their
# own that is always cleaned, TAP output. To be sourced.
#
#   $fuse $mkfs $fsck $bcfs   the programs
#   $T                        the directory; everything made goes there
#   ok WHAT COMMAND...        one test case: passes if the command does
#   no WHAT COMMAND...        passes if it fails (with a status, not a signal)

set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${BCFS_BUILD:-$here/../../build}
build=$(cd "$build" && pwd) || exit 1
fuse=$build/fuse/bcfs-fuse
mkfs=$build/mkfs/mkfs.bcfs
fsck=$build/fsck/fsck.bcfs
bcfs=$build/cli/bcfs

tap_nr=0
tap_failed=0

skip_all()
{
	echo "1..0 # SKIP $*"
	exit 0
}

if [ -z "${NO_FUSE_NEEDED:-}" ]; then
	[ -c /dev/fuse ] || skip_all "no /dev/fuse"
	if [ "$(id -u)" != 0 ] && ! { [ -r /dev/fuse ] && [ -w /dev/fuse ]; }; then
		skip_all "/dev/fuse is not open to this user"
	fi
fi

T=$(mktemp -d "${TMPDIR:-/tmp}/bcfs-e2e.XXXXXX")
T=$(realpath "$T")

# What a sanitizer finds in a daemon, whose standard error is nowhere.
SAN=
if [ -n "${ASAN_OPTIONS:-}" ]; then
	SAN=$(mktemp -d "${TMPDIR:-/tmp}/bcfs-san.XXXXXX")
	chmod 1777 "$SAN"
	export ASAN_OPTIONS="$ASAN_OPTIONS:log_path=$SAN/report"
	export UBSAN_OPTIONS="${UBSAN_OPTIONS:-}:log_path=$SAN/report"
fi

# The processes that serve the image, by id.
daemons_of()
{
	local p image
	image=$(realpath -m "$1")
	for p in /proc/[0-9]*; do
		[ "$p/exe" -ef "$fuse" ] || continue
		if find "$p/fd" -lname "$image" 2>/dev/null | grep -q .; then
			echo "${p#/proc/}"
		fi
	done
}

mounts_below()
{
	awk -v t="$T/" 'index($5, t) == 1 { print $5 }' /proc/self/mountinfo | tac
}

unmount_lazily()
{
	if [ "$(id -u)" = 0 ]; then
		umount -l "$1" 2>/dev/null
	else
		fusermount3 -uzq "$1" 2>/dev/null
	fi
}

cleanup()
{
	local status=$? m p i
	trap - EXIT
	cd /
	for m in $(mounts_below); do
		unmount_lazily "$m"
	done
	for p in /proc/[0-9]*; do
		[ "$p/exe" -ef "$fuse" ] || continue
		find "$p/fd" -lname "$T/*" 2>/dev/null | grep -q . || continue
		for i in $(seq 50); do
			[ -e "$p" ] || break
			[ "$i" != 40 ] || kill -KILL "${p#/proc/}" 2>/dev/null
			sleep 0.1
		done
	done
	if [ -n "$SAN" ] && [ -n "$(ls "$SAN")" ]; then
		tail -n 100 "$SAN"/* | comment
		[ "$status" != 0 ] || status=1
	fi
	rm -rf "$T" ${SAN:+"$SAN"}
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

comment()
{
	sed 's/^/# /'
}

result()
{
	tap_nr=$((tap_nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $tap_nr - $2"
	else
		echo "not ok $tap_nr - $2"
		tap_failed=1
	fi
}

ok()
{
	local what=$1 status=0
	shift
	"$@" >"$T/.out" 2>&1 </dev/null || status=$?
	result "$status" "$what"
	[ "$status" = 0 ] || { echo "status $status of: $*"; head -n 30 "$T/.out"; } | comment
}

# usage: ok_python WHAT [ARG...] <<END: one test case: a script
ok_python()
{
	local what=$1
	shift
	cat >"$T/.py"
	ok "$what" python3 "$T/.py" "$@"
}

no()
{
	local what=$1 status=0
	shift
	"$@" >"$T/.out" 2>&1 </dev/null || status=$?
	if [ "$status" = 0 ] || [ "$status" -ge 128 ]; then
		result 1 "$what"
		{ echo "status $status of: $*"; head -n 30 "$T/.out"; } | comment
	else
		result 0 "$what"
	fi
}

done_testing()
{
	echo "1..$tap_nr"
	exit "$tap_failed"
}

# Stops the test: what follows would be meaningless.
bail_out()
{
	echo "Bail out! $*"
	exit 1
}

make_image()
{
	"$mkfs" -q --size "$2" "$1" "${@:3}" || bail_out "mkfs.bcfs failed"
}

mount_image()
{
	"$fuse" "$@" || bail_out "mounting failed: $*"
}

# Everything a tree is made of, in one comparable text.
manifest()
{
	(
		cd "$1" || exit 1
		find . -printf '%p|%y|%m|%n|%U|%G|%s|%T@|%l\n' | sed 's/^\(\.[^|]*|d|.*|\)[0-9]*\(|[0-9.]*|\)$/\1-\2/' | sort
		find . -type f -print0 | sort -z | xargs -0 -r sha256sum
		find . -type f -print0 | sort -z | xargs -0 -r getfattr -h -d -m - -e hex -- 2>/dev/null
	)
}
