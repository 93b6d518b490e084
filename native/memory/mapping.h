/* Mapping: memory that shmat or mmap gave, unmapped when nobody looks at it any more. */
#ifndef IPCKIT_MAPPING_H
#define IPCKIT_MAPPING_H

#include "native.h"

/* How the memory goes back to the kernel. */
typedef enum { MAPPED_BY_MMAP, MAPPED_BY_SHMAT } mapping_kind;

typedef struct {
    PyObject_HEAD
    mapping_kind kind;
    char *base;         /* what the kernel gave, or NULL once it has it back */
    size_t span;        /* bytes that the kernel mapped from base on */
    char *data;         /* what the user asked for, inside that */
    Py_ssize_t size;    /* bytes from data on */
    int protection;     /* PROT_* as it is now */
    bool closed;        /* no new views; unmapped with the last one */
    Py_ssize_t exports; /* buffers and views that look at the memory */
    PyObject *weakrefs;
} mapping_object;

/* A Mapping that owns the memory; on failure gives it back to the kernel and returns NULL. */
HIDDEN PyObject *ipckit_mapping_new(PyObject *module, mapping_kind kind, void *base, size_t span,
                                    size_t start, Py_ssize_t size, int protection);

/* A View that takes over an export which the caller has begun; NULL leaves it the caller's. */
HIDDEN PyObject *ipckit_view_new(native_state *state, mapping_object *mapping, Py_ssize_t offset,
                                 Py_ssize_t size, bool readonly);

/* One less who looks at the memory; unmaps it where that was the last and the mapping is closed. */
HIDDEN void ipckit_mapping_end_export(mapping_object *self);

#endif
