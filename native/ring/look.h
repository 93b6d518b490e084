/* A private copy of a ring's memory, to look at it without changing it. No Python.h here.

   The copy is read with pread(2), not mapped: a file that its owner truncates at the wrong moment raises no
   SIGBUS, and reading permission is enough. Only the parts that are looked at are copied. The functions of
   the ring then run on the copy, also those that take a message.

   Other peers go on meanwhile. Senders overwrite only what receivers have taken, which is before `head`. So
   a message that was copied is whole if `head` has not passed it afterwards (look_has_passed). */
#ifndef IPCKIT_RING_LOOK_H
#define IPCKIT_RING_LOOK_H

#include "ring/topic_members.h"

#include <sys/mman.h>

typedef struct {
    ring r; /* on the copy */
    char *memory;
    uint64_t size;
    uint64_t allocated; /* bytes that the file really has; the rest are holes */
    int fd;
} ring_look;

/* Copies a part of the file. Returns false with errno set if it can't be read; EIO if it is not there. */
static inline bool
look_copy(ring_look *look, uint64_t from, uint64_t bytes)
{
    if (from > look->size || bytes > look->size - from) {
        errno = EIO;
        return false;
    }
    while (bytes != 0) {
        ssize_t done = pread(look->fd, look->memory + from, bytes, (off_t)from);
        if (done <= 0) {
            errno = done == 0 ? EIO : errno;
            return false;
        }
        from += (uint64_t)done;
        bytes -= (uint64_t)done;
    }
    return true;
}

/* Copies a part that can be large and mostly empty: the holes of the file are left out. */
static inline bool
look_copy_sparse(ring_look *look, uint64_t from, uint64_t bytes)
{
    uint64_t end = from + bytes;
    while (from < end) {
        off_t data = lseek(look->fd, (off_t)from, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            return true; /* a hole up to the end of the file */
        }
        if (data < 0 || (uint64_t)data >= end) {
            return data >= 0;
        }
        off_t hole = lseek(look->fd, data, SEEK_HOLE);
        uint64_t stop = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
        if (!look_copy(look, (uint64_t)data, stop - (uint64_t)data)) {
            return false;
        }
        from = stop;
    }
    return true;
}

static inline void
look_close(ring_look *look)
{
    munmap(look->memory, look->size);
}

/* Copies the header, the peers and the words of the blocks. Returns false with errno set if the file can't
   be read; EINVAL if it is not a channel, or a topic if `topic` is set. */
static inline bool
look_open(ring_look *look, int fd, bool topic)
{
    struct stat status;
    if (fstat(fd, &status) < 0) {
        return false;
    }
    uint64_t start = topic ? TOPIC_START : CHANNEL_ARENA_START;
    if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size < start) {
        errno = EINVAL;
        return false;
    }
    *look = (ring_look){
        .fd = fd, .size = (uint64_t)status.st_size, .allocated = (uint64_t)status.st_blocks * 512};
    void *memory = mmap(NULL, look->size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    look->memory = memory;
    bool copied = look_copy(look, 0, start);
    bool valid = copied && ring_open(&look->r, memory, look->size, fd, topic);
    if (valid) {
        uint64_t words = (uint64_t)((char *)look->r.words - look->memory);
        uint64_t end = topic ? (uint64_t)(look->r.arena - look->memory)
                             : (uint64_t)(look->r.pool - look->memory);
        copied = look_copy_sparse(look, words, end - words);
    }
    if (!valid || !copied) {
        int error = copied ? EINVAL : errno;
        look_close(look);
        errno = error;
        return false;
    }
    return true;
}

/* Returns what a word of the copy is in the file now. Sets errno to 0, or to the error of pread(2). */
static inline uint64_t
look_again(const ring_look *look, const void *word)
{
    uint64_t now = 0;
    off_t at = (const char *)word - look->memory;
    errno = 0;
    if (pread(look->fd, &now, sizeof now, at) != sizeof now) {
        errno = errno ? errno : EIO;
    }
    return now;
}

/* -- the messages of a channel ----------------------------------------------------------------- */

/* Copies the records from `head` to `tail`, as the copy of the header has them. Returns false with errno
   set; EINVAL for positions that no peer writes. */
static inline bool
look_copy_records(ring_look *look)
{
    ring *r = &look->r;
    uint64_t from = position_of(r->shared->head), to = position_of(r->shared->tail);
    if (!ring_position_is_valid(r, from) || !ring_position_is_valid(r, to)
        || ring_distance(r, from, to) > r->units) {
        errno = EINVAL;
        return false;
    }
    uint64_t units = ring_distance(r, from, to), first = ring_arena_index(r, from);
    uint64_t behind = r->units - first < units ? r->units - first : units;
    uint64_t arena = (uint64_t)(r->arena - look->memory);
    r->shared->cached_tail = r->shared->head; /* ring_peek reads `tail` */
    return look_copy_sparse(look, arena + first * UNIT, behind * UNIT)
        && look_copy_sparse(look, arena, (units - behind) * UNIT);
}

/* Tells whether a message that was found in the copy waited all the time until now; so its bytes are whole.
   `first` is the count of `head` in the copy before anything was taken from it. */
static inline bool
look_still_waits(const ring_look *look, const ring_message *message, uint64_t first)
{
    if (message->block != NO_BLOCK && look_again(look, &look->r.words[message->block]) != message->word) {
        return false;
    }
    if (message->returned) {
        return true;
    }
    uint64_t now = count_of(look_again(look, &look->r.shared->head));
    /* Far fewer messages than COUNT_MASK pass between two looks. */
    return errno == 0 && ((now - first) & COUNT_MASK) <= ((count_of(message->head) - first) & COUNT_MASK);
}

/* -- the messages of a topic ------------------------------------------------------------------- */

/* Copies the entries. Returns false with errno set. */
static inline bool
look_copy_entries(ring_look *look)
{
    char *entries = (char *)look->r.entries;
    return look_copy_sparse(look, (uint64_t)(entries - look->memory), look->r.slots * sizeof(topic_entry));
}

/* -- both -------------------------------------------------------------------------------------- */

/* Copies the bytes of a message that was found. Returns false with errno set; EINVAL if it is longer than all
   that was ever written to the file, which would fill our memory with zeros. */
static inline bool
look_copy_message(ring_look *look, const ring_message *message)
{
    if (message->length > look->allocated) {
        errno = EINVAL;
        return false;
    }
    return look_copy_sparse(look, (uint64_t)(message->data - look->memory), message->length);
}

#endif
