#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: a user without privileges makes, mounts and unmounts an image. Method: as root,
# the script runs itself as nobody in a mount namespace of its own, where /dev/fuse is
# open to all, with copies of the programs, since the build directory may not be; as a
# user it just does it.
here=$(cd "$(dirname "$0")" && pwd)
if [ "$(id -u)" = 0 ] && [ -z "${BCFS_USER_TEST:-}" ]; then
	[ -c /dev/fuse ] || { echo "1..0 # SKIP no /dev/fuse"; exit 0; }
	unshare -m true 2>/dev/null || { echo "1..0 # SKIP no mount namespaces"; exit 0; }
	BCFS_USER_TEST=1 exec unshare -m "$0" "$@"
fi
if [ "$(id -u)" = 0 ]; then
	node=$(mktemp -d)
	mount -t tmpfs -o mode=755,dev tmpfs "$node" && mknod -m 666 "$node/fuse" c 10 229 &&
		mount --bind "$node/fuse" /dev/fuse ||
		{ echo "1..0 # SKIP /dev/fuse cannot be opened to users"; exit 0; }
	umount -l "$node"
	cp -a "$here" "$node/e2e"
	(cd "${BCFS_BUILD:-$here/../../build}" &&
		cp -a --parents fuse/bcfs-fuse mkfs/mkfs.bcfs fsck/fsck.bcfs cli/bcfs src/libbcfs.so* "$node") ||
		exit 1
	# What users may not write, these may: fstab and fuse.conf, and the helpers of mount(8).
	mkdir "$node/real" "$node/sbin"
	sbin=$(realpath /sbin)
	: >"$node/fstab" >"$node/fuse.conf"
	mount --make-rprivate / && mount --bind "$sbin" "$node/real" && ln -s "$node/real"/* "$node/sbin" &&
		ln -sf "$node/fuse/bcfs-fuse" "$node/sbin/mount.bcfs" && mount --bind "$node/sbin" "$sbin" &&
		mount --bind "$node/fstab" /etc/fstab && mount --bind "$node/fuse.conf" /etc/fuse.conf &&
		export BCFS_USER_ETC=1
	chmod -R go+rX "$node"
	chmod a+rw "$node/fstab" "$node/fuse.conf"
	setpriv --reuid 65534 --regid 65534 --clear-groups \
		env TMPDIR=/tmp BCFS_BUILD="$node" "$node/e2e/user.sh" "$@"
	status=$?
	umount -l "$node/real"
	rm -rf --one-file-system "$node"
	exit $status
fi
. "$here/lib.sh"

[ -u "$(command -v fusermount3)" ] || skip_all "fusermount3 is not set-user-ID"
[ -e /etc/mtab ] || skip_all "no /etc/mtab, without which fusermount3 does not unmount"
"$mkfs" -V >/dev/null 2>&1 || skip_all "the build directory is not open to this user"
mkdir "$T/mnt"

ok "mkfs" "$mkfs" --size 128M "$T/img"
ok "mount" "$fuse" "$T/img" "$T/mnt"
ok "write and read" bash -c 'echo mine >"$0/f" && [ "$(cat "$0/f")" = mine ]' "$T/mnt"
ok "files are the user's" test -O "$T/mnt/f"
ok "and so is what tells paths" "$bcfs" errors "$T/mnt"
ok "all of it" "$bcfs" rebalance status "$T/mnt"
root_alone()
{
	local out
	out=$("$bcfs" set-fs-option "$T/mnt" label=mine 2>&1) && return 1
	grep -q "only root may" <<<"$out" || { echo "$out"; return 1; }
	[ "$("$bcfs" get-fs-option "$T/mnt" label)" = label= ]
}
ok "root alone sets options of what is mounted" root_alone
ok "set-user-ID and devices are off" grep -q "$T/mnt fuse.bcfs rw,nosuid,nodev" /proc/mounts
ok "fusermount3 -u" fusermount3 -u "$T/mnt"
ok "fsck" "$fsck" "$T/img"
ok "an own image is not mounted" "$bcfs" set-fs-option "$T/img" label=mine
ok "mount again" "$fuse" "$T/img" "$T/mnt"
ok "it is there" test "$(cat "$T/mnt/f")" = mine
ok "bcfs umount" "$bcfs" umount "$T/mnt"
ok "mount" "$fuse" "$T/img" "$T/mnt"
pid=$(daemons_of "$T/img")
ok "SIGTERM" kill -TERM "$pid"
for _ in $(seq 100); do
	[ -e "/proc/$pid" ] || break
	sleep 0.1
done
ok "ends the daemon and the mount" test -z "$(mounts_below)" -a ! -e "/proc/$pid"
gone()
{
	local i
	for i in $(seq 100); do
		[ -e "/proc/$1" ] || return 0
		sleep 0.1
	done
	return 1
}
ok "mount" "$fuse" "$T/img" "$T/mnt"
pid=$(daemons_of "$T/img")
ok "permissions are checked by the kernel" grep -q "$T/mnt fuse.bcfs .*,default_permissions" /proc/mounts
no "others are kept out" grep -q "$T/mnt fuse.bcfs .*allow_other" /proc/mounts
kill -STOP "$pid"
ok "fusermount3 -u of a stopped daemon's mount" timeout 20 fusermount3 -u "$T/mnt"
kill -CONT "$pid"
ok "which ends then" gone "$pid"
ok "mount" "$fuse" "$T/img" "$T/mnt"
pid=$(daemons_of "$T/img")
kill -KILL "$pid"
gone "$pid"
no "a killed daemon's mount is dead" ls "$T/mnt"
ok "fusermount3 -u clears it" fusermount3 -u "$T/mnt"
ok "the flags of users' mounts" "$fuse" -o noexec,noatime,sync,dirsync,nodiratime,lazytime,strictatime,relatime "$T/img" "$T/mnt"
ok "are set" grep -q "$T/mnt fuse.bcfs rw,sync,.*noexec" /proc/mounts
ok "bcfs umount" "$bcfs" umount "$T/mnt"
if [ -n "${BCFS_USER_ETC:-}" ]; then
	no "allow_other needs user_allow_other in fuse.conf" "$fuse" -o allow_other "$T/img" "$T/mnt"
	echo user_allow_other >/etc/fuse.conf
	ok "with it, it does" "$fuse" -o allow_other "$T/img" "$T/mnt"
	ok "others may look" grep -q "$T/mnt fuse.bcfs .*,allow_other" /proc/mounts
	ok "bcfs umount" "$bcfs" umount "$T/mnt"
	if [ -u "$(command -v mount)" ]; then
		echo "$T/img $T/mnt bcfs user,noauto,noatime,x-systemd.automount 0 0" >/etc/fstab
		ok "fstab: a line with user" mount "$T/mnt"
		ok "has user's options" grep -q "^$T/img $T/mnt fuse.bcfs rw,nosuid,nodev,noexec,noatime," /proc/mounts
		no "root alone may remount" mount -o remount,ro "$T/mnt"
		ok "bcfs umount" "$bcfs" umount "$T/mnt"
		ok "mount" mount "$T/img"
		ok "umount" umount "$T/mnt"
	fi
fi
no "another's directory is refused" "$fuse" "$T/img" /usr
ok "fsck" "$fsck" "$T/img"
done_testing
