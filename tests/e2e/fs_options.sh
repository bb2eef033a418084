#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: what mkfs has chosen for a filesystem is changed later, by `bcfs set-fs-option`, for good: on a
# device, closed cleanly or not, encrypted or not, and through the daemon of a mount, for root alone; it
# holds at once for what is written, unless a mount option says otherwise. What is refused changes nothing.
# Method: all options, as `bcfs get-fs-option` prints them, before and behind each; keys and journal dumped;
# fsck.
. "$(dirname "$0")/lib.sh"

img=$T/img
mnt=$T/mnt
mkdir "$mnt"
unset BCFS_PASSPHRASE
yes "text that compresses" | head -c 303104 >"$T/data"

# usage: ends STATUS TEXT COMMAND...: with that status and that text
ends()
{
	local want=$1 text=$2 status=0 out
	shift 2
	out=$("$@" 2>&1 </dev/null) || status=$?
	[ "$status" = "$want" ] && grep -qF -- "$text" <<<"$out" || { echo "status $status: $out"; return 1; }
}

# usage: has PATH LINE...: exactly these
has()
{
	local path=$1 out
	shift
	out=$("$bcfs" get-fs-option "$path") || return 1
	[ "$out" = "$(printf '%s\n' "$@")" ] || { echo "$out"; return 1; }
}

# usage: changes_nothing STATUS TEXT PATH COMMAND...
changes_nothing()
{
	local status=$1 text=$2 path=$3 before
	shift 3
	before=$("$bcfs" get-fs-option "$path") && ends "$status" "$text" "$@" &&
		[ "$("$bcfs" get-fs-option "$path")" = "$before" ]
}

# All extents of an inode have these words.
data_has()
{
	local inode=$1 keys word
	shift
	keys=$("$bcfs" dump keys -b extents -s "$inode" -e "$inode:18446744073709551615" "$img")
	[ -n "$keys" ] || return 1
	for word; do
		! grep -v "$word" <<<"$keys" || return 1
	done
}

# In the entry of the end.
journal_has()
{
	"$bcfs" dump journal "$img" | grep "^seq" | tail -1 | grep -q " csum $1 "
}

# ---- a device ----

make_image "$img" 256M
made=(data-checksum=crc32c metadata-checksum=crc32c compression=none background-compression=none
	errors=ro label=)
names='data-checksum metadata-checksum compression background-compression errors label'
ok "as made" has "$img" "${made[@]}"
ok "one" ends 0 "metadata-checksum=crc32c" "$bcfs" get-fs-option "$img" metadata_checksum
ok "an unknown name is told with those that there are" ends 2 "unknown option \"size\"; there are: $names" \
	"$bcfs" get-fs-option "$img" size
ok "set" "$bcfs" set-fs-option "$img" data-checksum=xxh3 compression=zstd:5 label="a läbel"
set=(data-checksum=xxh3 metadata-checksum=crc32c compression=zstd:5 background-compression=none
	errors=ro "label=a läbel")
ok "that and nothing else is changed" has "$img" "${set[@]}"
ok "as the others see it" ends 0 "LABEL=a läbel" "$bcfs" probe "$img"
while IFS='|' read -r value says; do
	ok "refused: $value" changes_nothing 2 "$says" "$img" \
		"$bcfs" set-fs-option "$img" label=other "$value" errors=panic
done <<-END
	size=3|unknown option "size"; there are: $names
	errors|not NAME=VALUE
	data-checksum=md5|there are: none crc32c crc64 xxh3 blake2b
	metadata-checksum=none|never without
	compression=gzip|there are: none zstd[:-50 to 19] lz4[:1 to 12]
	background-compression=lz4:13|not one of 1 to 12
	errors=explode|there are: ro continue panic
	label=123456789012345678901234567890123|longer than 32 bytes
END
ok "a line break" changes_nothing 2 "no line breaks" "$img" \
	"$bcfs" set-fs-option "$img" $'label=other\nerrors=panic'
ok "no value at all" ends 2 "wanted: " "$bcfs" set-fs-option "$img"
ok "an unknown option" ends 2 "" "$bcfs" set-fs-option --frobnicate "$img" label=other
ok "nothing there" ends 1 "$T/none: " "$bcfs" set-fs-option "$T/none" label=other
ok "no bcfs" ends 1 "$T/data: " "$bcfs" set-fs-option "$T/data" label=other
ok "another filesystem" ends 1 "not on a mounted bcfs" "$bcfs" set-fs-option "$T" label=other
ok "which has none either" ends 1 "not on a mounted bcfs" "$bcfs" get-fs-option "$T"
ok "a secret for what is not encrypted" changes_nothing 1 "not encrypted" "$img" \
	env BCFS_PASSPHRASE=x "$bcfs" set-fs-option --passphrase-fd 7 "$img" label=other 7<<<x

