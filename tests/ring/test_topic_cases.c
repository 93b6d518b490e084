/* What a topic promises to publishers and subscribers: depth, history, batches, views, and places. Exits
   0, or says what was wrong. */
#include "topic_play.h"

static peer *const publisher = &peers[0];
static peer *const one = &peers[PUBLISHERS], *const two = &peers[PUBLISHERS + 1];
static peer *const three = &peers[PUBLISHERS + 2];

static void
must(ring_result result, const char *what)
{
    check(result == RING_OK, what);
    check_all();
}

/* Publishes messages of a length. */
static void
must_publish(uint64_t messages, uint64_t length)
{
    for (uint64_t i = 0; i < messages; i++) {
        must(publish(publisher, length, 0), "a message can't be published");
    }
}

/* Receives messages, and keeps none of them as a view. */
static void
must_receive(peer *p, uint64_t messages)
{
    for (uint64_t i = 0; i < messages; i++) {
        must(step_receive(p), "a message can't be received");
    }
}

static void
finish(void)
{
    settle();
    unmake();
}

/* -- depth ----------------------------------------------------------------------------------------- */

/* Publishers wait for the subscriber that is the farthest behind its depth. */
static void
test_publishers_wait(uint64_t length)
{
    make(topic_of_any(256, 128, 8), 0);
    must(enter(one, false, 3, 0), "no place");
    must(enter(two, false, 8, 0), "no place");
    must(enter(three, true, 1, 0), "no place");
    must_publish(3, length);
    for (int64_t deadline = 0; deadline < 2; deadline++) {
        check(publish(publisher, length, deadline) == (deadline ? RING_TIMEOUT : RING_FULL),
              "a subscriber has more unread than its depth");
        check(lend(publisher, length, deadline) == (deadline ? RING_TIMEOUT : RING_FULL), "a loan");
    }
    for (int i = 0; i < 5; i++) {
        must_receive(one, 1);
        must_publish(1, length);
        check(publish(publisher, length, 0) == RING_FULL, "room for more than was read");
    }
    must_receive(one, 3);
    check(publish(publisher, length, 0) == RING_FULL, "the other subscriber is not waited for");
    must_receive(two, 8);
    must_publish(3, length);
    check(three->lost == 0 && step_receive(three) == RING_OK && three->lost == 10, "a wrong count");
    finish();
}

/* A subscriber that is not waited for gets the newest messages, and counts the others. */
static void
test_oldest_are_lost(uint64_t length)
{
    for (uint64_t depth = 1; depth <= 8; depth++) {
        uint64_t lost;
        make(topic_of_any(256, 128, 8), 0);
        must(enter(one, true, depth, 0), "no place");
        for (uint64_t messages = 1; messages < 80; messages += 1 + messages / 3) {
            uint64_t before = one->lost, missed = messages > depth ? messages - depth : 0;
            must_publish(messages, length);
            check(topic_unread(&publisher->h.r, one->h.r.subscriber, &lost) == messages - missed
                      && lost == before + missed,
                  "a wrong number of unread or lost messages");
            must_receive(one, messages - missed);
            check(one->lost == before + missed, "a wrong number is lost");
            check(step_receive(one) != RING_OK, "a message too many");
        }
        finish();
    }
}

/* Without subscribers, and with none to wait for, publishers never wait. */
static void
test_nobody_is_waited_for(void)
{
    make(topic_of_any(64, 8, 4), 2);
    for (int i = 0; i < 300; i++) {
        must_publish(1, 8 + below(500));
        uint64_t done;
        must(publish_batch(publisher, 8 + below(40), 1 + below(9), &done), "a batch waits");
        if (i == 100) {
            must(enter(one, true, 4, 2), "no place");
        }
        if (i > 200 && below(2)) {
            must_receive(one, 1);
        }
    }
    finish();
}

/* Each message is received in each place of the arena, at any length. */
static void
test_wrap_around(void)
{
    for (uint64_t units = 64; units < 80; units++) {
        make(topic_of_any(units, 7, 20), 0);
        must(enter(one, false, 20, 0), "no place");
        must(enter(two, true, 20, 0), "no place");
        for (int i = 0; i < 500; i++) {
            ring_result result = publish(publisher, 8 + below(below(4) ? INLINE_MAX - 7 : 440), 0);
            check(result == RING_OK || result == RING_FULL, "a message can't be published");
            while (result == RING_FULL || below(2)) {
                if (step_receive(one) != RING_OK) {
                    break;
                }
                result = RING_OK;
            }
            if (below(3) == 0) {
                ring_result received = step_view(two);
                check(received == RING_OK || received == RING_EMPTY || received == RING_TIMEOUT,
                      "a message can't be received");
            }
            while (two->viewed > (int)below(3)) {
                must(step_release(two), "a view can't be released");
            }
            check_all();
        }
        finish();
    }
}

