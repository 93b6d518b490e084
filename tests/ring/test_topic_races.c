/* A topic's peers that are held up at a point while others go on, peers that die one inside the recovery of
   the other, and memory with values that no peer writes. Exits 0, or says what was wrong. */
#include "topic_play.h"

static peer *const publisher = &peers[0], *const other = &peers[1];
static peer *const one = &peers[PUBLISHERS], *const two = &peers[PUBLISHERS + 1];
static uint64_t rush_messages, rush_length;

static void
must(ring_result result, const char *what)
{
    check(result == RING_OK, what);
}

static void
must_publish(uint64_t messages, uint64_t length)
{
    for (uint64_t i = 0; i < messages; i++) {
        must(publish(publisher, length, 0), "a message can't be published");
    }
}

static void
finish(void)
{
    settle();
    unmake();
}

/* -- overtaken ------------------------------------------------------------------------------------- */

/* Others publish, while a peer is held up. It may be within a call, so no note of the last attempt is
   used afterwards. */
static void
rush(void)
{
    uint64_t was_sent = sent;
    must_publish(rush_messages, rush_length);
    sent = was_sent;
}

/* Receives a message that publishers may drop meanwhile. It is whole, and those that are missed count. */
static void
receive_in_a_rush(const char *point, bool view)
{
    paused = point;
    meanwhile = rush;
    ring_call call = call_of(&one->h, op_receive, 0);
    char data[2000];
    call.data = data;
    call.length = sizeof data;
    ring_result result = (view ? call_do : receive_message)(&one->h, &call);
    check(result == RING_OK, "a message can't be received");
    check(paused == NULL, "it does not come to that point");
    const ring_message *message = &call.message;
    bool stays = view && message->block != NO_BLOCK;
    uint64_t number = message_number(stays ? message->data : data, message->length);
    check(number == published[message->head % LOG], "a wrong message");
    check(message->head >= one->cursor, "an old message");
    one->lost += message->head - one->cursor;
    one->cursor = message->head + 1;
    check_all();
    if (stays) {
        one->views[one->viewed++] =
            (slot){.block = message->block, .length = message->length, .number = number};
        check_all();
        must_publish(60, message->length);
        check_all();
        must(step_release(one), "a view can't be released");
    }
}

static void
test_overtaken(uint64_t length, bool view, const char *point)
{
    uint64_t amounts[] = {1, 2, 7, 19, 60}, waits[] = {1, 2, 4};
    for (uint64_t i = 0; i < 15; i++) {
        make(topic_of_any(64, 40, 6), 2);
        must(enter(one, true, waits[i / 5], 0), "no place");
        must_publish(waits[i / 5] + below(2), length);
        rush_messages = amounts[i % 5];
        rush_length = below(4) ? length : 8 + below(500);
        receive_in_a_rush(point, view);
        drain(one);
        finish();
    }
}

/* At each point between the first look at a message and its end. */
static void
test_overtaken_anywhere(void)
{
    const char *inline_points[] = {"locked", "copying", "half_copied", "before_cursor",
                                   "after_cursor", "unlocking"};
    const char *block_points[] = {"locked", "holding", "reader_came", "before_cursor",
                                  "after_cursor", "unlocking"};
    uint64_t lengths[] = {8, 30, 40, 41, 100, 160};
    for (int i = 0; i < 6; i++) {
        for (int length = 0; length < 6; length++) {
            test_overtaken(lengths[length], below(2), inline_points[i]);
        }
    }
    for (int i = 0; i < 6; i++) {
        test_overtaken(161, false, block_points[i]);
        test_overtaken(161, true, block_points[i]);
        test_overtaken(600, true, block_points[i]);
    }
}

/* A subscriber that reads the message beside the tail sees that another one has replaced it. */
static void
test_overtaken_beside_the_tail(bool drops)
{
    for (uint64_t length = 8; length <= 48; length += 8) {
        make(topic_of_any(64, 40, 6), 2);
        must(enter(one, drops, 6, 0), "no place");
        for (int i = 0; i < 20; i++) {
            must_publish(1, 8 + below(33));
            rush_messages = 1 + below(3);
            rush_length = length;
            receive_in_a_rush("small_found", false);
            drain(one);
        }
        finish();
    }
}

