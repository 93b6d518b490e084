/* Death at each named point of a topic, one step after the other in one process (ring_death.h).
   test_topic_deaths ROUNDS SEED SECONDS; exits 0, or says what was wrong. */
#include "ring_rounds.h"
#include "topic_play.h"

#define STEPS 200

static ring_shape
some_shape(void)
{
    uint64_t units = 64 + below(3) * 37 + below(2) * 400, capacity = 1 + below(20);
    switch (below(4)) {
    case 0: /* short messages */
        return topic_of_items(units, below(6), capacity, 48);
    case 1: /* each message in a block */
        return topic_of_items(units, below(2) ? capacity + 1 : 1 + below(4), capacity, 200);
    default:
        return topic_of_any(units, 1 + below(40), capacity);
    }
}

static ring_result
publisher_step(peer *p, uint64_t what)
{
    return what < 5 ? step_send(p)
        : what < 8  ? step_batch(p)
        : what < 11 ? step_lend(p)
        : what < 14 ? step_send_loan(p)
        : what < 15 ? step_cancel(p)
        : what < 17 ? step_look(p)
        : what < 18 ? step_defer(p)
                    : step_leave(p);
}

static ring_result
subscriber_step(peer *p, uint64_t what)
{
    return !p->subscribed && what < 12 ? step_subscribe(p)
        : what < 6                     ? step_receive(p)
        : what < 11                    ? step_view(p)
        : what < 14                    ? step_release(p)
        : what < 15                    ? step_look(p)
        : what < 16                    ? step_defer(p)
        : what < 17                    ? step_unsubscribe(p)
                                       : step_leave(p);
}

/* Fills most places with subscribers that are dead. */
static void
crowd(void)
{
    ring *r = &peers[0].h.r;
    for (uint32_t place = 0; place < TOPIC_SUBSCRIBERS - 2; place++) {
        if (r->subscribers[place].owner == 0) {
            r->subscribers[place].owner = owner_of(200, 0);
            r->shared->members |= UINT64_C(1) << place;
        }
    }
    r->peers[200].generation = 1;
    r->shared->recovery_wanted = 1;
    unrecovered = true;
}

static void
play(uint64_t seed)
{
    seed_chance(seed);
    ring_shape shape = some_shape();
    make(shape, below(shape.capacity + 1));
    uint64_t danger = 1 + below(4), near = 3 + below(25);
    for (int step = 0; step < STEPS; step++) {
        peer *p = &peers[below(PEERS)];
        revive(p);
        if (below(60) == 0) {
            crowd();
        }
        choose_death(danger, near);
        ring_result result = is_publisher(p) ? publisher_step(p, below(19))
                                             : subscriber_step(p, below(18));
        fatal = NULL;
        if (result == RING_GONE) {
            bury(p);
        } else {
            check_survivor(result);
        }
        check_all();
        if (below(40) == 0) {
            settle();
        }
    }
    settle();
    unmake();
}

int
main(int argc, char **argv)
{
    mortal = true;
    run_rounds(play, argc, argv);
    return 0;
}
