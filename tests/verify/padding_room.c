/* Padding at the end of the arena: its unit is room as soon as the receiver has passed it. */
#include "channel_calls.h"

/* A message is at the start of the arena, behind padding of 1 unit, and another of 1 unit is behind it: only the
   unit of the padding is left. */
static void
prepare(void)
{
    world_make((world_shape){.units = 4, .capacity = 4}, 3);
    ring *r = &world_rings[0];
    const uint32_t words[44 / 4] = {0};
    uint32_t second[4] = {1, 1, 1, 1};
    ring_message message = {0};
    ring_add_role(r, ROLE_SENDER);
    for (int before = 0; before < 2; before++) { /* 1 unit, then 2 */
        model_check(ring_send(r, words, before == 0 ? 16 : 44) == RING_OK);
        model_check(ring_peek(r, &message) == RING_OK);
        ring_take(r, &message, 1);
    }
    model_check(ring_send(r, words, 44) == RING_OK);
    model_check(ring_send(r, second, 16) == RING_OK);
}

static void
begin(void)
{
    world_begin();
    ledger.sent[0] = 2;
}

static void
thread_room(int thread)
{
    if (thread == 0) {
        send_lengths(0, 2, (const uint64_t[]){16}, 1);
    } else {
        receive_count(1, 0, 3);
    }
}

SCENARIO(padding_room) = {
    .name = "padding-room",
    .about = "a message overwrites the padding while the receiver is at the message behind it",
    .threads = 2,
    .bound = 3,
    .quick = 2,
    .prepare = prepare,
    .begin = begin,
    .thread = thread_room,
    .end = end_complete,
};
