/* Another process overwrites a channel's memory (ring_fuzz.h).
   test_ring_fuzz ROUNDS SEED SECONDS; exits 0, or dies. */
#include "ring_fuzz.h"

static ring_result
step_end_delivery(peer *p)
{
    uint64_t length;
    uint32_t block = pick(&p->taken, &length);
    return below(2) ? acknowledge(&p->h, block)
                    : ring_requeue(&p->h.r, block, p->h.r.owner);
}

static ring_result
step_on_peers(peer *p)
{
    ring *r = &p->h.r;
    ring_call call = call_of(&p->h, below(2) ? op_send : op_take, (int64_t)below(2));
    uint64_t blocks;
    switch (below(4)) {
    case 0:
        poll_arm(r, call.which);
        ring_defer_to_holder(r, ring_call_lock(r, &call));
        return RING_OK;
    case 1:
        blocks_count(r, (block_kind)below(6), &blocks);
        return RING_OK;
    case 2: {
        ring_descriptors descriptors = {.r = r};
        descriptor_recover(&descriptors);
        return RING_OK;
    }
    default:
        return ring_check_peers_before_sleep(r, &call, (uint32_t)below(100));
    }
}

static ring_result
one_step(int which)
{
    peer *p = &peers[which];
    switch (below(15)) {
    case 0:
    case 1:
        return step_send(p, op_send);
    case 2:
        return step_send(p, op_batch);
    case 3:
    case 4:
        return p->loans.count < SLOTS ? step_send(p, op_lend) : step_end_loan(p);
    case 5:
        return p->loans.count > 0 ? step_end_loan(p) : RING_EMPTY;
    case 6:
    case 7:
    case 8:
        return p->views.count < SLOTS ? step_receive(p, op_receive, &p->views) : step_release(p);
    case 9:
        return p->views.count > 0 ? step_release(p) : RING_EMPTY;
    case 10:
    case 11:
        return p->taken.count < SLOTS ? step_receive(p, op_take, &p->taken) : step_end_delivery(p);
    case 12:
    case 13:
        return p->taken.count > 0 ? step_end_delivery(p) : RING_EMPTY;
    default:
        return step_on_peers(p);
    }
}

/* Opening a channel reads the rest of the header: what it accepts must be in the file. */
static void
try_open(void)
{
    ring r;
    char saved[128];
    memcpy(saved, shared.memory, sizeof saved);
    for (int i = 0; i < 3; i++) {
        *(uint64_t *)(shared.memory + 8 * (1 + below(16))) = evil_number();
        if (ring_open(&r, shared.memory, shared.size, -1, false)) {
            check(r.units <= (shared.size - CHANNEL_ARENA_START) / UNIT, "too large an arena");
            check(r.pool + r.granules * r.granule <= shared.memory + shared.size, "too large a pool");
            check(r.longest <= INLINE_MAX || r.longest <= r.granules * r.granule, "too long");
            check(r.item_size <= r.longest && r.granule % 64 == 0, "no room for an item");
        }
    }
    memcpy(shared.memory, saved, sizeof saved);
}

static void
make(void)
{
    ring_shape shapes[] = {
        shape_of_any(64 + below(100), 64, 2 + below(30)), /* the pool ends with a page */
        shape_of_any(64 + below(100), 64, 2 + below(30)),
        shape_of_items(64 + below(100), 16, 2 + below(30), 200),
        shape_of_items(64 + below(100), 64, 2 + below(30), 24),
    };
    shared = channel_make(shapes[below(4)], below(3) == 0 ? CHANNEL_OVERWRITE : 0);
}

int
main(int argc, char **argv)
{
    const target a_channel = {.handles = 3,
                              .make = make,
                              .open = handle_open,
                              .step = one_step,
                              .scribble = scribble,
                              .try_open = try_open};
    fuzz(&a_channel, argc, argv);
    puts("ok");
    return 0;
}
