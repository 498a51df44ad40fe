/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's virtual clock and its timers. Virtual time is CLOCK_MONOTONIC nanoseconds since the machine started,
 * standing still while it is paused. Timer callbacks run on the clock's own thread, with no lock held (they take their
 * device's). Precision: that of timerfd.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct vclock;
struct vtimer;

struct vclock *vclock_create(void); /* paused, at 0 */
void vclock_destroy(struct vclock *c);
uint64_t vclock_now(const struct vclock *c); /* any thread, no lock */
/* Paused: the time is `now` from here on, below 2^62; timers stay at their deadlines. */
void vclock_set(struct vclock *c, uint64_t now);
void vclock_pause(struct vclock *c);
void vclock_resume(struct vclock *c);

struct vtimer *vtimer_create(struct vclock *c, void (*fn)(void *opaque), void *opaque);
void vtimer_destroy(struct vtimer *t); /* waits for a running callback, unless called from it */
void vtimer_set(struct vtimer *t, uint64_t deadline_ns); /* any thread; replaces an earlier deadline */
void vtimer_cancel(struct vtimer *t);
