/* bytes objects that were handed out and that nobody has any more, to be used again. */
#ifndef IPCKIT_SPARE_BYTES_H
#define IPCKIT_SPARE_BYTES_H

#include "native.h"

/* What a loop has in its hands while it asks for the next, and the next. */
#define SPARE_BYTES 2

/* Zeros are none. */
typedef struct {
    PyObject *objects[SPARE_BYTES];
    char *data[SPARE_BYTES]; /* theirs */
    uint64_t lengths[SPARE_BYTES];
    uint32_t next;   /* the one to forget first */
    uint32_t missed; /* how often in a row none could be used */
    uint32_t rest;   /* so many are made without a look: who keeps them all has no spare ones */
} spare_bytes;

/* A copy of so many bytes as a bytes object: a new reference, or NULL with an exception set. */
HIDDEN PyObject *ipckit_spare_bytes(spare_bytes *spare, const char *data, uint64_t length);
HIDDEN void ipckit_spare_bytes_clear(spare_bytes *spare);

#endif
