/* Death at each named point of native/ring, one step after the other in one process.

   A peer that dies is thrown out of its call by longjmp, and its descriptor closed: memory and locks
   are then as SIGKILL leaves them at that point. A model knows which messages must come, in which
   order, and which may. test_ring_deaths ROUNDS SEED; exits 0, or says what was wrong. */
#include "ring_steps.h"

#define STEPS 150

static void
fine(ring_result result)
{
    check(result == RING_OK || result == RING_EMPTY || result == RING_FULL
              || result == RING_TIMEOUT,
          "a survivor was told of corruption");
}

/* All give back what they have: the ring must be as free as a new one. */
static void
settle(void)
{
    fuse = 0;
    revive(&peers[0]);
    for (int i = 0; i < PEERS; i++) {
        while (peers[i].viewed > 0) {
            check(step_release(&peers[i]) == RING_OK, "a view can't be given back");
        }
        while (peers[i].lent > 0) {
            check(step_end_loan(&peers[i], below(2)) == RING_OK, "a loan can't be ended");
        }
    }
    ring_result result;
    while ((result = step_receive(&peers[0])) == RING_OK) {
    }
    check(result == RING_EMPTY || result == RING_TIMEOUT, "the ring can't be emptied");
    nothing_left();
    ring *r = &peers[0].h.r;
    check(step_look(&peers[0]) == RING_OK, "the dead can't be cleared away");
    ring_space space;
    check(ring_measure_space(r, true, &space) == RING_OK, "corrupt at the end");
    check(space.room == r->units && space.loans == 0 && space.queued == 0,
          "what the dead had is not free again");
}

static void
make(uint64_t units, uint64_t capacity, bool overwriting)
{
    overwrite = overwriting;
    shared = channel_make(units, capacity, 0, overwrite ? CHANNEL_OVERWRITE : 0);
    fuse = 0;
    first = last = 0;
    for (int i = 0; i < PEERS; i++) {
        peers[i] = (peer){.gone = true};
        revive(&peers[i]);
    }
}

static void
unmake(void)
{
    for (int i = 0; i < PEERS; i++) {
        if (!peers[i].gone) {
            handle_close(&peers[i].h);
        }
    }
    channel_unmake(&shared);
}

