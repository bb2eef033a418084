// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the device itself watches: written once in a life, no reuse before the end of a life is
 * durable, buffers unchanged while they are written.
 */
#include "dev/sim_bdev_private.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static bool overlaps(const struct sim_end *e, u64 offset, u64 len)
{
	return e->offset < offset + len && offset < e->offset + e->len;
}

/* Nobody may still want what is there, nor what a crash now would bring back. */
static void check_reuse(struct sim_bdev *d, u64 offset, u64 len, const char *how)
{
	u64 end = (offset + len) >> SECTOR_SHIFT, live = 0;

	if (!d->watched)
		return;
	for (u32 i = 0; i < d->nr_ends; i++)
		if (overlaps(&d->ends[i], offset, len)) {
			sim_violation(d, "[%llu, %llu) is %s before it is durable that it is free",
				      (unsigned long long)offset,
				      (unsigned long long)(offset + len), how);
			return;
		}
	for (u64 s = offset >> SECTOR_SHIFT; s < end; s++) {
		u32 bits = d->watched[s / 32] & d->written[s / 32] & ~d->ended[s / 32];

		live += bits >> (s % 32) & 1;
	}
	if (live)
		sim_violation(d, "[%llu, %llu) is %s while %llu sectors of it are in use",
			      (unsigned long long)offset, (unsigned long long)(offset + len), how,
			      (unsigned long long)live);
}

/* The bits of sectors [sector, end). */
static void set_bits(u32 *bits, u64 sector, u64 end, bool set)
{
	while (sector < end) {
		u64 word = sector / 32;
		u32 mask = ~0U << (sector % 32);

		if (end - word * 32 < 32)
			mask &= (1U << (end % 32)) - 1;
		bits[word] = set ? bits[word] | mask : bits[word] & ~mask;
		sector = (word + 1) * 32;
	}
}

void sim_watch_begin(struct sim_bdev *d, u64 offset, u64 len)
{
	u64 sector = DIV_ROUND_UP(offset, SECTOR_SIZE), end = (offset + len) >> SECTOR_SHIFT;
	u64 words = (d->b.size_bytes >> SECTOR_SHIFT) / 32 + 1;

	assert(offset <= d->b.size_bytes && len <= d->b.size_bytes - offset);
	if (!d->watched) {
		d->watched = sim_xalloc(words * sizeof(u32));
		d->written = sim_xalloc(words * sizeof(u32));
		d->ended = sim_xalloc(words * sizeof(u32));
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
	set_bits(d->watched, sector, end, true);
	set_bits(d->written, sector, end, false);
	set_bits(d->ended, sector, end, false);
}

void sim_bdev_watch_life(struct bdev *bdev, u64 offset, u64 len)
{
	check_reuse(to_sim(bdev), offset, len, "given a new life");
	sim_watch_begin(to_sim(bdev), offset, len);
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
		d->ended[s / 32] &= ~bit;
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

/* ---- the end of a life ---- */

/*
 * Space may be used again, or discarded, when what freed it is durable. The filesystem says only
 * that a life ends with what it is about to write; when that is durable the device sees for itself:
 * a write that came after the announcement is complete, and with FUA, or a flush that began later
 * is complete, too. (Whether it was the right write the device cannot tell: what it finds early is
 * early, what it lets pass may be.)
 */
void sim_bdev_end_life(struct bdev *bdev, u64 offset, u64 len, bool durable)
{
	struct sim_bdev *d = to_sim(bdev);

	if (!d->watched)
		return;
	set_bits(d->ended, offset >> SECTOR_SHIFT, (offset + len) >> SECTOR_SHIFT, true);
	if (durable) {
		for (u32 i = 0; i < d->nr_ends;)
			if (overlaps(&d->ends[i], offset, len))
				d->ends[i] = d->ends[--d->nr_ends];
			else
				i++;
		return;
	}
	if (d->nr_ends == d->max_ends) {
		d->max_ends = max(64U, d->max_ends * 2);
		d->ends = realloc(d->ends, d->max_ends * sizeof(d->ends[0]));
		if (!d->ends)
			abort();
	}
	d->ends[d->nr_ends++] = (struct sim_end){offset, len, .announced = ++d->watch_clock};
}

u64 sim_watch_submit(struct sim_bdev *d)
{
	return ++d->watch_clock;
}

void sim_watch_written(struct sim_bdev *d, u64 submitted, bool fua)
{
	u64 now = ++d->watch_clock;

	for (u32 i = 0; i < d->nr_ends;) {
		struct sim_end *e = &d->ends[i];

		if (e->announced < submitted && fua) {
			*e = d->ends[--d->nr_ends];
			continue;
		}
		if (e->announced < submitted && !e->written)
			e->written = now;
		i++;
	}
}

void sim_watch_flushed(struct sim_bdev *d, u64 submitted)
{
	for (u32 i = 0; i < d->nr_ends;)
		if (d->ends[i].written && d->ends[i].written < submitted)
			d->ends[i] = d->ends[--d->nr_ends];
		else
			i++;
}

void sim_watch_discard(struct sim_bdev *d, u64 offset, u64 len)
{
	check_reuse(d, offset, len, "discarded");
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
	free(d->ends);
	free(d->watched);
	free(d->written);
	free(d->ended);
}

void sim_bdev_forget_lives(struct bdev *bdev)
{
	struct sim_bdev *d = to_sim(bdev);

	free(d->watched);
	free(d->written);
	free(d->ended);
	d->watched = d->written = d->ended = NULL;
	d->nr_ends = 0;
	sim_bdev_log_reset(bdev);
}

u64 sim_bdev_violations(struct bdev *bdev)
{
	return to_sim(bdev)->nr_violations;
}
const char *sim_bdev_first_violation(struct bdev *bdev)
{
	return to_sim(bdev)->first_violation;
}
