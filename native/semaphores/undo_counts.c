/* The account of what this process holds of System V semaphores with undo: a table of those semaphores that it
   holds, or is about to operate on. */
#include "semaphores/undo_counts.h"

#include <errno.h>

#define BUCKETS 256

typedef struct entry {
    struct entry *next;
    uint64_t process; /* whose `counts.own` is */
    holdings counts;
    int set;
    int index;
    int users; /* calls between begin and end */
} entry;

static entry *table[BUCKETS];

static entry **
bucket_of(int set, int index)
{
    return &table[((unsigned)set * 31U + (unsigned)index) % BUCKETS];
}

/* In a forked child, what was the process's own is its parent's. */
static void
settle(entry *found)
{
    uint64_t process = ipckit_own_token();
    if (found->process != process) {
        found->counts.inherited += found->counts.own;
        found->counts.own = 0;
        found->process = process;
    }
}

static entry *
find(int set, int index)
{
    for (entry *each = *bucket_of(set, index); each != NULL; each = each->next) {
        if (each->set == set && each->index == index) {
            settle(each);
            return each;
        }
    }
    return NULL;
}

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

holdings
ipckit_holdings(int set, int index)
{
    entry *found = find(set, index);
    return found == NULL ? (holdings){0, 0} : found->counts;
}

int
ipckit_holdings_begin(int set, const struct sembuf *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!(ops[i].sem_flg & SEM_UNDO)) {
            continue;
        }
        entry *found = find_or_add(set, ops[i].sem_num);
        bool allowed = found != NULL
                       && !(ops[i].sem_op > 0 && found->counts.inherited > 0
                            && found->counts.own < ops[i].sem_op);
        if (!allowed) {
            ipckit_holdings_end(set, ops, i, false);
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
ipckit_holdings_end(int set, const struct sembuf *ops, size_t count, bool done)
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

static void
clear(entry *found)
{
    if (found != NULL) {
        found->process = ipckit_own_token();
        found->counts = (holdings){0, 0};
        free_if_empty(found);
    }
}

void
ipckit_holdings_cleared(int set, int index)
{
    if (index >= 0) {
        clear(find(set, index));
        return;
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        entry *next;
        for (entry *each = table[i]; each != NULL; each = next) {
            next = each->next;
            clear(each->set == set ? each : NULL);
        }
    }
}
