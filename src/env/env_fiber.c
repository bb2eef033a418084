/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The machine part of fibers: stacks with a guard page, and the switch, told to
 * AddressSanitizer and ThreadSanitizer so that both follow it.
 */
#include "env/env_private.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define ENV_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ENV_ASAN 1
#endif
#endif

#ifdef ENV_ASAN
void __sanitizer_start_switch_fiber(void **fake_stack_save, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake_stack_save, const void **bottom_old,
				     size_t *size_old);
void __asan_unpoison_memory_region(void const volatile *addr, size_t size);
#endif
#ifdef ENV_TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#endif

/* Sanitizers make frames several times as large. */
#if defined(ENV_ASAN) || defined(ENV_TSAN)
#define FIBER_STACK_SIZE (1024UL * 1024)
#else
#define FIBER_STACK_SIZE (256UL * 1024)
#endif

static size_t guard_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static void *stack_get(struct env_sim *s)
{
	size_t guard = guard_size();
	char *p;

	if (s->stacks && s->stacks->nr)
		return s->stacks->stack[--s->stacks->nr];
	p = mmap(NULL, FIBER_STACK_SIZE + guard, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (mprotect(p, guard, PROT_NONE)) {
		munmap(p, FIBER_STACK_SIZE + guard);
		return NULL;
	}
	return p + guard;
}

static void stack_unmap(void *stack)
{
	munmap((char *)stack - guard_size(), FIBER_STACK_SIZE + guard_size());
}

static void stack_put(struct env_sim *s, void *stack)
{
#ifdef ENV_ASAN
	__asan_unpoison_memory_region(stack, FIBER_STACK_SIZE);
#endif
	if (s->stacks && s->stacks->nr < SIM_STACKS_MAX)
		s->stacks->stack[s->stacks->nr++] = stack;
	else
		stack_unmap(stack);
}

/* What a switch leaves to do for the side that arrives. */
static void switch_arrived(struct env_fiber *me)
{
#ifdef ENV_ASAN
	struct env_fiber *from = me->sim->prev;
	const void *bottom;
	size_t size;

	__sanitizer_finish_switch_fiber(me->asan_fake_stack, &bottom, &size);
	if (!from->stack) { /* root's own stack: known only now */
		from->asan_bottom = bottom;
		from->asan_size = size;
	}
#else
	(void)me;
#endif
}

static void fiber_entry(unsigned int hi, unsigned int lo)
{
	struct env_fiber *f = (struct env_fiber *)(((uintptr_t)hi << 32) | lo);

	switch_arrived(f);
	sim_fiber_main(f);
}

int sim_fiber_prepare(struct env_fiber *f)
{
	uintptr_t p = (uintptr_t)f;

	f->stack = stack_get(f->sim);
	if (!f->stack)
		return -BCFS_ERR_nomem;
	f->stack_size = FIBER_STACK_SIZE;
	f->asan_bottom = f->stack;
	f->asan_size = f->stack_size;
	getcontext(&f->ctx);
	f->ctx.uc_stack.ss_sp = f->stack;
	f->ctx.uc_stack.ss_size = f->stack_size;
	f->ctx.uc_link = NULL;
	makecontext(&f->ctx, (void (*)(void))fiber_entry, 2, (unsigned int)(p >> 32),
		    (unsigned int)p);
#ifdef ENV_TSAN
	f->tsan_fiber = __tsan_create_fiber(0);
#endif
	return 0;
}

void sim_fiber_release(struct env_fiber *f)
{
#ifdef ENV_TSAN
	__tsan_destroy_fiber(f->tsan_fiber);
#endif
	stack_put(f->sim, f->stack);
	f->stack = NULL;
}

void sim_fiber_root_init(struct env_fiber *root)
{
#ifdef ENV_TSAN
	root->tsan_fiber = __tsan_get_current_fiber();
#endif
	root->sim->stacks = env_sim_stacks_create();
	root->sim->owns_stacks = true;
}

void sim_fiber_root_exit(struct env_fiber *root)
{
	if (root->sim->owns_stacks)
		env_sim_stacks_destroy(root->sim->stacks);
}

struct env_sim_stacks *env_sim_stacks_create(void)
{
	return calloc(1, sizeof(struct env_sim_stacks));
}

void env_sim_stacks_destroy(struct env_sim_stacks *pool)
{
	while (pool && pool->nr)
		stack_unmap(pool->stack[--pool->nr]);
	free(pool);
}

void env_sim_use_stacks(struct env *env, struct env_sim_stacks *pool)
{
	struct env_sim *s = env->sim;

	if (s->owns_stacks)
		env_sim_stacks_destroy(s->stacks);
	s->stacks = pool;
	s->owns_stacks = false;
}

void sim_fiber_switch(struct env_sim *s, struct env_fiber *to)
{
	struct env_fiber *from = s->cur;

	s->prev = from;
	s->cur = to;
#ifdef ENV_ASAN
	__sanitizer_start_switch_fiber(from->state == FIBER_DONE ? NULL : &from->asan_fake_stack,
				       to->asan_bottom, to->asan_size);
#endif
#ifdef ENV_TSAN
	__tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
	swapcontext(&from->ctx, &to->ctx);
	switch_arrived(from);
}
