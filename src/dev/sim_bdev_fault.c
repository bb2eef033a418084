/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Faults of the simulated device. */
#include "dev/sim_bdev_private.h"

#include <stdlib.h>

static enum bdev_op fault_op(enum sim_fault fault)
{
	switch (fault) {
	case SIM_FAULT_READ_ERROR:
	case SIM_FAULT_READ_FLIP:
		return BDEV_READ;
	case SIM_FAULT_FLUSH_ERROR:
	case SIM_FAULT_FLUSH_LIE:
		return BDEV_FLUSH;
	case SIM_FAULT_DISCARD_ERROR:
		return BDEV_DISCARD;
	case SIM_FAULT_WRITE_ERROR:
	case SIM_FAULT_WRITE_LOST:
	case SIM_FAULT_WRITE_MISDIRECTED:
	case SIM_FAULT_WRITE_STALE:
	case SIM_FAULT_WRITE_TORN:
	case SIM_FAULT_GONE:
	case SIM_FAULT_NR:
		break;
	}
	return BDEV_WRITE;
}

/* Requests that it may strike, so far. */
static u64 fault_count(const struct sim_bdev *d, enum sim_fault fault)
{
	u64 nr = 0;

	if (fault != SIM_FAULT_GONE)
		return d->counts[fault_op(fault)];
	for (unsigned i = 0; i < BDEV_OP_NR; i++)
		nr += d->counts[i];
	return nr;
}

void sim_bdev_arm(struct bdev *bdev, enum sim_fault fault, u64 kth, bool sticky)
{
	struct sim_bdev *d = to_sim(bdev);

	d->armed[fault].at = kth ? fault_count(d, fault) + kth : 0;
	d->armed[fault].sticky = sticky;
	if (fault != SIM_FAULT_GONE || !d->gone)
		return;
	env_sim_event_cancel(bdev->env, &d->back);
	d->gone = false;
}

void sim_bdev_aim(struct bdev *bdev, u64 offset)
{
	to_sim(bdev)->aimed = offset != UINT64_MAX;
	to_sim(bdev)->aim = offset;
}

u64 sim_bdev_fault_hits(struct bdev *bdev, enum sim_fault fault, u64 *struck)
{
	struct sim_bdev *d = to_sim(bdev);

	if (struck)
		*struck = d->armed[fault].struck;
	return fault_count(d, fault);
}

bool sim_bdev_fault_struck(struct bdev *bdev, enum sim_fault fault, struct sim_strike *ret)
{
	const struct sim_armed *a = &to_sim(bdev)->armed[fault];

	*ret = a->kth;
	return a->struck;
}

bool sim_fault_strikes(struct sim_bdev *d, enum sim_fault fault, const struct bdev_io *io)
{
	struct sim_armed *a = &d->armed[fault];
	u64 count = fault_count(d, fault);
	bool strikes = a->at && (a->sticky ? count >= a->at : count == a->at);

	a->struck += strikes;
	if (strikes && count == a->at)
		a->kth = (struct sim_strike){d->log_len, io->offset, io->len, io->offset, 0};
	return strikes;
}

static void back(struct env_sim_event *ev)
{
	container_of(ev, struct sim_bdev, back)->gone = false;
}

#define GONE_MAX_NS (2 * ENV_NSEC_PER_SEC)

void sim_fault_gone(struct sim_bdev *d, const struct bdev_io *io)
{
	if (!d->armed[SIM_FAULT_GONE].at || !sim_fault_strikes(d, SIM_FAULT_GONE, io) || d->gone)
		return;
	d->gone = true;
	if (d->armed[SIM_FAULT_GONE].sticky)
		return;
	/* Short or long. */
	d->back = (struct env_sim_event){.fn = back};
	env_sim_event_add(d->b.env, &d->back,
			  env_sim_random(d->b.env) %
				  (GONE_MAX_NS >> env_sim_random(d->b.env) % 16));
}

/* ---- bad sectors: a list of ranges that do not overlap ---- */

static void bad_add(struct sim_bdev *d, u64 start, u64 end)
{
	if (start >= end)
		return;
	if (d->nr_bad == d->max_bad) {
		d->max_bad = max(16U, d->max_bad * 2);
		d->bad = realloc(d->bad, d->max_bad * sizeof(d->bad[0]));
		if (!d->bad)
			abort();
	}
	d->bad[d->nr_bad++] = (struct sim_range){start, end};
}

static void bad_remove(struct sim_bdev *d, u64 start, u64 end)
{
	for (u32 i = 0; i < d->nr_bad;) {
		struct sim_range r = d->bad[i];

		if (r.end <= start || r.start >= end) {
			i++;
			continue;
		}
		d->bad[i] = d->bad[--d->nr_bad];
		bad_add(d, r.start, min(r.end, start));
		bad_add(d, max(r.start, end), r.end);
		i = 0;
	}
}

void sim_bdev_set_bad(struct bdev *bdev, u64 offset, u64 len, bool bad)
{
	struct sim_bdev *d = to_sim(bdev);

	bad_remove(d, offset, offset + len);
	if (bad)
		bad_add(d, offset, offset + len);
}

bool sim_is_bad(const struct sim_bdev *d, u64 offset, u64 len)
{
	for (u32 i = 0; i < d->nr_bad; i++)
		if (d->bad[i].start < offset + len && offset < d->bad[i].end)
			return true;
	return false;
}

void sim_bdev_flip_bit(struct bdev *bdev, u64 offset, unsigned int bit)
{
	u8 byte;

	sim_bdev_peek(bdev, offset, &byte, 1);
	byte ^= (u8)(1U << (bit & 7));
	sim_bdev_poke(bdev, offset, &byte, 1);
}

void sim_bdev_set_gone(struct bdev *bdev, bool gone, bool lose_cache)
{
	struct sim_bdev *d = to_sim(bdev);

	d->gone = gone;
	if (!gone || !lose_cache)
		return;
	sim_log_event(d, SIM_EV_CACHE_LOST, NULL);
	sim_log_settle(d);
	sim_image_free(d->current);
	d->current = sim_image_clone(d->cursor.durable);
}

void sim_bdev_set_flush_lies(struct bdev *bdev, bool lies)
{
	to_sim(bdev)->flush_lies = lies;
}
