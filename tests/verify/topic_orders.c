/* Orders of steps of a topic that other scenarios do not need: each of these is small, for a few of them. */
#include "topic_world.h"

#define WAITS(depth_) {.depth = depth_}
#define DROPS(depth_) {.depth = depth_, .drops = true}

static void
end(void)
{
    topic_finish();
}

static void
end_one(void)
{
    topic_finish();
    topic_check_all(1);
}

/* -- the arena is used again ------------------------------------------------------------------------ */

/* Only the end of the subscription tells the publisher that the bytes were read: it looks at no cursor then. */
static void
prepare_leave(void)
{
    topic_make(&(topic_plan){.units = 1, .capacity = 1, .slots = 2, .threads = 2, .wishes = {[1] = WAITS(1)}});
}

static void
thread_leave(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        for (int number = 0; number < 2; number++) {
            model_check(topic_publish(&r, number, 8, FOREVER) == RING_OK);
        }
    } else {
        model_check(topic_view(&r, FOREVER) == RING_OK);
        topic_close(&r);
    }
}

SCENARIO(topic_leave_view) = {
    .name = "topic-leave-view",
    .about = "a publisher overwrites what a subscriber read just before it left",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_leave,
    .begin = topic_begin,
    .thread = thread_leave,
    .end = end,
};

/* The long message makes the publisher drop the short one before it, since that was read. The third message
   then takes its place in the arena, though publishers did not have to look whether they must wait. */
static void
prepare_reuse(void)
{
    topic_make(&(topic_plan){.units = 1, .capacity = 3, .slots = 4, .granules = 3, .threads = 2,
                             .wishes = {[1] = WAITS(3)}});
}

static void
thread_reuse(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 1, 8);
        topic_publish_all(&r, 1, 1, 80);
        topic_publish_all(&r, 2, 1, 8);
    } else {
        topic_receive_all(&r, 1); /* a sleep has barriers, and would order too much */
    }
}

SCENARIO(topic_reuse) = {
    .name = "topic-reuse",
    .about = "a long message makes room for a short one: messages before it that were read are dropped",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_reuse,
    .begin = topic_begin,
    .thread = thread_reuse,
    .end = end,
};

/* -- the copy beside the tail ----------------------------------------------------------------------- */

static void
prepare_lengths(void)
{
    topic_make(&(topic_plan){.units = 4, .capacity = 2, .slots = 3, .threads = 2, .wishes = {[1] = WAITS(2)}});
}

static void
thread_lengths(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 1, 8);
        topic_publish_all(&r, 1, 1, 16);
    } else {
        topic_receive_all(&r, 2);
    }
}

SCENARIO(topic_lengths) = {
    .name = "topic-lengths",
    .about = "two messages of different lengths are not mixed beside the tail",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_lengths,
    .begin = topic_begin,
    .thread = thread_lengths,
    .end = end_one,
};

/* -- what others count ------------------------------------------------------------------------------ */

/* Checks what another process sees of a subscriber that can lose nothing. */
static void
check_no_loss(const ring *r)
{
    const topic_subscriber *member = topic_active(r, 0);
    if (member != NULL) {
        uint64_t lost, unread = topic_unread(r, member, &lost);
        model_check(lost == 0 && unread <= 2);
    }
}

static void
prepare_count(void)
{
    topic_make(&(topic_plan){.units = 2, .capacity = 2, .slots = 3, .threads = 2, .wishes = {[1] = DROPS(2)}});
}

static void
thread_count(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 2, 8);
        check_no_loss(&r);
    } else {
        topic_receive_all(&r, 2);
    }
}

SCENARIO(topic_count) = {
    .name = "topic-count",
    .about = "another process never counts a message as lost that a subscriber has just received",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_count,
    .begin = topic_begin,
    .thread = thread_count,
    .end = end_one,
};

/* The subscription begins with the second message: its first number is not 0, as in the empty place. */
static void
prepare_count_join(void)
{
    topic_make(&(topic_plan){.units = 4, .capacity = 2, .slots = 3, .threads = 2, .joins_and_drops = true});
    model_check(topic_send(&world_rings[0], "\0\0\0\0\0\0\0", 8) == RING_OK);
}

static void
thread_count_join(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        check_no_loss(&r);
    } else {
        model_check(topic_join(&r, (topic_wishes)DROPS(2), FOREVER) == RING_OK);
    }
}

SCENARIO(topic_count_join) = {
    .name = "topic-count-join",
    .about = "another process sees a new subscriber as a whole, or not at all",
    .threads = 2,
    .bound = 2,
    .quick = 2,
    .prepare = prepare_count_join,
    .begin = topic_begin,
    .thread = thread_count_join,
    .end = end,
};

/* -- beside a dead peer ----------------------------------------------------------------------------- */

#define GHOST 2

/* The ghost has died with the only block as a loan, and with a subscription that is waited for. */
static void
prepare_ghost(void)
{
    uint32_t block;
    topic_make(&(topic_plan){.units = 2, .capacity = 1, .slots = 2, .granules = 1, .item_size = 52,
                             .threads = 3, .wishes = {[1] = WAITS(1), [GHOST] = WAITS(1)}});
    ring *ghost = &world_rings[GHOST];
    ring_add_role(ghost, ROLE_SENDER);
    model_check(topic_lend(ghost, 52, &block) == RING_OK);
    store_relaxed(&ghost->readers[block], topic_own_bit(ghost)); /* as if it had just begun to read there */
    peer_unlock(ghost->fd, ghost->index);
}

/* A recovery is wanted already, for another peer. It must not end with the ghost half removed. */
static void
prepare_wanted(void)
{
    prepare_ghost();
    store_release(&world_rings[0].shared->recovery_wanted, 1);
}

static void
thread_ghost(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 1, 52);
    } else {
        topic_receive_all(&r, 1);
    }
}

SCENARIO(topic_ghost_wanted) = {
    .name = "topic-ghost-wanted",
    .about = "a peer died with the only block; one peer recovers while another removes the dead one",
    .threads = 2,
    .time = true,
    .no_membarrier = true,
    .bound = 1,
    .quick = 1,
    .prepare = prepare_wanted,
    .begin = topic_begin,
    .thread = thread_ghost,
    .end = end,
};

SCENARIO(topic_ghost_death) = {
    .name = "topic-ghost-death",
    .about = "a peer died with the only block and a subscription; another may die while it recovers",
    .threads = 2,
    .deaths = 1,
    .time = true,
    .bound = 1,
    .prepare = prepare_ghost,
    .begin = topic_begin,
    .thread = thread_ghost,
    .end = end,
};
