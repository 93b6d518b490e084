/* Sizes that are no multiple of 8: the last word of a copy beside the tail, or of a struct, is a part. */
#include "channel_calls.h"
#include "ring/seqlock.h"
#include "topic_world.h"

#define SIZE 12

/* -- a channel ------------------------------------------------------------------------------------- */

static void
prepare_channel(void)
{
    world_make((world_shape){.units = 8, .capacity = 4}, 3);
}

static void
thread_channel(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){SIZE, SIZE}, 2);
    } else {
        receive_count(1, 0, 2);
    }
}

SCENARIO(part_channel) = {
    .name = "part-channel",
    .about = "two messages of 12 bytes arrive whole",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_channel,
    .begin = world_begin,
    .thread = thread_channel,
    .end = end_complete,
};

/* -- a struct -------------------------------------------------------------------------------------- */

static seqlock_header *lock;

static void
prepare_struct(void)
{
    lock = model_memory(seqlock_total_size(SIZE));
}

static void
thread_struct(int thread)
{
    uint32_t words[SIZE / 4];
    for (uint32_t turn = 1; turn <= 3; turn++) {
        if (thread == 0) {
            words[0] = words[1] = words[2] = turn;
            seqlock_store(lock, (const char *)words, SIZE);
        } else if (seqlock_try_load(lock, (char *)words, SIZE)) {
            model_check(words[0] == words[1] && words[1] == words[2] /* the struct is whole */);
        }
    }
}

SCENARIO(part_struct) = {
    .name = "part-struct",
    .about = "a reader sees a struct of 12 bytes as a whole",
    .threads = 2,
    .bound = 3,
    .quick = 2,
    .prepare = prepare_struct,
    .thread = thread_struct,
};
