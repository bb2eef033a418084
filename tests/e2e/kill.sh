#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: SIGKILL of the daemon at any moment loses nothing that was fsynced, and needs no fsck.
# Method: twenty times on one image: copy a tree, beside it a writer that fsyncs files and notes
# each that returned; kill the daemon in the midst; mount again; all noted files are whole; fsck is clean.
# usage: kill.sh [default|small] [ROUNDS]
geometry=${1:-default}
rounds=${2:-20}
. "$(dirname "$0")/lib.sh"
. "$here/counters.sh"

case $geometry in
default) mkfs_opts=() mount_opts=() ;;
small)
	mkfs_opts=(-b 4096 --node-size 16K --journal-size 1M)
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
		os.makedirs(base, exist_ok=True)
		log = open(noted, "a", buffering=1)
		n = 0
		try:
		    while True:
		        name = f"{base}/r{rnd}.{n}"
		        n += 1
		        data = r.randbytes(r.choice([0, 1, 100, 4096, 5000, 70000, 300000]))
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

# Names one by one, at a pace that fills journal entries but does not run out of them.
trickle()
{
	local i
	mkdir -p "$T/mnt/trickle$1" 2>/dev/null || return 0
	for i in $(seq 100000); do
		{ echo "$i" >"$T/mnt/trickle$1/f$i"; } 2>/dev/null || return 0
	done
}

noted_are_whole()
{
	[ -s "$T/noted" ] || { echo "nothing was noted"; return 1; }
	sha256sum --quiet -c "$T/noted"
}

tree=/usr/include
mkdir "$T/mnt"
make_image "$T/img" 3G "${mkfs_opts[@]}"
: >"$T/noted"
mount_image "${mount_opts[@]}" "$T/img" "$T/mnt"
for round in $(seq "$rounds"); do
	pid=$(daemon_pid)
	[ -n "$pid" ] || bail_out "no daemon serves $T/img"
	rm -rf "$T/mnt/tree$((round - 2))" 2>/dev/null &
	remover=$!
	# In every other round nobody asks for a flush, nor does a lack of journal space: then nodes are
	# written with keys that no flush covers.
	writer_pid=
	if [ $((round % 2)) = 0 ]; then
		trickle "$round" &
		copier=$!
	else
		cp -a "$tree" "$T/mnt/tree$round" 2>/dev/null &
		copier=$!
		writer "$round" &
		writer_pid=$!
	fi
	sleep "$(awk -v s="$round" 'BEGIN { srand(s); printf "%.2f", 0.5 + 2 * rand() }')"
	counters_add "$T/mnt"
	kill -KILL "$pid"
	wait "$copier" "$remover" ${writer_pid:+"$writer_pid"} 2>/dev/null
	umount "$T/mnt" 2>/dev/null || umount -l "$T/mnt"
	mount_image "${mount_opts[@]}" "$T/img" "$T/mnt"
	ok "round $round: what was fsynced is whole after a kill" noted_are_whole
	counters_add "$T/mnt"
	"$bcfs" umount "$T/mnt" || bail_out "unmount failed"
	ok "round $round: fsck is clean" "$fsck" "$T/img"
	quiet=()
	[ $((round % 2)) = 0 ] || quiet=(-o "journal_flush_delay=20000")
	mount_image "${mount_opts[@]}" "${quiet[@]}" "$T/img" "$T/mnt"
done
echo "# $(wc -l <"$T/noted") files were fsynced"
"$bcfs" umount "$T/mnt"
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
	# btree.bsets_blacklisted is printed above but not demanded: it moves only if a kill falls between
	# a node's append and the flush entry that covers its keys, which is chance here.
	for c in btree.replayed_keys btree.torn_tails journal.wraps; do
		ok "counter $c moved" counter_moved "$c"
	done
fi
done_testing
