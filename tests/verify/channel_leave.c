/* Peers that join and leave while others send and receive. */
#include "channel_calls.h"

static void
prepare(void)
{
    world_make((world_shape){.units = 2, .capacity = 2}, 3);
}

static void
prepare_three(void)
{
    world_make((world_shape){.units = 2, .capacity = 2}, 4);
}

/* Receives until the last sender is gone. Everything that was sent must have come by then. */
static void
receive_to_the_end(int receiver)
{
    ring_result result;
    do {
        result = world_receive(&world_rings[receiver], FOREVER);
        model_check(result == RING_OK || result == RING_GONE);
    } while (result == RING_OK);
    for (int sender = 0; sender < PEERS; sender++) {
        model_check(missing_of(sender) == 0 /* a channel is over only when it is empty */);
    }
}

/* -- the sender leaves ------------------------------------------------------------------------- */

static void
thread_sender_leaves(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){16, 16}, 2);
        ring_leave(&world_rings[0]);
    } else {
        receive_to_the_end(1);
    }
}

SCENARIO(sender_leaves) = {
    .name = "sender-leaves",
    .about = "the last sender leaves: the receiver gets all messages, then the end",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_sender_leaves,
    .end = end_complete,
};

SCENARIO(sender_leaves_death) = {
    .name = "sender-leaves-death",
    .about = "as sender-leaves; one of the two dies at any point, also while it leaves",
    .threads = 2,
    .deaths = 1,
    .bound = 1,
    .quick = 0,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_sender_leaves,
    .end = end_receiver_is_1,
};

/* -- the receiver leaves ----------------------------------------------------------------------- */

/* The sender is told only when it would have to wait for room. */
static void
thread_receiver_leaves(int thread)
{
    if (thread == 1) {
        model_check(world_receive(&world_rings[1], FOREVER) == RING_OK);
        ring_leave(&world_rings[1]);
        return;
    }
    for (int number = 0; number < 4; number++) {
        ring_result result = world_send(&world_rings[0], 0, number, 16, FOREVER);
        model_check(result == (number < 3 ? RING_OK : RING_GONE));
    }
}

SCENARIO(receiver_leaves) = {
    .name = "receiver-leaves",
    .about = "the last receiver leaves: the sender goes on while there is room, then it is told",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare,
    .begin = world_begin,
    .thread = thread_receiver_leaves,
    .end = end_complete,
};

/* -- two senders leave ------------------------------------------------------------------------- */

static void
thread_two_leave(int thread)
{
    if (thread == 2) {
        receive_to_the_end(2);
    } else {
        send_lengths(thread, 0, (const uint64_t[]){16}, 1);
        ring_leave(&world_rings[thread]);
    }
}

SCENARIO(two_leave) = {
    .name = "two-leave",
    .about = "two senders leave: a receiver is told of the end after the last message of both",
    .threads = 3,
    .bound = 1,
    .quick = 0,
    .prepare = prepare_three,
    .begin = world_begin,
    .thread = thread_two_leave,
    .end = end_complete,
};

/* -- a peer joins ------------------------------------------------------------------------------ */

/* Thread 1 joins while the sender runs. */
static void
prepare_late_receiver(void)
{
    world_make((world_shape){.units = 2, .capacity = 1}, 3);
    ring_leave(&world_rings[1]);
}

static void
thread_late_receiver(int thread)
{
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){16, 16}, 2);
        ring_leave(&world_rings[0]);
    } else {
        model_check(ring_join(&world_rings[1], 2, 2, 1, false));
        receive_to_the_end(1);
    }
}

SCENARIO(late_receiver) = {
    .name = "late-receiver",
    .about = "a receiver joins while the sender waits for room, or has left already",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_late_receiver,
    .begin = world_begin,
    .thread = thread_late_receiver,
    .end = end_complete,
};

static void
thread_late_sender(int thread)
{
    if (thread == 0) {
        model_check(world_receive(&world_rings[0], FOREVER) == RING_OK);
    } else {
        model_check(ring_join(&world_rings[1], 2, 2, 1, false));
        send_lengths(1, 0, (const uint64_t[]){16}, 1);
        ring_leave(&world_rings[1]);
    }
}

