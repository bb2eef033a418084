#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: an encrypted filesystem opens with its passphrase or key file, given in each of the ways, and with
# nothing else; nobody is asked twice for one mount; what is wrong is told apart: the passphrase, damage,
# tampering; slots come and go without anything but the superblock being written; nothing that was written
# to files, their names, attributes and links is on the device in plain, nor is a passphrase in the memory
# that others see.
# Method: a tree full of one marker; the image is searched for it, and the same tree on a filesystem that
# is not encrypted shows that the search finds each of its kinds. Derivation is made cheap.
. "$(dirname "$0")/lib.sh"

img=$T/img
mnt=$T/mnt
mkdir "$mnt"
cheap=(--kdf-passes 1 --kdf-memory 8K)
unset BCFS_PASSPHRASE BCFS_NEW_PASSPHRASE
right='correct horse ünd staple'
marker=GanzGeheimSecret

fails_with()
{
	local text=$1 out
	shift
	out=$("$@" 2>&1 </dev/null) && { echo "it did not fail: $out"; return 1; }
	grep -qF -- "$text" <<<"$out" || { echo "$out"; return 1; }
}

# usage: by_fd PASSPHRASE COMMAND...   (at descriptor 7)
by_fd()
{
	local line=$1
	shift
	"$@" 7<<<"$line"
}

# usage: by_env PASSPHRASE COMMAND...
by_env()
{
	local line=$1
	shift
	BCFS_PASSPHRASE=$line "$@"
}

# usage: typing "LINE LINE..." COMMAND...: at a terminal of its own; a word for each prompt
typing()
{
	python3 - "$@" <<-'P'
		import os, pty, re, select, sys
		prompt = re.compile(rb"((New p|P)assphrase for [^\s]+|The same again): $")
		words = sys.argv[1].split()
		pid, fd = pty.fork()
		if pid == 0:
		    os.execv(sys.argv[2], sys.argv[2:])
		out = b""
		answered = 0
		while True:
		    if not select.select([fd], [], [], 60)[0]:
		        sys.exit("it hangs: %r" % out)
		    try:
		        more = os.read(fd, 4096)
		    except OSError:
		        break
		    if not more:
		        break
		    out += more
		    # A line of another kind may come in two parts, too.
		    if prompt.search(out, answered):
		        answered = len(out)
		        if not words:
		            sys.exit("asked too often: %r" % out)
		        os.write(fd, words.pop(0).encode() + b"\n")
		sys.stdout.write(out.decode(errors="replace"))
		if words:
		    sys.exit("not asked for: %r" % words)
		sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
	P
}

head -c 32 /dev/urandom >"$T/key"
head -c 32 /dev/urandom >"$T/key2"
head -c 31 /dev/urandom >"$T/short"

# ---- mkfs ----

truncate -s 256M "$img"
ok "mkfs refuses a key file without --encrypt" fails_with "are for --encrypt" \
	"$mkfs" --key-file "$T/key" "$img"
ok "mkfs refuses checksums along with it" fails_with "no checksums can be chosen" \
	"$mkfs" --encrypt --key-file "$T/key" --data-checksum crc32c "$img"
ok "mkfs refuses a short key file" fails_with "31 bytes: at least 32" \
	"$mkfs" --encrypt --key-file "$T/short" "$img"
ok "mkfs refuses a cost" fails_with "are possible" \
	by_fd x "$mkfs" --encrypt --passphrase-fd 7 --kdf-memory 8T "$img"
ok "mkfs refuses an empty passphrase" fails_with "is empty" by_env "" "$mkfs" --encrypt "$img"
ok "mkfs wants one from somewhere" fails_with "no terminal to ask" \
	setsid "$mkfs" --encrypt "$img"
not_there()
{
	fails_with "" "$bcfs" probe "$img"
}
ok "nothing was written by all these" not_there
ok "mkfs, a passphrase by descriptor" \
	by_fd "$right" "$mkfs" -q --encrypt --passphrase-fd 7 "${cheap[@]}" "$img"
ok "a mount refuses checksums" fails_with "no checksums can be chosen" \
	by_fd "$right" "$fuse" -o passphrase-fd=7,data-checksum=crc32c "$img" "$mnt"
