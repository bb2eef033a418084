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
	chmod -R go+rX "$node"
	setpriv --reuid 65534 --regid 65534 --clear-groups \
		env TMPDIR=/tmp BCFS_BUILD="$node" "$node/e2e/user.sh" "$@"
	status=$?
	rm -rf "$node"
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
ok "set-user-ID and devices are off" grep -q "$T/mnt fuse.bcfs rw,nosuid,nodev" /proc/mounts
ok "fusermount3 -u" fusermount3 -u "$T/mnt"
ok "fsck" "$fsck" "$T/img"
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
no "another's directory is refused" "$fuse" "$T/img" /usr
ok "fsck" "$fsck" "$T/img"
done_testing
