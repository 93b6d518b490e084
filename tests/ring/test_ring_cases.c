/* Cases that the steps of test_ring_deaths would take long to find: deaths one after the other, what is
   dropped, and what a living peer that does not run holds up. Exits 0, or says what was wrong. */
#include "ring_play.h"

static ring_result
send_bytes(peer *p, uint64_t length)
{
    ring_call call = call_of(&p->h, op_send, 0);
    call.length = length;
    call.data = buffer;
    message_fill(buffer, call.length, ++next_number);
    ring_result result = attempt(send_message, &p->h, &call);
    note_sent(result, next_number, 1);
    return result;
}

static ring_result
lend_bytes(peer *p, uint64_t length, uint32_t *block)
{
    ring_call call = call_of(&p->h, op_lend, 0);
    call.length = length;
    ring_result result = attempt(call_do, &p->h, &call);
    *block = call.block;
    return result;
}

/* -- deaths ---------------------------------------------------------------------------------------- */

/* A peer that died right after it took its first role had that role nevertheless. */
static void
test_a_role_is_seen(void)
{
    for (int found = 0; found < 3; found++) {
        make(shape_of_any(64, 4, 20), false);
        dies_at("role_taken", call_do, &peers[1], call_of(&peers[1].h, op_send, 0));
        if (found == 1) {
            peers[0].h.r.shared->recovery_wanted = 1;
            check(ring_recover_if_wanted(&peers[0].h.r) == RING_OK, "no recovery");
        } else if (found == 2) {
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

/* A peer that never waits nevertheless notices that a receiver died, and gets the memory it held. */
static void
test_the_dead_are_noticed_without_a_wait(void)
{
    make(shape_of_any(64, 8, 20), false);
    impatient = true;
    for (int i = 0; i < 2; i++) {
        check(send_bytes(&peers[0], 200) == RING_OK && step_view(&peers[1]) == RING_OK, "no view");
    }
    bury(&peers[1]);
    ring_result result;
    uint32_t block;
    while ((result = lend_bytes(&peers[0], peers[0].h.r.longest, &block)) == RING_FULL) {
    }
    check(result == RING_OK, "a dead receiver keeps its views");
    check(release_block(&peers[0].h, block, BLOCK_LENT) == RING_OK, "a loan can't be cancelled");
    impatient = false;
    settle();
    unmake();
}

/* A receiver dies when it holds the next message, and so does each peer that takes its lock over, before
   it repairs anything. The message still waits, once. */
static void
test_each_peer_that_takes_over_dies(void)
{
    ring_operation operations[] = {op_receive, op_take, op_take};
    uint64_t lengths[] = {200, 200, 60}; /* a short message is moved to a block first */
    for (int i = 0; i < 3; i++) {
        make(shape_of_any(64, 16, 20), false);
        check(send_bytes(&peers[0], lengths[i]) == RING_OK, "no message");
        ring_call call = call_of(&peers[1].h, operations[i], 0);
        call.data = buffer;
        call.length = sizeof buffer;
        dies_at("held", call_do, &peers[1], call);
        for (int times = 0; times < 3; times++) {
            dies_at("taken_over", call_do, &peers[2], call_of(&peers[2].h, op_take, 0));
        }
        check(step_take(&peers[3]) == RING_OK && first == last, "the message is lost");
        check(peers[3].taken[0].redelivered == 0, "nobody had taken it");
        settle();
        unmake();
    }
}

/* A message is returned as often as its receivers die, and counts that. */
static void
test_receivers_die_one_after_the_other(void)
{
    make(shape_of_any(64, 16, 20), false);
    check(send_bytes(&peers[0], 60) == RING_OK && send_bytes(&peers[0], 200) == RING_OK, "full");
    for (uint64_t times = 0; times < 5; times++) {
        revive(&peers[1]);
        check(step_take(&peers[1]) == RING_OK, "the message is lost");
        check(peers[1].taken[0].number == next_number - 1, "another message came first");
        check(peers[1].taken[0].redelivered == times, "a wrong count");
        bury(&peers[1]);
        check(step_look(&peers[0]) == RING_OK, "no recovery");
        was_recovered();
    }
    settle();
    unmake();
}

/* A receiver that dies right after it took a message is found by the next call. */
static void
test_a_dead_taker_is_found(void)
{
    const char *when[] = {"after_head", "held"}; /* a new message, and one that was returned */
    for (int i = 0; i < 2; i++) {
        make(shape_of_any(64, 16, 20), false);
        ring *r = &peers[0].h.r;
        check(send_bytes(&peers[0], 200) == RING_OK, "no message");
        if (i == 1) {
            check(step_take(&peers[2]) == RING_OK, "no message");
            check(step_end_delivery(&peers[2], false) == RING_OK, "no return");
        }
        fatal = when[i];
        check(step_take(&peers[1]) == RING_GONE, "it does not come to that point");
        fatal = NULL;
        bury(&peers[1]);
        check(ring_taker_is_dead(r), "a dead receiver is not found");
        check(step_look(&peers[0]) == RING_OK && !ring_taker_is_dead(r), "it is not removed");
        was_recovered();
        settle();
        unmake();
    }
}

static void
recover_meanwhile(void)
{
    ring *r = &peers[0].h.r;
    check(r->shared->recovery_wanted == 1, "nobody asked for a recovery");
    check(ring_recover_if_wanted(r) == RING_OK && r->shared->recovery_wanted == 0, "no recovery");
}

/* A peer joins in the place of a dead one. Another recovers while the place is locked but not taken, and
   then the first one dies too. What the dead peer had taken is returned nevertheless. */
static void
test_a_peer_dies_in_the_place_of_a_dead_one(void)
{
    make(shape_of_any(64, 16, 20), false);
    check(send_bytes(&peers[0], 200) == RING_OK && step_take(&peers[1]) == RING_OK, "no message");
    handle_close(&peers[2].h);
    bury(&peers[1]);
    paused = "removing_peer";
    meanwhile = recover_meanwhile;
    fatal = "joining";
    check(attempt(do_open, &peers[2].h, NULL) == RING_GONE && paused == NULL, "it takes another place");
    fatal = NULL;
    bury(&peers[2]);
    check(step_look(&peers[0]) == RING_OK, "no recovery");
    was_recovered();
    check(step_take(&peers[3]) == RING_OK, "the message is lost");
    settle();
    unmake();
}

/* A sender that recovers for its descriptor tells the receivers of messages that were returned. */
static void
test_a_descriptor_tells_of_messages_that_came_back(void)
{
    make(shape_of_any(64, 16, 20), false);
    ring *r = &peers[0].h.r;
    check(send_bytes(&peers[0], 200) == RING_OK && step_take(&peers[1]) == RING_OK, "no message");
    bury(&peers[1]);
    ring_side_state(r, 0);
    poll_arm(&peers[2].h.r, POLL_ITEMS);
    uint32_t signals = r->shared->items_signals;
    ring_descriptors descriptors = {.r = r};
    descriptor_recover(&descriptors);
    check(ring_has_items(r), "the message was not returned");
    check(r->shared->items_signals != signals, "a receiver that polls is not told");
    was_recovered();
    settle();
    unmake();
}

/* A sender dies when it has a block and has not noted where the next search begins. */
static void
test_a_search_does_not_begin_inside_a_block(void)
{
    uint32_t loan, next;
    make(shape_of_any(64, 8, 20), false);
    check(lend_bytes(&peers[0], 3 * 64, &loan) == RING_OK, "no loan");
    check(release_block(&peers[0].h, loan, BLOCK_LENT) == RING_OK, "no end of the loan");
    ring_call call = call_of(&peers[1].h, op_lend, 0);
    call.length = 8 * 64; /* all of the pool: the search began in its middle */
    dies_at("allocated", call_do, &peers[1], call);
    check(lend_bytes(&peers[0], 3 * 64, &next) == RING_FULL || next == 0, "a block inside another");
    if (next != NO_BLOCK) {
        check(release_block(&peers[0].h, next, BLOCK_LENT) == RING_OK, "no end of the loan");
    }
    settle();
    unmake();
}

/* -- full ------------------------------------------------------------------------------------------ */

/* A channel that overwrites drops messages for what fits then, and for nothing else. */
static void
test_what_fits_once_messages_are_dropped(void)
{
    uint32_t block;
    make(shape_of_any(64, 16, 20), true);
    uint64_t *dropped = &peers[0].h.r.shared->dropped;
    check(send_bytes(&peers[0], 5 * 64) == RING_OK, "no block in an empty channel");
    check(lend_bytes(&peers[1], 3 * 64, &block) == RING_OK, "no loan");
    check(send_bytes(&peers[0], 8 * 64) == RING_OK, "no block in half a pool");
    check(send_bytes(&peers[0], 9 * 64) == RING_FULL && *dropped == 0, "dropped for nothing");
    check(send_bytes(&peers[0], 6 * 64) == RING_OK && *dropped == 2, "what fits is refused");
    check(release_block(&peers[1].h, block, BLOCK_LENT) == RING_OK, "a loan can't be cancelled");
    settle();
    unmake();
}

/* Takes short messages until the granules that are spared for them are used up. Then one waits. */
static void
use_up_spare(peer *p)
{
    for (uint64_t i = 0; i <= spare_granules(0, 64); i++) {
        check(i == 0 || step_take(p) == RING_OK, "senders took what was spared");
        check(send_bytes(&peers[0], 60) == RING_OK, "no message");
    }
}

/* A take that finds no block for a short message does not wait for itself, nor drop anything. */
static void
test_a_take_without_a_block(void)
{
    for (int overwriting = 0; overwriting < 2; overwriting++) {
        uint32_t block;
        make(shape_of_any(64, 4, 20), overwriting);
        check(lend_bytes(&peers[0], 4 * 64, &block) == RING_OK, "no loan");
        use_up_spare(&peers[1]);
        ring_call call = call_of(&peers[1].h, op_take, 0);
        check(attempt(call_do, &peers[1].h, &call) == RING_FULL, "a block that is lent");
        call.deadline = 1;
        check(attempt(call_do, &peers[1].h, &call) == RING_TIMEOUT, "it does not give up");
        check(release_block(&peers[0].h, block, BLOCK_LENT) == RING_OK, "no end of the loan");
        check(step_take(&peers[1]) == RING_OK, "the message is lost");
        settle();
        unmake();
    }
}

/* A short message can be taken though long ones behind it fill the pool. */
static void
test_long_messages_behind_a_short_one(void)
{
    make(shape_of_any(64, 12, 20), false);
    for (int round = 0; round < 20; round++) {
        check(send_bytes(&peers[0], 60 + below(100)) == RING_OK, "no message");
        while (send_bytes(&peers[0], 200 + below(100)) == RING_OK) {
        }
        while (step_take(&peers[1]) == RING_OK) {
            check(step_end_delivery(&peers[1], true) == RING_OK, "no acknowledgement");
        }
        check(first == last, "a message can't be taken");
    }
    settle();
    unmake();
}

/* A message that waits for a block is not the end: the last sender is gone, but a take may succeed yet. */
static void
test_a_take_without_a_block_or_a_sender(void)
{
    make(shape_of_any(64, 4, 20), false);
    check(send_bytes(&peers[0], 4 * 64) == RING_OK && step_view(&peers[1]) == RING_OK, "no view");
    use_up_spare(&peers[2]);
    handle_close(&peers[0].h);
    peers[0].gone = true;
    for (int i = 1; i < PEERS; i++) {
        ring_add_role(&peers[i].h.r, ROLE_RECEIVER);
    }
    ring_call call = call_of(&peers[2].h, op_take, 1);
    call.wait_for_peers = false;
    check(attempt(call_do, &peers[2].h, &call) == RING_TIMEOUT, "a message was left");
    check(step_release(&peers[1]) == RING_OK && step_take(&peers[2]) == RING_OK, "no message");
    call = call_of(&peers[1].h, op_take, 1);
    call.wait_for_peers = false;
    check(attempt(call_do, &peers[1].h, &call) == RING_TIMEOUT, "it may be returned");
    while (peers[2].took > 0) {
        check(step_end_delivery(&peers[2], true) == RING_OK, "no acknowledgement");
    }
    check(attempt(call_do, &peers[1].h, &call) == RING_GONE, "it waits for nobody");
    settle();
    unmake();
}

static void
one_arrives_and_one_is_sent(void)
{
    check(step_receive(&peers[1]) == RING_OK && send_bytes(&peers[2], 60) == RING_OK, "no message");
}

/* A sender that is held up between its looks at both ends of the queue does not take it for full. */
static void
test_a_look_at_a_queue_that_moves(void)
{
    uint32_t block;
    make(shape_of_any(64, 16, 2), false);
    check(send_bytes(&peers[0], 60) == RING_OK, "no message");
    paused = "looking";
    meanwhile = one_arrives_and_one_is_sent;
    ring_call call = call_of(&peers[3].h, op_lend, 0);
    call.length = 200;
    check(call_do(&peers[3].h, &call) == RING_OK, "a channel that was never full is full");
    block = call.block;
    check(release_block(&peers[3].h, block, BLOCK_LENT) == RING_OK, "no end of the loan");
    settle();
    unmake();
}

/* Loans and views that are kept hold up nothing but their own blocks. */
static void
test_loans_and_views_that_are_kept(void)
{
    uint32_t loan;
    make(shape_of_any(64, 16, 4), false);
    check(lend_bytes(&peers[1], 256, &loan) == RING_OK, "no loan");
    check(send_bytes(&peers[0], 256) == RING_OK && step_view(&peers[2]) == RING_OK, "no view");
    for (int turn = 0; turn < 300; turn++) {
        for (int i = 0; i < 4; i++) {
            check(send_bytes(&peers[0], i % 2 ? 200 : 100) == RING_OK, "a loan counts as a message");
        }
        check(send_bytes(&peers[0], 100) == RING_FULL, "more messages than the capacity");
        for (int i = 0; i < 4; i++) {
            check(step_receive(&peers[3]) == RING_OK, "a message is lost");
        }
        first = last = 0;
    }
    check(release_block(&peers[1].h, loan, BLOCK_LENT) == RING_OK, "no end of the loan");
    settle();
    unmake();
}

/* -- living peers that do not run ------------------------------------------------------------------ */

/* A living peer that has a lock and does not run holds up only what needs the lock. */
static void
test_a_lock_that_is_kept(void)
{
    make(shape_of_any(64, 16, 20), false);
    ring *r = &peers[0].h.r, *stopped = &peers[1].h.r;
    uint32_t block;
    check(send_bytes(&peers[0], 200) == RING_OK && step_view(&peers[0]) == RING_OK, "no view");
    check(ring_try_lock(stopped, &r->shared->send_lock), "no lock");
    check(send_bytes(&peers[0], 60) == RING_BUSY, "it does not give up");
    check(lend_bytes(&peers[0], 200, &block) == RING_OK, "a loan needs send_lock");
    check(release_block(&peers[0].h, block, BLOCK_LENT) == RING_OK, "a release needs send_lock");
    r->shared->recovery_wanted = 1;
    ring_call call = call_of(&peers[0].h, op_receive, monotonic_ns() + 1);
    check(attempt(call_do, &peers[0].h, &call) == RING_TIMEOUT, "receivers wait for a sender");
    check(r->shared->recovery_wanted == 1, "a recovery without the lock");
    check(ring_try_lock(stopped, &r->shared->receive_lock), "no lock");
    check(ring_try_lock(stopped, &r->shared->pool_lock), "no lock");
    check(step_release(&peers[0]) == RING_OK, "a view can't be released");
    check(lend_bytes(&peers[0], 200, &block) == RING_BUSY, "it does not give up");
    ring_unlock(stopped, &r->shared->pool_lock);
    ring_unlock(stopped, &r->shared->receive_lock);
    ring_unlock(stopped, &r->shared->send_lock);
    settle();
    unmake();
}

/* A sleeper leaves the check of the peers to another that has just checked. It checks itself if none
   has, when it was woken, and at the latest after OWN_CHECK_NS. */
static void
test_sleepers_share_the_check(void)
{
    make(shape_of_any(64, 4, 20), false);
    ring *r = &peers[0].h.r;
    ring_call call = call_of(&peers[0].h, op_receive, INT64_MAX);
    call.timed_out = true;
    call.checked_at = monotonic_ns();
    call.pause = PEER_CHECK_NS;
    uint64_t soon = (uint64_t)call.checked_at + 3600 * NS_PER_SECOND; /* no check of this test */
    uint64_t now = (uint64_t)monotonic_ns();
    store_release(&r->shared->checked_at, soon);
    check(ring_check_peers_before_sleep(r, &call, 0) == RING_OK && r->shared->checked_at != soon,
          "a time to come keeps it from checking");
    check(call.pause == PEER_CHECK_NS, "the next pause is not the shortest");
    do {
        now = (uint64_t)monotonic_ns();
        store_release(&r->shared->checked_at, now);
        ring_check_peers_before_sleep(r, &call, 0);
    } while (monotonic_ns() - (int64_t)now > PEER_CHECK_NS / 2); /* descheduled in between */
    check(r->shared->checked_at == now && call.pause > PEER_CHECK_NS, "it repeats a check");
    ring_check_peers_before_sleep(r, &call, WORD_STEP);
    check(r->shared->checked_at != now, "it was woken, and does not look why");
    call.checked_at = monotonic_ns() - OWN_CHECK_NS;
    now = (uint64_t)monotonic_ns();
    store_release(&r->shared->checked_at, now);
    ring_check_peers_before_sleep(r, &call, WORD_STEP);
    check(r->shared->checked_at != now, "it leaves it to others for ever");
    unmake();
}

int
main(void)
{
    alarm(60); /* a hang is a failure */
    test_a_role_is_seen();
    test_the_dead_are_noticed_without_a_wait();
    test_each_peer_that_takes_over_dies();
    test_receivers_die_one_after_the_other();
    test_a_dead_taker_is_found();
    test_a_peer_dies_in_the_place_of_a_dead_one();
    test_a_descriptor_tells_of_messages_that_came_back();
    test_a_search_does_not_begin_inside_a_block();
    test_what_fits_once_messages_are_dropped();
    test_a_take_without_a_block();
    test_long_messages_behind_a_short_one();
    test_a_take_without_a_block_or_a_sender();
    test_a_look_at_a_queue_that_moves();
    test_loans_and_views_that_are_kept();
    test_a_lock_that_is_kept();
    test_sleepers_share_the_check();
    puts("ok");
    return 0;
}