ok "it is said to be encrypted" grep -q ENCRYPTED=1 <("$bcfs" probe "$img")
ok "its superblock is shown without a key" grep -q "slots in use" <("$bcfs" dump superblock "$img")
ok "mkfs, typed twice, the second time alike" \
	typing "one two three three" "$mkfs" -q -f --encrypt "${cheap[@]}" "$img"
ok "it opens" by_env three "$fsck" "$img"
ok "mkfs over it, a key file" "$mkfs" -q -f --encrypt --key-file "$T/key" "$img"
ok "mkfs over it, by the environment" by_env "$right" "$mkfs" -q -f --encrypt "${cheap[@]}" "$img"

# ---- wrong ones ----

ok "a mount without any" fails_with "no terminal to ask for it: use -o key-file" \
	setsid "$fuse" "$img" "$mnt"
ok "a mount with a wrong passphrase" fails_with "wrong passphrase: no key slot opens with it" \
	by_env "${right}x" "$fuse" "$img" "$mnt"
ok "a mount with a wrong key file" fails_with "wrong key file" "$fuse" -o key-file="$T/key" "$img" "$mnt"
ok "a mount with a key file that is not there" fails_with "No such file" \
	"$fuse" -o key-file="$T/nokey" "$img" "$mnt"
ok "a mount with two" fails_with "exclude each other" \
	"$fuse" -o key-file="$T/key",passphrase-fd=7 "$img" "$mnt"
ok "fsck with a wrong one" fails_with "wrong passphrase" by_env wrong "$fsck" "$img"
ok "a dump with a wrong one" fails_with "wrong passphrase" by_env wrong "$bcfs" dump keys "$img"
make_image "$T/plain" 64M
ok "a passphrase for what is not encrypted" fails_with "is not encrypted" \
	by_env "$right" "$fuse" "$T/plain" "$mnt"
ok "a key file for it, to fsck" fails_with "is not encrypted" "$fsck" --key-file "$T/key" "$T/plain"
rm "$T/plain"

# ---- a tree ----

make_tree()
{
	local big
	big=$(printf "%s," $(yes "$marker" | head -n 60000))
	mkdir "$1/dir-$marker" || return
	printf %s "$big" >"$1/dir-$marker/file-$marker"
	printf %s "$marker" >"$1/small"
	ln -s "to-$marker" "$1/link"
	ln "$1/small" "$1/hard-$marker"
	setfattr -n "user.name-$marker" -v "value-$marker" "$1/small" || return
	setfattr -n user.big -v "$(printf "%s" "$big" | head -c 3000)" "$1/small" || return
	printf %s "$big" | head -c 5000 >"$1/gone" && sync "$1/gone" && rm "$1/gone"
	sync -f "$1"
}

# usage: not_in_environ TEXT...
not_in_environ()
{
	local p text
	p=$(daemons_of "$img")
	[ -n "$p" ] || return
	for text; do
		! grep -qaF -- "$text" "/proc/$p/environ" "/proc/$p/cmdline" || return
	done
}

daemon_hides()
{
	local p
	not_in_environ "$right" || return
	p=$(daemons_of "$img")
	# AddressSanitizer has mlock(2) do nothing, and keeps a copy of the environment of its own.
	[ -z "$SAN" ] || return 0
	awk '$1 == "VmLck:" { found = $2 > 0 } END { exit !found }' "/proc/$p/status" || return
	# All that can be read of its memory.
	python3 - "$p" "$right" <<-'P'
		import os, sys
		pid, text = sys.argv[1], sys.argv[2].encode()
		with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
		    for line in maps:
		        if "rw" not in line.split()[1]:
		            continue
		        a, b = (int(x, 16) for x in line.split()[0].split("-"))
		        if b - a > 1 << 30:
		            continue
		        try:
		            mem.seek(a)
		            if text in mem.read(b - a):
		                sys.exit("it is in " + line)
		        except OSError:
		            pass
	P
}

BCFS_PASSPHRASE=$right "$fuse" "$img" "$mnt" || bail_out "mounting failed"
ok "a tree" make_tree "$mnt"
[ "$(id -u)" != 0 ] || ok "the daemon has the passphrase nowhere" daemon_hides
manifest "$mnt" >"$T/manifest"
same()
{
	manifest "$mnt" | diff "$T/manifest" -
}
if [ "$(id -u)" = 0 ]; then
	ok "remounted read-only, nobody is asked" setsid "$fuse" -o "remount,ro,key-file=$T/nokey" "$img" "$mnt"
	ok "all is there" same
	ok "and back" setsid "$fuse" -o remount,rw "$img" "$mnt"
	ok "all is there again" same
