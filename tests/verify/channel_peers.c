/* Peers that are removed or replaced after they died, and locks whose holder is asked for a signal. */
#include "channel_calls.h"

/* -- a lock that is taken ---------------------------------------------------------------------- */

static bool deferred;

static void
prepare_two(void)
{
    world_make((world_shape){.units = 2, .capacity = 2}, 3);
}

static void
begin_defer(void)
{
    world_begin();
    deferred = false;
}

/* Thread 1 does what descriptor_update_busy does. */
static void
thread_defer(int thread)
{
    ring *r = &world_rings[thread];
    channel_lock *lock = &r->shared->send_lock;
    if (ring_try_lock(r, lock)) {
        ring_unlock(r, lock);
    } else if (thread == 1) {
        poll_arm(r, POLL_SPACE);
        ring_defer_to_holder(r, lock);
        deferred = true;
    }
}

static void
end_defer(void)
{
    const channel_header *shared = world_rings[0].shared;
    model_check(!deferred || load_relaxed(&shared->space_signals) != 0 /* the descriptor was signalled */);
    model_check(!(load_relaxed(&shared->send_lock.word) & WORD_DEFERRED));
    world_finish();
}

#define DEFER_SCENARIO(id, name_, about_, lacks)                                                     \
    SCENARIO(id) = {                                                                                 \
        .name = name_,                                                                               \
        .about = about_,                                                                             \
        .threads = 2,                                                                                \
        .no_membarrier = lacks,                                                                      \
        .bound = 4,                                                                                  \
        .quick = 4,                                                                                  \
        .prepare = prepare_two,                                                                      \
        .begin = begin_defer,                                                                        \
        .thread = thread_defer,                                                                      \
        .end = end_defer,                                                                            \
    }

DEFER_SCENARIO(defer, "defer", "a peer that finds a lock taken has its descriptor signalled after the release", false);
DEFER_SCENARIO(defer_no_membarrier, "defer-no-membarrier", "as defer, on a kernel without membarrier", true);

/* If the holder dies, the peer that finds that out signals the descriptors. */
static void
end_defer_death(void)
{
    const channel_header *shared = world_rings[0].shared;
    world_finish();
    model_check(!deferred || load_relaxed(&shared->space_signals) != 0 /* the descriptor was signalled */);
    model_check(!(load_relaxed(&shared->send_lock.word) & WORD_DEFERRED));
}

SCENARIO(defer_death) = {
    .name = "defer-death",
    .about = "as defer; the holder of the lock dies",
    .threads = 2,
    .deaths = 1,
    .spared = 2,
    .bound = 4,
    .quick = 3,
    .prepare = prepare_two,
    .begin = begin_defer,
    .thread = thread_defer,
    .end = end_defer_death,
};

/* -- the place of a dead peer ------------------------------------------------------------------ */

/* Thread 1 joins while the others run. */
static void
prepare_place(void)
{
    world_make((world_shape){.units = 4, .capacity = 4}, 4);
    ring_leave(&world_rings[1]);
}

/* Thread 0 may die with the lock. Thread 1 may get its place, and thread 2 takes the lock over. */
static void
thread_place(int thread)
{
    ring r = world_rings[thread];
    if (thread == 1) {
        model_check(ring_join(&r, 2, 2, 1, false));
    } else {
        model_check(world_send(&r, thread, 0, 16, FOREVER) == RING_OK);
    }
}

static void
end_place(void)
{
    world_finish();
    world_check_received(0);
}

SCENARIO(place_reused) = {
    .name = "place-reused",
    .about = "a sender dies at any point, another peer gets its place, and a third one sends",
    .threads = 3,
    .deaths = 1,
    .spared = 1 << 1 | 1 << 2,
    .no_membarrier = true,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_place,
    .begin = world_begin,
    .thread = thread_place,
    .end = end_place,
};

/* Thread 0 dies with the lock when it has published its message, then is another process that removes it. */
static void
thread_place_removed(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        const uint32_t words[4] = {0};
        ring_add_role(&r, ROLE_SENDER);
        if (ring_try_lock(&r, &r.shared->send_lock)) {
            model_check(ring_send(&r, words, sizeof words) == RING_OK);
            ledger.sent[0] = 1;
            peer_unlock(r.fd, r.index);
            ring other = world_rings[3];
            ring_side_state(&other, 0);
        }
    } else {
        thread_place(thread);
    }
}

SCENARIO(place_removed) = {
    .name = "place-removed",
    .about = "as place-reused, after another peer has removed the sender",
    .threads = 3,
    .time = true,
    .no_membarrier = true,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_place,
    .begin = world_begin,
    .thread = thread_place_removed,
    .end = end_place,
};

/* -- one peer removes another ------------------------------------------------------------------ */

static void
prepare_removed(void)
{
    world_make((world_shape){.units = 4, .capacity = 4}, 4);
    ring_add_role(&world_rings[2], ROLE_RECEIVER);
}

/* Thread 0 dies when it has published its message: the kernel releases the lock of its place. Thread 2
   removes it. */
static void
thread_removed(int thread)
{
    ring *r = &world_rings[thread];
    if (thread == 0) {
        const uint32_t words[4] = {0};
        ring_add_role(r, ROLE_SENDER);
        model_check(ring_try_lock(r, &r->shared->send_lock));
        model_check(ring_send(r, words, sizeof words) == RING_OK);
        ledger.sent[0] = 1;
        peer_unlock(r->fd, r->index);
    } else if (thread == 1) {
        while (world_receive(r, FOREVER) == RING_OK) {
        }
        model_check(missing_of(0) == 0 /* a channel is over only when it is empty */);
    } else {
        ring_side_state(r, 0);
    }
}

SCENARIO(removed_by_another) = {
    .name = "removed-by-another",
    .about = "another peer removes a sender that died: the receiver still gets all that it sent",
    .threads = 3,
    .time = true,
    .no_membarrier = true,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_removed,
    .begin = world_begin,
    .thread = thread_removed,
    .end = end_complete,
};

/* -- the peer that removes another dies -------------------------------------------------------- */

#define GHOST 2 /* it is dead from the start */

static void
prepare_remover(void)
{
    world_make((world_shape){.units = 2, .capacity = 2}, 4);
    peer_unlock(world_rings[GHOST].fd, world_rings[GHOST].index);
}

static void
thread_remover(int thread)
{
    ring_side_state(&world_rings[thread], 0);
}

/* Until a peer has recovered what the dead one had, the others must learn of it. */
static void
end_remover(void)
{
    const ring *r = &world_rings[GHOST];
    model_check(load_relaxed(&r->peers[r->index].joined)
                || load_relaxed(&r->shared->recovery_wanted) /* there is something to recover */);
    world_finish();
}

SCENARIO(remover_dies) = {
    .name = "remover-dies",
    .about = "two peers remove a dead one; either may die before others know that there is something to recover",
    .threads = 2,
    .deaths = 2,
    .bound = 3,
    .quick = 1,
    .prepare = prepare_remover,
    .begin = world_begin,
    .thread = thread_remover,
    .end = end_remover,
};