/* While a subscriber holds a block that it has not taken yet, publishers do not use it. */
static void
publish_beside_a_hold(void)
{
    uint32_t held = 0;
    while (one->h.r.readers[held] == 0) {
        held++;
    }
    for (int i = 0; i < 50; i++) {
        ring_call call = call_of(&publisher->h, op_lend, 0);
        call.length = 200;
        must(call_do(&publisher->h, &call), "no loan");
        check(call.block != held, "a block that a subscriber is about to read");
        call.operation = op_send_block;
        call.lends = false;
        message_fill(block_data(&publisher->h.r, call.block), 200, ++next_number);
        published[header_of()->tail % LOG] = next_number;
        must(call_do(&publisher->h, &call), "a loan can't be published");
    }
}

static void
test_a_hold_is_respected(void)
{
    make(topic_of_items(64, 3, 2, 200), 0);
    must(enter(one, true, 2, 0), "no place");
    must_publish(1, 200);
    paused = "reader_came";
    meanwhile = publish_beside_a_hold;
    ring_call call = call_of(&one->h, op_receive, 0);
    must(call_do(&one->h, &call), "a message can't be received");
    check(message_number(call.message.data, 200) == published[call.message.head % LOG], "wrong");
    must(release_block(&one->h, call.message.block, BLOCK_READ), "a view can't be released");
    check(lost_by(one) == call.message.head - one->cursor, "a wrong number is lost");
    one->lost = lost_by(one);
    one->cursor = call.message.head + 1;
    drain(one);
    finish();
}

/* A call that must not wait, and is overtaken at each try, finds nothing. */
static void
rush_again(void)
{
    rush();
    paused = "copying";
}

static void
test_overtaken_again_and_again(void)
{
    make(topic_of_any(64, 4, 2), 0);
    must(enter(one, true, 1, 0), "no place");
    must_publish(1, 50);
    rush_messages = 40;
    rush_length = 50;
    for (int wanted = 0; wanted < 2; wanted++) {
        for (int64_t deadline = 0; deadline < 2; deadline++) {
            if (wanted) { /* the second try, after a recovery, is overtaken */
                drain(one);
                one->h.r.shared->recovery_wanted = 1;
            }
            paused = wanted ? "unlocking" : "copying";
            meanwhile = rush_again;
            ring_call call = call_of(&one->h, op_receive, deadline);
            call.data = buffer + sizeof buffer / 2;
            call.length = sizeof buffer / 2;
            ring_result result = receive_message(&one->h, &call);
            paused = NULL;
            check(result == (deadline ? RING_TIMEOUT : RING_EMPTY), "another result");
            one->lost = lost_by(one);
            one->cursor = one->h.r.subscriber->cursor;
            must_publish(1, 50);
        }
    }
    drain(one);
    finish();
}

/* -- `lost` ---------------------------------------------------------------------------------------- */

static uint64_t lost_seen;

static void
look_at_lost(void)
{
    topic_unread(&publisher->h.r, one->h.r.subscriber, &lost_seen);
}

/* Another process that looks while a subscriber receives sees no message as lost that is not. */
static void
test_lost_while_it_receives(void)
{
    const char *when[] = {"locked", "before_cursor", "after_cursor", "unlocking"};
    for (int i = 0; i < 8; i++) {
        uint64_t missed = i < 4 ? 10 : 0;
        make(topic_of_any(64, 4, 8), 0);
        must(enter(one, true, 2, 0), "no place");
        must_publish(2 + missed, 50);
        paused = when[i % 4];
        meanwhile = look_at_lost;
        must(step_receive(one), "a message can't be received");
        check(paused == NULL, "it does not come to that point");
        check(lost_seen <= missed && lost_seen + 1 >= missed, "a wrong number of messages is lost");
        drain(one);
        finish();
    }
}

/* -- the end of a subscription --------------------------------------------------------------------- */

static void
end_and_rush(void)
{
    one->h.closed = one->closed = true;
    topic_unsubscribe(&one->h.r);
    rush();
}

/* A thread that receives while another one ends the subscription is not told of corruption. */
static void
test_an_end_while_it_receives(void)
{
    const char *when[] = {"locked", "copying", "reader_came", "before_cursor"};
    for (int i = 0; i < 4; i++) {
        make(topic_of_any(64, 24, 4), 0);
        must(enter(one, false, 4, 0), "no place");
        rush_length = i == 2 ? 200 : 60;
        must_publish(2, rush_length);
        rush_messages = 80;
        paused = when[i];
        meanwhile = end_and_rush;
        ring_call call = call_of(&one->h, op_receive, INT64_MAX);
        call.data = buffer + sizeof buffer / 2;
        call.length = sizeof buffer / 2;
        ring_result result = receive_message(&one->h, &call);
        check(result == (i == 3 ? RING_OK : RING_CLOSED), "it is not told of the end");
        must(step_leave(one), "it can't leave");
        finish();
    }
}