fi
ok "unmount" "$bcfs" umount "$mnt"
ok "fsck, by descriptor" by_fd "$right" "$fsck" --passphrase-fd 7 "$img"
ok "keys are dumped" grep -q "$marker" <(by_env "$right" "$bcfs" dump keys "$img")

ok "an image of the metadata" by_env "$right" "$bcfs" dump image "$img" "$T/meta"
ok "is checked as the device is" by_env "$right" "$fsck" "$T/meta"
no "opens with the same passphrase only" by_env wrong "$fsck" "$T/meta"
no "is not written over anything" by_env "$right" "$bcfs" dump image "$img" "$T/meta"

# ---- what is on the device ----

hidden()
{
	local n
	n=$(grep -cao "$marker" "$1")
	[ "$n" = 0 ] || { echo "$n lines have it"; return 1; }
}
ok "nothing plain is on the device" hidden "$img"
ok "nor in that image" hidden "$T/meta"
rm "$T/meta"
BCFS_PASSPHRASE=$right "$fuse" -o journal_flush_delay=10 "$img" "$mnt" || bail_out "mounting failed"
printf %s "$marker" >"$mnt/late-$marker"
sync "$mnt/late-$marker"
for p in $(daemons_of "$img"); do
	kill -KILL "$p"
done
umount "$mnt" 2>/dev/null || umount -l "$mnt"
ok "nor after a kill, with the journal full of it" hidden "$img"
make_image "$T/plain" 256M
mount_image "$T/plain" "$mnt"
make_tree "$mnt"
"$bcfs" umount "$mnt"
found()
{
	local i
	for i in "dir-$marker" "file-$marker" "hard-$marker" "to-$marker" "name-$marker" "value-$marker" \
		"$marker,$marker"; do
		grep -qa "$i" "$T/plain" || { echo "no $i"; return 1; }
	done
}
ok "all of it is found where nothing is encrypted" found
rm "$T/plain"

# ---- each way in ----

mounted_by()
{
	"$@" "$img" "$mnt" || return
	grep -q "$marker" "$mnt/late-$marker" || return
	"$bcfs" umount "$mnt"
}
ok "mounted by the environment, after the kill" mounted_by by_env "$right" "$fuse"
ok "mounted by descriptor" mounted_by by_fd "$right" "$fuse" -o passphrase-fd=7
BCFS_PASSPHRASE=$right BCFS_NEW_PASSPHRASE=later-$right \
	by_fd "$right" "$fuse" -o passphrase-fd=7 "$img" "$mnt" || bail_out "mounting failed"
ok "variables that were not wanted are gone, too" not_in_environ "$right"
ok "unmounted" "$bcfs" umount "$mnt"

# ---- slots ----

only_superblocks()
{
	python3 - "$img" "$T/before" "$(python3 "$here/sbedit.py" "$img" areas)" <<-'P'
		import sys
		areas = [tuple(map(int, l.split())) for l in sys.argv[3].split("\n")]
		step = 1 << 20
		with open(sys.argv[1], "rb") as a, open(sys.argv[2], "rb") as b:
		    at = 0
		    while True:
		        x, y = a.read(step), b.read(step)
		        if not x and not y:
		            break
		        if x != y:
		            for i in range(0, max(len(x), len(y)), 512):
		                if x[i:i + 512] != y[i:i + 512] and not any(o <= at + i < o + n for o, n in areas):
		                    sys.exit(f"byte {at + i} was written")
		        at += step
	P
}
cp --sparse=always "$img" "$T/before"
key()
{
	"$bcfs" key "$1" "${@:2}"
}
slots_are()
{
	local is
	is=$("$bcfs" key list "$img" | cut -d, -f1 | tr '\n' ';')
	[ "$is" = "$1" ] || { echo "$is"; return 1; }
}
ok "one slot" slots_are "slot 0: passphrase;"
ok "a key file is added" by_env "$right" "$bcfs" key add --new-key-file "$T/key" "$img"
ok "a passphrase, opened by the key file" \
	by_fd "second" "$bcfs" key add --key-file "$T/key" --new-passphrase-fd 7 "${cheap[@]}" "$img"
