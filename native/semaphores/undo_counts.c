/* The undo counts of this process: a hash table of the semaphores whose count is not 0, and of those that a running
   call operates on. The GIL protects it. */
#include "semaphores/undo_counts.h"

#include <errno.h>

#define BUCKETS 256

typedef struct entry {
    struct entry *next;
    uint64_t process; /* the process that `counts.own` belongs to */
    undo_counts counts;
    int set;
    int index;
    int users; /* calls between ipckit_undo_begin and ipckit_undo_end */
} entry;

static entry *table[BUCKETS];

static entry **
bucket_of(int set, int index)
{
    return &table[((unsigned)set * 31U + (unsigned)index) % BUCKETS];
}

/* After a fork, turns the parent's own counts into inherited ones. */
static void
detect_fork(entry *found)
{
    uint64_t process = ipckit_own_token();
    if (found->process != process) {
        found->counts.inherited += found->counts.own;
        found->counts.own = 0;
        found->process = process;
    }
}

/* Returns the entry of a semaphore, or NULL. */
static entry *
find(int set, int index)
{
    for (entry *each = *bucket_of(set, index); each != NULL; each = each->next) {
        if (each->set == set && each->index == index) {
            detect_fork(each);
            return each;
        }
    }
    return NULL;
}

/* Returns the entry of a semaphore, which is added if necessary; NULL without memory. */
static entry *
find_or_add(int set, int index)
{
    entry *found = find(set, index);
    if (found != NULL) {
        return found;
    }
    found = PyMem_Calloc(1, sizeof *found);
    if (found != NULL) {
        entry **bucket = bucket_of(set, index);
        *found = (entry){.next = *bucket, .process = ipckit_own_token(), .set = set, .index = index};
        *bucket = found;
    }
    return found;
}

/* Frees an entry that no call uses and whose counts are 0. */
static void
free_if_empty(entry *unused)
{
    if (unused->users > 0 || unused->counts.own != 0 || unused->counts.inherited != 0) {
        return;
    }
    entry **link = bucket_of(unused->set, unused->index);
    while (*link != unused) {
        link = &(*link)->next;
    }
    *link = unused->next;
    PyMem_Free(unused);
}

undo_counts
ipckit_undo_counts(int set, int index)
{
    entry *found = find(set, index);
    return found == NULL ? (undo_counts){0, 0} : found->counts;
}

/* Whether an operation would release what a parent acquired and this process did not. */
static bool
releases_inherited(const entry *found, const struct sembuf *op)
{
    return op->sem_op > 0 && found->counts.inherited > 0 && found->counts.own < op->sem_op;
}

int
ipckit_undo_begin(int set, const struct sembuf *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!(ops[i].sem_flg & SEM_UNDO)) {
            continue;
        }
        entry *found = find_or_add(set, ops[i].sem_num);
        if (found == NULL || releases_inherited(found, &ops[i])) {
            ipckit_undo_end(set, ops, i, false);
            if (found != NULL) {
                free_if_empty(found);
            }
            errno = found == NULL ? ENOMEM : EPERM;
            return -1;
        }
        found->users++;
    }
    return 0;
}

void
ipckit_undo_end(int set, const struct sembuf *ops, size_t count, bool done)
{
    for (size_t i = 0; i < count; i++) {
        if (!(ops[i].sem_flg & SEM_UNDO)) {
            continue;
        }
        entry *found = find(set, ops[i].sem_num);
        found->users--;
        found->counts.own -= done ? ops[i].sem_op : 0;
        free_if_empty(found);
    }
}

/* Sets the counts of an entry to 0. */
static void
clear(entry *found)
{
    found->process = ipckit_own_token();
    found->counts = (undo_counts){0, 0};
    free_if_empty(found);
}

void
ipckit_undo_cleared(int set, int index)
{
    if (index >= 0) {
        entry *found = find(set, index);
        if (found != NULL) {
            clear(found);
        }
        return;
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        entry *next;
        for (entry *each = table[i]; each != NULL; each = next) {
            next = each->next;
            if (each->set == set) {
                clear(each);
            }
        }
    }
}