mount_image "$img" "$mnt"
cp "$T/data" "$mnt/first"
first=$(stat -c %i "$mnt/first")
ok "a mounted one has them" has "$mnt" "${set[@]}"
ok "its device, too" has "$img" "${set[@]}"
sync "$mnt/first" "$mnt"
kill -KILL "$(daemons_of "$img")"
unmount_lazily "$mnt"
ok "set after a crash" "$bcfs" set-fs-option -w 10 "$img" metadata-checksum=crc64 errors=continue
mount_image "$img" "$mnt"
ok "it was recovered" cmp "$T/data" "$mnt/first"
ok "unmount" "$bcfs" umount "$mnt"
ok "fsck" "$fsck" -n "$img"
ok "data is as it was set" data_has "$first" zstd xxh3
ok "so is the journal" journal_has crc64

# ---- a mount ----

if [ "$(id -u)" = 0 ]; then
	mount_image "$img" "$mnt"
	mkdir "$mnt/dir"
	cp "$T/data" "$mnt/before"
	ok "mounted: by a directory" "$bcfs" set-fs-option "$mnt/dir" data-checksum=blake2b \
		compression=lz4 metadata-checksum=blake2b background_compression=zstd label=
	now=(data-checksum=blake2b metadata-checksum=blake2b compression=lz4 background-compression=zstd
		errors=continue label=)
	ok "that is there" has "$mnt/dir" "${now[@]}"
	ok "and on the device" has "$img" "${now[@]}"
	cp "$T/data" "$mnt/after"
	ok "refused there" changes_nothing 2 "unknown option" "$mnt" "$bcfs" set-fs-option "$mnt" label=x a=b
	ok "by the device" "$bcfs" set-fs-option "$img" compression=none background-compression=none
	cp "$T/data" "$mnt/plain"
	ok_python "the ioctls: for root alone, and whole" "$mnt" <<-'P'
		import errno, fcntl, os, sys
		GET, SET = 0x8800bc07, 0xc800bc08
		fd = os.open(sys.argv[1], os.O_RDONLY)
		def get():
		    text = bytearray(2048)
		    fcntl.ioctl(fd, GET, text)
		    return bytes(text).rstrip(b"\0")
		def set(text):
		    buf = bytearray(text.ljust(2048, b"\0"))
		    return fcntl.ioctl(fd, SET, buf), bytes(buf).rstrip(b"\0")
		before = get()
		assert before.count(b"\n") == 6, before
		ret, text = set(b"label=x\nerrors=explode")
		assert ret == 1 and b"there are: ro continue panic" in text, (ret, text)
		ret, text = set(b"label=" + b"x" * 2042)
		assert ret == 1 and b"too long" in text, (ret, text)
		assert get() == before
		os.setgroups([]), os.setresgid(*[65534] * 3), os.setresuid(*[65534] * 3)
		assert get() == before
		try:
		    set(b"label=x")
		    sys.exit("it may")
		except OSError as e:
		    assert e.errno == errno.EPERM, e
		assert get() == before
	P
	ok_python "one change behind the other: none finds another under way" "$mnt" <<-'P'
		import fcntl, os, sys
		fd = os.open(sys.argv[1], os.O_RDONLY)
		for i in range(1500):
		    fcntl.ioctl(fd, 0xc800bc08, bytearray(f"label={i}".encode().ljust(2048, b"\0")))
	P
	exec 9>"$mnt/removed"
	rm "$mnt/removed"
	ok "a removed file is in use: no other checksum" changes_nothing 1 "removed files are still in use" \
		"$mnt" "$bcfs" set-fs-option "$mnt" data-checksum=crc64 label=other
	ok "another label" "$bcfs" set-fs-option "$mnt" label=meanwhile errors=ro
	exec 9>&-
	busy()
	{
		local pid n=0
		while :; do
			echo "$n" >"$mnt/busy" && rm "$mnt/busy" || break
			n=$((n + 1))
		done &
		pid=$!
		for n in $(seq 5); do
			"$bcfs" set-fs-option "$mnt" data-checksum=crc64 && "$bcfs" set-fs-option "$mnt" \
				data-checksum=blake2b || break
		done
		n=$?
		kill "$pid" && wait "$pid"
		return "$n"
	}
	ok "while others write and remove" busy
	ok "remounted with others" "$fuse" -o remount,data-checksum=crc64,compression=zstd "$img" "$mnt"
	ok "what a mount has goes before" "$bcfs" set-fs-option "$mnt" data-checksum=crc32c compression=lz4
	cp "$T/data" "$mnt/given"
	ok "remounted read-only" "$fuse" -o remount,ro "$img" "$mnt"
	ok "read-only" changes_nothing 1 "mounted read-only" "$mnt" "$bcfs" set-fs-option "$mnt" label=other
	ok "by the device" changes_nothing 1 "mounted read-only" "$mnt" "$bcfs" set-fs-option "$img" label=other
	mount_image -o remount,rw "$img" "$mnt"
	nrs=$(stat -c %i "$mnt/before" "$mnt/after" "$mnt/plain" "$mnt/given" | tr '\n' ' ')
	ok "unmount" "$bcfs" umount "$mnt"
	ok "fsck" "$fsck" -n "$img"
	read -r before after plain given <<<"$nrs"
	ok "written before: as before" data_has "$before" zstd xxh3
	ok "written after: at once" data_has "$after" lz4 blake2b
	ok "and by the device" data_has "$plain" blake2b
	no "without compression" data_has "$plain" lz4
	ok "a mount option goes before" data_has "$given" zstd crc64
	ok "the journal" journal_has blake2b
	mount_image "$img" "$mnt"
	cp "$T/data" "$mnt/last"
	last=$(stat -c %i "$mnt/last")
	ok "unmount" "$bcfs" umount "$mnt"
	ok "at the next mount it is as it was set" data_has "$last" lz4 crc32c

	# Another user's mount that calls itself by the device's name, and never answers.
	# usage: beside_impostor COMMAND...
	beside_impostor()
	{
		timeout 60 python3 -c '
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
img, mnt, command = sys.argv[1], sys.argv[2], sys.argv[3:]
fd = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id=65534,group_id=65534,allow_other"
if libc.mount(img.encode(), mnt.encode(), b"fuse.bcfs", 0, options.encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
try:
    sys.exit(subprocess.run(command, timeout=20).returncode)
finally:
    libc.umount2(mnt.encode(), 2)' "$img" "$mnt" "$@"
	}
	ok "a mount of another user is not asked" ends 1 "is mounted on" beside_impostor \
		"$bcfs" set-fs-option "$img" label=other
	for do in "set-fs-option $mnt label=other" "get-fs-option $mnt"; do
		# shellcheck disable=SC2086
		ok "nor by its directory: ${do%% *}" ends 1 "another user has mounted it" \
			beside_impostor "$bcfs" $do
	done
fi

# ---- encrypted ----

head -c 32 /dev/urandom >"$T/key"
head -c 32 /dev/urandom >"$T/wrong"
ok "mkfs, encrypted" "$mkfs" -q -f --encrypt --key-file "$T/key" "$img"
ok "it is read without a key" ends 0 data-checksum=xchacha20_poly1305 "$bcfs" get-fs-option "$img"
ok "not set without" changes_nothing 1 "" "$img" setsid "$bcfs" set-fs-option "$img" compression=zstd
ok "nor by a wrong one" changes_nothing 1 "wrong key file" "$img" \
	"$bcfs" set-fs-option --key-file "$T/wrong" "$img" compression=zstd
ok "nor checksums" changes_nothing 1 "tags take the place of checksums" "$img" \
	"$bcfs" set-fs-option --key-file "$T/key" "$img" compression=zstd data-checksum=crc32c
ok "set" "$bcfs" set-fs-option --key-file "$T/key" "$img" compression=zstd
mount_image -o key-file="$T/key" "$img" "$mnt"
cp "$T/data" "$mnt/file"
nr=$(stat -c %i "$mnt/file")
if [ "$(id -u)" = 0 ]; then
	ok "mounted: no checksums" changes_nothing 1 "tags take the place of checksums" "$mnt" \
		"$bcfs" set-fs-option "$mnt" metadata-checksum=crc32c
	ok "mounted: nobody asks for the key" setsid "$bcfs" set-fs-option "$img" label=secret
	ok "it is there" ends 0 label=secret "$bcfs" get-fs-option "$mnt" label
fi
ok "unmount" "$bcfs" umount "$mnt"
ok "fsck" "$fsck" -n --key-file "$T/key" "$img"
is_zstd()
{
	"$bcfs" dump keys --key-file "$T/key" -b extents -s "$nr" -e "$nr:18446744073709551615" "$img" |
		grep -q zstd
}
ok "data is compressed" is_zstd
done_testing