ok "three slots" slots_are "slot 0: passphrase;slot 1: key file;slot 2: passphrase;"
ok "mounted by the key file" mounted_by "$fuse" -o key-file="$T/key"
cp --sparse=always "$img" "$T/before"
ok "mounted by the second passphrase" by_env second "$fsck" "$img"
ok "another key file in the place of the first" \
	"$bcfs" key change --key-file "$T/key" --new-key-file "$T/key2" "$img"
ok "which opens it no more" fails_with "wrong key file" "$fsck" --key-file "$T/key" "$img"
ok "the new one does" "$fsck" --key-file "$T/key2" "$img"
ok "the first passphrase is changed, by number" \
	by_fd third env BCFS_PASSPHRASE=second "$bcfs" key change --new-passphrase-fd 7 "${cheap[@]}" "$img" 0
ok "the old one opens nothing" fails_with "wrong passphrase" by_env "$right" "$fsck" "$img"
ok "a slot is removed" by_env third "$bcfs" key remove "$img" 2
ok "two slots" slots_are "slot 0: passphrase;slot 1: key file;"
head -c 12269 /dev/urandom >"$T/large"
says_large()
{
	local out
	out=$("$@" 2>&1) || return
	grep -q "more than 12268 bytes: its slot cannot be kept" <<<"$out" && return
	echo "$out"
	return 1
}
ok "a large key file is noted" says_large by_env third "$bcfs" key add --new-key-file "$T/large" "$img"
ok "it opens, and goes" "$bcfs" key remove --key-file "$T/large" "$img" 2
head -c 12268 "$T/large" >"$T/less"
no "one that is not so large is not" says_large by_env third "$bcfs" key add --new-key-file "$T/less" "$img"
ok "it goes as well" by_env third "$bcfs" key remove "$img" 2
ok "its passphrase opens nothing" fails_with "wrong passphrase" by_env second "$fsck" "$img"
ok "a slot that is not there" fails_with "no such key slot" by_env third "$bcfs" key remove "$img" 5
ok "one more" by_env third "$bcfs" key remove "$img" 1
ok "the last one stays" fails_with "cannot be removed" by_env third "$bcfs" key remove "$img" 0
ok "all that has written superblocks only" only_superblocks
ok "typed: two of them" typing "third new new" "$bcfs" key change "${cheap[@]}" "$img"
ok "a mount asks again after a wrong one" typing "third new" "$fuse" "$img" "$mnt"
ok "all is there still" grep -q "$marker" "$mnt/late-$marker"

# ---- slots of what is mounted ----

ok "mounted: a key file is added, by mount point" by_env new "$bcfs" key add --new-key-file "$T/key" "$mnt"
ok "mounted: a passphrase, by device, opened by the key file" \
	by_fd fourth "$bcfs" key add --key-file "$T/key" --new-passphrase-fd 7 "${cheap[@]}" "$img"
ok "mounted: three slots" slots_are "slot 0: passphrase;slot 1: key file;slot 2: passphrase;"
ok "mounted: listed by mount point" diff <("$bcfs" key list "$img") <("$bcfs" key list "$mnt")
ok "mounted: a wrong passphrase" fails_with "no key slot opens with this" \
	by_env wrong "$bcfs" key remove "$mnt" 0
ok "mounted: a slot that is not there" fails_with "no such key slot" by_env new "$bcfs" key remove "$mnt" 5
ok "mounted: the one that it opens is changed" \
	by_fd fifth env BCFS_PASSPHRASE=fourth "$bcfs" key change --new-passphrase-fd 7 "${cheap[@]}" "$mnt"
ok "mounted: what it was opens nothing" fails_with "no key slot opens with this" \
	by_env fourth "$bcfs" key remove "$mnt" 0
ok "mounted: a cost" fails_with "cost of a passphrase" \
	by_env new env BCFS_NEW_PASSPHRASE=x "$bcfs" key add --kdf-memory 8T "$mnt"
ok "mounted: key files that are too large" fails_with "unmount it first" \
	"$bcfs" key add --key-file "$T/key" --new-key-file "$T/large" "$mnt"
