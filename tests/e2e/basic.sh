#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: the common operations work on a mount, and everything is there after the
# next. Method: each operation once by ordinary programs and by ops.py, a manifest of
# the tree (names, attributes, sums, xattrs) before the unmount and after the mount,
# fsck in between.
. "$(dirname "$0")/lib.sh"

make_image "$T/img" 512M -L basic
mkdir "$T/mnt"
ok "mount" "$fuse" "$T/img" "$T/mnt"
ok "/proc/mounts has the device and the type" \
	grep -q "^$T/img $T/mnt fuse.bcfs rw" /proc/mounts
cd "$T/mnt" || bail_out "no mount"

ok "create, write, read" bash -c 'echo hello >a && [ "$(cat a)" = hello ]'
ok "append" bash -c 'echo more >>a && [ "$(wc -l <a)" = 2 ]'
ok "truncate on open" bash -c 'echo x >t && echo y >t && [ "$(cat t)" = y ]'
ok "truncate up and down" bash -c 'truncate -s 100000 t && truncate -s 3 t && truncate -s 10 t &&
	[ "$(stat -c %s t)" = 10 ] && [ "$(tr -d "\0" <t | wc -c)" = 2 ]'
ok "mkdir, rmdir" bash -c 'mkdir d e && rmdir e && [ ! -e e ] && [ "$(stat -c %h .)" = 3 ]'
no "rmdir of a directory in use" bash -c 'touch d/x && rmdir d'
ok "hard link" bash -c 'ln a d/b && [ "$(stat -c %h a)" = 2 ] && [ a -ef d/b ]'
ok "symlink" bash -c 'ln -s d/b link && [ "$(readlink link)" = d/b ] && [ "$(cat link)" = "$(cat a)" ]'
ok "long symlink" bash -c 'ln -s "$(printf %04000d 7)" long && [ "$(readlink long | wc -c)" = 4001 ]'
ok "fifo" bash -c 'mkfifo p && [ -p p ]'
ok "long name" touch "$(printf %0255d 1)"
no "name too long" touch "$(printf %0256d 1)"
ok "rename" bash -c 'echo r >r1 && mv r1 r2 && [ ! -e r1 ] && [ "$(cat r2)" = r ]'
ok "rename over a file" bash -c 'echo s >s && mv -f s r2 && [ "$(cat r2)" = s ]'
ok "rename of a directory" bash -c 'mkdir -p m/n && touch m/n/f && mv m/n d/n && [ -e d/n/f ]'
ok "xattr" bash -c 'setfattr -n user.k -v value a && [ "$(getfattr -n user.k --only-values a)" = value ]'
ok "xattr of 20,000 bytes" bash -c 'setfattr -n user.big -v "$(printf %020000d 5)" a &&
	[ "$(getfattr -n user.big --only-values a | wc -c)" = 20000 ]'
ok "xattr removed" bash -c 'setfattr -n user.r -v 1 a && setfattr -x user.r a && ! getfattr -n user.r a'
ok "times in ns" bash -c 'touch -d "2001-02-03 04:05:06.123456789" a && stat -c %y a | grep -q 06.123456789'
ok "time before 1970" bash -c 'touch -d 1965-01-01 old && stat -c %y old | grep -q ^1965'
ok "mode" bash -c 'chmod 751 a && [ "$(stat -c %a a)" = 751 ]'
ok "20 MiB" bash -c 'head -c 20M /dev/urandom >big && cp big d/copy && cmp big d/copy'
ok "sparse file" bash -c 'dd if=/dev/urandom of=sparse bs=4k count=1 seek=25000 2>/dev/null &&
	[ "$(stat -c %s sparse)" = 102404096 ] && [ "$(stat -c %b sparse)" -lt 1000 ]'
ok "2,000 files in a directory" bash -c 'mkdir many && cd many && seq -f f%g 2000 | xargs touch &&
	[ "$(ls | wc -l)" = 2000 ] && rm f1??? && [ "$(ls | wc -l)" = 1000 ]'
ok "statfs" bash -c 'df . | grep -q img'
ok "sync" sync -f .
ok "counters" "$bcfs" counters .
ok "calls that have no program" python3 "$here/ops.py" "$T/mnt"
if [ "$(id -u)" = 0 ]; then
	ok "chown" bash -c 'chown 12:34 r2 && [ "$(stat -c %u:%g r2)" = 12:34 ]'
	ok "device file" bash -c 'mknod null c 1 3 && echo x >null && [ "$(stat -c %t:%T null)" = 1:3 ]'
	ok "others have no more than the mode says" bash -c 'chmod 755 . "$0" && chmod 600 big &&
		! setpriv --reuid 65534 --regid 65534 --clear-groups cat big' "$T"
	ok "a write by others clears set-user-ID" bash -c 'echo x >suid && chmod 6777 suid &&
		setpriv --reuid 65534 --regid 65534 --clear-groups bash -c "echo y >>suid" &&
		[ "$(stat -c %a suid)" = 777 ]'
fi

manifest "$T/mnt" >"$T/before"
cd "$T"
ok "unmount" "$bcfs" umount "$T/mnt"
ok "fsck" "$fsck" "$T/img"
ok "mount again" "$fuse" "$T/img" "$T/mnt"
manifest "$T/mnt" >"$T/after"
ok "everything is as it was" diff "$T/before" "$T/after"
ok "remove all" bash -c 'cd "$0" && rm -rf ./* && [ -z "$(ls -A)" ]' "$T/mnt"
ok "unmount again" "$bcfs" umount "$T/mnt"
ok "fsck again" "$fsck" -v "$T/img"
ok "mount read-only" "$fuse" -o ro "$T/img" "$T/mnt"
no "nothing can be made there" touch "$T/mnt/x"
ok "unmount" "$bcfs" umount "$T/mnt"
done_testing
