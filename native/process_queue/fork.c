/* Fork handlers: copy the large objects that this process has received from a ProcessQueue, so that a
   forked child can keep them. */
#include "process_queue/spill.h"

#include <pthread.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

long ipckit_spill_forks = 0;

/* All mapped pieces. The mutex protects the list and its links. before_fork takes the mutex, so that no
   other thread is changing the list at a fork. */
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

/* Removes a Piece from the list, if it is in it. The caller holds the mutex. */
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

/* Makes the kernel copy all pages of a private mapping that it still shares with the file. */
static void
make_private(char *memory, size_t size)
{
    if (madvise(memory, size, MADV_POPULATE_WRITE) == 0) {
        return;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    /* A kernel before 5.14: store one byte to each page. The exchange stores the value that it finds,
       because another thread may write there. It orders nothing, so it is relaxed. */
    for (size_t at = 0; at < size; at += page) {
        char value = __atomic_load_n(&memory[at], __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&memory[at], &value, value, false, __ATOMIC_RELAXED,
                                            __ATOMIC_RELAXED)) {
        }
    }
}

/* Copies all received objects into private memory, and frees their pieces. The child inherits the objects
   and may use them longer than this process does, so neither process may depend on the pieces. This is
   harmless if the fork then fails. Returns with the mutex held. */
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

/* Releases the mutex that before_fork took. */
static void
after_fork_in_parent(void)
{
    pthread_mutex_unlock(&mapped_mutex);
}

/* Counts the fork, so that the child does not free the parent's pieces, and releases the mutex. */
static void
after_fork_in_child(void)
{
    ipckit_spill_forks++;
    pthread_mutex_unlock(&mapped_mutex);
}

int
ipckit_spill_watch_forks(void)
{
    static bool watching = false; /* handlers can't be removed; all interpreters share them */
    int error = watching ? 0 : pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    watching = error == 0;
    return error;
}
