/* SpillFile and Piece: the memory of objects for which a ProcessQueue's channel has no block. Unless a
   comment says otherwise, a function here needs the GIL. */
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
    uint64_t stalled_head;  /* `head` when send_parts waits for memory, or last waited in vain */
} spill_object;

/* One piece of memory, which this process owns until it sends or frees it. */
typedef struct {
    PyObject_HEAD
    spill_object *spill;
    uint64_t token;  /* of the process, in the entry's word */
    int64_t index;   /* the entry, or -1 after the piece was sent or freed */
    uint64_t size;   /* bytes of the object */
    char *mapped;    /* the mapping of a received object, or NULL */
    bool received;   /* if `mapped` is NULL, it could not be mapped yet */
} piece_object;

/* Frees a piece if the process with the token owns it. Runs no Python code and needs no GIL. */
HIDDEN void ipckit_spill_release(const spill_object *self, uint32_t index, uint64_t token);

/* Tells whether this process owns the piece: it was not sent or freed, and is not the parent's in a
   forked child. Needs no GIL. */
HIDDEN bool ipckit_piece_is_ours(const piece_object *self);

/* Creates the Piece of an entry that this process owns. Returns NULL with MemoryError set; then the entry
   is free. */
HIDDEN piece_object *ipckit_piece_new(spill_object *spill, uint32_t index, uint64_t size);
/* Creates the Piece for a message that was taken. Returns a new reference; None if a process was killed
   while it took the same message before; or NULL with an exception set. */
HIDDEN PyObject *ipckit_piece_received(spill_object *spill, const spill_reference *reference);

/* A method of SpillFile and its docstring. */
extern HIDDEN const char ipckit_spill_send_parts_doc[];
HIDDEN PyObject *ipckit_spill_send_parts(spill_object *self, PyObject *const *args, Py_ssize_t nargs);

/* The methods of Piece and their docstrings. */
extern HIDDEN const char ipckit_piece_write_doc[], ipckit_piece_send_doc[];
HIDDEN PyObject *ipckit_piece_write(piece_object *self, PyObject *parts);
HIDDEN PyObject *ipckit_piece_send(piece_object *self, PyObject *timeout);

#endif
