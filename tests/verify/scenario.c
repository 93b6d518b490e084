/* The world of the scenarios (scenario.h). */
#include "scenario.h"

ledger_entry ledger;
ring world_rings[PEERS];
char *world_extra;
static int checker;

void
world_begin(void)
{
    static ring first[PEERS]; /* after `prepare`: an execution changes them */
    static bool prepared = false;
    memcpy(prepared ? world_rings : first, prepared ? first : world_rings, sizeof first);
    prepared = true;
    ledger = (ledger_entry){0};
    for (int receiver = 0; receiver < PEERS; receiver++) {
        for (int sender = 0; sender < PEERS; sender++) {
            ledger.last[receiver][sender] = -1;
        }
    }
}

/* -- the memory ------------------------------------------------------------------------------------ */

void
world_make(world_shape wanted, int peers)
{
    ring_shape shape = {.units = 64,
                        .granules = wanted.granules,
                        .granule = 64,
                        .capacity = wanted.capacity,
                        .item_size = wanted.item_size,
                        .longest = wanted.item_size != 0 ? wanted.item_size
                            : wanted.granules > 1        ? 64 * (wanted.granules - 1)
                                                         : INLINE_MAX};
    uint64_t size = wanted.topic
        ? topic_bytes(shape.capacity, shape.units, shape.granules, shape.granule)
        : channel_bytes(shape.units, shape.granules, shape.granule);
    const uint8_t id[16] = {1};
    ring_identity identity = {.magic = wanted.topic ? TOPIC_MAGIC : CHANNEL_MAGIC,
                              .version = wanted.topic ? TOPIC_VERSION : CHANNEL_VERSION,
                              .flags = wanted.overwrite ? CHANNEL_OVERWRITE : 0,
                              .history = wanted.history,
                              .id = id,
                              .type = "bytes"};
    char *memory = model_memory(size + wanted.extra);
    world_extra = memory + size;
    ring_format((channel_header *)(void *)memory, size, &shape, &identity);
    for (int peer = 0; peer < peers; peer++) {
        ring *r = &world_rings[peer];
        model_check(ring_open(r, memory, size, peer, wanted.topic));
        model_check(ring_join(r, (uint32_t)peer + 1, (uint64_t)peer + 1, 1, peer == peers - 1));
        r->units = wanted.units; /* fewer than a real one has, so that it wraps early */
        r->processors = 2;
    }
    const ring *first = &world_rings[0];
    if (!wanted.topic) { /* the bytes of a topic are copied while they may be overwritten */
        model_plain(first->arena, wanted.units * UNIT);
    }
    if (shape.granules != 0) {
        model_plain(first->pool, shape.granules * shape.granule);
    }
    checker = peers - 1;
}

/* -- calls ----------------------------------------------------------------------------------------- */

ring_result
world_call(ring *r, ring_call *call)
{
    static const bool open = false;
    uint32_t no_spin = 0;
    call->closed = &open;
    call->spin = &no_spin;
    ring_result result;
    do {
        result = ring_run(r, call);
    } while (result == RING_INTERRUPTED);
    model_check(result != RING_CORRUPT);
    ledger.result[model_thread()] = result;
    return result;
}

static ring_result
do_send(ring *r, ring_call *call)
{
    return either_send(r, call->data, call->length);
}

ring_result
world_send(ring *r, int sender, int number, uint64_t length, int64_t deadline)
{
    uint32_t words[LONGEST / 4];
    for (uint64_t at = 0; at < length / 4; at++) {
        words[at] = (uint32_t)(sender << 16 | number);
    }
    ledger.size[sender][number] = length + 1;
    ring_add_role(r, ROLE_SENDER);
    ring_call call = {.operation = do_send, .which = POLL_SPACE, .deadline = deadline,
                      .data = (const char *)words, .length = length};
    ring_result result = world_call(r, &call);
    ledger.sent[sender] += result == RING_OK;
    return result;
}

