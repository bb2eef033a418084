#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: mount(8) and fstab treat bcfs as they treat any filesystem: types, options, source,
# remount, statuses, what is installed where. Method: as root, in a mount namespace of its own,
# the helpers are put into /sbin by a bind mount of a directory of links, and mount(8) is called;
# a user's part is run as nobody.
here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" = 0 ] || { echo "1..0 # SKIP only root can put helpers into /sbin"; exit 0; }
if [ -z "${BCFS_MOUNTING_TEST:-}" ]; then
	unshare -m true 2>/dev/null || { echo "1..0 # SKIP no mount namespaces"; exit 0; }
	BCFS_MOUNTING_TEST=1 exec unshare -m --propagation private "$0" "$@"
fi
. "$here/lib.sh"

mkdir "$T/mnt" "$T/mnt2" "$T/sbin" "$T/real"
sbin=$(realpath /sbin)
if ! mount --bind "$sbin" "$T/real" || ! ln -s "$T/real"/* "$T/sbin" ||
	! mount --bind "$T/sbin" "$sbin"; then
	skip_all "no bind mounts"
fi
for name in mount.bcfs mount.fuse.bcfs; do
	ln -sf "$fuse" "$T/sbin/$name"
done
ln -sf "$mkfs" "$fsck" "$T/sbin"
make_image "$T/img" 64M -L "a label"
uuid=$("$bcfs" probe "$T/img" | sed -n 's/^UUID=//p')

# The line of /proc/mounts: "source type options".
line()
{
	awk -v m="${1:-$T/mnt}" '$2 == m { print $1, $3, $4 }' /proc/mounts
}

has_option()
{
	[[ ",$(line | cut -d' ' -f3)," = *",$1,"* ]]
}

lacks_option()
{
	! has_option "$1"
}

# Until nobody serves the image any more.
gone()
{
	local i
	for i in $(seq 100); do
		[ -n "$(daemons_of "$1")" ] || return 0
		sleep 0.1
	done
	return 1
}

# status WANTED COMMAND...
status()
{
	local got=0
	"${@:2}" || got=$?
	[ "$got" = "$1" ] || { echo "status $got"; return 1; }
}

# ---- types, and what /proc/mounts shows ----
ok "mount -t bcfs" mount -t bcfs "$T/img" "$T/mnt"
ok "source, type" grep -q "^$T/img fuse.bcfs rw,relatime,.*default_permissions,allow_other" <(line)
ok "it is live" touch "$T/mnt/f"
ok "umount" umount "$T/mnt"
ok "mount -t fuse.bcfs" mount -t fuse.bcfs "$T/img" "$T/mnt"
ok "source, type" grep -q "^$T/img fuse.bcfs rw,relatime," <(line)
ok "umount" umount "$T/mnt"
ln -s img "$T/link"
ok "mount by a symbolic link" "$fuse" "$T/link" "$T/mnt"
ok "which is the source" grep -q "^$T/link fuse.bcfs " <(line)
ln -s mnt "$T/mntlink"
ok "bcfs umount by a link to the mount point" "$bcfs" umount "$T/mntlink"
mkdir "$T/sp,a ce"
cp --sparse=always "$T/img" "$T/sp,a ce/i\\mg"
ok "a source with a comma, a space, a backslash" mount -t bcfs "$T/sp,a ce/i\\mg" "$T/mnt"
ok "is shown as it is" test "$(findmnt -no SOURCE "$T/mnt")" = "$T/sp,a ce/i\\mg"
ok "bcfs umount" "$bcfs" umount "$T/mnt"

# ---- options ----
ok "the generic options" mount -t bcfs -o defaults,rw,async,auto,dev,exec,suid,nofail,nouser,_netdev,noiversion,nomand,loud,norelatime,nostrictatime,diratime,nolazytime,symfollow,x-systemd.automount,x-foo=1,X-bar,comment=a \
	"$T/img" "$T/mnt"
umount "$T/mnt"
for o in nosuid nodev noexec noatime nodiratime sync dirsync lazytime nosymfollow ro; do
	ok "$o" mount -t bcfs -o "$o" "$T/img" "$T/mnt"
	ok "$o: the kernel has it" has_option "$o"
	umount "$T/mnt"
done
ok "strictatime" mount -t bcfs -o strictatime "$T/img" "$T/mnt"
ok "strictatime: the kernel has it" lacks_option relatime
umount "$T/mnt"
ok "an option behind another wins" mount -t bcfs -o nosuid,noexec,suid,sync,async "$T/img" "$T/mnt"
ok "the kernel has it so" bash -c '[[ $1 = "$2/img fuse.bcfs rw,noexec,"* ]]' - "$(line)" "$T"
umount "$T/mnt"
ok "the daemon's options" mount -t bcfs -o discard,errors=continue,journal_flush_delay=500,cache=64M,writeback=off,threads=4,readers=1,io=threads,open=on,readdirplus=auto,attr_timeout=1,entry_timeout=1,negative_timeout=0,read_ahead=512K \
	"$T/img" "$T/mnt"
ok "work" bash -c 'echo a >"$0/a" && grep -q a "$0/a" && rm "$0/a"' "$T/mnt"
umount "$T/mnt"
# What sync and dirsync promise holds when the daemon is killed, with a journal in no hurry.
killed()
{
	kill -KILL "$(daemons_of "$T/img")"
	gone "$T/img"
	umount "$T/mnt"
	mount -t bcfs -o journal_flush_delay=600000 "$T/img" "$T/mnt"
}
mount_image -o sync,journal_flush_delay=600000 "$T/img" "$T/mnt"
mkdir "$T/mnt/dir"
echo first >"$T/mnt/dir/file"
chmod 700 "$T/mnt/dir"
setfattr -n user.a -v b "$T/mnt/dir/file"
mv "$T/mnt/dir/file" "$T/mnt/dir/moved"
chattr +d "$T/mnt/dir/moved"
killed
ok "sync: what was done survives a kill" test "$(cat "$T/mnt/dir/moved") $(stat -c %a "$T/mnt/dir")" = "first 700"
ok "xattrs too" getfattr -n user.a "$T/mnt/dir/moved"
ok "and flags" bash -c 'lsattr "$0" | grep -q "^[^ ]*d"' "$T/mnt/dir/moved"
ok "remount,sync" mount -o remount,sync "$T/mnt"
ok "the kernel has it" has_option sync
echo second >"$T/mnt/dir/moved"
chmod 711 "$T/mnt/dir"
killed
ok "remount,sync: what was done survives a kill" test "$(cat "$T/mnt/dir/moved") $(stat -c %a "$T/mnt/dir")" = "second 711"
mount -o remount,sync "$T/mnt"
ok "remount,async" mount -o remount,async "$T/mnt"
ok "the kernel has it not" lacks_option sync
echo third >"$T/mnt/dir/moved"
killed
ok "then it does not" test "$(cat "$T/mnt/dir/moved")" = second
ok "remount,sync by the kernel alone" mount -i -o remount,sync "$T/mnt"
for i in $(seq 20); do
	mkdir "$T/mnt/dir/sub$i"
	sleep 0.1
done
killed
ok "the daemon follows: names survive a kill" test -d "$T/mnt/dir/sub20"
rmdir "$T"/mnt/dir/sub*
sync -f "$T/mnt"
ok "remount,dirsync" mount -o remount,dirsync,journal_flush_delay=600000 "$T/mnt"
ok "which no other remount takes away" mount -o remount,noatime,journal_flush_delay=600000 "$T/mnt"
rm "$T/mnt/dir/moved"
mkdir "$T/mnt/dir/sub"
ln -s x "$T/mnt/dir/link"
killed
ok "dirsync: names survive a kill" test "$(ls "$T/mnt/dir" | tr '\n' ' ')" = "link sub "
rm "$T/mnt/dir/link"
killed
ok "without it they do not" test -L "$T/mnt/dir/link"
rm -r "$T/mnt/dir"
umount "$T/mnt"
ok "fsck" "$fsck" "$T/img"
ok "an unknown option is refused by name" bash -c \
	'! out=$("$@" 2>&1) && grep -q "\"frobnicate\"" <<<"$out"' - mount -t bcfs -o ro,frobnicate "$T/img" "$T/mnt"
ok "one of FUSE's is" bash -c '! out=$("$@" 2>&1) && grep -q "\"max_read\"" <<<"$out"' - \
	mount -t bcfs -o max_read=4096 "$T/img" "$T/mnt"
ok "mount -s passes over it" mount -s -t bcfs -o frobnicate "$T/img" "$T/mnt"
umount "$T/mnt"
ok "mount -r -v -n" mount -r -v -n -t bcfs "$T/img" "$T/mnt"
ok "is read-only" has_option ro
umount "$T/mnt"
ok "mount -f" mount -f -t bcfs "$T/img" "$T/mnt"
ok "mounts nothing" test -z "$(line)"

# ---- statuses ----
helper=$T/sbin/mount.bcfs
ok "status 1: usage" status 1 "$helper" "$T/img"
ok "status 1: an option" status 1 "$helper" "$T/img" "$T/mnt" -o frobnicate
ok "status 32: no device" status 32 "$helper" "$T/none" "$T/mnt" -o rw
ok "status 32: no mount point" status 32 "$helper" "$T/img" "$T/none" -o rw
ok "mount(8) hands it on" status 32 mount -t bcfs "$T/none" "$T/mnt"
no "a mount namespace that is none" "$helper" "$T/img" "$T/mnt" -N "$T/img"
ok "bcfs-fuse says 1" status 1 "$fuse" "$T/none" "$T/mnt"
# Interrupted while it waits for the device.
exec 5<"$T/img"
flock 5
"$helper" "$T/img" "$T/mnt" -o wait=30 2>"$T/.wait" &
pid=$!
for _ in $(seq 100); do
	grep -q "waiting up to" "$T/.wait" && break
	sleep 0.1
done
kill -INT "$pid" 2>/dev/null || true
kill -TERM "$pid"
exec 5>&-
ok "status 8: interrupted" status 8 wait "$pid"
gone "$T/img"
ok "and nothing is mounted" test -z "$(line)"

# ---- another mount namespace ----
unshare -m --propagation private sleep 100 &
pid=$!
for _ in $(seq 50); do
	[ "$(readlink "/proc/$pid/ns/mnt")" = "$(readlink /proc/self/ns/mnt)" ] || break
	sleep 0.1
done
# In a chroot the other namespace has another root: no path of ours is there.
if mount -N "$pid" -t tmpfs none "$T/mnt" 2>/dev/null && umount -N "$pid" "$T/mnt"; then
	ok "mount -N" mount -N "$pid" -t bcfs "$T/img" "$T/mnt"
	ok "it is there" grep -q "$T/mnt fuse.bcfs" "/proc/$pid/mounts"
	ok "and not here" test -z "$(line)"
	kill -TERM "$(daemons_of "$T/img")"
	gone "$T/img"
	ok "SIGTERM to the daemon ends it" test -z "$(daemons_of "$T/img")"
fi
kill "$pid"
wait "$pid" 2>/dev/null

# ---- the same device again ----
mount_image "$T/img" "$T/mnt"
twice()
{
	local out status=0 start=$SECONDS
	out=$("$fuse" "${@:2}" "$1" "$T/mnt2" 2>&1) || status=$?
	echo "$out"
	[ "$status" = 1 ] && [ -z "$(line "$T/mnt2")" ] && [ $((SECONDS - start)) -lt 20 ] &&
		grep -q "$1: is mounted on $T/mnt" <<<"$out"
}
ln "$T/img" "$T/hard"
ok "a second mount is refused" twice "$T/img"
ok "by a symbolic link too" twice "$T/link"
ok "by a hard link too" twice "$T/hard"
ok "umount" "$bcfs" umount "$T/mnt"
mount_image "$T/link" "$T/mnt"
ok "if the first was by a link" twice "$T/link"
ok "by the file too" twice "$T/img"
ok "umount" "$bcfs" umount "$T/mnt"
mount_image -o ro "$T/img" "$T/mnt"
ok "read-only mounts too" twice "$T/img" -o ro
ok "fsck -n looks beside one" "$fsck" -n "$T/img"
ok "umount" "$bcfs" umount "$T/mnt"

# ---- remount ----
mount_image "$T/img" "$T/mnt"
echo old >"$T/mnt/old"
exec 5<"$T/mnt/old"
ok "remount,ro" mount -o remount,ro "$T/mnt"
ok "the kernel says so" has_option ro
ok "the device is clean" bash -c '"$0" probe "$1" | grep -q CLEAN=1' "$bcfs" "$T/img"
before=$(sha256sum <"$T/img")
no "nothing can be made" touch "$T/mnt/x"
no "nor changed" setfattr -n user.a -v b "$T/mnt/old"
ok "all is there" test "$(cat "$T/mnt/old")" = old
ls -laR "$T/mnt" >"$T/.ls"
sleep 1.5
ok "nothing is written" test "$before" = "$(sha256sum <"$T/img")"
ok "remount,rw" mount -o remount,rw "$T/mnt"
ok "the kernel says so" has_option rw
ok "it is writable" bash -c 'echo new >"$0/new" && sync "$0/new"' "$T/mnt"
ok "a file that was open is" test "$(cat <&5)" = old
rm "$T/mnt/old"
ok "and stays when it is removed" python3 -c 'import os; assert os.pread(5, 9, 0) == b"old\n"'
no "remount,ro while it is open" mount -o remount,ro "$T/mnt"
ok "changes nothing" touch "$T/mnt/new"
exec 5<&-
exec 5>"$T/mnt/held"
no "remount,ro while a file is open for writing" mount -o remount,ro "$T/mnt"
ok "changes nothing" bash -c 'echo more >&5' "$T/mnt"
exec 5>&-
there_and_back()
{
	local i
	for i in $(seq 10); do
		mount -o remount,ro "$T/mnt" && ! touch "$T/mnt/x" 2>/dev/null &&
			mount -o remount,rw "$T/mnt" && echo "$i" >"$T/mnt/new" || return 1
	done
}
touch "$T/.go"
(while [ -e "$T/.go" ]; do cat "$T"/mnt/* >/dev/null || echo failed; done) >"$T/.readers" 2>&1 &
readers=$!
ok "ten times, with a reader" there_and_back
rm "$T/.go"
wait "$readers"
ok "who saw nothing of it" test ! -s "$T/.readers"
ok "by device and helper" mount -t bcfs -o remount,ro,noatime "$T/img" "$T/mnt"
ok "with an option" has_option noatime
ok "by the kernel alone" mount -i -o remount,rw,relatime "$T/mnt"
ok "it is writable" bash -c 'for i in $(seq 50); do touch "$0/new" 2>/dev/null && exit; sleep 0.1; done; false' "$T/mnt"
ok "and back" mount -i -o remount,ro "$T/mnt"
clean()
{
	local i
	for i in $(seq 50); do
		"$bcfs" probe "$T/img" | grep -q CLEAN=1 && return
		sleep 0.1
	done
	return 1
}
ok "the daemon follows" clean
ok "remount with the daemon's options" mount -o remount,rw,errors=continue,journal_flush_delay=100,nosuid "$T/mnt"
ok "and the kernel's" has_option nosuid
# Other options of the daemon want it opened anew: not under who holds what has no name.
echo removed >"$T/mnt/removed"
exec 8<"$T/mnt/removed"
rm "$T/mnt/removed"
no "not while a removed file is open" mount -o remount,rw,errors=ro "$T/mnt"
ok "which is still there" grep -q removed /dev/fd/8
exec 8<&-
ok "but then" mount -o remount,rw,errors=ro "$T/mnt"
no "those that cannot be changed are refused" mount -o remount,writeback=off "$T/mnt"
no "and unknown ones" mount -o remount,frobnicate "$T/mnt"
no "what is no bcfs is not remounted" "$T/sbin/mount.bcfs" "$T/img" / -o remount,ro
ok "umount" "$bcfs" umount "$T/mnt"
ok "fsck" "$fsck" "$T/img"
before=$(sha256sum <"$T/img")
ok "mount -o ro" mount -t bcfs -o ro "$T/img" "$T/mnt"
no "no other mount, were it only to read" "$fuse" -o ro,wait=0 "$T/link" "$T/mnt2"
# As a tool that reads beside it.
exec 7<"$T/img"
flock -s 7
no "remount,rw while somebody reads" mount -o remount,rw "$T/mnt"
ok "it is still there" test "$(cat "$T/mnt/new")" = 10
exec 7<&-
ok "nothing was written" test "$before" = "$(sha256sum <"$T/img")"
ok "remount,rw then" mount -o remount,rw "$T/mnt"
ok "it is writable" bash -c 'echo newer >"$0/new" && sync "$0/new"' "$T/mnt"
no "and has the device alone" "$fuse" -o ro,wait=0 "$T/img" "$T/mnt2"
ok "umount" "$bcfs" umount "$T/mnt"
ok "fsck" "$fsck" "$T/img"
ok "it was written" bash -c '"$0" "$1/img" "$1/mnt" && grep -q newer "$1/mnt/new"' "$fuse" "$T"

"$bcfs" umount "$T/mnt" || bail_out "umount"
mkdir "$T/media"
mv "$T/img" "$T/media"
mount --bind "$T/media" "$T/media"
mount -o remount,bind,ro "$T/media"
mount_image -o ro "$T/media/img" "$T/mnt"
ok "remount,rw on read-only media is refused" bash -c \
	'"$@" 2>&1 | grep -q "lies on read-only media"' - mount -o remount,rw "$T/mnt"
ok "it is still read-only, and there" bash -c 'grep -q newer "$0/new" && ! touch "$0/new"' "$T/mnt"
ok "umount" "$bcfs" umount "$T/mnt"
umount "$T/media"
mv "$T/media/img" "$T/img"
mount_image "$T/img" "$T/mnt"
# Whoever makes things meanwhile sees EROFS at most, and what he has made stays.
mkdir "$T/mnt/made"
python3 -c '
import errno, os, sys
go, made, log = sys.argv[1:]
log = open(log, "w", encoding="utf-8")
n = 0
while os.path.exists(go):
    try:
        os.close(os.open(f"{made}/{n}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        print(n, file=log, flush=True)
        n += 1
    except OSError as e:
        assert e.errno == errno.EROFS, e
print("end", file=log)' "$T/img" "$T/mnt/made" "$T/.made" 2>"$T/.writer" &
writer=$!
for _ in $(seq 100); do
	[ ! -s "$T/.made" ] || break
	sleep 0.1
done
for _ in $(seq 15); do
	mount -o remount,ro "$T/mnt" 2>/dev/null && echo "read-only after $(wc -l <"$T/.made")" | comment
	mount -o remount,rw "$T/mnt" || break
done
mv "$T/img" "$T/img2"
wait "$writer"
mv "$T/img2" "$T/img"
cat "$T/.writer" | comment
ok "remounts under who makes files" test "$(tail -n 1 "$T/.made")" = end -a -n "$(line)"
ok "umount" "$bcfs" umount "$T/mnt"
ok "fsck" "$fsck" "$T/img"
mount_image "$T/img" "$T/mnt"
ok "all of them are there" bash -c 'diff <(ls "$1/mnt/made" | sort) <(grep -v end "$1/.made" | sort)' - "$T"

# ---- access times ----
ok_python "relatime, noatime, strictatime, nodiratime" "$T/mnt" <<-'END'
	import mmap, os, subprocess, sys, time
	os.chdir(sys.argv[1])
	def remount(options):
	    subprocess.run(["mount", "-o", "remount," + options, sys.argv[1]], check=True)
	def wait_for_the_clock():
	    """Until the coarse clock, which the kernel takes times from, is past this moment."""
	    now, coarse = time.time(), 5
	    while time.clock_gettime(coarse) <= now:
	        time.sleep(0.002)
	def atime(path):
	    return subprocess.run(["stat", "--cached=never", "-c", "%x", path], check=True,
	                          capture_output=True).stdout
	def updates(path):
	    """Does reading it, past the kernel's cache, change what the daemon says?"""
	    before = atime(path)
	    wait_for_the_clock()
	    if os.path.isdir(path):
	        os.listdir(path)
	    else:
	        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
	        assert os.preadv(fd, [mmap.mmap(-1, 4096)], 0) > 0
	        os.close(fd)
	    return atime(path) != before
	with open("file", "w", encoding="utf-8") as f:
	    wait_for_the_clock()  # so that it is written later than it is made, by the kernel's clock too
	    f.write("text")
	    f.flush()
	    os.fsync(f.fileno())
	os.mkdir("dir")
	for d in "dir", "file":
	    assert updates(d), "relatime: the first " + d
	    assert not updates(d), "relatime: the second " + d
	remount("strictatime")
	for d in "dir", "file":
	    assert updates(d), "strictatime " + d
	remount("strictatime,nodiratime")
	assert updates("file"), "nodiratime: file"
	assert not updates("dir"), "nodiratime: dir"
	remount("noatime,diratime")
	for d in "dir", "file":
	    assert not updates(d), "noatime " + d
END
ok "umount" "$bcfs" umount "$T/mnt"

# ---- fstab ----
fstab()
{
	printf '%s\n' "$@" >"$T/fstab"
}
fstab "$T/img $T/mnt bcfs defaults,nofail,noauto,_netdev,noatime,x-systemd.device-timeout=5s,x-systemd.automount,comment=x 0 2"
ok "fstab: mount by mount point" mount -T "$T/fstab" "$T/mnt"
ok "with its options" has_option noatime
umount "$T/mnt"
ok "fstab: mount by device" mount -T "$T/fstab" "$T/img"
umount "$T/mnt"
fstab "$T/img $T/mnt fuse.bcfs rw,nosuid,nodev 0 0"
ok "fstab: type fuse.bcfs" mount -T "$T/fstab" "$T/mnt"
ok "its options" has_option nosuid
umount "$T/mnt"
fstab "$T/img $T/mnt bcfs defaults 0 2" "$T/none $T/mnt2 bcfs nofail 0 2"
ok "fstab: mount -a passes over what has nofail and is not there" mount -a -T "$T/fstab"
ok "the other one is mounted" test -n "$(line)"
ok "mount -a again: nothing to do" mount -a -T "$T/fstab"
umount "$T/mnt"
truncate -s 64M "$T/fresh"
ok "mkfs by mkfs(8)" mkfs -t bcfs -q "$T/fresh"
ok "fsck by fsck(8)" fsck -t bcfs -n "$T/img"

# ---- the daemon ----
mount_image "$T/img" "$T/mnt"
pid=$(daemons_of "$T/img")
ok_python "the daemon leads a session of its own, at home in /, and holds nothing else open" "$pid" "$T" <<-'END'
	import os, sys
	pid, t = sys.argv[1:]
	stat = open(f"/proc/{pid}/stat", encoding="utf-8").read().rsplit(")", 1)[1].split()
	assert stat[3] == pid, stat
	assert os.readlink(f"/proc/{pid}/cwd") == "/"
	fds = [os.readlink(f"/proc/{pid}/fd/{f}") for f in os.listdir(f"/proc/{pid}/fd")]
	for f in fds:
	    if not f.startswith(("anon_inode:", "/dev/null", "/dev/fuse", "/proc/", "socket:", t + "/img")):
	        sys.exit(str(fds))
END
# A server that does not answer, or is gone.
kill -STOP "$pid"
ok "fusermount3 -u of a stopped daemon's mount" timeout 20 fusermount3 -u "$T/mnt"
ok "it is gone" test -z "$(line)"
kill -CONT "$pid"
ok "and the daemon ends when it goes on" gone "$T/img"
mount_image "$T/img" "$T/mnt"
kill -KILL "$(daemons_of "$T/img")"
gone "$T/img"
no "a killed daemon's mount is dead" ls "$T/mnt"
ok "fusermount3 -u clears it" fusermount3 -u "$T/mnt"
ok "fsck" "$fsck" "$T/img"
"$fuse" -f "$T/none" "$T/mnt" 2>"$T/.log"
ok "-f: errors are on stderr" grep -q "^bcfs-fuse: $T/none: " "$T/.log"
"$fuse" -d "$T/img" "$T/mnt" 2>"$T/.log" &
pid=$!
for _ in $(seq 100); do
	[ -z "$(line)" ] || break
	sleep 0.1
done
ls "$T/mnt" >/dev/null
kill -TERM "$pid"
wait "$pid"
ok "-d: requests are on stderr" grep -q "opcode: READDIR" "$T/.log"

# ---- block devices ----
truncate -s 256M "$T/disk"
if loop=$(losetup -f --show "$T/disk" 2>/dev/null); then
	"$mkfs" -q "$loop" || bail_out "mkfs"
	syncs()
	{
		"$bcfs" counters "$T/mnt" | sed -n 's/^fuse.syncfs *//p'
	}
	ok "a block device" mount -t bcfs "$loop" "$T/mnt"
	if line | grep -q "^$loop fuseblk rw,relatime,"; then
		result 0 "source, type"
		read -r kernel _ < <(uname -r | tr . ' ' | awk '{ print $1 * 1000 + $2 }')
		if [ "$kernel" -ge 6018 ]; then
			python3 -c 'import ctypes, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
