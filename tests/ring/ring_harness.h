/* A channel's ring without Python, for the tests of native/ring: several handles on one memory,
   each with a file description of its own, as processes have them. */
#ifndef RING_HARNESS_H
#define RING_HARNESS_H

#ifndef PEER_CHECK_NS
#define PEER_CHECK_NS (2 * NS_PER_MS)
#endif
#ifndef LOCK_GRACE_NS
#define LOCK_GRACE_NS (20 * NS_PER_MS)
#endif
#ifndef CACHE_WINDOW_BYTES
#define CACHE_WINDOW_BYTES (16 * UNIT) /* the rings of these tests are small */
#endif
#include "ring/open.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static inline void
check(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

/* -- numbers by chance, the same for the same seed ----------------------------------------------- */

static __thread uint64_t chance = 1;

static inline uint64_t
random_number(void)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance * 0x2545F4914F6CDD1Du;
}

static inline uint64_t
below(uint64_t limit)
{
    return (random_number() >> 16) % limit;
}

static inline void
seed_chance(uint64_t seed)
{
    chance = seed * 0x9E3779B97F4A7C15u + 1;
    for (int i = 0; i < 4; i++) {
        random_number();
    }
}

/* -- the memory, between two pages that nobody may touch ----------------------------------------- */

typedef struct {
    int fd;
    char *memory;
    size_t size; /* whole pages, so that the first byte behind it is no memory */
} channel;

static inline channel
channel_make(uint64_t units, uint64_t capacity, uint64_t item_size, uint32_t flags)
{
    channel made = {.fd = memfd_create("ring", MFD_CLOEXEC)};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t wanted = CHANNEL_ARENA_START + units * UNIT;
    made.size = (wanted + page - 1) / page * page;
    check(made.fd >= 0 && ftruncate(made.fd, (off_t)made.size) == 0, "no memfd");
    char *room = mmap(NULL, made.size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(room != MAP_FAILED, "no room");
    made.memory = mmap(room + page, made.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                       made.fd, 0);
    check(made.memory != MAP_FAILED, "no memory");
    channel_header *header = (channel_header *)made.memory;
    const uint8_t id[16] = {(uint8_t)getpid(), 1, 2, 3};
    ring_format(header, wanted, capacity, item_size, UINT64_MAX, 1, flags, 0, id, "bytes");
    return made;
}

static inline void
channel_unmake(channel *made)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    munmap(made->memory - page, made->size + 2 * page);
    close(made->fd);
}

/* -- a handle ------------------------------------------------------------------------------------ */

typedef struct {
    ring r;
    bool closed;
    uint32_t spin;
} handle;

static inline void
handle_open(handle *opened, const channel *on)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", on->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    check(fd >= 0, "no descriptor");
    *opened = (handle){.spin = 0};
    check(ring_open(&opened->r, on->memory, on->size, fd), "the channel is none");
    check(ring_join(&opened->r, (uint32_t)getpid(), 1, 0, false), "no place left");
}

/* As the kernel does it for a process that ends: no more and no less. */
static inline void
handle_die(handle *opened)
{
    close(opened->r.fd);
}

static inline void
handle_close(handle *opened)
{
    ring_leave(&opened->r);
    handle_die(opened);
}

/* -- operations, as native/channel has them -------------------------------------------------- */

static inline ring_result
op_send(ring *r, ring_call *call)
{
    return ring_send(r, call->data, call->length);
}

static inline ring_result
op_batch(ring *r, ring_call *call)
{
    return ring_send_batch(r, call->data, call->length, &call->items);
}

static inline ring_result
op_lend(ring *r, ring_call *call)
{
    return ring_lend(r, call->length, &call->at);
}

static inline ring_result
op_send_loan(ring *r, ring_call *call)
{
    return ring_send_loan(r, call->at, call->length, (uint32_t)call->items);
}

/* As many messages of its record as `items`; `length` is the room at `data`. */
static inline ring_result
op_copy(ring *r, ring_call *call)
{
    ring_message *message = &call->message;
    char copy[SMALL_MAX];
    ring_result result = ring_peek_small(r, message, copy) ? RING_OK : ring_peek(r, message);
    if (result != RING_OK) {
        return result;
    }
    uint64_t left = message->items - message->index;
    call->items = call->items < left ? call->items : left;
    if (call->items * message->length > call->length) {
        call->items = message->length == 0 ? 1 : call->length / message->length;
        if (call->items == 0) {
            return RING_TOO_LONG;
        }
    }
    memcpy((char *)call->data, message->data, call->items * message->length);
    return ring_take(r, message, call->items);
}

/* A view where the record has one message only; else a copy, and `items` is 0. */
static inline ring_result
op_view(ring *r, ring_call *call)
{
    ring_message *message = &call->message;
    ring_result result = ring_peek(r, message);
    if (result == RING_OK && message->items > 1) {
        call->items = 1;
        result = op_copy(r, call);
        call->items = 0;
    } else if (result == RING_OK) {
        ring_take_view(r, message);
        call->items = r->owner;
    }
    return result;
}

static inline ring_call
call_of(handle *by, ring_operation operation, int64_t deadline)
{
    bool sends = operation == op_send || operation == op_batch || operation == op_lend
        || operation == op_send_loan;
    return (ring_call){
        .operation = operation,
        .which = sends ? POLL_SPACE : POLL_ITEMS,
        .deadline = deadline,
        .lends = operation == op_lend,
        .lent = operation == op_send_loan,
        .wait_for_peers = true,
        .closed = &by->closed,
        .spin = &by->spin,
        .spin_max = 200,
    };
}

static inline ring_result
call_do(handle *by, ring_call *call)
{
    ring_add_role(&by->r, call->which == POLL_SPACE ? ROLE_SENDER : ROLE_RECEIVER);
    ring_result result;
    do {
        result = ring_run(&by->r, call);
    } while (result == RING_INTERRUPTED);
    return result;
}

static inline ring_result
cancel(handle *by, uint64_t at)
{
    return ring_cancel_loan(&by->r, at, by->r.owner);
}

static inline ring_result
release(handle *by, uint64_t at)
{
    return ring_release_view(&by->r, at, by->r.owner);
}

/* -- messages whose every byte follows from their number ----------------------------------------- */

#define LEAST 8 /* bytes of a message: its number */

static inline void
message_fill(char *to, uint64_t length, uint64_t number)
{
    memcpy(to, &number, 8);
    uint64_t state = number * 0x9E3779B97F4A7C15u + length;
    for (uint64_t i = 8; i < length; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        to[i] = (char)(state >> 56);
    }
}

static inline uint64_t
message_number(const char *from, uint64_t length)
{
    uint64_t number;
    check(length >= LEAST, "a message is shorter than any that was sent");
    memcpy(&number, from, 8);
    uint64_t state = number * 0x9E3779B97F4A7C15u + length;
    for (uint64_t i = 8; i < length; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        check(from[i] == (char)(state >> 56), "a torn message");
    }
    return number;
}

#endif
