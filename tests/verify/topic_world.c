/* The world of the scenarios of topics (topic_world.h). */
#include "topic_world.h"

static int checker;
static int taken[PEERS]; /* messages that a thread has received */
static uint64_t last_tail; /* of topic_finish */

/* -- the topic ------------------------------------------------------------------------------------- */

void
topic_make(const topic_plan *plan)
{
    checker = plan->threads;
    world_make((world_shape){.units = plan->units,
                             .capacity = plan->capacity,
                             .granules = plan->granules,
                             .item_size = plan->item_size,
                             .topic = true,
                             .history = plan->history},
               plan->threads + 1);
    bool overtaken = plan->joins_and_drops; /* its bytes may be read while they are overwritten */
    const ring *first = &world_rings[0]; /* bytes that were not written must not look like a message */
    memset(first->arena, 0xee, plan->units * UNIT);
    memset(first->pool, 0xee, plan->granules * first->granule);
    for (int peer = 0; peer <= checker; peer++) {
        ring *r = &world_rings[peer];
        model_check(plan->slots > plan->capacity && plan->slots <= r->slots);
        r->slots = plan->slots;
        r->processors = plan->processors != 0 ? plan->processors : 2;
        if (plan->wishes[peer].depth != 0) {
            model_check(topic_subscribe(r, &plan->wishes[peer]) == RING_OK);
        }
        overtaken |= plan->wishes[peer].drops;
    }
    if (!overtaken) {
        model_plain(first->arena, plan->units * UNIT);
    }
}

void
topic_begin(void)
{
    world_begin();
    memset(taken, 0, sizeof taken);
}

/* -- publishing ------------------------------------------------------------------------------------ */

static ring_result
do_lend(ring *r, ring_call *call)
{
    return either_lend(r, call->length, &call->block);
}

static ring_result
do_send_block(ring *r, ring_call *call)
{
    return either_send_block(r, call->block, call->length, r->owner);
}

static ring_result
publish_block(ring *r, int number, uint64_t length, int64_t deadline)
{
    uint32_t words[LONGEST / 4];
    for (uint64_t at = 0; at < length / 4; at++) {
        words[at] = (uint32_t)(model_thread() << 16 | number);
    }
    ring_call call = {.operation = do_lend, .which = POLL_SPACE, .deadline = deadline, .lends = true,
                      .length = length};
    ring_result result = world_call(r, &call);
    if (result != RING_OK) {
        return result;
    }
    copy_shared(block_data(r, call.block), (const char *)words, length);
    RING_POINT(written);
    call.operation = do_send_block;
    call.lends = false;
    result = world_call(r, &call);
    if (result != RING_OK) {
        model_check(ring_release_block(r, call.block, BLOCK_LENT, r->owner) == RING_OK);
    }
    ledger.sent[model_thread()] += result == RING_OK;
    return result;
}

ring_result
topic_publish(ring *r, int number, uint64_t length, int64_t deadline)
{
    if (length <= INLINE_MAX) {
        return world_send(r, model_thread(), number, length, deadline);
    }
    ring_add_role(r, ROLE_SENDER);
    return publish_block(r, number, length, deadline);
}

static ring_result
do_send_batch(ring *r, ring_call *call)
{
    return either_send_batch(r, call->data, call->length, &call->items);
}

ring_result
topic_publish_many(ring *r, int number, uint64_t count, uint64_t length, int64_t deadline)
{
    uint32_t words[LONGEST / 4];
    model_check(count * length <= LONGEST);
    for (uint64_t at = 0; at < count * length / 4; at++) {
        words[at] = (uint32_t)(model_thread() << 16 | (number + (int)(at / (length / 4))));
    }
    ring_add_role(r, ROLE_SENDER);
    ring_call call = {.operation = do_send_batch, .which = POLL_SPACE, .deadline = deadline,
                      .length = length};
    ring_result result = RING_OK;
    for (uint64_t done = 0; done < count && result == RING_OK;) {
        call.data = (const char *)words + done * length;
        call.items = count - done;
        result = world_call(r, &call);
        done += result == RING_OK ? call.items : 0;
        ledger.sent[model_thread()] += result == RING_OK ? (int)call.items : 0;
    }
    return result;
}