/* -- history --------------------------------------------------------------------------------------- */

/* A new subscriber begins with as many old messages as are kept, and as it and the topic allow. */
static void
test_history(uint64_t length, bool loans)
{
    uint64_t wishes[] = {0, 1, 3, 5, 8}, depths[] = {1, 3, 8};
    for (uint64_t history = 0; history <= 8; history += 4) {
        make(topic_of_any(512, 200, 8), history);
        for (uint64_t sum = 0; sum < 60; sum += 1 + sum / 4) {
            uint64_t before = header_of()->tail, start = sum == 0 ? before : before - sum;
            for (int i = 0; i < 15; i++) {
                uint64_t most = history, wish = wishes[i % 5], depth = depths[i / 5];
                most = most < wish ? most : wish;
                most = most < depth ? most : depth;
                most = most < before - start ? most : before - start;
                must(enter(one, i % 2, depth, wish), "no place");
                check(before - one->cursor == most, "another number of old messages");
                must_receive(one, most);
                must(step_leave(one), "it can't leave");
            }
            for (uint64_t i = 0; i < 1 + sum / 4; i++) {
                must(loans ? lend(publisher, length, 0) : publish(publisher, length, 0), "full");
                must(loans ? step_send_loan(publisher) : RING_OK, "full");
            }
        }
        finish();
    }
}

/* Publishers wait for a new subscriber, and keep its old messages, whatever they knew before. */
static void
test_a_new_subscriber_is_respected(uint64_t length)
{
    make(topic_of_any(512, 40, 8), 8);
    must_publish(30, length);
    uint64_t kept = header_of()->tail - header_of()->head, old = kept < 8 ? kept : 8;
    must(enter(one, false, 8, 8), "no place");
    check(header_of()->tail - one->cursor == old && old > 2, "no old messages");
    for (uint64_t more = old; more < 8; more++) {
        ring_result result = publish(publisher, length, 0);
        check(result == RING_OK || result == RING_FULL, "a message can't be published");
        check_all();
    }
    check(publish(publisher, length, 0) == RING_FULL, "it is not waited for");
    must(enter(two, false, 2, 2), "no place");
    drain(one);
    must_receive(two, 1);
    must_publish(1, length);
    check(publish(publisher, length, 0) == RING_FULL, "the second one is not waited for");
    must(step_unsubscribe(two), "it can't end");
    must_publish(7, length);
    check(publish(publisher, length, 0) == RING_FULL, "the first one is forgotten");
    finish();
}

/* -- batches --------------------------------------------------------------------------------------- */

static void
test_batches(void)
{
    uint64_t done;
    make(topic_of_any(256, 8, 16), 0);
    must(publish_batch(publisher, 40, 100, &done), "a batch fails");
    check(done == 16, "a batch is not the capacity");
    must(enter(one, false, 5, 0), "no place");
    must(enter(two, true, 3, 0), "no place");
    must(publish_batch(publisher, 40, 4, &done), "a batch fails");
    check(done == 4, "not all there is room for");
    must(publish_batch(publisher, 40, 4, &done), "a batch fails");
    check(done == 1, "more than the depth, or less");
    check(publish_batch(publisher, 40, 4, &done) != RING_OK && done == 0, "more than the depth");
    must_receive(one, 5);
    must_receive(two, 3);
    check(two->lost == 2, "a wrong number is lost");
    check(publish_batch(publisher, INLINE_MAX + 1, 1, &done) == RING_TOO_LONG, "a long message");
    check(publish_batch(publisher, 0, 1, &done) == RING_TOO_LONG, "an empty message");
    finish();
    make(topic_of_any(64, 8, 200), 0); /* less memory than messages */
    must(enter(one, false, 200, 0), "no place");
    must(publish_batch(publisher, 100, 30, &done), "a batch fails");
    check(done >= 15 && done <= 16, "a batch is not what the arena has room for");
    if (publish_batch(publisher, 100, 2, &done) == RING_OK) { /* it counted padding that was not needed */
        check(done == 1 && publish_batch(publisher, 100, 1, &done) != RING_OK, "more than there is");
    }
    must_receive(one, 3);
    must(publish_batch(publisher, 100, 30, &done), "a batch fails");
    check(done >= 2 && done <= 4, "not the room that was made");
    finish();
}

