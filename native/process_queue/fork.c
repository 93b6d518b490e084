/* What a fork does to the large objects that a process has received from a ProcessQueue. */
#include "process_queue/spill.h"

#include <pthread.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

long ipckit_spill_forks = 0;

/* All pieces that are mapped; under the mutex. A fork takes it too, so that it never meets a list
   that another thread is changing. */
static piece_object *mapped_pieces = NULL;
static pthread_mutex_t mapped_mutex = PTHREAD_MUTEX_INITIALIZER;

void
ipckit_piece_link(piece_object *self)
{
    pthread_mutex_lock(&mapped_mutex);
    self->next = mapped_pieces;
    if (mapped_pieces != NULL) {
        mapped_pieces->previous = self;
    }
    mapped_pieces = self;
    pthread_mutex_unlock(&mapped_mutex);
}

/* With the mutex held. */
static void
unlink_piece(piece_object *self)
{
    if (self->previous != NULL) {
        self->previous->next = self->next;
    } else if (mapped_pieces == self) {
        mapped_pieces = self->next;
    }
    if (self->next != NULL) {
        self->next->previous = self->previous;
    }
    self->next = self->previous = NULL;
}

void
ipckit_piece_unlink(piece_object *self)
{
    pthread_mutex_lock(&mapped_mutex);
    unlink_piece(self);
    pthread_mutex_unlock(&mapped_mutex);
}

bool
ipckit_piece_is_ours(const piece_object *self)
{
    return self->index >= 0 && self->forks == ipckit_spill_forks;
}

void
ipckit_piece_free(piece_object *self)
{
    if (ipckit_piece_is_ours(self)) {
        ipckit_spill_release(self->spill, (uint32_t)self->index, self->token);
    }
    self->index = -1;
}

/* Has the kernel copy the pages of a private mapping that still are the file's. */
static void
make_private(char *memory, size_t size)
{
    if (madvise(memory, size, MADV_POPULATE_WRITE) == 0) {
        return;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t at = 0; at < size; at += page) { /* a kernel before 5.14 */
        char value = __atomic_load_n(&memory[at], __ATOMIC_RELAXED);
        /* Another thread may write there. */
        while (!__atomic_compare_exchange_n(&memory[at], &value, value, false, __ATOMIC_RELAXED,
                                            __ATOMIC_RELAXED)) {
        }
    }
}

/* A forked child inherits the objects that this process has received, and may read them for longer
   than this process does. So they become memory of the two processes alone, and the pieces go back.
   After a fork that fails that is right too. */
static void
before_fork(void)
{
    pthread_mutex_lock(&mapped_mutex);
    while (mapped_pieces != NULL) {
        piece_object *piece = mapped_pieces;
        make_private(piece->mapped, piece->size);
        ipckit_piece_free(piece);
        unlink_piece(piece);
    }
}

static void
after_fork_in_parent(void)
{
    pthread_mutex_unlock(&mapped_mutex);
}

static void
after_fork_in_child(void)
{
    ipckit_spill_forks++;
    pthread_mutex_unlock(&mapped_mutex);
}

int
ipckit_spill_watch_forks(void)
{
    static bool watching = false; /* once for all interpreters of the process */
    int error = watching ? 0 : pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    watching = error == 0;
    return error;
}
