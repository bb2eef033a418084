// SPDX-License-Identifier: LGPL-2.1-or-later
/* Rebalance, as it is shown and asked for. The work is data/rebalance.c's. */
#include "core/core.h"

#include "fs/io.h"
#include "util/cleanup.h"

static const char *state_text(const struct data_rebalance_status *s)
{
	switch (s->state) {
	case DATA_REBALANCE_IDLE:
		return s->todo ? "about to begin" : "idle";
	case DATA_REBALANCE_WORKING:
		return "working";
	case DATA_REBALANCE_PAUSED:
		return "paused";
	case DATA_REBALANCE_SPACE:
		return "waits for more space";
	case DATA_REBALANCE_ERROR:
		return "tries again soon";
	case DATA_REBALANCE_OFF:
		break;
	}
	return "off";
}

static void print_place(struct core *c, struct printbuf *out, struct bpos pos)
{
	char path[1024];

	if (bpos_eq(pos, POS_MIN))
		return;
	prt_str(out, "at: ");
	if (pos.inode) {
		core_error_path(c, pos.snapshot, pos.inode, path, sizeof(path));
		prt_printf(out, "%s, inode %llu byte %llu\n", path, (unsigned long long)pos.inode,
			   (unsigned long long)pos.offset << SECTOR_SHIFT);
	} else {
		prt_printf(out, "shared data, byte %llu\n",
			   (unsigned long long)pos.offset << SECTOR_SHIFT);
	}
}

void bcfs_rebalance_to_text(struct bcfs *fs, bcfs_out_fn out, void *arg)
{
	CLEANUP(printbuf_exit) struct printbuf text = PRINTBUF;
	struct data_rebalance_status s;
	struct data_counters n;

	data_rebalance_status(fs->data, &s);
	data_counters(fs->data, &n);
	prt_printf(&text, "state: %s", state_text(&s));
	if (s.err)
		prt_printf(&text, " (%s)", err_str(s.err));
#define BYTES(sectors) ((unsigned long long)(sectors) << SECTOR_SHIFT)
	prt_printf(&text,
		   "\nto do: %llu bytes of files\ndone since the mount: %llu, which took %llu and "
		   "take %llu\nin vain: %llu\n",
		   BYTES(s.todo), BYTES(n.rebalanced), BYTES(n.rebalanced_from),
		   BYTES(n.rebalanced_to), BYTES(n.rebalance_in_vain));
#undef BYTES
	if (s.todo)
		print_place(to_core(fs), &text, s.pos);
	out(arg, printbuf_str(&text));
}

int bcfs_rebalance_pause(struct bcfs *fs, int pause)
{
	int ret = fs_may_write(fs);

	if (!ret)
		data_rebalance_pause(fs->data, pause);
	return ret;
}

int bcfs_rebalance_scan(struct bcfs *fs, struct bcfs_ino ino, uint64_t *ret)
{
	struct bcfs_inode_unpacked inode;
	struct data_file f;
	u64 sectors = 0;
	int err = fs_may_write(fs) ?: inode_get(fs, ino, &inode) ?: io_check_file(&inode);

	if (!err && inode.sectors) {
		f = io_file(fs, ino, &inode);
		err = data_rebalance_scan(fs->data, &f, &sectors);
	}
	if (ret)
		*ret = sectors << SECTOR_SHIFT;
	return err;
}