sys.exit(ctypes.CDLL(None).syncfs(fd))' "$T/mnt"
			ok "syncfs(2) arrives" test "$(syncs)" -ge 1
			umount "$T/mnt"
			mount_image -o journal_flush_delay=600000 "$loop" "$T/mnt"
			echo synced >"$T/mnt/synced"
			sync -f "$T/mnt"
			kill -KILL "$(daemons_of "$loop")"
			gone "$loop"
			umount "$T/mnt"
			ok "mount after a kill" mount -t bcfs "$loop" "$T/mnt"
			ok "what syncfs(2) has seen is there" test "$(cat "$T/mnt/synced")" = synced
		fi
		head -c 20M /dev/urandom >"$T/mnt/data"
		ok "umount" umount "$T/mnt"
		ok "returns when the daemon is done" bash -c '"$0" probe "$1" | grep -q CLEAN=1' "$bcfs" "$loop"
		ok "and nobody has the device" flock -n -x "$loop" true
	else
		umount "$T/mnt"
		gone "$loop"
	fi
	ok "-o nofuseblk" mount -t bcfs -o nofuseblk "$loop" "$T/mnt"
	ok "is fuse.bcfs" grep -q "^$loop fuse.bcfs " <(line)
	ok "umount" "$bcfs" umount "$T/mnt"
	mount_image "$loop" "$T/mnt"
	ok "a second mount is refused" twice "$loop"
	no "fsck too" "$fsck" "$loop"
	no "by its file, too" "$fuse" -o wait=0 "$T/disk" "$T/mnt2"
	ok "remount,ro" mount -t bcfs -o remount,ro "$loop" "$T/mnt"
	ok "is clean" bash -c '"$0" probe "$1" | grep -q CLEAN=1' "$bcfs" "$loop"
	ok "remount,rw" mount -t bcfs -o remount,rw "$loop" "$T/mnt"
	ok "is writable" touch "$T/mnt/x"
	ok "remount,ro without a type" mount -o remount,ro "$T/mnt"
	follows()
	{
		local i
		for i in $(seq 50); do
			"$bcfs" probe "$loop" | grep -q "CLEAN=$1" && return
			sleep 0.1
		done
		return 1
	}
	ok "the daemon follows" follows 1
	no "nothing can be made" touch "$T/mnt/z"
	ok "remount,rw" mount -o remount,rw "$T/mnt"
	ok "the daemon follows" follows 0
	ok "is writable" touch "$T/mnt/z"
	pid=$(daemons_of "$loop")
	kill -TERM "$pid"
	gone "$loop"
	ok "SIGTERM ends it" test -z "$(line)"
	ok "cleanly" bash -c '"$0" probe "$1" | grep -q CLEAN=1' "$bcfs" "$loop"
	mount_image -o ro "$loop" "$T/mnt"
	ok "mounted read-only, then remount,rw" mount -t bcfs -o remount,rw "$loop" "$T/mnt"
	ok "is writable" touch "$T/mnt/y"
	kill -KILL "$(daemons_of "$loop")"
	gone "$loop"
	ok "fusermount3 -u of a killed daemon's mount" fusermount3 -u "$T/mnt"
	ok "the next mount" mount -t bcfs "$loop" "$T/mnt"
	pid=$(daemons_of "$loop")
	kill -STOP "$pid"
	ok "umount -f of a stopped daemon's mount" timeout 20 umount -f "$T/mnt"
	kill -CONT "$pid"
	gone "$loop"
	mount_image "$loop" "$T/mnt"
	pid=$(daemons_of "$loop")
	kill -STOP "$pid"
	fusermount3 -u "$T/mnt" &
	unmounter=$!
	unmounted()
	{
		local i
		for i in $(seq 100); do
			[ -n "$(line)" ] || return 0
			sleep 0.1
		done
		return 1
	}
	ok "fusermount3 -u of one takes the mount away" unmounted
	kill -KILL "$pid"
	ok "and is done when the daemon is killed" wait "$unmounter"
	gone "$loop"
	ok "the next mount" mount -t bcfs "$loop" "$T/mnt"
	"$bcfs" umount "$T/mnt" || bail_out "umount"
	ok "fsck" "$fsck" "$loop"
	losetup -d "$loop"
	ok "mount -o loop" mount -t bcfs -o loop "$T/disk" "$T/mnt"
	ok "is a loop device" grep -q "^/dev/loop[0-9]* fuse" <(line)
	"$bcfs" umount "$T/mnt" || bail_out "umount"