/* -- who is told ----------------------------------------------------------------------------------- */

/* A publisher with a descriptor is told of room at once: it does not look again by itself. */
static void
test_a_descriptor_is_told_of_room(void)
{
    make(topic_of_any(256, 4, 32), 0);
    must(enter(one, false, 32, 0), "no place");
    must_publish(32, 30);
    for (int i = 0; i < 5; i++) {
        poll_arm(&publisher->h.r, POLL_SPACE);
        uint32_t signals = header_of()->space_signals;
        must(step_receive(one), "a message can't be received");
        check(header_of()->space_signals != signals, "a publisher that polls is not told of room");
        must_publish(1, 30);
    }
    finish();
}

/* -- deaths ---------------------------------------------------------------------------------------- */

static ring_call
lending_call(peer *p, uint64_t length)
{
    ring_call call = call_of(&p->h, op_lend, 0);
    call.length = length;
    return call;
}

/* A peer dies with something in its hands. */
static void
first_death(int kind)
{
    ring_call call;
    message_fill(buffer, 200, ++next_number);
    switch (kind) {
    case 0: /* a subscriber with a view */
        must(step_view(one), "no view");
        bury(one);
        break;
    case 1: /* a publisher with a loan */
        must(lend(other, 200, 0), "no loan");
        bury(other);
        break;
    case 2: /* a publisher with send_lock, and a block that no message has */
        call = call_of(&other->h, op_send, 0);
        call.data = buffer;
        call.length = 200;
        dies_at("queued", send_message, other, call);
        break;
    case 3: /* one that has dropped a message, and not its block */
        dies_at("topic_dropped", call_do, other, lending_call(other, 200));
        break;
    case 4: /* one that has a block, and has not noted where the next search begins */
        dies_at("allocated", call_do, other, lending_call(other, 200));
        break;
    default: /* a subscriber that comes, with send_lock */
        two->wishes = (topic_wishes){.depth = 1};
        dies_at("subscribed", subscribe, two, subscribe_call(&two->h, &two->wishes, 0));
        break;
    }
}

/* Each that recovers dies too, at each point of the recovery; the next one ends it. */
static void
test_recoverers_die(void)
{
    const char *during[] = {"removing_peer", "taken_over", "recovering", "peers_checked",
                            "readers_removed", "members_removed", "sweeping", "swept", "unlocking"};
    for (int kind = 0; kind < 6; kind++) {
        for (int at = 0; at < 9; at++) {
            make(topic_of_items(64, kind == 3 ? 3 : 4, 4, 200), kind == 3 ? 4 : 0);
            must(enter(one, kind == 3, 4, 0), "no place");
            must_publish(3, 200);
            first_death(kind);
            for (int times = 0; times < 3; times++) {
                peer *p = &peers[PEERS - 1];
                revive(p);
                fatal = during[at];
                if (step_look(p) == RING_GONE) {
                    bury(p);
                }
                fatal = NULL;
            }
            unrecovered = true;
            finish();
        }
    }
}

/* A subscriber with a view dies, and another peer notices. */
static void
die_meanwhile(void)
{
    bury(two);
    ring_side_state(&other->h.r, 0);
}

/* What a peer has that dies while another recovers is recovered next. */
static void
test_a_death_beside_a_recovery(void)
{
    const char *during[] = {"recovering", "peers_checked", "sweeping", "swept", "unlocking"};
    for (int at = 0; at < 5; at++) {
        make(topic_of_items(64, 4, 4, 200), 0);
        must(enter(one, true, 4, 0), "no place");
        must(enter(two, false, 4, 0), "no place");
        must_publish(2, 200);
        must(step_view(one), "no view");
        must(step_view(two), "no view");
        bury(one);
        paused = during[at];
        meanwhile = die_meanwhile;
        must(step_look(publisher), "no recovery");
        check(paused == NULL, "it does not come to that point");
        finish();
    }
}

/* Publishers that never wait notice that the subscriber is dead for which they would wait. */
static void
test_the_dead_are_not_waited_for(uint64_t length)
{
    make(topic_of_any(64, 12, 3), 0);
    must(enter(one, false, 3, 0), "no place");
    must_publish(3, length);
    if (length > INLINE_MAX) {
        must(step_view(one), "no view");
    }
    bury(one);
    ring_result result;
    while ((result = publish(publisher, length, 0)) == RING_FULL) {
    }
    check(result == RING_OK, "a dead subscriber keeps publishers");
    unrecovered = false;
    for (int i = 0; i < 30; i++) {
        must_publish(1, below(2) ? length : 12 * 64);
    }
    finish();
}

