#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: SIGKILL of the daemon at any moment loses nothing that was fsynced, and needs no fsck.
# Method: twenty times (or ROUNDS) on one image: copy a tree, remove an older one, beside it a writer that fsyncs
# files and notes each that returned; kill the daemon in the midst; mount again; all noted files are
# whole; fsck is clean. With "small", compressed and encrypted, in a geometry in which nodes are written all the time, every
# fourth kill comes not at a random time but from the daemon itself, right behind a node's append
# whose newest keys no journal entry on the device has: the next mount must meet that bset and find
# its sequence number blacklisted.
# usage: kill.sh [default|small] [ROUNDS]
geometry=${1:-default}
rounds=${2:-20}
. "$(dirname "$0")/lib.sh"
. "$here/counters.sh"

case $geometry in
default) mkfs_opts=() mount_opts=() ;;
small)
	mkfs_opts=(-b 4096 --node-size 16K --journal-size 1M --compression zstd:1 --encrypt --kdf-passes 1
		--kdf-memory 8K)
	export BCFS_PASSPHRASE=killed
	mount_opts=(-o cache=4M)
	;;
*) bail_out "no geometry $geometry" ;;
esac

daemon_pid()
{
	daemons_of "$T/img" | head -n 1
}

# Writes files of varied size, fsyncs each, its directory included, then notes name and checksum.
writer()
{
	python3 - "$T/mnt/safe" "$T/noted" "$1" <<-'P'
		import hashlib, os, random, sys
		base, noted, rnd = sys.argv[1], sys.argv[2], int(sys.argv[3])
		r = random.Random(rnd)
		log = open(noted, "a", buffering=1)
		n = 0
		try:
		    os.makedirs(base, exist_ok=True)
		    while True:
		        name = f"{base}/r{rnd}.{n}"
		        n += 1
		        size = r.choice([0, 1, 100, 4096, 5000, 70000, 300000])
		        # Every other can be compressed.
		        data = r.randbytes(size) if n % 2 else (r.randbytes(100) * (size // 100 + 1))[:size]
		        fd = os.open(name + ".tmp" if n % 3 == 0 else name, os.O_WRONLY | os.O_CREAT, 0o644)
		        os.write(fd, data)
		        os.fsync(fd)
		        os.close(fd)
		        if n % 3 == 0:
		            os.rename(name + ".tmp", name)
		            d = os.open(name, os.O_RDONLY)
		            os.fsync(d)
		            os.close(d)
		        log.write(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
		except OSError:
		    pass
	P
}

copier()
{
	local i
	mkdir "$T/mnt/tree$1" || return
	for i in $(seq 1000); do
		cp -a "$tree" "$T/mnt/tree$1/$i" || return
	done
}

# The daemon is gone within a minute.
dies_by_itself()
{
	local i
	for i in $(seq 600); do
		[ -n "$(daemon_pid)" ] || return 0
		sleep 0.1
	done
	return 1
}

noted_are_whole()
{
	[ -s "$T/noted" ] || { echo "nothing was noted"; return 1; }
	sha256sum --quiet -c "$T/noted"
}

bset_is_blacklisted()
{
	[ "$(counter_now "$T/mnt" btree.bsets_blacklisted)" -gt 0 ]
}

tree=/usr/include
mkdir "$T/mnt"
make_image "$T/img" 3G "${mkfs_opts[@]}"
: >"$T/noted"
for round in $(seq "$rounds"); do
	fault=()
	if [ "$geometry" = small ] && [ $((round % 4)) = 0 ]; then
		fault=(-o "inject=append_unflushed:$((round / 4))!")
	fi
	mount_image "${mount_opts[@]}" "${fault[@]}" "$T/img" "$T/mnt"
	pid=$(daemon_pid)
	[ -n "$pid" ] || bail_out "no daemon serves $T/img"
	rm -rf "$T/mnt/tree$((round - 2))" 2>/dev/null &
	copier "$round" 2>/dev/null &
	writer "$round" &
	if [ ${#fault[@]} -gt 0 ]; then
		ok "round $round: the daemon dies behind an append" dies_by_itself
	else
		sleep "$(awk -v s="$round" 'BEGIN { srand(s); printf "%.2f", 0.5 + 2 * rand() }')"
		counters_add "$T/mnt"
	fi
	kill -KILL "$pid" 2>/dev/null
	wait
	umount "$T/mnt" 2>/dev/null || umount -l "$T/mnt"
	mount_image "${mount_opts[@]}" "$T/img" "$T/mnt"
	ok "round $round: what was fsynced is whole after a kill" noted_are_whole
	[ ${#fault[@]} = 0 ] ||
		ok "round $round: the bset that was appended is blacklisted" bset_is_blacklisted
	counters_add "$T/mnt"
	"$bcfs" umount "$T/mnt" || bail_out "unmount failed"
	ok "round $round: fsck is clean" "$fsck" "$T/img"
done
echo "# $(wc -l <"$T/noted") files were fsynced"
# And with no mount between the kill and the check: fsck replays by itself.
mount_image "${mount_opts[@]}" "$T/img" "$T/mnt"
cp -a "$tree" "$T/mnt/last" 2>/dev/null &
sleep 1
kill -KILL "$(daemon_pid)"
wait
umount "$T/mnt" 2>/dev/null || umount -l "$T/mnt"
ok "fsck is clean straight after a kill" "$fsck" "$T/img"

counters_print "kill, $geometry"
if [ "$geometry" = small ]; then
	for c in btree.bsets_blacklisted btree.replayed_keys btree.torn_tails journal.wraps; do
		ok "counter $c moved" counter_moved "$c"
	done
fi
done_testing