/* -- receiving ------------------------------------------------------------------------------------- */

static void
note(const char *data, uint64_t length)
{
    world_note(model_thread(), data, length);
    taken[model_thread()]++;
}

static ring_result
do_view(ring *r, ring_call *call)
{
    ring_result result = either_peek(r, &call->message);
    if (result != RING_OK) {
        return result;
    }
    if (call->message.block != NO_BLOCK) {
        return either_begin_read(r, &call->message);
    }
    either_copy(r, (char *)call->data, call->message.data, call->message.length);
    return either_take(r, &call->message, 1);
}

ring_result
topic_begin_read(ring *r, ring_message *message, int64_t deadline)
{
    char copy[LONGEST];
    ring_call call = {.operation = do_view, .which = POLL_ITEMS, .deadline = deadline, .data = copy};
    ring_result result = world_call(r, &call);
    if (result == RING_OK) {
        *message = call.message;
        if (message->block == NO_BLOCK) {
            note(copy, message->length);
        }
    }
    return result;
}

void
topic_end_read(ring *r, const ring_message *message)
{
    if (message->block != NO_BLOCK) {
        char copy[LONGEST];
        copy_shared(copy, message->data, message->length);
        RING_POINT(reading);
        note(copy, message->length);
        model_check(either_end_read(r, message->block, r->owner) == RING_OK);
    }
}

ring_result
topic_view(ring *r, int64_t deadline)
{
    ring_message message;
    ring_result result = topic_begin_read(r, &message, deadline);
    if (result == RING_OK) {
        topic_end_read(r, &message);
    }
    return result;
}

ring_result
topic_receive(ring *r, int64_t deadline)
{
    if (r->granules != 0) {
        return topic_view(r, deadline);
    }
    ring_result result = world_receive(r, deadline);
    taken[model_thread()] += result == RING_OK;
    return result;
}

/* As op_receive_batch of native/channel/batch.c. */
static ring_result
do_receive_batch(ring *r, ring_call *call)
{
    uint64_t done = 0;
    while (done < call->items) {
        ring_message *message = &call->message;
        ring_result result = either_peek(r, message);
        if (result == RING_OK && message->length == call->length) {
            either_copy(r, (char *)call->data + done * call->length, message->data, call->length);
            result = either_take(r, message, 1);
        } else if (result == RING_OK) {
            result = RING_TOO_LONG;
        }
        if (result != RING_OK) {
            if (done == 0) {
                return result;
            }
            break;
        }
        done++;
    }
    call->items = done;
    return RING_OK;
}

ring_result
topic_read_many(ring *r, uint64_t *count, uint64_t length, int64_t deadline)
{
    char copy[LONGEST];
    ring_call call = {.operation = do_receive_batch, .which = POLL_ITEMS, .deadline = deadline,
                      .data = copy, .length = length, .items = *count};
    ring_result result = world_call(r, &call);
    *count = result == RING_OK ? call.items : 0;
    for (uint64_t at = 0; at < *count; at++) {
        note(copy + at * length, length);
    }
    return result;
}

/* -- coming and going ------------------------------------------------------------------------------ */

static ring_result
do_subscribe(ring *r, ring_call *call)
{
    return topic_subscribe(r, (const topic_wishes *)(const void *)call->data);
}

ring_result
topic_join(ring *r, topic_wishes wishes, int64_t deadline)
{
    ring_add_role(r, ROLE_RECEIVER);
    ring_call call = {.operation = do_subscribe, .which = POLL_SPACE, .deadline = deadline, .lends = true,
                      .data = (const char *)(const void *)&wishes};
    return world_call(r, &call);
}

void
topic_close(ring *r)
{
    if (r->subscriber != NULL) {
        topic_unsubscribe(r);
    }
    ring_wake_all(&r->shared->items);
    ring_wake_all(&r->shared->space);
    ring_leave(r);
}

void
topic_open_again(ring *r)
{
    model_check(ring_join(r, r->index + 1, r->index + 1, 1, false));
}