/* -- values that no peer writes -------------------------------------------------------------------- */

static ring_result
receive_corrupt(void)
{
    ring_call call = call_of(&one->h, op_receive, 0);
    call.data = buffer + sizeof buffer / 2;
    call.length = sizeof buffer / 2;
    return receive_message(&one->h, &call);
}

static void
corrupt(uint64_t *word, uint64_t value, const char *what)
{
    uint64_t saved = *word;
    *word = value;
    check(receive_corrupt() == RING_CORRUPT, what);
    *word = saved;
}

static void
test_a_subscriber_sees_corruption(void)
{
    for (int turn = 0; turn < 2; turn++) {
        make(topic_of_any(64, 8, 4), 0);
        must(enter(one, turn == 0, 4, 0), "no place");
        ring *r = &one->h.r;
        must_publish(1, 100);
        must(step_receive(one), "a message can't be received");
        must_publish(1, turn == 0 ? 100 : 200);
        topic_entry *entry = topic_entry_of(r, one->cursor);
        corrupt(&entry->shape, INLINE_MAX + 1, "too long for the arena");
        corrupt(&entry->shape, shape_of(200, r->granules + 1), "a block behind the pool");
        corrupt(&entry->shape, shape_of(200, 5), "another block");
        if (turn == 0) {
            corrupt(&entry->position, 63, "a message over the end of the arena");
        } else {
            uint64_t *word = &r->words[topic_block_of(entry->shape)];
            corrupt(&entry->shape, entry->shape + 100, "longer than its block");
            corrupt(word, BLOCK_FREE, "a free block");
            corrupt(word, block_word(BLOCK_QUEUED, 4, one->cursor + 1), "another message's block");
            corrupt(word, block_word(BLOCK_QUEUED, 9, one->cursor & BLOCK_HOLDER_MASK), "too large");
            corrupt(&r->shared->head, one->cursor + 1, "a message that was dropped in spite of it");
        }
        r->seen = one->cursor;
        corrupt(&r->shared->tail, one->cursor - 1, "a tail behind it");
        r->seen = one->cursor;
        must(step_receive(one), "a message can't be received");
        finish();
    }
}

/* Publishers refuse ends that can't be, and a block that is not theirs. */
static void
test_a_publisher_sees_corruption(void)
{
    uint32_t block;
    make(topic_of_any(64, 8, 4), 0);
    must_publish(40, 100);
    channel_header *header = (channel_header *)shared.memory;
    ring *r = &publisher->h.r;
    uint64_t head = header->head, done;
    header->head = header->tail + 1;
    check(publish(publisher, 100, 0) == RING_CORRUPT, "a head after the tail");
    check(publish_batch(publisher, 20, 3, &done) == RING_CORRUPT, "a head after the tail");
    check(lend(publisher, 200, 0) == RING_CORRUPT, "a head after the tail");
    header->head = header->tail - r->slots - 1;
    check(publish(publisher, 100, 0) == RING_CORRUPT, "more messages than entries");
    header->head = head;
    must(lend(publisher, 200, 0), "no loan");
    block = publisher->loans[0].block;
    uint64_t word = r->words[block];
    r->words[block] = block_word(BLOCK_LENT, block_span(word), r->owner + 1);
    check(step_send_loan(publisher) == RING_CORRUPT, "another's loan");
    r->words[block] = word;
    must(step_send_loan(publisher), "a loan can't be published");
    header->recovery_wanted = 1;
    word = r->words[block];
    r->words[block] = word | 15;
    check(topic_recover_if_wanted(r) == RING_CORRUPT, "a block of no kind");
    r->words[block] = word;
    r->subscribers[5].owner = OWNER_MASK; /* no peer's */
    header->members |= 1 << 5;
    header->recovery_wanted = 1;
    must(topic_recover_if_wanted(r), "a recovery fails");
    check(r->subscribers[5].owner == 0 && header->members == 0, "a subscriber that can't be");
    finish();
}

int
main(void)
{
    alarm(100); /* a hang is a failure */
    test_overtaken_anywhere();
    test_overtaken_beside_the_tail(false);
    test_overtaken_beside_the_tail(true);
    test_a_hold_is_respected();
    test_overtaken_again_and_again();
    test_lost_while_it_receives();
    test_an_end_while_it_receives();
    test_a_descriptor_is_told_of_room();
    test_recoverers_die();
    test_a_death_beside_a_recovery();
    test_the_dead_are_not_waited_for(60);
    test_the_dead_are_not_waited_for(200);
    test_a_subscriber_sees_corruption();
    test_a_publisher_sees_corruption();
    puts("ok");
    return 0;
}