SCENARIO(late_sender) = {
    .name = "late-sender",
    .about = "a sender joins while the receiver waits: the receiver does not take it for gone",
    .threads = 2,
    .bound = 3,
    .quick = 2,
    .prepare = prepare_late_receiver,
    .begin = world_begin,
    .thread = thread_late_sender,
    .end = end_complete,
};

/* The sender of place 2 leaves when it sees that another has place 1. */
static void
prepare_hand_over(void)
{
    world_make((world_shape){.units = 2, .capacity = 2}, 4);
    ring_add_role(&world_rings[2], ROLE_SENDER);
    ring_leave(&world_rings[1]);
}

static void
thread_hand_over(int thread)
{
    ring *r = &world_rings[thread];
    if (thread == 0) {
        model_check(world_receive(r, FOREVER) == RING_OK);
    } else if (thread == 1) {
        model_check(ring_join(r, 2, 2, 1, false));
        send_lengths(1, 0, (const uint64_t[]){16}, 1);
    } else if (load_acquire(&r->peers[1].joined)) {
        ring_leave(r);
    }
}

SCENARIO(hand_over) = {
    .name = "hand-over",
    .about = "a sender joins, then another leaves: a receiver does not take both for gone",
    .threads = 3,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_hand_over,
    .begin = world_begin,
    .thread = thread_hand_over,
    .end = end_complete,
};

/* Place 0 is that of a peer that died, place 1 is free. Two join at the same time. */
static void
prepare_two_join(void)
{
    world_make((world_shape){.units = 2, .capacity = 1}, 3);
    ring_leave(&world_rings[1]);
    peer_unlock(world_rings[0].fd, 0);
}

/* The dead peer may have been about to send, so the receiver may be told that the sender is gone. */
static void
thread_two_join(int thread)
{
    ring *r = &world_rings[thread];
    model_check(ring_join(r, 1, 1, 1, false));
    if (thread == 0) {
        send_lengths(0, 0, (const uint64_t[]){16}, 1);
    } else {
        ring_result result = world_receive(r, FOREVER);
        model_check(result == RING_OK || result == RING_GONE);
    }
}

static void
end_two_join(void)
{
    model_check(world_rings[0].index + world_rings[1].index == 1 /* places 0 and 1 */);
    model_check(world_rings[0].owner != world_rings[1].owner);
    end_complete();
}

SCENARIO(two_join) = {
    .name = "two-join",
    .about = "two peers join at the same time, one in the place of one that died: each gets a place",
    .threads = 2,
    .bound = 2,
    .quick = 1,
    .prepare = prepare_two_join,
    .begin = world_begin,
    .thread = thread_two_join,
    .end = end_two_join,
};

/* Thread 0 may die; thread 1 joins, maybe in the place of the dead, and sends. */
static void
prepare_heir(void)
{
    world_make((world_shape){.units = 2, .capacity = 1}, 4);
    ring_leave(&world_rings[1]);
}

/* The receiver may find no sender before thread 1 has joined. Then it leaves, and thread 1 is told. */
static void
thread_heir(int thread)
{
    ring *r = &world_rings[thread];
    if (thread == 1) {
        model_check(ring_join(r, 2, 2, 1, false));
    }
    if (thread != 2) {
        ring_result result = world_send(r, thread, 0, 16, FOREVER);
        model_check(result == RING_OK || result == RING_GONE);
    } else if (world_receive(r, FOREVER) == RING_OK) {
        ring_result result = world_receive(r, FOREVER);
        model_check(result == RING_OK || result == RING_GONE);
    }
    ring_leave(r);
}

static void
end_receiver_is_2(void)
{
    end_after_deaths(2);
}

SCENARIO(heir) = {
    .name = "heir",
    .about = "a sender joins, maybe in the place of one that died, maybe with a lock that it held",
    .threads = 3,
    .deaths = 1,
    .bound = 0,
    .quick = 0,
    .prepare = prepare_heir,
    .begin = world_begin,
    .thread = thread_heir,
    .end = end_receiver_is_2,
};
