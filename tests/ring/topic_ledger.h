/* A table of all messages of a topic, shared by the processes of a test: which message has which number. */
#ifndef TOPIC_LEDGER_H
#define TOPIC_LEDGER_H

#include "topic_harness.h"
#include "ring_held.h"

#define EACH 64 /* messages that have a life's number in common; then a publisher takes another */

enum { BEGUN = 1, SENT = 2 };

/* Messages are known by an identity, which is in their bytes. */
typedef struct {
    uint32_t lives; /* numbers given to publishers */
    uint32_t stop;
    uint32_t ready;
    uint32_t publishers; /* that have not ended */
} ledger;

static channel shared;
static ledger *counted;
static uint32_t *order;  /* by topic number: the identity plus 1 */
static uint32_t *number; /* by identity: the topic number plus 1 */
static uint8_t *state;   /* by identity */
static uint32_t identities;

static inline void *
shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(memory != MAP_FAILED, "no memory");
    return memory;
}

static inline void
ledger_new(uint32_t lives)
{
    identities = lives * EACH;
    counted = shared_memory(sizeof *counted);
    order = shared_memory(identities * sizeof *order);
    number = shared_memory(identities * sizeof *number);
    state = shared_memory(identities);
}

static inline void
ledger_free(void)
{
    munmap(counted, sizeof *counted);
    munmap(order, identities * sizeof *order);
    munmap(number, identities * sizeof *number);
    munmap(state, identities);
}

static inline bool
stopping(void)
{
    return __atomic_load_n(&counted->stop, __ATOMIC_ACQUIRE);
}

static inline uint64_t
new_life(void)
{
    uint64_t life = __atomic_fetch_add(&counted->lives, 1, __ATOMIC_RELAXED);
    check((life + 1) * EACH <= identities, "the test's table is too small");
    return life * EACH;
}

static inline void
mark(uint64_t identity, uint8_t what)
{
    __atomic_fetch_or(&state[identity], what, __ATOMIC_SEQ_CST);
}

/* Notes what an entry of a table is, and checks that no other process saw it otherwise. */
static inline void
agree(uint32_t *entry, uint64_t value, const char *what)
{
    uint32_t found = 0, wanted = (uint32_t)value + 1;
    if (!__atomic_compare_exchange_n(entry, &found, wanted, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST)) {
        check(found == wanted, what);
    }
}

/* Notes that a message came to a subscriber. All subscribers must see one order. */
static inline void
saw(uint64_t topic_number, uint64_t identity)
{
    check(identity < identities && topic_number < identities, "a message that nobody published");
    check(__atomic_load_n(&state[identity], __ATOMIC_SEQ_CST) & BEGUN, "a message before its time");
    agree(&order[topic_number], identity, "two subscribers received different messages");
    agree(&number[identity], topic_number, "a message was published twice");
}

/* Checks that a subscriber which publishers waited for has seen the messages before `tail`, and that these
   are all that were published, in order. */
static inline void
check_ledger(uint64_t tail)
{
    uint32_t *newest = calloc(identities / EACH, sizeof *newest);
    uint64_t sent = 0;
    check(newest != NULL, "no memory");
    for (uint64_t n = 0; n < tail; n++) {
        check(order[n] != 0, "a message was not received by a subscriber that is waited for");
        uint32_t life = (order[n] - 1) / EACH;
        check(newest[life] < order[n], "messages of a publisher are out of order");
        newest[life] = order[n];
    }
    for (uint64_t identity = 0; identity < (uint64_t)counted->lives * EACH; identity++) {
        sent += (state[identity] & SENT) != 0;
        check(!(state[identity] & SENT) || number[identity] != 0, "a message is lost");
    }
    fprintf(stderr, "%llu published, %llu confirmed\n", (unsigned long long)tail, (unsigned long long)sent);
    free(newest);
}

#endif
