/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fault points: a small table of those that are armed. Points are plain names;
 * the code that asks need not register them.
 */
#include "env/env_private.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INJECT_MAX	32
#define INJECT_NAME_MAX 48

struct inject_point {
	char name[INJECT_NAME_MAX];
	u64 nth; /* strikes when hits reaches it; 0: never */
	bool sticky;
	bool fatal; /* the process dies of it */
	u32 ppm;    /* or with this probability */
	u64 hits, struck;
};

struct env_inject_table {
	pthread_mutex_t lock;
	u32 nr;
	struct inject_point points[INJECT_MAX];
};

int env_init_common(struct env *env)
{
	env->inject = calloc(1, sizeof(*env->inject));
	if (!env->inject)
		return -BCFS_ERR_nomem;
	pthread_mutex_init(&env->inject->lock, NULL);
	return 0;
}

void env_exit_common(struct env *env)
{
	if (!env->inject)
		return;
	pthread_mutex_destroy(&env->inject->lock);
	free(env->inject);
	env->inject = NULL;
}

static struct inject_point *inject_find(struct env_inject_table *t, const char *name, size_t len)
{
	for (u32 i = 0; i < t->nr; i++)
		if (!strncmp(t->points[i].name, name, len) && !t->points[i].name[len])
			return &t->points[i];
	return NULL;
}

static u64 inject_random(struct env *env)
{
	return env->sim ? sim_rng_next(&env->sim->rng_dev) : env_random_u64(env);
}

bool env_inject_slow(struct env *env, const char *point)
{
	struct env_inject_table *t = env->inject;
	struct inject_point *p;
	bool strike = false;

	pthread_mutex_lock(&t->lock);
	p = inject_find(t, point, strlen(point));
	if (p) {
		p->hits++;
		if (p->nth)
			strike = p->sticky ? p->hits >= p->nth : p->hits == p->nth;
		else if (p->ppm)
			strike = inject_random(env) % 1000000 < p->ppm;
		p->struck += strike;
	}
	/* With no word to anybody, as from outside: nothing is flushed, closed or answered. */
	if (strike && p->fatal)
		raise(SIGKILL);
	pthread_mutex_unlock(&t->lock);
	if (env->sim && env->sim->preempt_points)
		sim_preempt(env->sim);
	return strike;
}

static int inject_arm(struct env *env, const char *name, size_t len, const struct inject_point *how)
{
	struct env_inject_table *t = env->inject;
	struct inject_point *p;
	int ret = 0;

	if (!len || len >= INJECT_NAME_MAX)
		return -BCFS_ERR_invalid_option;
	pthread_mutex_lock(&t->lock);
	p = inject_find(t, name, len);
	if (!p && t->nr < INJECT_MAX)
		p = &t->points[t->nr++];
	if (p) {
		*p = *how;
		memcpy(p->name, name, len);
	} else {
		ret = -BCFS_ERR_invalid_option;
	}
	__atomic_store_n(&env->inject_armed, t->nr, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&t->lock);
	return ret;
}

int env_inject_arm(struct env *env, const char *point, u64 nth, bool sticky)
{
	struct inject_point how = {.nth = nth, .sticky = sticky};

	return inject_arm(env, point, strlen(point), &how);
}

int env_inject_arm_random(struct env *env, const char *point, u32 ppm)
{
	struct inject_point how = {.ppm = ppm};

	return inject_arm(env, point, strlen(point), &how);
}

static int inject_parse_one(struct env *env, const char *spec, size_t len)
{
	const char *colon = memchr(spec, ':', len), *end = spec + len;
	struct inject_point how = {0};
	char *stop;
	u64 nr;

	if (!colon || colon + 1 == end || colon[1] < '0' || colon[1] > '9')
		return -BCFS_ERR_invalid_option;
	nr = strtoull(colon + 1, &stop, 10);
	if (stop + 1 == end && *stop == '%' && nr <= 100) {
		how.ppm = (u32)nr * 10000;
	} else {
		how.nth = nr;
		how.sticky = stop + 1 == end && *stop == '+';
		how.fatal = stop + 1 == end && *stop == '!';
		if (stop != end && !how.sticky && !how.fatal)
			return -BCFS_ERR_invalid_option;
	}
	return inject_arm(env, spec, (size_t)(colon - spec), &how);
}

int env_inject_parse(struct env *env, const char *spec)
{
	int ret = 0;

	while (*spec && !ret) {
		size_t len = strcspn(spec, ",");

		ret = inject_parse_one(env, spec, len);
		spec += len;
		spec += *spec == ',';
	}
	return ret;
}

u64 env_inject_hits(struct env *env, const char *point, u64 *struck)
{
	struct env_inject_table *t = env->inject;
	struct inject_point *p;
	u64 hits;

	pthread_mutex_lock(&t->lock);
	p = inject_find(t, point, strlen(point));
	hits = p ? p->hits : 0;
	if (struck)
		*struck = p ? p->struck : 0;
	pthread_mutex_unlock(&t->lock);
	return hits;
}

void env_inject_disarm_all(struct env *env)
{
	struct env_inject_table *t = env->inject;

	pthread_mutex_lock(&t->lock);
	t->nr = 0;
	__atomic_store_n(&env->inject_armed, 0, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&t->lock);
}