/* -- what most threads do -------------------------------------------------------------------------- */

void
topic_publish_all(ring *r, int number, int count, uint64_t length)
{
    for (int end = number + count; number < end; number++) {
        ring_result result = topic_publish(r, number, length, FOREVER);
        if (result != RING_OK) {
            model_check(result == RING_GONE && model_any_death());
            break;
        }
    }
}

void
topic_receive_all(ring *r, int count)
{
    while (taken[model_thread()] < count) {
        ring_result result = topic_receive(r, FOREVER);
        if (result != RING_OK) {
            model_check(result == RING_GONE && model_any_death());
            break;
        }
    }
}

void
topic_receive_to(ring *r, int sender, int number)
{
    while (ledger.last[model_thread()][sender] < number) {
        ring_result result = topic_receive(r, FOREVER);
        if (result != RING_OK) {
            model_check(result == RING_GONE && model_is_dead(sender));
            break;
        }
        topic_check_counts(r, taken[model_thread()]);
    }
}

/* -- checks ---------------------------------------------------------------------------------------- */

int
topic_taken(int thread)
{
    return taken[thread];
}

uint64_t
topic_check_counts(const ring *r, int received)
{
    const topic_subscriber *own = r->subscriber;
    uint64_t lost, unread = topic_unread(r, own, &lost);
    uint64_t first = load_acquire(&own->first), cursor = load_acquire(&own->cursor);
    model_check(load_acquire(&own->received) == (uint64_t)received);
    model_check(first + (uint64_t)received + topic_missed(own, cursor) == cursor);
    model_check(unread <= load_acquire(&own->depth));
    return lost;
}

void
topic_finish(void)
{
    ring *r = &(ring){0};
    *r = world_rings[checker];
    channel_header *shared = r->shared;
    ring_side_state(r, 0);
    model_check(ring_lock(r, &shared->send_lock, 0) == RING_OK);
    model_check(topic_recover(r) == RING_OK);
    uint64_t head, tail;
    model_check(topic_read_ends(r, &head, &tail) == RING_OK);
    model_check(tail == load_acquire(&shared->tail) && head <= tail);
    last_tail = tail;
    for (int peer = 0; peer < checker; peer++) {
        const ring *other = &world_rings[peer];
        model_check(!model_is_dead(peer) || load_acquire(&r->peers[other->index].joined) == 0);
    }
    for (uint32_t place = 0; place < PEERS; place++) { /* as if each subscriber that lives ended */
        bool valid;
        uint32_t owner = load_acquire(&r->subscribers[place].owner);
        model_check(owner == 0 || !ring_owner_is_dead(r, owner, &valid));
        store_release(&r->subscribers[place].closed, 1);
    }
    for (uint64_t at = 0; at < r->granules; at++) {
        model_check(load_acquire(&r->readers[at]) == 0);
    }
    store_release(&shared->limit, 0);
    if (r->granules != 0) {
        uint64_t all = r->granules * r->granule;
        r->longest = all;
        r->item_size = 0;
        uint32_t block;
        model_check(topic_lend(r, all, &block) == RING_OK && block == 0 /* the whole pool is free */);
    } else {
        char data[INLINE_MAX] = {0};
        model_check(topic_send(r, data, r->item_size != 0 ? r->item_size : 16) == RING_OK);
    }
    ring_unlock(r, &shared->send_lock);
}

void
topic_check_all(int receiver)
{
    uint64_t published = 0, received = 0;
    for (int sender = 0; sender < checker; sender++) {
        int sent = ledger.sent[sender], got = ledger.last[receiver][sender] + 1;
        bool perhaps = model_is_dead(sender); /* it may have died after it had published one more */
        model_check(model_is_dead(receiver) || got == sent || (perhaps && got == sent + 1));
        published += (uint64_t)sent;
        received += (uint64_t)got;
    }
    model_check(published <= last_tail);
    if (!model_is_dead(receiver)) {
        model_check(received == last_tail && (uint64_t)taken[receiver] == last_tail);
    }
}
