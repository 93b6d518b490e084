/* The pieces of memory that a ProcessQueue's large objects travel in, as a process has them. */
#ifndef IPCKIT_SPILL_H
#define IPCKIT_SPILL_H

#include "channel/channel.h"
#include "ring/spill_table.h"

/* The file of the pieces, in one process. Its Pieces hold a reference to it. */
typedef struct {
    PyObject_HEAD
    channel_object *channel; /* the messages that refer to the pieces travel in it */
    native_state *state;
    int fd;
    spill_table *table;
    char *warm[SPILL_WARM]; /* where the pieces that are kept warm are mapped, or NULL */
    int64_t sweep_after;    /* when to look for dead processes again because no piece is warm */
} spill_object;

/* One piece of memory, as long as it is this process's. */
typedef struct piece_object {
    PyObject_HEAD
    spill_object *spill;
    uint64_t token;  /* of the process, in the entry's word */
    long forks;      /* ipckit_spill_forks when the piece was made */
    int64_t index;   /* the entry, or -1 once the piece is not this process's any more */
    uint64_t size;   /* bytes of the object */
    char *mapped;    /* a received object's memory, or NULL */
    char *copied;    /* the same if it can't be mapped */
    bool received;   /* without either, there was no memory for it yet */
    struct piece_object *next, *previous; /* of all that are mapped */
} piece_object;

/* How often this process came out of a fork. */
extern HIDDEN long ipckit_spill_forks;

/* Gives a piece back if it is the token's; no Python code runs. */
HIDDEN void ipckit_spill_release(const spill_object *self, uint32_t index, uint64_t token);

/* Has the functions below run at each fork: 0, or an errno. */
HIDDEN int ipckit_spill_watch_forks(void);
/* Enters a Piece that is mapped into the list of those that a fork copies, and takes it out. */
HIDDEN void ipckit_piece_link(piece_object *self);
HIDDEN void ipckit_piece_unlink(piece_object *self);

/* Whether the piece is this process's: it was not sent, and is not the parent's. */
HIDDEN bool ipckit_piece_is_ours(const piece_object *self);
/* Gives the piece back if it is this process's. Its mapping, if any, is the caller's to end. */
HIDDEN void ipckit_piece_free(piece_object *self);

/* A Piece for an entry that is this process's, which it takes over; NULL with MemoryError set. */
HIDDEN piece_object *ipckit_piece_new(spill_object *spill, uint32_t index, uint64_t size);
/* The Piece of a message that was taken: a new reference; None if a killed process had it in its
   hands; NULL with an exception set. */
HIDDEN PyObject *ipckit_piece_received(spill_object *spill, const spill_reference *reference);

/* Methods of Piece. */
extern HIDDEN const char ipckit_piece_write_doc[], ipckit_piece_send_doc[];
HIDDEN PyObject *ipckit_piece_write(piece_object *self, PyObject *parts);
HIDDEN PyObject *ipckit_piece_send(piece_object *self, PyObject *timeout);

#endif
