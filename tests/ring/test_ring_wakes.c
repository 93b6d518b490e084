/* Nobody sleeps through what he waits for: senders and receivers that never spin, in processes of
   their own, where no look every now and then makes up for a wake that did not come.
       test_ring_wakes ROUNDS */
#define PEER_CHECK_NS (INT64_C(20) * NS_PER_SECOND)
#define LOCK_SPINS 1
#include "ring_harness.h"

/* Long enough that a message is still on its way to memory when its sender looks who sleeps. */
enum { PEERS = 3, BYTES = 4000 };

static channel shared;
static handle mine;

/* Does it, and takes no longer than any wake may take. */
static void
must(ring_operation operation)
{
    static char data[BYTES];
    ring_call call = call_of(&mine, operation, INT64_MAX);
    call.data = data;
    call.length = BYTES;
    call.items = 1;
    int64_t before = monotonic_ns();
    check(ring_run(&mine.r, &call) == RING_OK, "it failed");
    check(monotonic_ns() - before < PEER_CHECK_NS / 2, "slept through a wake");
}

static void
send_all(uint64_t rounds)
{
    for (uint64_t round = 0; round < rounds; round++) {
        must(op_send);
    }
}

static void
receive_all(uint64_t rounds)
{
    for (uint64_t round = 0; round < rounds; round++) {
        must(op_copy);
    }
}

/* So many processes send to as many that receive, through a ring of such a capacity. */
static void
run(uint64_t capacity, int pairs, uint64_t rounds)
{
    shared = channel_make(64 * BYTES / UNIT, capacity, BYTES, 0);
    pid_t pids[2 * PEERS];
    for (int i = 0; i < 2 * pairs; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            handle_open(&mine, &shared);
            (i % 2 == 0 ? send_all : receive_all)(rounds);
            _exit(0); /* without a goodbye: that wakes all */
        }
    }
    for (int i = 0; i < 2 * pairs; i++) {
        int status;
        check(waitpid(pids[i], &status, 0) == pids[i] && status == 0, "a peer failed");
    }
    channel_unmake(&shared);
}

int
main(int argc, char **argv)
{
    check(argc == 2, "how many rounds?");
    uint64_t rounds = strtoull(argv[1], NULL, 10);
    run(1, 1, rounds);     /* each sleeps for the other */
    run(8, PEERS, rounds); /* and all for the locks */
    puts("ok");
    return 0;
}
