#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Goal: a real tree survives, real programs work, and removing it gives all space back.
# Method: copy at least 30,000 files and 500 MB of the machine with hard links, symbolic links,
# xattrs and ns times; unmount, mount, compare both ways by checksum; build a C program, use git and
# sqlite inside; remove all and compare the counters with the start. With "small" the same on a
# geometry in which splits, evictions and journal wraps happen all the time, compressed and encrypted,
# with nothing inline; the counters that the run should move must have moved.
# usage: tree.sh [default|small]      BCFS_TREE_MB, BCFS_TREE_FILES: smaller runs
geometry=${1:-default}
. "$(dirname "$0")/lib.sh"
. "$here/counters.sh"

min_mb=${BCFS_TREE_MB:-500}
min_files=${BCFS_TREE_FILES:-30000}

case $geometry in
default) mkfs_opts=() mount_opts=() ;;
small)
	mkfs_opts=(-b 4096 --node-size 16K --journal-size 4M --compression zstd:1 --inline-max 0 --encrypt
		--kdf-passes 1 --kdf-memory 8K)
	export BCFS_PASSPHRASE=copied
	mount_opts=(-o cache=4M)
	;;
*) bail_out "no geometry $geometry" ;;
esac

# ---- what to copy ----

sources=()
files=0 mb=0 copies=1

enough()
{
	[ $((files * copies)) -ge "$min_files" ] && [ $((mb * copies)) -ge "$min_mb" ]
}

