/* A process that must be woken from its sleep: no regular check makes up for a wake that did not come. */
#ifndef RING_WAKES_H
#define RING_WAKES_H

#define PEER_CHECK_NS (INT64_C(20) * NS_PER_SECOND)
#define LOCK_SPINS 1
#define INLINE_MAX 4096
#include "ring_harness.h"

static channel shared;
static handle mine;
static char data[8 * INLINE_MAX];

/* Does it, and takes no longer than any wake may take. Returns the block of the loan or message. */
static uint32_t
must(ring_operation operation, uint64_t length)
{
    ring_call call = call_of(&mine, operation, INT64_MAX);
    call.data = data;
    call.length = length;
    int64_t before = monotonic_ns();
    ring_result result = operation == op_send ? send_message(&mine, &call)
        : operation == op_receive             ? receive_message(&mine, &call)
                                              : call_do(&mine, &call);
    check(result == RING_OK, "it failed");
    check(monotonic_ns() - before < PEER_CHECK_NS / 2, "slept through a wake");
    return operation == op_lend ? call.block : call.message.block;
}

static void
close_mine(void)
{
    handle_close(&mine);
    channel_unmake(&shared);
}

/* -- another process ------------------------------------------------------------------------------- */

/* Returns when a process sleeps. */
static void
wait_asleep(pid_t pid)
{
    char path[40], line[200];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    for (int asleep = 0; asleep < 3;) { /* a page fault may be a short sleep */
        usleep(1000);
        FILE *file = fopen(path, "r");
        check(file != NULL && fgets(line, sizeof line, file) != NULL, "no process");
        fclose(file);
        asleep = strstr(line, ") S ") != NULL ? asleep + 1 : 0;
    }
}

static void
must_end(pid_t pid)
{
    int status;
    check(waitpid(pid, &status, 0) == pid && status == 0, "a peer failed");
}

#endif