static ring_result
do_receive(ring *r, ring_call *call)
{
    ring_result result = RING_OK;
    if (!either_peek_small(r, &call->message, (char *)call->data)) {
        result = either_peek(r, &call->message);
        if (result == RING_OK) {
            either_copy(r, (char *)call->data, call->message.data, call->message.length);
        }
    }
    return result == RING_OK ? either_take(r, &call->message, 1) : result;
}

void
world_note(int receiver, const char *data, uint64_t length)
{
    uint32_t words[LONGEST / 4];
    memcpy(words, data, length);
    if (length == 0) { /* it tells nothing: only thread 0 sends such messages */
        words[0] = (uint32_t)(ledger.last[receiver][0] + 1);
    }
    int sender = (int)(words[0] >> 16), number = (int)(words[0] & 0xffff);
    for (uint64_t at = 0; at < length / 4; at++) {
        model_check(words[at] == words[0] /* the message is whole */);
    }
    model_check(sender < PEERS && number < NUMBERS);
    model_check(number > ledger.last[receiver][sender] /* in order */);
    model_check(ledger.size[sender][number] == 0 || ledger.size[sender][number] == length + 1);
    ledger.last[receiver][sender] = number;
    ledger.received[sender][number]++;
}

ring_result
world_receive(ring *r, int64_t deadline)
{
    uint32_t words[LONGEST / 4];
    ring_add_role(r, ROLE_RECEIVER);
    ring_call call = {.operation = do_receive, .which = POLL_ITEMS, .deadline = deadline,
                      .data = (const char *)words};
    ring_result result = world_call(r, &call);
    if (result == RING_OK) {
        world_note(model_thread(), (const char *)words, call.message.length);
    }
    return result;
}

/* -- the end --------------------------------------------------------------------------------------- */

static void
take_over(ring *r, channel_lock *lock)
{
    model_check(ring_lock(r, lock, 0) == RING_OK);
    ring_unlock(r, lock);
}

static void
receive_rest(ring *r)
{
    ring_message message;
    char copy[LONGEST];
    model_check(ring_lock(r, &r->shared->receive_lock, 0) == RING_OK);
    for (;;) {
        ring_result result = ring_peek(r, &message);
        if (result == RING_EMPTY) {
            break;
        }
        model_check(result == RING_OK);
        if (message.block != NO_BLOCK) {
            model_check(ring_hold(r, &message, BLOCK_READ) == RING_OK);
        }
        copy_shared(copy, message.data, message.length);
        if (message.block != NO_BLOCK) {
            model_check(ring_release_block(r, message.block, BLOCK_READ, r->owner) == RING_OK);
        } else {
            ring_take(r, &message, 1);
        }
        world_note(checker, copy, message.length);
    }
    ring_unlock(r, &r->shared->receive_lock);
}

void
world_finish(void)
{
    ring r = world_rings[checker];
    ring_side_state(&r, 0);
    take_over(&r, &r.shared->send_lock);
    take_over(&r, &r.shared->receive_lock);
    take_over(&r, &r.shared->pool_lock);
    model_check(ring_lock_both(&r, &r.shared->send_lock, &r.shared->receive_lock, 0) == RING_OK);
    model_check(ring_recover(&r) == RING_OK);
    ring_unlock(&r, &r.shared->receive_lock);
    ring_unlock(&r, &r.shared->send_lock);
    receive_rest(&r);
    uint64_t blocks;
    model_check(blocks_count(&r, 0, &blocks) == 0 /* every block is free */);
    model_check(load_acquire(&r.shared->head) == load_acquire(&r.shared->tail));
}

void
world_check_received(int lost)
{
    int missing = 0;
    for (int sender = 0; sender < PEERS; sender++) {
        int most = ledger.sent[sender] + (sender < checker && model_is_dead(sender));
        for (int number = 0; number < NUMBERS; number++) {
            int times = ledger.received[sender][number];
            model_check(times <= 1 /* no message is doubled */);
            model_check(times == 0 || number < most /* no message that was not sent */);
            missing += number < ledger.sent[sender] && times == 0;
        }
    }
    model_check(missing <= lost);
}
