/* SpillFile and Piece: the memory in which a ProcessQueue passes large objects. Unless a comment says
   otherwise, a function here needs the GIL. */
#ifndef IPCKIT_SPILL_H
#define IPCKIT_SPILL_H

#include "channel/channel.h"
#include "ring/spill_table.h"

/* The file with the pieces, as one process has it open. Its Pieces have a reference to it. */
typedef struct {
    PyObject_HEAD
    channel_object *channel; /* has the messages that refer to the pieces */
    native_state *state;
    int fd;
    spill_table *table;
    char *warm[SPILL_WARM]; /* the mappings of the warm pieces, or NULL */
    int64_t sweep_after;    /* monotonic ns; before this time, no sweep because no warm piece is free */
} spill_object;

/* One piece of memory, which this process owns until it sends or frees it. */
typedef struct piece_object {
    PyObject_HEAD
    spill_object *spill;
    uint64_t token;  /* of the process, in the entry's word */
    long forks;      /* ipckit_spill_forks when the Piece was created */
    int64_t index;   /* the entry, or -1 after the piece was sent or freed */
    uint64_t size;   /* bytes of the object */
    char *mapped;    /* the mapping of a received object, or NULL */
    char *copied;    /* a copy of a received object that could not be mapped, or NULL */
    bool received;   /* if `mapped` and `copied` are NULL, there was no memory for it yet */
    struct piece_object *next, *previous; /* in the list of mapped pieces */
} piece_object;

/* How many forks lie between the process that imported the module and this one. */
extern HIDDEN long ipckit_spill_forks;

/* Frees a piece if the process with the token owns it. Runs no Python code and needs no GIL. */
HIDDEN void ipckit_spill_release(const spill_object *self, uint32_t index, uint64_t token);

/* Registers the fork handlers of fork.c, once in a process. Returns 0, or an errno. */
HIDDEN int ipckit_spill_watch_forks(void);
/* Add a mapped Piece to the list of pieces that are copied before a fork, and remove it. Need no GIL;
   take the list's mutex. */
HIDDEN void ipckit_piece_link(piece_object *self);
HIDDEN void ipckit_piece_unlink(piece_object *self);

/* Tells whether this process owns the piece: it was not sent or freed, and is not the parent's. Needs no
   GIL. */
HIDDEN bool ipckit_piece_is_ours(const piece_object *self);
/* Frees the piece if this process owns it. The caller unmaps its memory. Needs no GIL. */
HIDDEN void ipckit_piece_free(piece_object *self);

/* Creates the Piece of an entry that this process owns. Returns NULL with MemoryError set; then the entry
   is free. */
HIDDEN piece_object *ipckit_piece_new(spill_object *spill, uint32_t index, uint64_t size);
/* Creates the Piece for a message that was taken. Returns a new reference; None if a process was killed
   while it took the same message before; or NULL with an exception set. */
HIDDEN PyObject *ipckit_piece_received(spill_object *spill, const spill_reference *reference);

/* The methods of Piece and their docstrings. */
extern HIDDEN const char ipckit_piece_write_doc[], ipckit_piece_send_doc[];
HIDDEN PyObject *ipckit_piece_write(piece_object *self, PyObject *parts);
HIDDEN PyObject *ipckit_piece_send(piece_object *self, PyObject *timeout);

#endif
