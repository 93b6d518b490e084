/* What the scenarios share: a small channel or topic, its peers, calls as the binding makes them, and a
   ledger of what was sent and received. */
#ifndef SCENARIO_H
#define SCENARIO_H

#ifndef INLINE_MAX
#define INLINE_MAX 48 /* short: a message of 52 bytes is in a block */
#endif
#include "ring/either.h"
#include "ring/open.h"

#define FOREVER INT64_MAX
#define LONGEST 128
#define NUMBERS 16
#define PEERS 4 /* threads, and the checker */

/* -- the ledger: plain memory of the test, which the model does not see ----------------------------- */

typedef struct {
    int sent[PEERS];              /* how many messages a thread has sent, one after the other */
    uint64_t size[PEERS][NUMBERS]; /* of a message that world_send sent or sends: its length + 1 */
    int received[PEERS][NUMBERS]; /* how often a message of a sender was received */
    int last[PEERS][PEERS];       /* the last number that a receiver got from a sender, or -1 */
    ring_result result[PEERS];    /* of a thread's last call */
} ledger_entry;

extern ledger_entry ledger;

/* Clears the ledger, and restores the rings as they were after `prepare`; for `begin`. */
void world_begin(void);

/* -- the world ------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t units;     /* of the arena; a message of 16 bytes has 1 in a topic, and in a channel */
    uint64_t capacity;
    uint64_t granules;  /* blocks of 64 bytes */
    uint64_t item_size; /* 0: messages differ in size */
    bool overwrite;
    bool topic;
    uint64_t history;
    uint64_t extra; /* bytes of shared memory for the scenario itself: world_extra */
} world_shape;

extern char *world_extra;

extern ring world_rings[PEERS]; /* of each thread, and of the checker, which joins last */

/* Makes a channel or a topic, and joins so many peers to it. The last one is the checker. */
void world_make(world_shape shape, int peers);

/* -- calls: the result is that of ring_run, never RING_INTERRUPTED ------------------------------------ */

ring_result world_call(ring *r, ring_call *call);

/* Sends a message whose words all tell the sender and the number. Notes it in the ledger. */
ring_result world_send(ring *r, int sender, int number, uint64_t length, int64_t deadline);

/* Receives one message, checks that it is whole and not older than the last from its sender, and notes it. */
ring_result world_receive(ring *r, int64_t deadline);

/* Notes a message that a thread has received. */
void world_note(int receiver, const char *data, uint64_t length);

/* -- at the end, in the checker ------------------------------------------------------------------------ */

/* Takes over what dead processes had, recovers, and receives what is left in a channel. Checks that all locks
   and blocks are free then, and that the channel is empty. */
void world_finish(void);

/* Checks that each message that was sent was received once, except `lost` of them, and that no other was,
   except one that a dead sender was sending. */
void world_check_received(int lost);

#endif
