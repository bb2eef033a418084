/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory of the simulated environment: libc's, with a header in front that
 * counts it, lets any allocation fail, and finds what abandoned fibers held.
 */
#include "env/env_private.h"

#include <stdlib.h>
#include <string.h>

#define SIM_ALLOC_MAGIC 0x5a11c0de5a11c0deULL

_Static_assert(sizeof(struct sim_alloc) % 16 == 0, "keeps the alignment of malloc");

static bool alloc_fails(struct env_sim *s)
{
	u64 nr = ++s->nr_allocs;

	if (!s->alloc_fail_at)
		return false;
	return s->alloc_fail_sticky ? nr >= s->alloc_fail_at : nr == s->alloc_fail_at;
}

static struct sim_alloc *header(void *p)
{
	struct sim_alloc *a = (struct sim_alloc *)p - 1;

	assert(a->magic == SIM_ALLOC_MAGIC);
	return a;
}

void *sim_alloc(struct env_sim *s, size_t align, size_t size, bool zero)
{
	size_t head = round_up(sizeof(struct sim_alloc), align);
	struct sim_alloc *a;
	void *base;

	if (alloc_fails(s))
		return NULL;
	if (size > SIZE_MAX - head - align)
		return NULL;
	if (posix_memalign(&base, align, head + size))
		return NULL;
	if (zero)
		memset((char *)base + head, 0, size);
	a = (struct sim_alloc *)((char *)base + head) - 1;
	a->base = base;
	a->size = size;
	a->magic = SIM_ALLOC_MAGIC;
	a->next = &s->allocs;
	a->prev = s->allocs.prev;
	a->prev->next = a;
	s->allocs.prev = a;
	s->nr_live++;
	s->live_bytes += size;
	return a + 1;
}

void sim_free(struct env_sim *s, void *p)
{
	struct sim_alloc *a;

	if (!p)
		return;
	a = header(p);
	a->magic = 0;
	a->prev->next = a->next;
	a->next->prev = a->prev;
	s->nr_live--;
	s->live_bytes -= a->size;
	free(a->base);
}

size_t sim_alloc_size(void *p)
{
	return header(p)->size;
}

void sim_free_all(struct env_sim *s)
{
	while (s->allocs.next != &s->allocs)
		sim_free(s, s->allocs.next + 1);
}

void env_sim_fail_alloc(struct env *env, u64 kth, bool sticky)
{
	env->sim->alloc_fail_at = kth ? env->sim->nr_allocs + kth : 0;
	env->sim->alloc_fail_sticky = sticky;
}

u64 env_sim_nr_allocs(const struct env *env)
{
	return env->sim->nr_allocs;
}

u64 env_sim_live_allocs(const struct env *env, u64 *bytes)
{
	if (bytes)
		*bytes = env->sim->live_bytes;
	return env->sim->nr_live;
}
