/* The spill table of a ProcessQueue, as native/process_queue/spill.c and send.c use it. */
#include "scenario.h"
#include "ring/spill_table.h"

#define ENTRIES 6
#define PIECE 16 /* bytes that the scenario writes to a piece */
#define LOG2 SPILL_CLASS_MIN
#define TABLE_BYTES (sizeof(spill_table) + ENTRIES * sizeof(spill_entry))

static spill_table *table;
static char *pieces;
static int sent, received[NUMBERS];

static uint64_t
token_of(const ring *r)
{
    return (uint64_t)(r->index + 1) << 42;
}

/* -- as the binding does it ------------------------------------------------------------------------------ */

/* The piece's memory. Its offset tells which one it is. */
static char *
piece_memory(uint32_t index)
{
    uint64_t at = (spill_offset(table, index) - SPILL_DATA_START) >> LOG2;
    model_check(at < ENTRIES);
    return pieces + at * PIECE;
}

static void
fill(uint32_t index, uint32_t word)
{
    uint32_t words[PIECE / 4] = {word, word, word, word};
    copy_shared(piece_memory(index), (const char *)words, PIECE);
}

static uint32_t
claim(ring *r)
{
    uint32_t index = spill_claim_used(table, LOG2, token_of(r));
    index = index != SPILL_ENTRIES ? index : spill_claim_new(table, LOG2, token_of(r));
    model_check(index < ENTRIES);
    return index;
}

static void
release(uint32_t index, uint64_t token)
{
    spill_entry *entry = &table->entries[index];
    if (spill_load(&entry->word) != token) {
        return;
    }
    if (spill_span(table, index) != 0) {
        fill(index, 0); /* fallocate(2) punches a hole */
    }
    store_relaxed(&entry->taken, 0);
    if (spill_change(entry, token, SPILL_FREE)) {
        spill_hint(table, index);
    }
}

static void
reclaim(ring *r, uint64_t dead)
{
    uint32_t high = spill_high(table);
    for (uint32_t index = 0; index < high; index++) {
        spill_entry *entry = &table->entries[index];
        uint64_t word = spill_load(&entry->word);
        if (word == SPILL_FREE) {
            spill_hint(table, index);
        } else if ((word == dead || spill_is_orphan(r, word)) && spill_change(entry, word, token_of(r))) {
            release(index, token_of(r));
        }
    }
}

static ring_result
send_reference(ring *r, ring_call *call)
{
    spill_entry *entry = &table->entries[call->block];
    uint64_t word = SPILL_QUEUED | count_of(load_acquire(&r->shared->senders_tail));
    spill_reference reference = {SPILL_MAGIC, call->block, word, PIECE};
    store_release(&entry->word, word);
    ring_result result = ring_send(r, &reference, sizeof reference);
    if (result != RING_OK) {
        store_release(&entry->word, token_of(r));
    }
    return result;
}

static ring_result
send_object(ring *r, uint32_t number)
{
    uint32_t index = claim(r);
    fill(index, number + 1);
    ring_add_role(r, ROLE_SENDER);
    ring_call call = {.operation = send_reference, .which = POLL_SPACE, .deadline = FOREVER,
                      .block = index};
    ring_result result = world_call(r, &call);
    if (result != RING_OK) {
        release(index, token_of(r));
    }
    return result;
}

static void
on_take(void *token, const char *data, uint64_t length)
{
    spill_take_from_queue(table, data, length, *(const uint64_t *)token);
}

static ring_result
take_reference(ring *r, ring_call *call)
{
    ring_result result = ring_peek(r, &call->message);
    if (result == RING_OK) {
        copy_shared((char *)call->data, call->message.data, call->message.length);
        ring_take(r, &call->message, 1);
    }
    return result;
}

/* Reads the object of a message that was taken, and frees its piece. Does nothing if a process was killed
   while it took the same message before. */
static void
read_object(ring *r, const spill_reference *reference)
{
    const spill_entry *entry = &table->entries[reference->index];
    if (spill_load(&entry->word) != token_of(r) || spill_load(&entry->taken) != reference->word) {
        return;
    }
    uint32_t words[PIECE / 4];
    uint32_t index = (uint32_t)reference->index;
    copy_shared((char *)words, piece_memory(index), PIECE);
    model_check(words[0] != 0 && words[0] == words[3] && words[0] <= NUMBERS);
    received[words[0] - 1]++;
    release(index, token_of(r));
}

static ring_result
receive_object(ring *r, int64_t deadline)
{
    uint64_t token = token_of(r);
    spill_reference reference;
    r->on_take = on_take;
    r->on_take_data = &token;
    ring_add_role(r, ROLE_RECEIVER);
    ring_call call = {.operation = take_reference, .which = POLL_ITEMS, .deadline = deadline,
                      .data = (const char *)&reference};
    ring_result result = world_call(r, &call);
    if (result == RING_OK) {
        read_object(r, &reference);
    }
    return result;
}