ok "mounted: typed, wrong at first" typing "third sixth sixth fifth" \
	"$bcfs" key change "${cheap[@]}" "$mnt"
ok "mounted: slots are removed" by_env new "$bcfs" key remove "$mnt" 1
not_in_daemon()
{
	not_in_environ fourth fifth sixth
}
[ "$(id -u)" != 0 ] || ok "mounted: nothing of it is in the daemon's environment" not_in_daemon
for p in $(daemons_of "$img"); do
	kill -KILL "$p"
done
umount "$mnt" 2>/dev/null || umount -l "$mnt"
ok "after a kill: two slots" slots_are "slot 0: passphrase;slot 2: passphrase;"
ok "after a kill: the changed one opens it" mounted_by by_env sixth "$fuse"
ok "after a kill: the removed one does not" fails_with "wrong key file" "$fuse" -o key-file="$T/key" "$img" "$mnt"
BCFS_PASSPHRASE=new "$fuse" -o ro "$img" "$mnt" || bail_out "mounting failed"
ok "read-only: none is removed" fails_with "read-only" by_env new "$bcfs" key remove "$mnt" 2
ok "read-only: unmounted" "$bcfs" umount "$mnt"
BCFS_PASSPHRASE=new "$fuse" "$img" "$mnt" || bail_out "mounting failed"
ok "mounted: another one is removed" by_env new "$bcfs" key remove "$mnt" 2
ok "mounted: the last one stays" fails_with "cannot be removed" by_env new "$bcfs" key remove "$img" 0
ok "slots are listed" slots_are "slot 0: passphrase;"
ok "unmounted" "$bcfs" umount "$mnt"
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
if [ "$(id -u)" = 0 ]; then
	ok "a mount of another user is not asked" fails_with "is mounted on" beside_impostor \
		env BCFS_PASSPHRASE=new "$bcfs" key add --new-key-file "$T/key" "$img"
fi
make_image "$T/plain" 64M
mount_image "$T/plain" "$mnt"
ok "mounted: not encrypted" fails_with "is not encrypted" "$bcfs" key add --new-key-file "$T/key" "$mnt"
ok "unmounted" "$bcfs" umount "$mnt"
rm "$T/plain"
ok "fsck, typed, wrong at first" typing "third new" "$fsck" "$img"
gives_up()
{
	typing "wrong third second" "$fuse" "$img" "$mnt" && return 1
	! mountpoint -q "$mnt"
}
ok "a mount gives up after three" gives_up

# ---- another master key ----

rotated()
{
	local i
	for i in $(seq 100); do
		[ "$("$bcfs" counters "$mnt" | awk '$1 == "rekey.generations" { print $2 }')" = 1 ] && return
		sleep 0.1
	done
	"$bcfs" counters "$mnt" | grep -i "key\|crypt"
	return 1
}
if [ "$(id -u)" = 0 ]; then
	BCFS_PASSPHRASE=new "$bcfs" key add --new-key-file "$T/key" "$img" >"$T/.out" || bail_out "key add"
	mount_image -o key-file="$T/key" "$img" "$mnt"
	head -c 3M /dev/urandom >"$mnt/random"
	make_tree "$mnt/dir-$marker"
	manifest "$mnt" >"$T/manifest"
	ok "a slot would be lost" fails_with "a slot would be lost" "$bcfs" key rotate --key-file "$T/key" "$mnt"
	ok "a wrong one" fails_with "opens no slot" "$bcfs" key rotate --key-file "$T/key2" "$mnt"
	ok "replaced, both slots stay" by_fd new "$bcfs" key rotate --key-file "$T/key" --passphrase-fd 7 "$mnt"
	ok "everything is encrypted anew" rotated
	ok "all is there" same
	ok "replaced, one slot stays" "$bcfs" key rotate --key-file "$T/key" --drop-others "$mnt"
	ok "unmounted meanwhile" "$bcfs" umount "$mnt"
	ok "one slot is left" slots_are "slot 1: key file;"
	ok "fsck is clean" "$fsck" --key-file "$T/key" "$img"
	mount_image -o key-file="$T/key" "$img" "$mnt"
	ok "it goes on at the next mount" rotated
	ok "all is there again" same
	too_often()
	{
		local i
		for i in $(seq 20); do
			"$bcfs" key rotate --key-file "$T/key" "$mnt" >"$T/said" 2>&1 || break
			rotated || return
		done
		cat "$T/said"
		grep -q "unmount and mount it again first" "$T/said"
	}
	ok "so often in one mount: it says what to do" too_often
	ok "all is there after that" same
	ok "unmounted again" "$bcfs" umount "$mnt"
	ok "fsck is clean again" "$fsck" --key-file "$T/key" "$img"
	ok "a passphrase in its place again" by_fd new "$bcfs" key change --key-file "$T/key" \
		--new-passphrase-fd 7 "${cheap[@]}" "$img"
	ok "nothing plain is on the device" hidden "$img"
