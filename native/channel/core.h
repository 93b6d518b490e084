/* channel_core: one open channel in this process. Its handle, leases and calls share it. A lease is the
   memory of a loan, view or delivery. No Python.h here. */
#ifndef IPCKIT_CHANNEL_CORE_H
#define IPCKIT_CHANNEL_CORE_H

#include "ring/either.h"
#include "ring/open.h"

/* The GIL of the interpreter that opened it protects all counts, and every function below needs it.

   The handle and each lease and call have a reference (`refs`), which keeps the memory mapped, and are
   a user (`users`), which keeps this process's place among the peers. After a fork, the child still has
   the references of the parent's leases and calls, but they are not users there. */
typedef struct channel_core {
    ring r;
    int memory_fd; /* the handle owns it; -1 after the handle is closed. r.fd is for the locks only. */
    void (*unmap)(void *memory_owner);
    void *memory_owner;
    long refs;
    long users;
    long forks;       /* how many forks lie between the process that opened it and this one */
    bool handle_open;
    bool joined;      /* false in a forked child until it sends or receives */
    bool creator;
    bool subscription; /* it is a subscriber of a topic, and can't join again after a fork */
    ring_descriptors *descriptors; /* NULL until one is requested */
    struct channel_core *next, *previous;
} channel_core;

#define CORE_HIDDEN __attribute__((visibility("hidden")))

/* Opens the channel or topic in `size` bytes of memory and joins its peers. The caller owns `fd`, and keeps it
   open until it sets memory_fd to -1. Dropping the last reference calls `unmap(memory_owner)`. Returns
   NULL with errno: ENOMEM, EUCLEAN (not a channel), EUSERS (no free place), or that of open(2). */
CORE_HIDDEN channel_core *ipckit_core_new(void *memory, uint64_t size, int fd, bool creator,
                                          bool topic, uint64_t token, void (*unmap)(void *),
                                          void *memory_owner);
/* Adds a reference and a user. Returns the number of forks, which ipckit_core_release takes. */
CORE_HIDDEN long ipckit_core_acquire(channel_core *core);
/* Drops a reference, and a user unless a fork lies between (`forks` differs). When the last user ends,
   this process leaves the peers. When the last reference ends, the core is freed. */
CORE_HIDDEN void ipckit_core_release(channel_core *core, long forks);
/* Drops the handle's reference. */
CORE_HIDDEN void ipckit_core_close(channel_core *core);
/* Opens the core's own file description if it has none, as in a forked child. Returns 0, or -1 with
   errno. */
CORE_HIDDEN int ipckit_core_ensure_fd(channel_core *core);
/* Takes a place among the peers if this process has none. Returns 0, or -1 with errno, which is EOWNERDEAD
   for the subscription of a parent process. */
CORE_HIDDEN int ipckit_core_join(channel_core *core, uint64_t token);
/* Returns the descriptor for POLL_ITEMS or POLL_SPACE, which the core owns, or -1 with errno. The core
   must be joined. */
CORE_HIDDEN int ipckit_core_descriptor(channel_core *core, uint32_t which);
/* Updates all open channels in a forked child. */
CORE_HIDDEN void ipckit_cores_forked(void);

#endif