/* -- scenarios --------------------------------------------------------------------------------------------- */

static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 1, .extra = TABLE_BYTES + ENTRIES * PIECE}, 3);
    table = (spill_table *)(void *)world_extra;
    pieces = world_extra + TABLE_BYTES;
    spill_format(table);
    model_plain(pieces, ENTRIES * PIECE);
}

static void
begin(void)
{
    world_begin();
    sent = 0;
    memset(received, 0, sizeof received);
}

/* The checker receives what is left, and reclaims what dead threads had. All pieces are free then. It sends an
   object of its own first: a piece of a sender that died before it sent is free once its message's number was
   used. */
static void
end_all(void)
{
    ring r = world_rings[2];
    while (receive_object(&r, 0) == RING_OK) {
    }
    model_check(send_object(&r, NUMBERS - 1) == RING_OK && receive_object(&r, 0) == RING_OK);
    model_check(received[NUMBERS - 1]-- == 1);
    world_finish();
    for (int thread = 0; thread < 2; thread++) {
        if (model_is_dead(thread)) {
            reclaim(&r, token_of(&world_rings[thread]));
        }
    }
    uint32_t high = spill_high(table);
    for (uint32_t index = 0; index < high; index++) {
        model_check(spill_load(&table->entries[index].word) == SPILL_FREE);
    }
    for (uint32_t index = 0; index < high; index++) { /* the hints tell of each */
        bool whole = spill_span(table, index) != 0;
        model_check(!whole || spill_claim_used(table, LOG2, token_of(&r)) != SPILL_ENTRIES);
    }
    int missing = 0;
    for (int number = 0; number < NUMBERS; number++) {
        model_check(received[number] <= 1);
        model_check(received[number] == 0 || number < sent + model_is_dead(0));
        missing += number < sent && received[number] == 0;
    }
    model_check(missing <= model_is_dead(1));
}

/* Sends or receives two objects, and reclaims from the other process if it died. */
static void
thread_two(int thread)
{
    ring r = world_rings[thread];
    for (uint32_t number = 0; number < 2; number++) {
        ring_result result = thread == 0 ? send_object(&r, number) : receive_object(&r, FOREVER);
        model_check(result == RING_OK || (result == RING_GONE && model_is_dead(1 - thread)));
        sent += thread == 0 && result == RING_OK;
        if (result == RING_GONE) {
            reclaim(&r, token_of(&world_rings[1 - thread]));
            return;
        }
    }
}

SCENARIO(spill) = {
    .name = "spill",
    .about = "two objects of a ProcessQueue arrive whole in pieces of its spill file, which are free afterwards",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_two,
    .end = end_all,
};

SCENARIO(spill_death) = {
    .name = "spill-death",
    .about = "as spill; one of the two dies at any point, and its pieces come back",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_two,
    .end = end_all,
};

/* Both claim and free pieces. A piece has one owner, and no more pieces are made than are in use at once. */
static void
thread_claim(int thread)
{
    ring r = world_rings[thread];
    for (int turn = 0; turn < 2; turn++) {
        uint32_t index = claim(&r);
        fill(index, (uint32_t)thread + 1);
        release(index, token_of(&r));
    }
}

SCENARIO(spill_claim) = {
    .name = "spill-claim",
    .about = "two processes claim and free pieces: each has one owner, and the hints lose none",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_claim,
    .end = end_all,
};

/* A process that died owns a piece, and another piece is in the queue. */
#define DEAD_TOKEN (UINT64_C(9) << 42)

static void
prepare_reclaim(void)
{
    prepare();
    fill(spill_claim_new(table, LOG2, DEAD_TOKEN), 0);
    model_check(send_object(&world_rings[0], 0) == RING_OK);
}

static void
begin_reclaim(void)
{
    begin();
    sent = 1;
}

static void
thread_reclaim(int thread)
{
    ring r = world_rings[thread];
    reclaim(&r, DEAD_TOKEN);
    if (thread == 0) {
        model_check(send_object(&r, 1) == RING_OK);
        sent++;
    } else {
        model_check(receive_object(&r, FOREVER) == RING_OK);
        model_check(receive_object(&r, FOREVER) == RING_OK);
    }
}

SCENARIO(spill_reclaim) = {
    .name = "spill-reclaim",
    .about = "two processes reclaim the piece of a dead one while objects are sent: each piece has one owner",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_reclaim,
    .begin = begin_reclaim,
    .thread = thread_reclaim,
    .end = end_all,
};
