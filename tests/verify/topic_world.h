/* What the scenarios of topics share (scenario.h): a small topic, its subscribers, and calls as the binding
   makes them. */
#ifndef TOPIC_WORLD_H
#define TOPIC_WORLD_H

#include "scenario.h"

typedef struct {
    uint64_t units;      /* of the arena */
    uint64_t capacity;
    uint64_t slots;      /* entries; more than the capacity. A real topic has 17 at least */
    uint64_t granules;   /* blocks of 64 bytes */
    uint64_t item_size;  /* 0: messages differ in size */
    uint64_t history;
    int processors;      /* 0: 2 */
    int threads;         /* peers; the checker is one more */
    bool joins_and_drops; /* a subscriber that loses messages comes later */
    topic_wishes wishes[PEERS]; /* of the peer's subscription before the start; a depth of 0: it has none */
} topic_plan;

/* Makes the topic, joins the threads and the checker, and subscribes. */
void topic_make(const topic_plan *plan);

/* Clears the ledgers; for `begin`. */
void topic_begin(void);

/* Publishes a message: a long one in a block, which it lends, writes in without a lock, and sends. Notes it in
   the ledger. The result is that of the call which ended it. */
ring_result topic_publish(ring *r, int number, uint64_t length, int64_t deadline);

/* Publishes messages of one size, from `number` on, by as many calls as it takes. */
ring_result topic_publish_many(ring *r, int number, uint64_t count, uint64_t length, int64_t deadline);

/* Receives a message by a copy, or in place if the topic has a pool. Checks and notes it as world_receive. */
ring_result topic_receive(ring *r, int64_t deadline);

/* Receives a message in place, or by a copy from the arena, never from beside the tail. */
ring_result topic_view(ring *r, int64_t deadline);

/* Receives a message in place, without a lock; topic_end_read reads it and releases the block. */
ring_result topic_begin_read(ring *r, ring_message *message, int64_t deadline);
void topic_end_read(ring *r, const ring_message *message);

/* Receives up to `count` messages of one size in one call. Sets `*count`. */
ring_result topic_read_many(ring *r, uint64_t *count, uint64_t length, int64_t deadline);

/* Subscribes while the others run. */
ring_result topic_join(ring *r, topic_wishes wishes, int64_t deadline);

/* Closes the subscription, or the handle that publishes, as the binding does. */
void topic_close(ring *r);

/* Takes the place of a new peer after topic_close. */
void topic_open_again(ring *r);

/* -- what most threads do --------------------------------------------------------------------------- */

/* Publishes `count` messages from `number` on. Each succeeds, unless all subscribers died. */
void topic_publish_all(ring *r, int number, int count, uint64_t length);

/* Receives until the thread has got so many messages in all, or publishers are gone, of which one died. */
void topic_receive_all(ring *r, int count);

/* Receives until that message of the sender came; some before it may be lost. */
void topic_receive_to(ring *r, int sender, int number);

/* -- checks ----------------------------------------------------------------------------------------- */

/* How many messages a thread has received. */
int topic_taken(int thread);

/* Checks that what a subscriber received, and what it lost, are all messages from its first one to its
   cursor. Returns what it lost. */
uint64_t topic_check_counts(const ring *r, int received);

/* At the end, in the checker: takes over the lock of dead publishers, recovers, and checks that dead
   subscribers have no place, and that the whole pool is free once nobody needs a message. */
void topic_finish(void);

/* After topic_finish: checks that a subscriber got each message that was ever published, unless it died. */
void topic_check_all(int receiver);

#endif
