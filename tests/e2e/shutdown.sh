#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: however a mount ends, nothing that was written before is lost, and what
# follows at once works. Method: end it by umount, by signals to the daemon with
# dirty pages on an open descriptor, by kill -9; mount or check again without a pause.
. "$(dirname "$0")/lib.sh"

make_image "$T/img" 1G
mkdir "$T/mnt"

daemon()
{
	daemons_of "$T/img" | head -n 1
}

gone()
{
	local i
	for i in $(seq 300); do
		[ -e "/proc/$1" ] || return 0
		sleep 0.1
	done
	return 1
}

# ---- umount, and at once the next user ----
mount_image "$T/img" "$T/mnt"
ok "one daemon" test "$(daemons_of "$T/img" | wc -l)" = 1
head -c 50M /dev/urandom >"$T/mnt/data"
sum=$(sha256sum <"$T/mnt/data")
if [ "$(id -u)" = 0 ]; then
	ok "umount" umount "$T/mnt"
else
	ok "umount" fusermount3 -u "$T/mnt"
fi
ok "fsck at once" "$fsck" "$T/img"
ok "mount" "$fuse" "$T/img" "$T/mnt"
ok "the data is whole" test "$sum" = "$(sha256sum <"$T/mnt/data")"
umount_mount()
{
	local i
	for i in $(seq 10); do
		echo "$i" >"$T/mnt/round"
		if [ "$(id -u)" = 0 ]; then umount "$T/mnt"; else fusermount3 -u "$T/mnt"; fi || return 1
		"$fuse" "$T/img" "$T/mnt" || return 1
		[ "$(cat "$T/mnt/round")" = "$i" ] || return 1
	done
}
ok "umount and mount, ten times without a pause" umount_mount
ok "bcfs umount" "$bcfs" umount "$T/mnt"
ok "nobody has the image open then" test -z "$(daemon)"

# ---- SIGTERM, idle ----
mount_image "$T/img" "$T/mnt"
pid=$(daemon)
kill -TERM "$pid"
ok "SIGTERM ends the daemon" gone "$pid"
ok "and the mount" test -z "$(mounts_below)"
ok "cleanly" bash -c '"$0" probe "$1" | grep -q CLEAN=1' "$bcfs" "$T/img"

# ---- SIGTERM, 100 MiB dirty on a descriptor that stays open ----
mount_image "$T/img" "$T/mnt"
pid=$(daemon)
head -c 100M /dev/urandom >"$T/source"
sum=$(sha256sum <"$T/source")
mkfifo "$T/go"
bash -c 'exec 5>"$1/mnt/dirty"; cat "$1/source" >&5; echo written >"$1/written"; read -r _ <"$1/go"' \
	holder "$T" &
holder=$!
for _ in $(seq 200); do
	[ ! -s "$T/written" ] || break
	sleep 0.1
done
kill -TERM "$pid"
for _ in $(seq 100); do
	[ -n "$(mounts_below)" ] || break
	sleep 0.1
done
ok "SIGTERM with a file open: the mount is detached" test -z "$(mounts_below)"
ok "but served as long as the file is open" test -e "/proc/$pid"
echo >"$T/go"
wait "$holder"
ok "mount at once" "$fuse" "$T/img" "$T/mnt"
ok "the first daemon is gone" gone "$pid"
ok "100 MiB are whole" test "$sum" = "$(sha256sum <"$T/mnt/dirty")"

# ---- SIGTERM in the middle of a copy ----
pid=$(daemon)
cp -a /usr/include "$T/mnt/tree" 2>/dev/null &
copy=$!
sleep 0.3
kill -TERM "$pid"
wait "$copy"
ok "SIGTERM during a copy ends the daemon" gone "$pid"
ok "fsck" "$fsck" "$T/img"

# ---- foreground, SIGINT ----
"$fuse" -f "$T/img" "$T/mnt" 2>"$T/log" &
pid=$!
for _ in $(seq 100); do
	[ -n "$(mounts_below)" ] && [ -e "$T/mnt/dirty" ] && break
	sleep 0.1
done
ok "-f mounts" test -e "$T/mnt/dirty"
kill -INT "$pid"
wait "$pid"
ok "SIGINT ends it with status 0" test "$?" = 0

# ---- kill -9 ----
mount_image "$T/img" "$T/mnt"
pid=$(daemon)
echo synced >"$T/mnt/synced"
ok "fsync" sync "$T/mnt/synced"
kill -KILL "$pid"
gone "$pid"
no "kill -9 leaves a dead mount" ls "$T/mnt"
no "which is named to the next" "$fuse" "$T/img" "$T/mnt"
if [ "$(id -u)" = 0 ]; then
	ok "and cleared" umount "$T/mnt"
else
	ok "and cleared" fusermount3 -u "$T/mnt"
fi
ok "the next mount recovers" "$fuse" "$T/img" "$T/mnt"
ok "what was fsynced" test "$(cat "$T/mnt/synced")" = synced
ok "bcfs umount" "$bcfs" umount "$T/mnt"
ok "fsck" "$fsck" "$T/img"

# ---- a device still in use is waited for ----
mount_image "$T/img" "$T/mnt"
pid=$(daemon)
exec 5>"$T/mnt/held"
unmount_lazily "$T/mnt"
no "a second mount waits, and gives up" "$fuse" -o wait=1 "$T/img" "$T/mnt"
exec 5>&-
ok "then it works" "$fuse" "$T/img" "$T/mnt"
ok "bcfs umount" "$bcfs" umount "$T/mnt"
done_testing
