/* Short messages of a channel: one sender and one receiver. */
#include "channel_calls.h"

/* -- messages of 16 bytes ---------------------------------------------------------------------- */

static void
prepare_small(void)
{
    world_make((world_shape){.units = 8, .capacity = 4}, 3);
}

static void
thread_small(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){16, 16}, 2);
    } else {
        receive_count(1, 0, 2);
    }
}

SCENARIO(small) = {
    .name = "small",
    .about = "two messages of 16 bytes arrive whole and in order",
    .threads = 2,
    .bound = 2,
    .quick = 2,
    .prepare = prepare_small,
    .begin = world_begin,
    .thread = thread_small,
    .end = end_complete,
};

SCENARIO(small_no_membarrier) = {
    .name = "small-no-membarrier",
    .about = "as small, without membarrier(2): every peer uses full barriers",
    .threads = 2,
    .no_membarrier = true,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_small,
    .begin = world_begin,
    .thread = thread_small,
    .end = end_complete,
};

SCENARIO(small_death) = {
    .name = "small-death",
    .about = "as small; one of the two dies at any point, and the other is told",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .quick = 1,
    .prepare = prepare_small,
    .begin = world_begin,
    .thread = thread_small,
    .end = end_receiver_is_1,
};

/* -- the fast paths of the binding ------------------------------------------------------------- */

static void
thread_fast(int thread)
{
    ring *r = &world_rings[thread];
    for (int number = 0; number < 2; number++) {
        ring_result result = thread == 0 ? send_fast(r, 0, number, 16, FOREVER) : receive_fast(r, FOREVER);
        model_check(result == RING_OK);
    }
}

static void
prepare_one(void)
{
    world_make((world_shape){.units = 2, .capacity = 1}, 3);
}

SCENARIO(fast) = {
    .name = "fast",
    .about = "as small, by the binding's fast paths, with a capacity of 1",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_one,
    .begin = world_begin,
    .thread = thread_fast,
    .end = end_complete,
};

/* -- longer than SMALL_MAX --------------------------------------------------------------------- */

static void
prepare_wrap(void)
{
    world_make((world_shape){.units = 4, .capacity = 4}, 3);
}

/* 2 units each in an arena of 4: the third waits for room. */
static void
thread_long(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){44, 44, 44}, 3);
    } else {
        receive_count(1, 0, 3);
    }
}

SCENARIO(long_wrap) = {
    .name = "long-wrap",
    .about = "three messages of 44 bytes, which are not stored beside the tail, in an arena for two",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_wrap,
    .begin = world_begin,
    .thread = thread_long,
    .end = end_complete,
};

/* A message of 1 unit is there. Of two others the second does not fit behind the first: padding. The third
   overwrites it. */
static void
begin_with_one(void)
{
    world_begin();
    ledger.sent[0] = 1;
}

static void
prepare_with_one(void)
{
    prepare_wrap();
    ring *r = &world_rings[0];
    const uint32_t words[4] = {0};
    ring_add_role(r, ROLE_SENDER);
    model_check(ring_send(r, words, sizeof words) == RING_OK);
}

static void
thread_padding(int thread)
{
    if (thread == 0) {
        send_lengths(0, 1, (const uint64_t[]){44, 44, 44}, 3);
    } else {
        receive_count(1, 0, 4);
    }
}

SCENARIO(padding) = {
    .name = "padding",
    .about = "a message that does not fit at the end of the arena is at its start, behind padding",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_with_one,
    .begin = begin_with_one,
    .thread = thread_padding,
    .end = end_complete,
};

static void
thread_padding_death(int thread)
{
    if (thread == 0) {
        send_lengths(0, 1, (const uint64_t[]){44, 44}, 2);
    } else {
        receive_count(1, 0, 3);
    }
}

SCENARIO(padding_death) = {
    .name = "padding-death",
    .about = "as padding; one of the two dies at any point",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_with_one,
    .begin = begin_with_one,
    .thread = thread_padding_death,
    .end = end_receiver_is_1,
};

/* -- small and long ones, and empty ones ------------------------------------------------------- */

static void
thread_mixed(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){16, 44, 16}, 3);
    } else {
        receive_count(1, 0, 3);
    }
}

SCENARIO(mixed) = {
    .name = "mixed",
    .about = "a small message, a long one, a small one: the copy beside the tail is never the wrong one",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_small,
    .begin = world_begin,
    .thread = thread_mixed,
    .end = end_complete,
};

SCENARIO(mixed_death) = {
    .name = "mixed-death",
    .about = "as mixed; one of the two dies at any point",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_small,
    .begin = world_begin,
    .thread = thread_mixed,
    .end = end_receiver_is_1,
};

SCENARIO(mixed_stop) = {
    .name = "mixed-stop",
    .about = "as mixed; one of the two is stopped at any point and goes on later",
    .threads = 2,
    .stops = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_small,
    .begin = world_begin,
    .thread = thread_mixed,
    .end = end_complete,
};

static void
thread_empty(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){0, 4, 0}, 3);
    } else {
        receive_count(1, 0, 3);
    }
}

static void
thread_shorter(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){16, 4}, 2);
    } else {
        receive_count(1, 0, 2);
    }
}

SCENARIO(shorter) = {
    .name = "shorter",
    .about = "a message is not taken with the length of the next one, which is beside the tail",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_small,
    .begin = world_begin,
    .thread = thread_shorter,
    .end = end_complete,
};

SCENARIO(empty) = {
    .name = "empty",
    .about = "messages without bytes arrive as often as they were sent",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_small,
    .begin = world_begin,
    .thread = thread_empty,
    .end = end_complete,
};
