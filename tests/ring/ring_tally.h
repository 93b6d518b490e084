/* A table of what became of each message, shared by the processes of a test. */
#ifndef RING_TALLY_H
#define RING_TALLY_H

#include "ring_held.h"

#define PLACES 5
#define EACH 64 /* messages of a process that have a life's number in common; then it takes another */

enum { BEGUN = 1, SENT = 2, RECEIVED = 4, ACKNOWLEDGED = 8 };

/* Shared by all processes. */
typedef struct {
    uint32_t lives; /* numbers given to senders */
    uint32_t stop;
    uint32_t in_hand[PLACES]; /* the process takes a message, which is lost if the process dies now */
    uint8_t state[];          /* of each message */
} tally;

static channel shared;
static tally *counted;
static uint32_t lives_max;

static inline void
counted_new(uint32_t lives)
{
    lives_max = lives;
    counted = mmap(NULL, sizeof *counted + (size_t)lives * EACH, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(counted != MAP_FAILED, "no memory");
}

static inline bool
stopping(void)
{
    return __atomic_load_n(&counted->stop, __ATOMIC_ACQUIRE);
}

static inline void
mark(uint64_t number, uint8_t what)
{
    check(number < (uint64_t)lives_max * EACH, "a message that nobody sent");
    uint8_t before = __atomic_fetch_or(&counted->state[number], what, __ATOMIC_SEQ_CST);
    check(what < RECEIVED || !(before & (RECEIVED | ACKNOWLEDGED)), "a message came twice");
    check(what < RECEIVED || (before & BEGUN), "a message came that nobody sent");
}

/* Checks that at most `may_be_lost` messages were lost of those that were sent. */
static inline void
check_nothing_lost(uint64_t may_be_lost)
{
    uint64_t sent = 0, lost = 0;
    for (uint64_t number = 0; number < (uint64_t)counted->lives * EACH; number++) {
        uint8_t state = counted->state[number];
        sent += (state & SENT) != 0;
        lost += (state & SENT) && !(state & (RECEIVED | ACKNOWLEDGED));
    }
    printf("%llu sent, %llu lost of %llu\n", (unsigned long long)sent, (unsigned long long)lost,
           (unsigned long long)may_be_lost);
    check(lost <= may_be_lost, "messages are lost");
}

#endif
