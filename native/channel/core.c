/* One open channel in this process: its place among the peers, its references, and its state after a
   fork. */
#include "channel/core.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* All open channels of this process, of all interpreters, so that a forked child finds them. A lock protects the list,
   because each interpreter can have its own GIL. The holder never waits and keeps its GIL, so a fork finds the lock free
   if there is one interpreter. With several, Python's fork itself fails: its child crashes. */
static channel_core *cores = NULL;
static pthread_mutex_t cores_lock = PTHREAD_MUTEX_INITIALIZER;

/* Adds a core to the list. */
static void
add_to_list(channel_core *core)
{
    pthread_mutex_lock(&cores_lock);
    core->next = cores;
    if (cores != NULL) {
        cores->previous = core;
    }
    cores = core;
    pthread_mutex_unlock(&cores_lock);
}

/* Removes a core from the list. */
static void
remove_from_list(channel_core *core)
{
    pthread_mutex_lock(&cores_lock);
    if (core->previous != NULL) {
        core->previous->next = core->next;
    } else {
        cores = core->next;
    }
    if (core->next != NULL) {
        core->next->previous = core->previous;
    }
    pthread_mutex_unlock(&cores_lock);
}

/* Closes a descriptor, if it is open, and sets it to -1. */
static void
close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

/* Opens another file description of the memory, for the OFD lock. The lock then ends with this process.
   With the file description of the mapping, it would last until the mapping ends, in a forked child too.
   Returns a descriptor, or -1 with errno. */
static int
reopen(int fd)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    /* O_NONBLOCK: a lease of another process (fcntl(2), F_SETLEASE) must not block open(2). */
    return open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
}

int
ipckit_core_ensure_fd(channel_core *core)
{
    if (core->r.fd < 0) {
        core->r.fd = reopen(core->memory_fd);
    }
    return core->r.fd < 0 ? -1 : 0;
}

int
ipckit_core_join(channel_core *core, uint64_t token)
{
    struct timespec now;
    if (core->joined) {
        return 0;
    }
    if (core->subscription) { /* of the parent of this forked process */
        errno = EOWNERDEAD;
        return -1;
    }
    if (ipckit_core_ensure_fd(core) < 0) {
        return -1;
    }
    if (!ring_file_is_intact(&core->r)) {
        errno = EUCLEAN;
        return -1;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    if (!ring_join(&core->r, (uint32_t)getpid(), token, (uint64_t)now.tv_sec,
                   core->creator)) {
        errno = EUSERS;
        return -1;
    }
    core->joined = true;
    return 0;
}

channel_core *
ipckit_core_new(void *memory, uint64_t size, int fd, bool creator, bool topic, uint64_t token,
                void (*unmap)(void *), void *memory_owner)
{
    channel_core *core = calloc(1, sizeof *core);
    if (core == NULL) {
        return NULL;
    }
    core->unmap = unmap;
    core->memory_owner = memory_owner;
    core->refs = core->users = 1;
    core->handle_open = true;
    core->creator = creator;
    core->memory_fd = fd;
    int own = reopen(fd);
    bool good = own >= 0;
    if (good && !ring_open(&core->r, memory, size, own, topic)) {
        errno = EUCLEAN;
        good = false;
    }
    if (!good || ipckit_core_join(core, token) < 0) {
        int error = errno;
        close_fd(&own);
        free(core);
        errno = error;
        return NULL;
    }
    add_to_list(core);
    return core;
}

/* Leaves the peers and closes every descriptor except memory_fd, which the handle owns. */
static void
leave_peers(channel_core *core)
{
    if (core->descriptors != NULL) {
        descriptors_free(core->descriptors);
        core->descriptors = NULL;
    }
    if (core->joined && ring_file_is_intact(&core->r)) {
        ring_leave(&core->r); /* otherwise closing the descriptor releases the OFD lock */
    }
    core->joined = false;
    close_fd(&core->r.fd);
}

/* Drops a reference; the last one frees the core. */
static void
release_memory(channel_core *core)
{
    if (--core->refs > 0) {
        return;
    }
    remove_from_list(core);
    core->unmap(core->memory_owner);
    free(core);
}

long
ipckit_core_acquire(channel_core *core)
{
    core->refs++;
    core->users++;
    return core->forks;
}

void
ipckit_core_release(channel_core *core, long forks)
{
    if (forks == core->forks && --core->users == 0) {
        leave_peers(core);
    }
    release_memory(core);
}

void
ipckit_core_close(channel_core *core)
{
    core->handle_open = false;
    ipckit_core_release(core, core->forks);
}

int
ipckit_core_descriptor(channel_core *core, uint32_t which)
{
    if (core->descriptors == NULL) {
        core->descriptors = descriptors_new(&core->r);
    }
    return core->descriptors == NULL ? -1 : descriptor_get(core->descriptors, which);
}

/* Updates a core in a forked child. Closes the inherited file description, whose lock on the parent's
   place would make the parent seem alive after it exits. Discards the descriptors, because their thread
   does not exist in the child. */
static void
update_after_fork(channel_core *core)
{
    close_fd(&core->r.fd);
    if (core->descriptors != NULL) {
        descriptors_discard(core->descriptors);
        core->descriptors = NULL;
    }
    core->joined = false;
    core->creator = false;
    core->r.owner = 0;
    core->r.index = CHANNEL_PEERS;
    core->r.subscriber = NULL;
    core->r.removing_peer = 0;
    core->forks++;
    core->users = core->handle_open ? 1 : 0;
}

void
ipckit_cores_forked(void)
{
    for (channel_core *core = cores; core != NULL; core = core->next) {
        update_after_fork(core);
    }
}
