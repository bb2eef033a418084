/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Goal: six locks exclude what they say, sequence numbers tell of every write, nobody sleeps
 * for ever. Method: threads that read, intend, write, upgrade, downgrade, recurse and relock
 * around plain (unsynchronised) variables; a plain program, to be run under ThreadSanitizer too.
 */
#include "env/six.h"

#include <stdio.h>
#include <stdlib.h>

#define NR_THREADS 4
#define ROUNDS	   20000

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #cond);                 \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

struct shared {
	struct six_lock l;
	u64 a, b;     /* equal but while write is held */
	u64 intended; /* changed under intent alone, read by nobody else */
	struct env *env;
};

struct arg {
	struct shared *s;
	u64 rng;
	u64 writes, intents, relocks, upgrades;
};

static u32 rnd(struct arg *a)
{
	a->rng = a->rng * 6364136223846793005ULL + 1442695040888963407ULL;
	return a->rng >> 33;
}

/* Intent is held. */
static void write_once(struct arg *a)
{
	struct shared *s = a->s;

	six_lock(&s->l, SIX_WRITE);
	s->a++;
	s->b++;
	six_unlock(&s->l, SIX_WRITE);
	a->writes++;
}

static void op_read(struct arg *a)
{
	struct shared *s = a->s;

	six_lock(&s->l, SIX_READ);
	u64 x = s->a, y = s->b;
	u32 seq = six_seq(&s->l);

	CHECK(x == y);
	if (rnd(a) % 2) {
		six_increment(&s->l, SIX_READ);
		six_unlock(&s->l, SIX_READ);
	}
	if (rnd(a) % 4 == 0 && six_tryupgrade(&s->l)) {
		CHECK(s->a == x && six_seq(&s->l) == seq);
		s->intended++;
		a->intents++;
		a->upgrades++;
		if (rnd(a) % 2)
			write_once(a);
		six_unlock(&s->l, SIX_INTENT);
		return;
	}
	six_unlock(&s->l, SIX_READ);
	if (six_relock(&s->l, SIX_READ, seq)) {
		/* Nothing was written meanwhile. */
		CHECK(s->a == x && s->b == y);
		a->relocks++;
		six_unlock(&s->l, SIX_READ);
	}
}

static void op_intent(struct arg *a)
{
	struct shared *s = a->s;

	six_lock(&s->l, SIX_INTENT);
	s->intended++;
	a->intents++;
	u64 x = s->a;
	u32 seq = six_seq(&s->l);

	if (rnd(a) % 2) {
		six_increment(&s->l, SIX_INTENT);
		six_unlock(&s->l, SIX_INTENT);
	}
	if (rnd(a) % 2) {
		write_once(a);
		CHECK(s->a == x + 1 && six_seq(&s->l) == seq + 2);
	}
	if (rnd(a) % 3 == 0) {
		x = s->a;
		six_downgrade(&s->l);
		CHECK(s->a >= x && s->a == s->b);
		six_unlock(&s->l, SIX_READ);
	} else {
		seq = six_seq(&s->l);
		x = s->a;
		six_unlock(&s->l, SIX_INTENT);
		if (six_relock(&s->l, SIX_INTENT, seq)) {
			CHECK(s->a == x);
			s->intended++;
			a->intents++;
			six_unlock(&s->l, SIX_INTENT);
		}
	}
}

static void worker(void *p)
{
	struct arg *a = p;

	for (unsigned i = 0; i < ROUNDS; i++) {
		if (rnd(a) % 3)
			op_read(a);
		else
			op_intent(a);
	}
}

int main(void)
{
	struct shared s = {0};
	struct arg a[NR_THREADS] = {0};
	struct env_thread *t[NR_THREADS];
	u64 writes = 0, intents = 0, relocks = 0, upgrades = 0;

	CHECK(!env_real_create(&s.env));
	six_init(&s.l, s.env);
	for (unsigned i = 0; i < NR_THREADS; i++) {
		a[i] = (struct arg){.s = &s, .rng = i + 1};
		CHECK(!env_thread_start(s.env, &t[i], "six", worker, &a[i]));
	}
	for (unsigned i = 0; i < NR_THREADS; i++) {
		env_thread_join(t[i]);
		writes += a[i].writes;
		intents += a[i].intents;
		relocks += a[i].relocks;
		upgrades += a[i].upgrades;
	}
	CHECK(s.a == writes && s.b == writes && s.intended == intents);
	CHECK(relocks && upgrades);
	CHECK(six_seq(&s.l) == (u32)(2 * writes));
	CHECK(six_trylock(&s.l, SIX_INTENT) && six_trylock(&s.l, SIX_WRITE));
	CHECK(!six_trylock(&s.l, SIX_READ) && !six_trylock(&s.l, SIX_INTENT));
	six_unlock(&s.l, SIX_WRITE);
	six_unlock(&s.l, SIX_INTENT);
	six_destroy(&s.l);
	env_real_destroy(s.env);
	return 0;
}
