/* Death at each named point of native/ring, one step after the other in one process.

   A peer that dies is thrown out of its call by longjmp, and its descriptor closed: memory and locks
   are then as SIGKILL leaves them at that point. test_ring_deaths ROUNDS SEED SECONDS; exits 0, or says
   what was wrong. */
#include "ring_play.h"
#include "ring_rounds.h"

#define STEPS 150
#define STEP_KINDS 31

static ring_shape
some_shape(void)
{
    uint64_t units = 64 + below(3) * 37 + below(2) * 400, capacity = 3 + below(20);
    switch (below(4)) {
    case 0: /* short messages, and few blocks for those that are taken */
        return shape_of_items(units, below(6), capacity, 48);
    case 1: /* each message in a block */
        return shape_of_items(units, below(2) ? capacity + 1 : 1 + below(4), capacity, 200);
    default:
        return shape_of_any(units, 1 + below(40), capacity);
    }
}

static ring_result
one_step(peer *p, uint64_t what)
{
    return what < 4 ? step_send(p)
        : what < 6  ? step_batch(p)
        : what < 9  ? step_lend(p)
        : what < 11 ? step_send_loan(p)
        : what < 12 ? step_cancel(p)
        : what < 15 ? step_receive(p)
        : what < 18 ? step_view(p)
        : what < 20 ? step_release(p)
        : what < 24 ? step_take(p)
        : what < 26 ? step_end_delivery(p, true)
        : what < 28 ? step_end_delivery(p, false)
        : what < 29 ? step_look(p)
        : what < 30 ? step_defer(p)
                    : step_leave(p);
}

static void
play(uint64_t seed)
{
    seed_chance(seed);
    make(some_shape(), below(4) == 0);
    uint64_t danger = 1 + below(4), near = 3 + below(25);
    for (int step = 0; step < STEPS; step++) {
        peer *p = &peers[below(PEERS)];
        revive(p);
        choose_death(danger, near);
        ring_result result = one_step(p, below(STEP_KINDS));
        fatal = NULL;
        if (result == RING_GONE) {
            bury(p);
        } else {
            check_survivor(result);
        }
        if (first == last) {
            first = last = 0;
        }
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
    run_rounds(play, argc, argv);
    return 0;
}
