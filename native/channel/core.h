/* A channel as this process has it open, shared by its handle, views, loans and calls. No Python.h
   here. */
#ifndef IPCKIT_CHANNEL_CORE_H
#define IPCKIT_CHANNEL_CORE_H

#include "ring/descriptor.h"
#include "ring/open.h"

/* All counts change under the GIL.

   `refs` keeps the memory mapped: the handle, views, loans and calls. `users` keeps the place among the
   peers: the same, but only those of this process. After a fork, the parent's views, loans and calls
   still have their references in the child, but do not use the channel there. */
typedef struct channel_core {
    ring r;
    int memory_fd; /* the handle's, -1 once that is closed; r.fd is for the locks only */
    void (*unmap)(void *memory_owner);
    void *memory_owner;
    long refs;
    long users;
    long forks;       /* how often this process was forked since the channel was opened */
    bool handle_open;
    bool joined;      /* false in a forked child until it sends or receives */
    bool creator;
    ring_descriptors *descriptors; /* NULL until one is requested */
    struct channel_core *next, *previous;
} channel_core;

#define CORE_HIDDEN __attribute__((visibility("hidden")))

/* Opens the channel in `size` bytes of memory and joins its peers. `fd` stays the caller's, which keeps it
   open for as long as memory_fd names it. `unmap(memory_owner)` is called after the last reference.
   Returns NULL with errno: ENOMEM, EUCLEAN (not a channel), EUSERS (no place), or that of open(2). */
CORE_HIDDEN channel_core *ipckit_core_new(void *memory, uint64_t size, int fd, bool creator,
                                          uint64_t token, void (*unmap)(void *), void *memory_owner);
/* Adds a reference and a user. Returns the number of forks, which ipckit_core_release takes. */
CORE_HIDDEN long ipckit_core_acquire(channel_core *core);
/* Drops a reference, and the user if it is of this process. The last user leaves the peers; the last
   reference frees the core. */
CORE_HIDDEN void ipckit_core_release(channel_core *core, long forks);
/* Drops the handle's reference. */
CORE_HIDDEN void ipckit_core_close(channel_core *core);
/* Opens the core's own file description if it has none, as in a forked child. Returns 0, or -1 with
   errno. */
CORE_HIDDEN int ipckit_core_ensure_fd(channel_core *core);
/* Takes a place among the peers if there is none yet. Returns 0, or -1 with errno. */
CORE_HIDDEN int ipckit_core_join(channel_core *core, uint64_t token);
/* Returns the descriptor of a joined channel, or -1 with errno. */
CORE_HIDDEN int ipckit_core_descriptor(channel_core *core, uint32_t which);
/* Updates all open channels in a forked child. */
CORE_HIDDEN void ipckit_cores_forked(void);

#endif
