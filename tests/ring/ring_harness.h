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
#ifndef POOL_WINDOW_BYTES
#define POOL_WINDOW_BYTES 512 /* the pools of these tests are small */
#endif
#ifndef INLINE_MAX
#define INLINE_MAX 160 /* short, so that small rings and pools see many long messages */
#endif
#include "ring/either.h"
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

/* Makes memory of zeros for `wanted` bytes. */
static inline channel
memory_make(size_t wanted)
{
    channel made = {.fd = memfd_create("ring", MFD_CLOEXEC)};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    made.size = (wanted + page - 1) / page * page;
    check(made.fd >= 0 && ftruncate(made.fd, (off_t)made.size) == 0, "no memfd");
    char *room = mmap(NULL, made.size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(room != MAP_FAILED, "no address space");
    made.memory = mmap(room + page, made.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                       made.fd, 0);
    check(made.memory != MAP_FAILED, "no memory");
    return made;
}

static inline channel
channel_make(ring_shape shape, uint32_t flags)
{
    size_t wanted = channel_bytes(shape.units, shape.granules, shape.granule);
    channel made = memory_make(wanted);
    const uint8_t id[16] = {(uint8_t)getpid(), 1, 2, 3};
    ring_identity identity = {.magic = CHANNEL_MAGIC, .version = CHANNEL_VERSION, .flags = flags,
                              .fingerprint = 1, .id = id, .type = "bytes"};
    check(ring_shape_is_valid(&shape, made.size), "invalid shape");
    ring_format((channel_header *)made.memory, wanted, &shape, &identity);
    return made;
}

/* A channel of messages of any length, in blocks of several granules; senders may use `granules`. */
static inline ring_shape
shape_of_any(uint64_t units, uint64_t granules, uint64_t capacity)
{
    return (ring_shape){.units = units,
                        .granules = granules + spare_granules(0, 64),
                        .granule = 64,
                        .capacity = capacity,
                        .longest = granules * 64 > INLINE_MAX ? granules * 64 : INLINE_MAX};
}

/* A channel of messages of one length, each in a block of its own. */
static inline ring_shape
shape_of_items(uint64_t units, uint64_t granules, uint64_t capacity, uint64_t item)
{
    return (ring_shape){.units = units,
                        .granules = granules,
                        .granule = (item + 63) / 64 * 64,
                        .capacity = capacity,
                        .item_size = item,
                        .longest = item};
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

/* Opens a channel, or a topic. */
static inline void
handle_open_either(handle *opened, const channel *on, bool topic)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", on->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    check(fd >= 0, "no descriptor");
    *opened = (handle){.spin = 0};
    check(ring_open(&opened->r, on->memory, on->size, fd, topic), "the memory is not a channel");
    check(ring_join(&opened->r, (uint32_t)getpid(), 1, 0, false), "no free place");
}

static inline void
handle_open(handle *opened, const channel *on)
{
    handle_open_either(opened, on, false);
}

/* Does what the kernel does for a process that ends. */
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
    return either_send(r, call->data, call->length);
}

static inline ring_result
op_batch(ring *r, ring_call *call)
{
    return either_send_batch(r, call->data, call->length, &call->items);
}

static inline ring_result
op_lend(ring *r, ring_call *call)
{
    return either_lend(r, call->length, &call->block);
}

static inline ring_result
op_send_block(ring *r, ring_call *call)
{
    return either_send_block(r, call->block, call->length, r->owner);
}

/* Copies in two parts, so that a test can stop a process in between. */
static inline void
copy_in_parts(const ring *r, char *to, const char *from, uint64_t length)
{
    uint64_t half = length / 16 * 8;
    RING_POINT(copying);
    either_copy(r, to, from, half);
    RING_POINT(half_copied);
    either_copy(r, to + half, from + half, length - half);
}

/* Holds a block to read it (`items` is 0). Copies a message that is in the ring, and those that follow
   in its record: up to `items`, and what fits into `length` bytes. */
static inline ring_result
op_receive(ring *r, ring_call *call)
{
    ring_message *message = &call->message;
    _Alignas(8) char copy[SMALL_MAX];
    ring_result result = either_peek_small(r, message, copy) ? RING_OK : either_peek(r, message);
    if (result != RING_OK) {
        return result;
    }
    if (message->block != NO_BLOCK) {
        RING_POINT(holding);
        result = either_begin_read(r, message);
        call->items = result == RING_OK ? 0 : call->items;
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
    copy_in_parts(r, (char *)call->data, message->data, call->items * message->length);
    return either_take(r, message, call->items);
}

/* Takes a message, to acknowledge or return it later. */
static inline ring_result
op_take(ring *r, ring_call *call)
{
    ring_result result = ring_peek(r, &call->message);
    return result == RING_OK ? ring_take_delivery(r, &call->message) : result;
}

static inline ring_call
call_of(handle *by, ring_operation operation, int64_t deadline)
{
    bool receives = operation == op_receive || operation == op_take;
    return (ring_call){
        .operation = operation,
        .which = receives ? POLL_ITEMS : POLL_SPACE,
        .deadline = deadline,
        .lends = operation == op_lend,
        .wait_for_peers = true,
        .closed = &by->closed,
        .spin = &by->spin,
        .spin_max = 200,
        .items = 1,
        .block = NO_BLOCK,
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
release_block(handle *by, uint32_t block, block_kind kind)
{
    return kind == BLOCK_READ ? either_end_read(&by->r, block, by->r.owner)
                              : ring_release_block(&by->r, block, kind, by->r.owner);
}

/* Acknowledges a message that was taken, and frees its block. */
static inline ring_result
acknowledge(handle *by, uint32_t block)
{
    ring_result result = ring_acknowledge(&by->r, block, by->r.owner);
    return result == RING_OK ? release_block(by, block, BLOCK_READ) : result;
}

/* Sends as Channel.send: a long message in a block that is lent for it. */
static inline ring_result
send_message(handle *by, ring_call *call)
{
    if (call->length <= INLINE_MAX) {
        return call_do(by, call);
    }
    call->operation = op_lend;
    call->lends = true;
    ring_result result = call_do(by, call);
    if (result != RING_OK) {
        return result;
    }
    memcpy(block_data(&by->r, call->block), call->data, call->length);
    call->operation = op_send_block;
    call->lends = false;
    result = call_do(by, call);
    if (result != RING_OK && release_block(by, call->block, BLOCK_LENT) != RING_OK) {
        return RING_CORRUPT;
    }
    return result;
}

/* Receives as Channel.receive: copies a message in a block without a lock. `data` has room for it. */
static inline ring_result
receive_message(handle *by, ring_call *call)
{
    ring_result result = call_do(by, call);
    if (result == RING_OK && call->items == 0) {
        call->items = 1;
        memcpy((char *)call->data, call->message.data, call->message.length);
        return release_block(by, call->message.block, BLOCK_READ);
    }
    return result;
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
