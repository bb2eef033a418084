/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulation's pending events: a binary heap by time, then by order of
 * arrival. Each event knows its place, so that it can be taken out.
 */
#include "env/env_private.h"

#include <stdlib.h>

static bool before(const struct env_sim_event *a, const struct env_sim_event *b)
{
	return a->when_ns != b->when_ns ? a->when_ns < b->when_ns : a->seq < b->seq;
}

static void put(struct env_sim *s, u32 i, struct env_sim_event *ev)
{
	s->heap[i] = ev;
	ev->heap_idx = i;
}

static void sift_up(struct env_sim *s, u32 i, struct env_sim_event *ev)
{
	for (; i > 1 && before(ev, s->heap[i / 2]); i /= 2)
		put(s, i, s->heap[i / 2]);
	put(s, i, ev);
}

static void sift_down(struct env_sim *s, u32 i, struct env_sim_event *ev)
{
	for (;;) {
		u32 c = 2 * i;

		if (c > s->nr_events)
			break;
		if (c < s->nr_events && before(s->heap[c + 1], s->heap[c]))
			c++;
		if (!before(s->heap[c], ev))
			break;
		put(s, i, s->heap[c]);
		i = c;
	}
	put(s, i, ev);
}

struct env_sim_event *sim_event_top(struct env_sim *s)
{
	return s->nr_events ? s->heap[1] : NULL;
}

void sim_event_insert(struct env_sim *s, struct env_sim_event *ev, u64 when_ns)
{
	assert(!ev->heap_idx);
	if (s->nr_events + 2 > s->max_events) {
		s->max_events = max(64U, s->max_events * 2);
		s->heap = realloc(s->heap, s->max_events * sizeof(s->heap[0]));
		if (!s->heap)
			abort();
	}
	ev->when_ns = when_ns;
	ev->seq = s->next_event_seq++;
	s->nr_events++;
	sift_up(s, s->nr_events, ev);
}

void sim_event_remove(struct env_sim *s, struct env_sim_event *ev)
{
	u32 i = ev->heap_idx;
	struct env_sim_event *last;

	if (!i)
		return;
	ev->heap_idx = 0;
	last = s->heap[s->nr_events--];
	if (last == ev)
		return;
	if (i > 1 && before(last, s->heap[i / 2]))
		sift_up(s, i, last);
	else
		sift_down(s, i, last);
}

struct env_sim_event *sim_event_pop(struct env_sim *s)
{
	struct env_sim_event *ev = sim_event_top(s);

	if (ev)
		sim_event_remove(s, ev);
	return ev;
}

void sim_events_clear(struct env_sim *s)
{
	for (u32 i = 1; i <= s->nr_events; i++)
		s->heap[i]->heap_idx = 0;
	s->nr_events = 0;
}

void env_sim_event_add(struct env *env, struct env_sim_event *ev, u64 delay_ns)
{
	struct env_sim *s = env->sim;

	sim_event_insert(s, ev,
			 delay_ns > UINT64_MAX - s->now_ns ? UINT64_MAX : s->now_ns + delay_ns);
}

void env_sim_event_cancel(struct env *env, struct env_sim_event *ev)
{
	sim_event_remove(env->sim, ev);
}