else
	result 0 "block devices # SKIP no loop devices here"
fi

# ---- UUID= and LABEL=, by what the udev rule makes ----
probe_udev()
{
	local got want
	got=$("$bcfs" probe --udev "$1") || return
	want="ID_FS_TYPE=bcfs ID_FS_USAGE=filesystem ID_FS_VERSION=1.0 ID_FS_UUID=$uuid ID_FS_UUID_ENC=$uuid"
	[ "$(grep -v LABEL <<<"$got" | tr '\n' ' ')" = "$want " ] || { echo "$got"; return 1; }
	[ "$(grep LABEL <<<"$got")" = "$2" ] || { echo "$got"; return 1; }
}
ok "probe --udev" probe_udev "$T/img" $'ID_FS_LABEL=a_label\nID_FS_LABEL_ENC=a\\x20label'
cp --sparse=always "$T/img" "$T/evil"
python3 "$here/sbedit.py" "$T/evil" label $'a/../\xc3\xa9\n$(x)"' || bail_out "sbedit"
ok "probe --udev: a label that would be more" probe_udev "$T/evil" \
	$'ID_FS_LABEL=a/../\xc3\xa9_$(x)"\nID_FS_LABEL_ENC=a\\x2f..\\x2f\xc3\xa9\\x0a\\x24\\x28x\\x29\\x22'