/* -- blocks ---------------------------------------------------------------------------------------- */

/* Views stay as they are while publishers go round the pool, and fill all of it in the end. Then publishers
   wait for a view, and drop nothing. */
static void
test_views_fill_the_pool(bool drops)
{
    make(topic_of_items(64, 5, 8, 200), 3);
    must(enter(one, drops, 8, 0), "no place");
    must(enter(two, true, 1, 0), "no place");
    for (int views = 0; views < 5; views++) {
        for (int i = 0; i < 40; i++) {
            must_publish(1, 200);
            must_receive(two, 1);
            if (i < 39) {
                must_receive(one, 1);
            }
        }
        must(step_view(one), "no view");
    }
    check(one->viewed == 5, "no views");
    uint64_t head = header_of()->head;
    check(publish(publisher, 200, 0) == RING_FULL, "a block that is viewed");
    check(publish(publisher, 200, 1) == RING_TIMEOUT && header_of()->head == head, "it drops them");
    must(step_release(one), "a view can't be released");
    for (int i = 0; i < 3; i++) {
        must_publish(1, 200);
        must_receive(one, 1);
        must_receive(two, 1);
    }
    finish();
}

/* Nothing is dropped for a message that would not fit then. */
static void
test_nothing_is_dropped_for_nothing(void)
{
    make(topic_of_any(64, 16, 8), 8);
    must(enter(one, true, 8, 8), "no place");
    must_publish(2, 4 * 64);
    must(lend(publisher, 8 * 64, 0), "no loan");
    uint64_t head = header_of()->head;
    check(publish(&peers[1], 9 * 64, 0) == RING_FULL && header_of()->head == head, "for nothing");
    must(publish(&peers[1], 5 * 64, 0), "what fits is refused");
    check(header_of()->head > head, "nothing was dropped");
    must(step_cancel(publisher), "a loan can't be cancelled");
    must(publish(publisher, 16 * 64, 0), "the longest message does not fit");
    finish();
}

/* A block that several read is free when the last of them releases it, in any order. */
static void
test_several_read_a_block(void)
{
    make(topic_of_items(64, 2, 8, 200), 0);
    for (int turn = 0; turn < 30; turn++) {
        for (peer *p = one; p < peers + PEERS; p++) {
            must(turn == 0 ? enter(p, p == two, 1, 0) : RING_OK, "no place");
        }
        must_publish(1, 200);
        for (peer *p = one; p < peers + PEERS; p++) {
            must(step_view(p), "no view");
        }
        must_publish(1, 200);
        for (peer *p = one; p < peers + PEERS; p++) {
            must_receive(p, 1);
        }
        int order[] = {0, 1, 2, 3};
        for (uint64_t left = SUBSCRIBERS; left > 0; left--) {
            uint64_t which = below(left);
            /* The other block is used again and again, and this one only once it is free. */
            must_publish(1, 200);
            must(step_release(&peers[PUBLISHERS + order[which]]), "a view can't be released");
            order[which] = order[left - 1];
            for (peer *p = one; p < peers + PEERS; p++) {
                must_receive(p, 1);
            }
        }
    }
    finish();
}

/* -- places ---------------------------------------------------------------------------------------- */

static handle crowd[TOPIC_SUBSCRIBERS + 1];

static ring_result
join_crowd(uint64_t which, bool drops)
{
    topic_wishes wishes = {.drops = drops, .depth = 2};
    topic_open(&crowd[which], &shared);
    ring_call call = subscribe_call(&crowd[which], &wishes, 0);
    return subscribe(&crowd[which], &call);
}

static void
receive_by(uint64_t which)
{
    ring_call call = call_of(&crowd[which], op_receive, 0);
    call.data = buffer;
    call.length = sizeof buffer;
    check(receive_message(&crowd[which], &call) == RING_OK, "a message can't be received");
    check(message_number(buffer, call.message.length) == next_number, "a wrong message");
}