static void
play(uint64_t seed)
{
    seed_chance(seed);
    uint64_t units = 64 + below(3) * 37 + below(2) * 400;
    make(units, 3 + below(20), below(4) == 0);
    uint64_t danger = 1 + below(4), near = 3 + below(20);
    for (int step = 0; step < STEPS; step++) {
        peer *p = &peers[below(PEERS)];
        revive(p);
        fuse = below(danger) == 0 ? 1 + (long)below(near) : 0;
        ring_result result = one_step(p, below(25));
        if (result == RING_GONE) {
            bury(p);
        } else {
            fine(result);
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

/* -- what chance would take long to find ----------------------------------------------------------- */

static void
dies_at(const char *point, work what, peer *p, ring_call call)
{
    revive(p);
    fatal = point;
    check(attempt(what, &p->h, &call) == RING_GONE, "it does not come by that point");
    fatal = NULL;
    bury(p);
}

/* Each sender dies between moving tail and moving reserve, while a loan is counted that is none. */
static void
test_reserve_is_left_behind(void)
{
    make(64, 20, false);
    ring_call call = call_of(&peers[0].h, op_lend, 0);
    call.length = 8;
    check(attempt(call_do, &peers[0].h, &call) == RING_OK, "no loan");
    dies_at("freed", do_cancel, &peers[0], call);
    for (uint64_t number = 1; number < 400; number++) {
        call = call_of(&peers[1].h, op_send, 0);
        call.data = buffer;
        call.length = 60;
        message_fill(buffer, call.length, number);
        dies_at("after_tail", call_do, &peers[1], call);
        expect(number, false);
        check(step_receive(&peers[2]) == RING_OK && first == last, "a sent message does not come");
    }
    settle();
    unmake();
}

/* Who died right after it took its first role was there all the same. */
static void
test_a_role_is_seen(void)
{
    for (int reaped = 0; reaped < 3; reaped++) {
        make(64, 20, false);
        dies_at("role_taken", call_do, &peers[1], call_of(&peers[1].h, op_send, 0));
        if (reaped == 1) {
            peers[0].h.r.shared->recovery_wanted = 1;
            check(ring_recover_if_wanted(&peers[0].h.r) == RING_OK, "not cleared away");
        } else if (reaped == 2) {
            revive(&peers[1]);
            handle_close(&peers[1].h);
            peers[1].gone = true;
        }
        for (int i = 2; i < PEERS; i++) {
            ring_add_role(&peers[i].h.r, ROLE_RECEIVER);
        }
        check(ring_side_state(&peers[0].h.r, ROLE_SENDER) == SIDE_GONE, "its death was not noticed");
        unmake();
    }
}

/* Who never waits notices all the same that a receiver died, and has what it held. */
static void
test_the_dead_are_noticed_without_a_wait(void)
{
    make(64, 20, false);
    impatient = true;
    ring_result result;
    while ((result = step_send(&peers[0])) == RING_OK) {
    }
    check(result == RING_FULL || result == RING_TIMEOUT, "it does not get full");
    for (int i = 0; i < SLOTS && step_view(&peers[1]) == RING_OK; i++) {
    }
    bury(&peers[1]);
    while (step_receive(&peers[2]) == RING_OK) {
    }
    nothing_left();
    ring_call call = call_of(&peers[0].h, op_lend, 0);
    call.length = ring_longest(&peers[0].h.r);
    while ((result = attempt(call_do, &peers[0].h, &call)) == RING_FULL) {
    }
    check(result == RING_OK, "a dead receiver has its views for ever");
    impatient = false;
    unmake();
}

static ring_result
send_units(peer *p, uint64_t units)
{
    ring_call call = call_of(&p->h, op_send, 0);
    call.length = units * UNIT - sizeof(channel_record);
    call.data = buffer;
    message_fill(buffer, call.length, ++next_number);
    ring_result result = attempt(call_do, &p->h, &call);
    if (result == RING_OK) {
        expect(next_number, false);
    }
    return result;
}

/* Where a loan is out, messages are dropped for what then fits, if only just, and for nothing else. */
static void
test_what_fits_once_messages_are_dropped(void)
{
    make(64, 20, true);
    uint64_t *dropped = &peers[0].h.r.shared->dropped;
    check(send_units(&peers[0], 11) == RING_OK, "no room in an empty ring");
    ring_call call = call_of(&peers[1].h, op_lend, 0);
    call.length = 8;
    check(attempt(call_do, &peers[1].h, &call) == RING_OK, "no loan");
    check(send_units(&peers[0], 26) == RING_OK && send_units(&peers[0], 20) == RING_OK,
          "no room in half a ring");
    check(send_units(&peers[0], 12) == RING_FULL && *dropped == 0, "dropped for nothing");
    check(send_units(&peers[0], 10) == RING_OK && *dropped == 1, "what fits is refused");
    check(attempt(do_cancel, &peers[1].h, &call) == RING_OK, "the loan can't be ended");
    settle();
    unmake();
}

/* A living peer that has a lock and does not run holds up only what needs the lock, and what others
   return meanwhile is there once it goes on. */
static void
test_a_stopped_peer(void)
{
    make(64, 20, false);
    ring *r = &peers[0].h.r, *stopped = &peers[1].h.r;
    check(step_send(&peers[0]) == RING_OK && step_view(&peers[0]) == RING_OK, "no view");
    check(ring_try_lock(stopped, &r->shared->send_lock), "no lock");
    ring_call call = call_of(&peers[0].h, op_send, 0);
    call.data = buffer;
    call.length = 8;
    check(attempt(call_do, &peers[0].h, &call) == RING_BUSY, "it does not give up");
    call.deadline = monotonic_ns() + 1;
    check(attempt(call_do, &peers[0].h, &call) == RING_BUSY, "it does not keep to its deadline");
    r->shared->recovery_wanted = 1;
    call = call_of(&peers[0].h, op_copy, monotonic_ns() + 1);
    check(attempt(call_do, &peers[0].h, &call) == RING_TIMEOUT, "receivers wait for a sender");
    check(ring_try_lock(stopped, &r->shared->receive_lock), "no lock");
    check(r->shared->low_water & 1, "a view holds nothing");
    check(step_release(&peers[0]) == RING_OK, "a view can't be returned");
    check(r->shared->low_water & 1, "low_water moved without the lock");
    ring_unlock(stopped, &r->shared->receive_lock);
    check(!(r->shared->low_water & 1), "the view that was returned meanwhile is not returned");
    ring_unlock(stopped, &r->shared->send_lock);
    settle();
    unmake();
}

/* A loan that is cancelled while another peer has the locks is free after the next reap. */
static void
test_a_loan_is_cancelled_beside_a_stopped_peer(void)
{
    make(64, 20, false);
    ring *r = &peers[0].h.r, *stopped = &peers[1].h.r;
    ring_call call = call_of(&peers[0].h, op_lend, 0);
    call.length = 8;
    check(attempt(call_do, &peers[0].h, &call) == RING_OK, "no loan");
    check(ring_try_lock(stopped, &r->shared->send_lock), "no lock");
    check(attempt(do_cancel, &peers[0].h, &call) == RING_OK, "the loan can't be ended");
    check(count_of(r->shared->reserve) == 1, "counted without the lock");
    ring_unlock(stopped, &r->shared->send_lock);
    check(ring_recover_if_wanted(r) == RING_OK && count_of(r->shared->reserve) == 0, "it stays lent");
    settle();
    unmake();
}

/* A sleeper leaves the check of the peers to one that has just checked, and checks when none has, when
   it was woken, and at the latest after OWN_CHECK_NS. */
static void
test_sleepers_share_the_check(void)
{
    make(64, 20, false);
    ring *r = &peers[0].h.r;
    ring_call call = call_of(&peers[0].h, op_copy, INT64_MAX);
    call.timed_out = true;
    call.checked_at = monotonic_ns();
    call.pause = PEER_CHECK_NS;
    uint64_t soon = (uint64_t)call.checked_at + 3600 * NS_PER_SECOND; /* no check of this test */
    uint64_t now = (uint64_t)monotonic_ns();
    store_word(&r->shared->checked_at, soon);
    check(ring_check_peers_before_sleep(r, &call, 0) == RING_OK && r->shared->checked_at != soon,
          "a time to come keeps it from checking");
    check(call.pause == PEER_CHECK_NS, "the next pause is not the shortest");
    do {
        now = (uint64_t)monotonic_ns();
        store_word(&r->shared->checked_at, now);
        ring_check_peers_before_sleep(r, &call, 0);
    } while (monotonic_ns() - (int64_t)now > PEER_CHECK_NS / 2); /* descheduled in between */
    check(r->shared->checked_at == now && call.pause > PEER_CHECK_NS, "it does what was done just now");
    ring_check_peers_before_sleep(r, &call, WORD_STEP);
    check(r->shared->checked_at != now, "it was woken, and does not look why");
    call.checked_at = monotonic_ns() - OWN_CHECK_NS;
    now = (uint64_t)monotonic_ns();
    store_word(&r->shared->checked_at, now);
    ring_check_peers_before_sleep(r, &call, WORD_STEP);
    check(r->shared->checked_at != now, "it leaves it to others for ever");
    unmake();
}

int
main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 200, seed = argc > 2 ? atol(argv[2]) : 1;
    alarm(argc > 3 ? (unsigned)atoi(argv[3]) : 60); /* a hang is a failure */
    test_reserve_is_left_behind();
    test_a_role_is_seen();
    test_the_dead_are_noticed_without_a_wait();
    test_a_stopped_peer();
    test_a_loan_is_cancelled_beside_a_stopped_peer();
    test_what_fits_once_messages_are_dropped();
    test_sleepers_share_the_check();
    for (long round = 0; round < rounds; round++) {
        fprintf(stderr, "seed %ld\r", seed + round);
        play((uint64_t)(seed + round));
    }
    for (int i = 0; points[i].name != NULL; i++) {
        printf("%s %llu\n", points[i].name, (unsigned long long)points[i].deaths);
    }
    printf("deaths %llu\nok\n", (unsigned long long)deaths);
    return 0;
}