fi

# ---- damaged, tampered with ----

cp --sparse=always "$img" "$T/before"
python3 "$here/sbedit.py" "$img" options 0x1 || bail_out "sbedit"
ok "an option that somebody changed" fails_with "was tampered with" by_env new "$fuse" "$img" "$mnt"
ok "fsck says the same" fails_with "was tampered with" by_env new "$fsck" "$img"
ok "a wrong passphrase is still that" fails_with "wrong passphrase" by_env old "$fuse" "$img" "$mnt"
cp --sparse=always "$T/before" "$img"
python3 "$here/sbedit.py" "$img" incompat 0 || bail_out "sbedit"
ok "encryption that somebody switched off" fails_with "" by_env new "$fuse" "$img" "$mnt"
ok "and nobody gives a passphrase" fails_with "" setsid "$fuse" "$img" "$mnt"
cp --sparse=always "$T/before" "$img"
python3 "$here/sbedit.py" "$img" areas | while read -r at len; do
	head -c 3000 /dev/urandom | dd of="$img" bs=1 seek=$((at + 100)) conv=notrunc status=none
done
damaged()
{
	local out
	out=$(by_env new "$fuse" "$img" "$mnt" 2>&1 </dev/null) && return 1
	echo "$out"
	! grep -q "passphrase\|tampered" <<<"$out"
}
ok "a damaged superblock is neither" damaged
cp --sparse=always "$T/before" "$img"

# ---- data that somebody changed ----

BCFS_PASSPHRASE=new "$fuse" "$img" "$mnt" || bail_out "mounting failed"
head -c 128K /dev/urandom >"$mnt/changed"
nr=$(stat -c %i "$mnt/changed")
"$bcfs" umount "$mnt" || bail_out "umount"
sector=$(by_env new "$bcfs" dump keys -b extents -s "$nr" -e "$nr:18446744073709551615" "$img" |
	sed -n 's/.*ptr 0:\([0-9]*\) .*/\1/p' | head -n 1)
[ -n "$sector" ] || bail_out "no extent"
printf changed | dd of="$img" bs=1 seek=$((sector * 512 + 20000)) conv=notrunc status=none
BCFS_PASSPHRASE=new "$fuse" "$img" "$mnt" || bail_out "mounting failed"
no "it is not read" cat "$mnt/changed"
ok "what is before it is" bash -c '[ "$(head -c 16384 "$1" | wc -c)" = 16384 ]' - "$mnt/changed"
ok "it is told, and where" grep -q "authentication error, .*tampered with: /changed: bytes 16384 to 24576 of inode $nr" \
	<("$bcfs" errors "$mnt")
ok "unmounted" "$bcfs" umount "$mnt"
rm "$img"

# ---- an image of the metadata, of a device that was used before ----

yes "$marker" | head -c 64M >"$img"
"$mkfs" -q -f --nodiscard --encrypt --key-file "$T/key" "$img" || bail_out "mkfs"
"$fuse" -o "key-file=$T/key,nodiscard" "$img" "$mnt" || bail_out "mounting failed"
for i in $(seq 200); do echo "$i" >"$mnt/$i"; done
"$bcfs" umount "$mnt"
no "what was there before still is" hidden "$img"
ok "an image of the metadata" "$bcfs" dump image --key-file "$T/key" "$img" "$T/meta"
ok "has nothing of it" hidden "$T/meta"
ok "and is whole" "$fsck" --key-file "$T/key" "$T/meta"
rm "$img" "$T/meta"
done_testing
