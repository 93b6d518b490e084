/* What this process has acquired with SEM_UNDO of System V semaphores. The kernel keeps the same number (semadj,
   see semop(2)) but shows it to no process. ipckit needs it to know which process may release a lock. */
#ifndef IPCKIT_UNDO_COUNTS_H
#define IPCKIT_UNDO_COUNTS_H

#include "native.h"

#include <sys/sem.h>

/* Above 0 for what was subtracted from the value, below 0 for what was added, as a reader does. */
typedef struct {
    long own;       /* by this process */
    long inherited; /* by its parents, before they forked: fork(2) clears semadj in the child */
} undo_counts;

/* All interpreters of the process share the counts, so these functions acquire a lock. */

/* Returns the counts for one semaphore. Cannot fail. */
HIDDEN undo_counts ipckit_undo_counts(int set, int index);

/* Prepares to count the operations, before semop. Returns 0, or -1 with errno: ENOMEM, or EPERM if an operation
   would release what only a parent acquired. Each call that returns 0 needs one call of ipckit_undo_end, which
   cannot fail, because the memory is allocated here. */
HIDDEN int ipckit_undo_begin(int set, const struct sembuf *ops, size_t count);

/* Counts the operations if semop did them (`done`), and frees what is no longer needed. */
HIDDEN void ipckit_undo_end(int set, const struct sembuf *ops, size_t count, bool done);

/* Clears the counts of a semaphore, or of the whole set if `index` is -1: SETVAL, SETALL and IPC_RMID clear
   every process's undo counts. */
HIDDEN void ipckit_undo_cleared(int set, int index);

#endif
