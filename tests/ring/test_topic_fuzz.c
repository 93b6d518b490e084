/* Another process overwrites a topic's memory (ring_fuzz.h).
   test_topic_fuzz ROUNDS SEED SECONDS; exits 0, or dies. */
#include "ring_fuzz.h"
#include "topic_scribble.h"

#define PUBLISHERS 2 /* of the handles; the others subscribe */

static ring_result
step_subscribe(peer *p)
{
    topic_wishes wishes = {.drops = below(2), .depth = 1 + below(p->h.r.capacity),
                           .history = below(p->h.r.capacity + 1)};
    ring_call call = subscribe_call(&p->h, &wishes, (int64_t)below(2));
    return subscribe(&p->h, &call);
}

static ring_result
step_on_peers(peer *p)
{
    ring *r = &p->h.r;
    uint64_t blocks;
    bool subscribed = r->subscriber != NULL;
    ring_call call = call_of(&p->h, subscribed ? op_receive : op_send, (int64_t)below(2));
    ring_descriptors descriptors = {.r = r};
    switch (below(6)) {
    case 0:
        poll_arm(r, call.which);
        ring_defer_to_holder(r, ring_call_lock(r, &call));
        return RING_OK;
    case 1:
        blocks_count(r, (block_kind)below(6), &blocks);
        for (int place = 0; place < TOPIC_SUBSCRIBERS; place++) {
            topic_unread(r, &r->subscribers[place], &blocks);
        }
        return RING_OK;
    case 2:
        descriptor_recover(&descriptors);
        return RING_OK;
    case 3:
        if (subscribed && p->views.count == 0) {
            topic_unsubscribe(r);
            topic_leave(r);
        }
        return RING_OK;
    default:
        return ring_check_peers_before_sleep(r, &call, (uint32_t)below(100));
    }
}

static ring_result
publisher_step(peer *p)
{
    switch (below(8)) {
    case 0:
    case 1:
        return step_send(p, op_send);
    case 2:
    case 3:
        return step_send(p, op_batch);
    case 4:
    case 5:
        return p->loans.count < SLOTS ? step_send(p, op_lend) : step_end_loan(p);
    case 6:
        return p->loans.count > 0 ? step_end_loan(p) : RING_EMPTY;
    default:
        return step_on_peers(p);
    }
}

static ring_result
one_step(int which)
{
    peer *p = &peers[which];
    if (which < PUBLISHERS) {
        return publisher_step(p);
    }
    uint64_t what = below(8);
    return p->h.r.subscriber == NULL                          ? step_subscribe(p)
        : what < 5                                            ? p->views.count < SLOTS
            ? step_receive(p, op_receive, &p->views)
            : step_release(p)
        : what < 7 ? p->views.count > 0 ? step_release(p) : RING_EMPTY
                   : step_on_peers(p);
}

/* Opening a topic reads the rest of the header: what it accepts must be in the file. */
static void
try_open(void)
{
    ring r;
    char saved[192];
    memcpy(saved, shared.memory, sizeof saved);
    for (int i = 0; i < 6; i++) {
        *(uint64_t *)(shared.memory + 8 * (1 + below(24))) = below(2) ? evil_number() : below(200);
        if (ring_open(&r, shared.memory, shared.size, -1, true)) {
            char *end = shared.memory + shared.size;
            check((char *)(r.entries + r.slots) <= (char *)r.words, "too many entries");
            check((char *)(r.words + r.granules) <= (char *)r.readers, "too many words");
            check((char *)(r.readers + r.granules) <= r.arena, "too many readers");
            check(r.arena + r.units * UNIT <= r.pool, "too large an arena");
            check(r.pool + r.granules * r.granule <= end, "too large a pool");
            check(r.longest <= INLINE_MAX || r.longest <= r.granules * r.granule, "too long");
            check(r.item_size <= r.longest && r.granule % 64 == 0, "no room for an item");
            check(r.history <= r.capacity && r.slots > r.capacity, "too long a history");
        }
    }
    memcpy(shared.memory, saved, sizeof saved);
}

static void
make(void)
{
    ring_shape shapes[] = {
        topic_of_any(64 + below(100), 64, 2 + below(30)), /* the pool ends with a page */
        topic_of_any(64 + below(1000), 64, 2 + below(30)),
        topic_of_items(64 + below(100), 16, 2 + below(30), 200),
        topic_of_items(64 + below(100), 64, 2 + below(30), 24),
    };
    ring_shape shape = shapes[below(4)];
    shared = topic_make(shape, below(shape.capacity + 1));
}

int
main(int argc, char **argv)
{
    const target a_topic = {.handles = 4,
                            .make = make,
                            .open = topic_open,
                            .step = one_step,
                            .scribble = scribble_topic,
                            .try_open = try_open};
    fuzz(&a_topic, argc, argv);
    check(results[RING_OVERTAKEN] == 0, "a call returns RING_OVERTAKEN");
    puts("ok");
    return 0;
}