truncate -s 16M "$T/zero"
ok "probe --udev: 2 where there is none" status 2 "$bcfs" probe --udev "$T/zero"
ok "1 where there is no device" status 1 "$bcfs" probe --udev "$T/none"
mount_image "$T/img" "$T/mnt"
ok "probe --udev of what is mounted" probe_udev "$T/img" \
	$'ID_FS_LABEL=a_label\nID_FS_LABEL_ENC=a\\x20label'
ok "umount" "$bcfs" umount "$T/mnt"
mkdir "$T/dev"
cp -a /dev/null /dev/zero /dev/fuse /dev/urandom /dev/loop* "$T/dev" 2>/dev/null
ln -s /proc/self/fd "$T/dev/fd"
mkdir -p "$T/dev/disk/by-uuid" "$T/dev/disk/by-label"
loop=$(losetup -f --show "$T/img" 2>/dev/null) || loop=
ln -s "$loop" "$T/dev/disk/by-uuid/$uuid"
ln -s "$loop" "$T/dev/disk/by-label/a\\x20label"
if [ -n "$loop" ] && mount --bind "$T/dev" /dev && mount -o remount,bind,dev /dev && [ -c /dev/fuse ] && : >/dev/null; then
	ok "mount UUID=" mount -t bcfs "UUID=$uuid" "$T/mnt"
	ok "the source is a device" grep -q "^$loop fuse" <(line)
	umount "$T/mnt"
	fstab "LABEL=a\\040label $T/mnt bcfs defaults 0 2"
	ok "fstab: LABEL=" mount -T "$T/fstab" "$T/mnt"
	"$bcfs" umount "$T/mnt" || bail_out "umount"
	rm -f "$T/dev/log"
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("/dev/log")
s.settimeout(20)
print(s.recv(1000).decode())' >"$T/.syslog" &
	pid=$!
	for _ in $(seq 50); do
		[ ! -S /dev/log ] || break
		sleep 0.1
	done
	mount -t bcfs "$T/evil" "$T/mnt"
	exec 5>"$T/mnt/held"
	kill -TERM "$(daemons_of "$T/evil")"
	wait "$pid"
	exec 5>&-
	gone "$T/evil"
	ok "the daemon logs to syslog" grep -q "bcfs-fuse\\[[0-9]*\\]: $T/evil: $T/mnt is busy" "$T/.syslog"
	ok "fsck UUID=" fsck -t bcfs "UUID=$uuid"
