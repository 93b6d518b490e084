/* The tasks of a ProcessQueue: the objects that were put and that no process has reported as done. Unless a
   comment says otherwise, a function here needs the GIL. */
#ifndef IPCKIT_TASKS_H
#define IPCKIT_TASKS_H

#include "process_queue/spill.h"

/* Counts of one place among the channel's peers. `done` and `base` are changed with receive_lock held. */
typedef struct {
    uint64_t done;    /* tasks that the peers of this place have reported as done */
    uint64_t base;    /* `done` when the owner reported its first */
    uint64_t waiting; /* an owner in bits 32 to 63; below, how many objects wait in its process's memory */
    uint32_t owner;   /* the peer that reported last, or 0 */
    uint32_t unused;
} task_counts;

/* Lies between the table's entries and the pieces (ring/spill_table.h). All zeros is a new queue. The
   words but `joiners` are changed with receive_lock held, which also orders them. */
typedef struct {
    uint64_t put;     /* the messages ever sent, when a process last looked */
    uint64_t got;     /* the messages ever received, when a process last looked */
    uint64_t lost;    /* tasks of processes that exited, which nobody waits for any more */
    uint64_t broken;  /* messages without an object, because a process was killed while it took them */
    uint32_t joiners; /* futex: the processes that wait until all tasks are done sleep on it */
    uint32_t unused[7];
    task_counts peers[CHANNEL_PEERS];
} task_table;

#define TASKS_START (sizeof(spill_table) + SPILL_ENTRIES * sizeof(spill_entry))

_Static_assert(sizeof(task_table) <= SPILL_DATA_START - TASKS_START, "the pieces begin after it");

/* Counts a message that was received and has no object: done, and lost. Returns 0, or -1 with an exception
   set. */
HIDDEN int ipckit_tasks_broken(spill_object *self);

/* Methods of SpillFile and their docstrings. */
extern HIDDEN const char ipckit_tasks_done_doc[], ipckit_tasks_count_doc[], ipckit_tasks_join_doc[],
    ipckit_tasks_note_waiting_doc[];
HIDDEN PyObject *ipckit_tasks_done(spill_object *self, PyObject *ignored);
HIDDEN PyObject *ipckit_tasks_count(spill_object *self, PyObject *ignored);
HIDDEN PyObject *ipckit_tasks_join(spill_object *self, PyObject *timeout);
HIDDEN PyObject *ipckit_tasks_note_waiting(spill_object *self, PyObject *waiting);

#endif