/* 64 subscribers receive each message, and another one has no place until one leaves or dies. */
static void
test_all_places(void)
{
    make(topic_of_any(64, 40, 8), 0);
    uint64_t places = 0;
    for (uint64_t i = 0; i < TOPIC_SUBSCRIBERS; i++) {
        must(join_crowd(i, i % 3 == 0), "no place");
        places |= topic_own_bit(&crowd[i].r);
    }
    check(places == UINT64_MAX && header_of()->members == UINT64_MAX, "two have one place");
    for (int turn = 0; turn < 200; turn++) {
        check(join_crowd(TOPIC_SUBSCRIBERS, false) == RING_LIMIT, "65 subscribers");
        handle_close(&crowd[TOPIC_SUBSCRIBERS]);
        must_publish(1, below(2) ? 200 : 30);
        for (uint64_t i = 0; i < TOPIC_SUBSCRIBERS; i++) {
            receive_by(i);
        }
        uint64_t gone = below(TOPIC_SUBSCRIBERS);
        if (below(2)) {
            topic_unsubscribe(&crowd[gone].r);
            handle_close(&crowd[gone]);
        } else {
            handle_die(&crowd[gone]);
            check(ring_side_state(&publisher->h.r, 0) != SIDE_GONE, "the publisher is gone");
        }
        must(join_crowd(gone, turn % 2), "a place is not free again");
    }
    for (uint64_t i = 0; i < TOPIC_SUBSCRIBERS; i++) {
        handle_close(&crowd[i]);
    }
    finish();
}

/* Subscribers come and leave in any order. Publishers wait for those that are there. */
static void
test_come_and_leave(void)
{
    make(topic_of_any(256, 40, 8), 4);
    for (int turn = 0; turn < 2000; turn++) {
        peer *p = &peers[PUBLISHERS + below(SUBSCRIBERS)];
        ring_result result = below(3) == 0 ? step_leave(p) : step_subscribe(p);
        check(result == RING_OK || result == RING_EMPTY, "it can't come or leave");
        check_all();
        result = publish(publisher, 8 + below(300), 0);
        check(result == RING_OK || result == RING_FULL, "a message can't be published");
        if (result == RING_FULL) {
            drain(p);
        }
        check_all();
    }
    finish();
}

/* A subscription that ended lets publishers go on. It keeps its views, which are released later. */
static void
test_views_after_the_end(void)
{
    make(topic_of_items(64, 4, 4, 200), 0);
    must(enter(one, false, 2, 0), "no place");
    must_publish(2, 200);
    must(step_view(one), "no view");
    must_publish(1, 200);
    check(publish(publisher, 200, 0) == RING_FULL, "it is not waited for");
    must(step_unsubscribe(one), "it can't end");
    must_publish(20, 200);
    must(step_release(one), "a view can't be released");
    must(step_leave(one), "it can't leave");
    finish();
}

/* A subscriber is told that the last publisher left, also if another peer has just checked the peers. */
static void
test_the_end_is_not_missed(void)
{
    char bytes[200];
    make(topic_of_items(64, 0, 4, 30), 0);
    must(enter(one, false, 2, 0), "no place");
    must_publish(1, 30);
    must(step_receive(one), "a message can't be received");
    for (int i = 0; i < PEERS; i++) {
        if (&peers[i] != one) {
            handle_close(&peers[i].h);
            peers[i].gone = true;
        }
    }
    store_release(&one->h.r.shared->checked_at, (uint64_t)monotonic_ns());
    ring_call call = call_of(&one->h, op_receive, monotonic_ns() + PEER_CHECK_NS / 4);
    call.wait_for_peers = false;
    call.data = bytes;
    call.length = sizeof bytes;
    check(receive_message(&one->h, &call) == RING_GONE, "it is not told of the end");
    unmake();
}

int
main(void)
{
    alarm(100); /* a hang is a failure */
    test_publishers_wait(30);
    test_publishers_wait(200);
    test_oldest_are_lost(30);
    test_oldest_are_lost(100);
    test_oldest_are_lost(200);
    test_nobody_is_waited_for();
    test_wrap_around();
    test_history(20, false);
    test_history(100, false);
    test_history(200, false);
    test_history(200, true);
    test_a_new_subscriber_is_respected(60);
    test_a_new_subscriber_is_respected(300);
    test_batches();
    test_views_fill_the_pool(false);
    test_views_fill_the_pool(true);
    test_nothing_is_dropped_for_nothing();
    test_several_read_a_block();
    test_all_places();
    test_come_and_leave();
    test_views_after_the_end();
    test_the_end_is_not_missed();
    puts("ok");
    return 0;
}
