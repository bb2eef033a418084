/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Faults of the simulated device, and the watcher for sectors that are written
 * twice in one life.
 */
#include "dev/sim_bdev_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static enum bdev_op fault_op(enum sim_fault fault)
{
	switch (fault) {
	case SIM_FAULT_READ_ERROR:
	case SIM_FAULT_READ_FLIP:
		return BDEV_READ;
	case SIM_FAULT_FLUSH_ERROR:
		return BDEV_FLUSH;
	case SIM_FAULT_DISCARD_ERROR:
		return BDEV_DISCARD;
	case SIM_FAULT_WRITE_ERROR:
	case SIM_FAULT_WRITE_LOST:
	case SIM_FAULT_WRITE_MISDIRECTED:
	case SIM_FAULT_WRITE_STALE:
	case SIM_FAULT_WRITE_TORN:
	case SIM_FAULT_NR:
		break;
	}
	return BDEV_WRITE;
}

void sim_bdev_arm(struct bdev *bdev, enum sim_fault fault, u64 kth, bool sticky)
{
	struct sim_bdev *d = to_sim(bdev);

	d->armed[fault].at = kth ? d->counts[fault_op(fault)] + kth : 0;
	d->armed[fault].sticky = sticky;
}

u64 sim_bdev_fault_hits(struct bdev *bdev, enum sim_fault fault, u64 *struck)
{
	struct sim_bdev *d = to_sim(bdev);

	if (struck)
		*struck = d->armed[fault].struck;
	return d->counts[fault_op(fault)];
}

bool sim_fault_strikes(struct sim_bdev *d, enum sim_fault fault)
{
	struct sim_armed *a = &d->armed[fault];
	u64 count = d->counts[fault_op(fault)];
	bool strikes = a->at && (a->sticky ? count >= a->at : count == a->at);

	a->struck += strikes;
	return strikes;
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

/* ---- the watcher ---- */

void sim_violation(struct sim_bdev *d, const char *fmt, ...)
{
	char text[sizeof(d->first_violation)];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (!d->nr_violations++)
		memcpy(d->first_violation, text, sizeof(text));
	env_log(d->b.env, "%s: %s", d->b.name, text);
}

void sim_bdev_watch_life(struct bdev *bdev, u64 offset, u64 len)
{
	struct sim_bdev *d = to_sim(bdev);
	u64 sector = DIV_ROUND_UP(offset, SECTOR_SIZE), end = (offset + len) >> SECTOR_SHIFT;
	u64 words = (bdev->size_bytes >> SECTOR_SHIFT) / 32 + 1;

	assert(offset <= bdev->size_bytes && len <= bdev->size_bytes - offset);
	if (!d->watched) {
		d->watched = sim_xalloc(words * sizeof(u32));
		d->written = sim_xalloc(words * sizeof(u32));
	}
	if (len && !d->opts.no_log) {
		if (d->nr_lives == d->max_lives) {
			d->max_lives = max(64U, d->max_lives * 2);
			d->lives = realloc(d->lives, d->max_lives * sizeof(d->lives[0]));
			if (!d->lives)
				abort();
		}
		d->lives[d->nr_lives++] = (struct sim_life){d->log_len, offset, len};
	}
	while (sector < end) {
		u64 word = sector / 32;
		u32 mask = ~0U << (sector % 32);

		if (end - word * 32 < 32)
			mask &= (1U << (end % 32)) - 1;
		d->watched[word] |= mask;
		d->written[word] &= ~mask;
		sector = (word + 1) * 32;
	}
}

u64 sim_watch_mark(struct sim_bdev *d, u64 offset, u64 len)
{
	u64 sector = offset >> SECTOR_SHIFT, end = (offset + len) >> SECTOR_SHIFT, twice = 0;

	if (!d->watched)
		return 0;
	for (u64 s = sector; s < end; s++) {
		u32 bit = 1U << (s % 32);

		if (!(d->watched[s / 32] & bit))
			continue;
		twice += !!(d->written[s / 32] & bit);
		d->written[s / 32] |= bit;
	}
	return twice;
}

void sim_watch_write(struct sim_bdev *d, u64 offset, u64 len)
{
	u64 twice = sim_watch_mark(d, offset, len);

	if (twice)
		sim_violation(d, "%llu sectors of [%llu, %llu) were written twice in one life",
			      (unsigned long long)twice, (unsigned long long)offset,
			      (unsigned long long)(offset + len));
}

static u32 *copy_bits(const struct sim_bdev *d, const u32 *bits)
{
	u64 bytes = ((d->b.size_bytes >> SECTOR_SHIFT) / 32 + 1) * sizeof(u32);

	return bits ? memcpy(sim_xalloc(bytes), bits, bytes) : NULL;
}

void sim_watch_reset(struct sim_bdev *d)
{
	free(d->base_watched);
	free(d->base_written);
	d->base_watched = copy_bits(d, d->watched);
	d->base_written = copy_bits(d, d->written);
	d->nr_lives = 0;
}

void sim_watch_exit(struct sim_bdev *d)
{
	free(d->base_watched);
	free(d->base_written);
	free(d->lives);
	free(d->watched);
	free(d->written);
	free(d->bad);
}

u64 sim_bdev_violations(struct bdev *bdev)
{
	return to_sim(bdev)->nr_violations;
}
const char *sim_bdev_first_violation(struct bdev *bdev)
{
	return to_sim(bdev)->first_violation;
}