# Directories of up to $1 MB each, until they are enough.
pick()
{
	local d m
	sources=() files=0 mb=0
	for d in /usr/include /usr/share/* /usr/lib/*; do
		[ -d "$d" ] && [ ! -L "$d" ] || continue
		m=$(du -smx "$d" | cut -f1)
		[ "$m" -le "$1" ] || continue
		sources+=("$d")
		files=$((files + $(find "$d" -xdev | wc -l)))
		mb=$((mb + m))
		enough && return
	done
}

pick 400
if ! enough; then
	# A small system: what it has, several times.
	pick 50
	[ "$files" -gt 1000 ] && [ "$mb" -gt 10 ] || bail_out "only $files files, $mb MB to copy here"
	until enough; do
		copies=$((copies + 1))
	done
fi
echo "# ${#sources[@]} directories: $files files, $mb MB; copies: $copies; geometry $geometry"

# What a system's directories seldom have.
make_extra()
{
	local e=$T/extra i
	mkdir -p "$e/deep/a/b/c/d" "$e/links" "$e/xattr"
	for i in $(seq 300); do
		echo "hard $i" >"$e/links/f$i"
		ln "$e/links/f$i" "$e/links/g$i"
		ln -s "../links/f$i" "$e/links/s$i"
	done
	ln -s "$(printf 'x%.0s' $(seq 1000))" "$e/links/long"
	for i in $(seq 200); do
		echo "$i" >"$e/xattr/f$i"
		setfattr -n user.number -v "$i" "$e/xattr/f$i" || return 1
	done
	head -c 3000 /dev/urandom | base64 -w0 | head -c 3500 >"$T/big"
	setfattr -n user.big -v "0x$(od -An -v -tx1 "$T/big" | tr -d ' \n')" "$e/xattr/f1" || return 1
	truncate -s 1G "$e/sparse"
	printf tail | dd of="$e/sparse" bs=1 seek=900000000 conv=notrunc status=none
	touch -d '1950-02-03 04:05:06.123456789' "$e/old"
	touch -d '2400-01-02 03:04:05.987654321' "$e/future"
	mkfifo "$e/fifo"
	head -c 5000000 /dev/urandom >"$e/odd"
	chmod 4751 "$e/odd"
	: >"$e/$(printf 'n%.0s' $(seq 255))"
}

copy_in()
{
	local d i to
	for i in $(seq "$copies"); do
		for d in "${sources[@]}"; do
			to=$T/mnt/tree/$i$(dirname "$d")
			mkdir -p "$to" && cp -a "$d" "$to/" || return 1
		done
	done
	rsync -aHAXS "$T/extra" "$T/mnt/"
}

# Nothing to do, both ways.
differences()
{
	local d i
	for i in $(seq "$copies"); do
		for d in "${sources[@]}"; do
			rsync -aHAXn --checksum --delete --itemize-changes "$d/" "$T/mnt/tree/$i$d/"
			rsync -aHAXn --checksum --delete --itemize-changes "$T/mnt/tree/$i$d/" "$d/"
		done
	done
	rsync -aHAXn --checksum --delete --itemize-changes "$T/extra/" "$T/mnt/extra/"
	rsync -aHAXn --checksum --delete --itemize-changes "$T/mnt/extra/" "$T/extra/"
}

same()
{
	local diff
	diff=$(differences 2>&1)
	[ -z "$diff" ] && return 0
	echo "$diff" | head -n 20
	return 1
}

do_mount()
{
	mount_image "${mount_opts[@]}" "$T/img" "$T/mnt"
}

do_umount()
{
	counters_add "$T/mnt"
	"$bcfs" umount "$T/mnt"
}

build_c()
{
	local w=$T/mnt/build
	mkdir -p "$w" && cp -a "$here/../../src" "$here/../../include" "$w/" && cd "$w" || return 1
	for f in src/util/*.c; do
		gcc -std=gnu11 -D_GNU_SOURCE -O1 -Iinclude -Isrc -c "$f" -o "$(basename "$f" .c).o" || return 1
	done
	ar rcs libutil.a ./*.o
	cat >main.c <<-'C'
		#include "util/printbuf.h"
		#include <stdio.h>
		int main(void)
		{
			struct printbuf b = PRINTBUF;
			prt_str(&b, "built inside");
			puts(printbuf_str(&b));
			printbuf_exit(&b);
			return 0;
		}
	C
	gcc -std=gnu11 -D_GNU_SOURCE -Iinclude -Isrc main.c libutil.a -o prog &&
		[ "$(./prog)" = "built inside" ]
	local status=$?
	cd /
	return $status
}

use_git()
{
	local g=$T/mnt/git i
	export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t \
		GIT_COMMITTER_EMAIL=t@example.org GIT_CONFIG_NOSYSTEM=1 HOME=$T
	git init -q "$g/a" && cp -a "$here/../../src" "$g/a/" && git -C "$g/a" add -A &&
		git -C "$g/a" commit -qm first || return 1
	git clone -q "$g/a" "$g/b" || return 1
	for i in $(seq 20); do
		echo "$i" >>"$g/b/file$((i % 5))"
		git -C "$g/b" add -A && git -C "$g/b" commit -qm "change $i" || return 1
	done
	git -C "$g/b" gc -q --aggressive --prune=now && git -C "$g/b" fsck --full --strict &&
		[ "$(git -C "$g/b" rev-list --count HEAD)" = 21 ]
}

use_sqlite()
{
	local db=$T/mnt/test.db
	sqlite3 "$db" "create table t(id integer primary key, v text);
		with recursive c(x) as (select 1 union all select x+1 from c where x < 20000)
		insert into t select x, hex(randomblob(40)) from c;
		create index i on t(v); delete from t where id % 3 = 0; vacuum;" || return 1
	sqlite3 "$db" "pragma journal_mode=wal; update t set v = v || 'x' where id % 2 = 0;" >/dev/null || return 1
	[ "$(sqlite3 "$db" 'pragma integrity_check; select count(*) from t;' | tr '\n' ' ')" = "ok 13334 " ]
}

# "btree aux-entries fallbacks keys key-bytes unpacked-bytes" of the leaves, a line a btree.
node_figures()
{
	"$bcfs" dump nodes "$T/img" | awk -F'[ ,;()]+' '/, leaves: / {
		for (i = 1; i < NF; i++) {
			if ($i == "entries") aux = $(i + 1)
			if ($i == "fallback" && $(i + 1) ~ /^[0-9]+$/) fb = $(i + 1)
			if ($i == "keys" && $(i + 1) ~ /^[0-9]+$/) keys = $(i + 1)
			if ($i == "bytes" && $(i - 1) == "key" && $(i + 1) ~ /^[0-9]+$/) kb = $(i + 1)
			if ($i == "unpacked") un = $(i + 1)
		}
		print $1, aux, fb, keys, kb, un
	}' >"$T/nodes"
	[ -s "$T/nodes" ] && sed 's/^/# leaves: /' "$T/nodes"
}

# Fewer than 1 % of the aux entries of btree $1 fall back.
few_fallbacks()
{
	awk -v b="$1" '$1 == b { print; few = $2 > 0 && $3 / $2 < 0.01 } END { exit !few }' "$T/nodes"
}

extent_keys_are_small()
{
	awk '$1 == "extents" { print $5 / $4; small = $4 > 0 && $5 / $4 <= 16 } END { exit !small }' "$T/nodes"
}

# Over all btrees.
keys_are_packed()
{
	awk '{ kb += $5; un += $6 } END { print kb, un, kb / un; exit !(kb / un <= 0.4) }' "$T/nodes"
}

fsck_clean()
{
	"$fsck" "$T/img"
}

remove_all()
{
	rm -rf "$T/mnt/tree" "$T/mnt/extra" "$T/mnt/build" "$T/mnt/git" "$T/mnt"/test.db*
	[ -z "$(ls -A "$T/mnt")" ]
}

# ---- space ----

# What the filesystem says of its space, from one moment: $T/space has the counters, $used the
# sectors that statfs calls used. Waits until the last forgets have come, empty buckets are free,
# and nothing changes any more.
look_at_space()
{
	local i
	for i in $(seq 200); do
		sync -f "$T/mnt"
		"$bcfs" counters "$T/mnt" | grep -E '^usage\.|^alloc\.buckets_' >"$T/space"
		used=$(df -B512 --output=used "$T/mnt" | tail -n 1)
		sleep 0.2
		"$bcfs" counters "$T/mnt" | grep -E '^usage\.|^alloc\.buckets_' >"$T/space2"
		cmp -s "$T/space" "$T/space2" && [ "$(space usage.buckets_need_discard)" = 0 ] && return 0
	done
	echo "no quiet moment"
	diff "$T/space" "$T/space2"
	return 1
}

space()
{
	awk -v n="$1" '$1 == n { print $2 }' "$T/space"
}

buckets_used()
{
	echo $(($(space usage.buckets_btree) + $(space usage.buckets_user)))
}

space_is_back()
{
	look_at_space || return 1
	echo "user $(space usage.user), at the start $start_user; reserved $(space usage.reserved), $start_reserved"
	[ "$(space usage.user)" = "$start_user" ] && [ "$(space usage.reserved)" = "$start_reserved" ] &&
		[ "$(space usage.buckets_user)" = 0 ]
}

# statfs counts free space in whole buckets: as many more are used as the counters say, no more, no less.
statfs_agrees()
{
	local buckets
	look_at_space || return 1
	buckets=$(buckets_used)
	echo "used $used sectors, $start_used at the start; $buckets buckets of $bucket_sectors, $start_buckets then"
	[ $((used - start_used)) = $(((buckets - start_buckets) * bucket_sectors)) ]
}

# "btree nodes", a line a btree.
count_nodes()
{
	"$bcfs" dump nodes -m "$@" "$T/img" | awk '$2 == "level" { n[$1]++ } END { for (b in n) print b, n[b] }'
}

# Each btree has at most two nodes more than at the start. -n: while the image is mounted, once the
# journal has what merges did.
metadata_is_back()
{
	local i
	for i in $(seq 20); do
		count_nodes "$@" >"$T/nodes_now" && [ -s "$T/nodes_now" ] &&
			awk 'NR == FNR { start[$1] = $2; next }
				{ print $1, $2, "at the start", start[$1] + 0; many += $2 > start[$1] + 2 }
				END { exit many > 0 }' "$T/nodes_start" "$T/nodes_now" && return 0
		[ $# -gt 0 ] || return 1
		sleep 1
	done
	return 1
}

# ---- the run ----

make_extra || bail_out "cannot make the source files (xattrs on $T?)"
mkdir "$T/mnt"
make_image "$T/img" "$((mb * copies * 2 + 512))M" "${mkfs_opts[@]}"
bucket_sectors=$("$bcfs" dump buckets "$T/img" | awk '/^free / { print $(NF - 1) }')
count_nodes >"$T/nodes_start" && [ -s "$T/nodes_start" ] || bail_out "cannot count the nodes"
do_mount
look_at_space || bail_out "no quiet moment at the start"
start_user=$(space usage.user)
start_reserved=$(space usage.reserved)
start_buckets=$(buckets_used)
start_used=$used
ok "copy" copy_in
ok "unmount" do_umount
ok "fsck is clean" fsck_clean
node_figures || bail_out "no figures of the nodes"
if [ "$geometry" = default ]; then
	ok "under 1 % of the aux entries of extents fall back" few_fallbacks extents
	ok "under 1 % of the aux entries of dirents fall back" few_fallbacks dirents
	ok "extent keys take 16 bytes or fewer on average" extent_keys_are_small
	ok "key bytes of all btrees are at most 0.4 of unpacked" keys_are_packed
fi
do_mount
ok "the same after a new mount, both ways" same
ok "a C program is built and runs" build_c
ok "git: clone, commit, gc, fsck" use_git
ok "sqlite" use_sqlite
ok "unmount" do_umount
ok "fsck is clean" fsck_clean
do_mount
ok "git and sqlite are whole after a new mount" bash -c "git -C '$T/mnt/git/b' -c safe.directory='*' fsck --full &&
	sqlite3 '$T/mnt/test.db' 'pragma integrity_check' | grep -qx ok"
# Copy-on-write of parts of what is there: overwrites, truncates, renames.
ok "rewrite parts of many files" bash -c "cd '$T/mnt/tree' && find . -type f -size +20k -print0 | head -z -n 3000 |
	xargs -0 -n 50 sh -c 'for f; do dd if=/dev/zero of=\"\$f\" bs=4096 seek=1 count=1 conv=notrunc status=none || exit 1; done' _"
ok "everything is removed" remove_all
ok "all space is back" space_is_back
ok "statfs agrees" statfs_agrees
ok "no btree has more than two nodes more" metadata_is_back -n
ok "unmount" do_umount
ok "fsck is clean: allocator and recount agree" fsck_clean
ok "no btree has more than two nodes more, unmounted" metadata_is_back
do_mount
ok "statfs agrees after a new mount" statfs_agrees
ok "unmount" do_umount
counters_print "tree, $geometry"
if [ "$geometry" = small ]; then
	# btree.relock_fails is printed, not demanded: who finds a lock taken waits with nothing held and starts
	# over, so that it moves by chance only; btree_threads.c demands it.
	for c in btree.splits btree.merges btree.root_grow btree.root_shrink btree.evictions \
		btree.cannibalized btree.restarts journal.wraps journal.noflush \
		alloc.buckets_reused; do
		ok "counter $c moved" counter_moved "$c"
	done
	ok "some aux entries fell back to a full compare" test "$(awk '{ s += $3 } END { print s + 0 }' "$T/nodes")" -gt 0
fi
done_testing
