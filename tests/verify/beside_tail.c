/* The message beside the tail: what a dead sender leaves there, and lengths that differ. */
#include "channel_calls.h"
#include "topic_world.h"

#define SIZE 16

/* A sender died just before the tail: small_number is that of a message that was not sent. The next message
   has that number and is stored elsewhere. */
static void
leave_small(channel_header *shared)
{
    shared->small_in_use = 1;
    shared->small_length = SIZE;
    memset(shared->small, 0xff, SIZE);
    shared->small_number = 0;
}

/* -- a channel ------------------------------------------------------------------------------------- */

static void
prepare_channel(void)
{
    world_make((world_shape){.units = 4, .capacity = 2}, 3);
    leave_small(world_rings[0].shared);
}

/* op_send_batch, of one message */
static ring_result
send_batch(ring *r, ring_call *call)
{
    return ring_send_batch(r, call->data, call->length, &call->items);
}

static void
thread_channel(int thread)
{
    ring *r = &world_rings[thread];
    const uint32_t words[SIZE / 4] = {0};
    if (thread == 1) {
        receive_count(1, 0, 1);
        return;
    }
    ring_add_role(r, ROLE_SENDER);
    ring_call call = {.operation = send_batch, .which = POLL_SPACE, .deadline = FOREVER,
                      .data = (const char *)words, .length = SIZE, .items = 1};
    model_check(world_call(r, &call) == RING_OK);
    ledger.sent[0]++;
}

SCENARIO(small_left) = {
    .name = "small-left",
    .about = "a message is not taken for the short one that a dead sender has not sent",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_channel,
    .begin = world_begin,
    .thread = thread_channel,
    .end = end_complete,
};

/* -- a topic --------------------------------------------------------------------------------------- */

static void
prepare_topic(void)
{
    topic_make(&(topic_plan){.units = 4, .capacity = 2, .slots = 3, .threads = 2, .wishes = {[1] = {.depth = 2}}});
    leave_small(world_rings[0].shared);
}

static void
thread_topic(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 1, 44);
    } else {
        topic_receive_all(&r, 1);
    }
}

static void
end_topic(void)
{
    topic_finish();
    topic_check_all(1);
}

SCENARIO(topic_small_left) = {
    .name = "topic-small-left",
    .about = "as small-left, in a topic",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_topic,
    .begin = topic_begin,
    .thread = thread_topic,
    .end = end_topic,
};

/* -- lengths --------------------------------------------------------------------------------------- */

static void
thread_shorter(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 1, 16);
        topic_publish_all(&r, 1, 1, 4);
    } else {
        topic_receive_all(&r, 2);
    }
}

static void
prepare_shorter(void)
{
    topic_make(&(topic_plan){.units = 4, .capacity = 2, .slots = 3, .threads = 2, .wishes = {[1] = {.depth = 2}}});
}

SCENARIO(topic_shorter) = {
    .name = "topic-shorter",
    .about = "a message is not taken with the length of the next one, which is beside the tail",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_shorter,
    .begin = topic_begin,
    .thread = thread_shorter,
    .end = end_topic,
};

static void
thread_empty(int thread)
{
    ring r = world_rings[thread];
    if (thread == 0) {
        topic_publish_all(&r, 0, 1, 4);
        topic_publish_all(&r, 1, 1, 0);
    } else {
        topic_receive_all(&r, 2);
    }
}

SCENARIO(topic_empty) = {
    .name = "topic-empty",
    .about = "a message without bytes is not taken with the length of the one before it",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_shorter,
    .begin = topic_begin,
    .thread = thread_empty,
    .end = end_topic,
};