else
	result 0 "UUID= and LABEL= # SKIP no other /dev here"
fi
umount -l /dev
[ -z "$loop" ] || losetup -d "$loop"

# ---- what is installed ----
dest=$T/dest
mkdir "$dest"
if command -v meson >/dev/null; then
	ok "meson install" meson install -C "$build" --no-rebuild --destdir "$dest" --quiet
	prefix=$dest$(meson introspect "$build" --buildoptions | python3 -c '
import json, sys
print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
	for f in bin/bcfs-fuse bin/bcfs sbin/mkfs.bcfs sbin/fsck.bcfs; do
		ok "$f runs" env LD_LIBRARY_PATH="$(dirname "$(find "$dest" -name libbcfs.so)")" \
			"$prefix/$f" -V
	done
	if [ "$prefix" = "$dest/usr/local" ]; then
		# As if it were no $dest: nothing but what was installed, and nobody has called ldconfig.
		rm "$T"/sbin/*.bcfs
		cp -P "$dest"/sbin/* "$T/sbin"
		mount --bind "$prefix" /usr/local
		plain()
		{
			env -u LD_LIBRARY_PATH PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
		}
		for type in bcfs fuse.bcfs; do
			ok "mount -t $type finds the helper" plain mount -t "$type" "$T/img" "$T/mnt"
			ok "it is what was installed" bash -c \
				'for p in /proc/[0-9]*; do [ "$p/exe" -ef "$1" ] && exit; done; false' - "$prefix/bin/bcfs-fuse"
			ok "bcfs umount" plain /usr/local/bin/bcfs umount "$T/mnt"
		done
		ok "fsck(8) finds fsck.bcfs" plain fsck -t bcfs -n "$T/img"
		ok "mkfs(8) finds mkfs.bcfs" plain mkfs -t bcfs -q -f "$T/fresh"
		umount /usr/local
	fi
	for f in mkfs.bcfs.8 fsck.bcfs.8 bcfs-fuse.8 mount.bcfs.8 mount.fuse.bcfs.8 bcfs.8 bcfs.5; do
		ok "$f" test -s "$prefix/share/man/man${f##*.}/$f"
	done
	rules=$prefix/lib/udev/rules.d/65-bcfs.rules
	ok "the udev rule calls the program" grep -q "IMPORT{program}=\"${prefix#"$dest"}/bin/bcfs probe --udev " "$rules"
	ok_python "its lines are rules" "$rules" <<-'END'
		import re, sys
		item = r'[A-Z]+(\{\w+\})?(==|!=|=|\+=)"[^"]*"'
		goto, label = set(), set()
		for line in open(sys.argv[1], encoding="utf-8"):
		    line = line.rstrip("\n")
		    if not line or line.startswith("#"):
		        continue
		    if not re.fullmatch(f"{item}(, {item})*", line):
		        sys.exit(line)
		    goto |= set(re.findall('GOTO="(.*?)"', line))
		    label |= set(re.findall('LABEL="(.*?)"', line))
		if goto != label:
		    sys.exit(f"{goto} {label}")
	END
	if udevadm verify --help >/dev/null 2>&1; then
		ok "udevadm verify" udevadm verify --resolve-names=never "$rules"
	fi
	cat >"$T/uses.c" <<-'END'
		#include <bcfs/bcfs.h>
		#include <stdio.h>
		int main(int argc, char **argv)
		{
			struct bcfs_info info;
			char msg[256];
			if (bcfs_probe(argv[1], &info, msg, sizeof(msg)))
				return 1;
			puts(info.label);
			return 0;
		}
	END
	pc=$(dirname "$(find "$dest" -name bcfs.pc)")
	uses_library()
	{
		local flags
		flags=$(PKG_CONFIG_PATH=$pc PKG_CONFIG_SYSROOT_DIR=$dest pkg-config --cflags --libs bcfs) || return
		# shellcheck disable=SC2086
		${CC:-cc} -Wall -Werror ${SAN_FLAGS:-} "$T/uses.c" -o "$T/uses" $flags || return
		[ "$(LD_LIBRARY_PATH=$pc/.. "$T/uses" "$T/img")" = "a label" ]
	}
	if [ -z "${ASAN_OPTIONS:-}" ]; then
		ok "a program is built with pkg-config" uses_library
	fi
	ok "its version is bcfs's" test "$("$bcfs" -V)" = "bcfs $(PKG_CONFIG_PATH=$pc pkg-config --modversion bcfs)"
else
	result 0 "meson install # SKIP no meson"
fi
done_testing
