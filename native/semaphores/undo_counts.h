/* What this process holds of System V semaphores with undo. The kernel keeps the same number for each process
   (semadj) and shows it to no process. */
#ifndef IPCKIT_HOLDINGS_H
#define IPCKIT_HOLDINGS_H

#include "native.h"

#include <sys/sem.h>

/* Taken is above 0; what was added, as readers add themselves, is below. */
typedef struct {
    long own;       /* by this process */
    long inherited; /* by its parents when they forked: the kernel gives a child none of it */
} holdings;

HIDDEN holdings ipckit_holdings(int set, int index);

/* The GIL is held for all of these. `begin` makes room for what the vector will change, so that `end` cannot
   fail: 0, or -1 with errno (ENOMEM, or EPERM if the vector releases what only a parent holds). Each `begin`
   that gave 0 is followed by one `end`. */
HIDDEN int ipckit_holdings_begin(int set, const struct sembuf *ops, size_t count);
HIDDEN void ipckit_holdings_end(int set, const struct sembuf *ops, size_t count, bool done);

/* SETVAL and SETALL clear every process's undo counts; `index` -1 is for the whole set. */
HIDDEN void ipckit_holdings_cleared(int set, int index);

#endif
