/* The undo counts of this process: a hash table of the semaphores whose count is not 0, and of those that a running
   call operates on. All interpreters of the process share it. Every static function needs the lock. */
#include "semaphores/undo_counts.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

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

/* The holder never waits and keeps its GIL. So a fork finds the lock free, as in channel/core.c. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

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
    found = calloc(1, sizeof *found); /* not of Python: the memory can outlive the interpreter */
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
    free(unused);
}

undo_counts
ipckit_undo_counts(int set, int index)
{
    pthread_mutex_lock(&lock);
    entry *found = find(set, index);
    undo_counts counts = found == NULL ? (undo_counts){0, 0} : found->counts;
    pthread_mutex_unlock(&lock);
    return counts;
}

/* Whether an operation would release what a parent acquired and this process did not. */
static bool
releases_inherited(const entry *found, const struct sembuf *op)
{
    return op->sem_op > 0 && found->counts.inherited > 0 && found->counts.own < op->sem_op;
}

/* Whether the counts of an operation change. */
static bool
is_counted(const struct sembuf *op)
{
    return op->sem_flg & SEM_UNDO;
}

/* Whether the counts of any operation change. Operations without undo need no lock. */
static bool
has_counted(const struct sembuf *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_counted(&ops[i])) {
            return true;
        }
    }
    return false;
}

/* Ends what `begin` did for the operations, as ipckit_undo_end. */
static void
end(int set, const struct sembuf *ops, size_t count, bool done)
{
    for (size_t i = 0; i < count; i++) {
        if (is_counted(&ops[i])) {
            entry *found = find(set, ops[i].sem_num);
            found->users--;
            found->counts.own -= done ? ops[i].sem_op : 0;
            free_if_empty(found);
        }
    }
}

/* Prepares to count the operations. Returns 0, ENOMEM or EPERM, as ipckit_undo_begin. */
static int
begin(int set, const struct sembuf *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!is_counted(&ops[i])) {
            continue;
        }
        entry *found = find_or_add(set, ops[i].sem_num);
        if (found == NULL || releases_inherited(found, &ops[i])) {
            end(set, ops, i, false);
            if (found != NULL) {
                free_if_empty(found);
            }
            return found == NULL ? ENOMEM : EPERM;
        }
        found->users++;
    }
    return 0;
}

int
ipckit_undo_begin(int set, const struct sembuf *ops, size_t count)
{
    if (!has_counted(ops, count)) {
        return 0;
    }
    pthread_mutex_lock(&lock);
    int error = begin(set, ops, count);
    pthread_mutex_unlock(&lock);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return 0;
}

void
ipckit_undo_end(int set, const struct sembuf *ops, size_t count, bool done)
{
    if (has_counted(ops, count)) {
        pthread_mutex_lock(&lock);
        end(set, ops, count, done);
        pthread_mutex_unlock(&lock);
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

/* Clears the counts of all semaphores of a set. */
static void
clear_set(int set)
{
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

void
ipckit_undo_cleared(int set, int index)
{
    pthread_mutex_lock(&lock);
    entry *found = index < 0 ? NULL : find(set, index);
    if (found != NULL) {
        clear(found);
    } else if (index < 0) {
        clear_set(set);
    }
    pthread_mutex_unlock(&lock);
}
