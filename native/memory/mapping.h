/* Mapping: memory from mmap(2) or shmat(2), which is unmapped when it is closed and its last view
   is released. */
#ifndef IPCKIT_MAPPING_H
#define IPCKIT_MAPPING_H

#include "native.h"

/* Whether munmap(2) or shmdt(2) unmaps the memory. */
typedef enum { MAPPED_BY_MMAP, MAPPED_BY_SHMAT } mapping_kind;

typedef struct {
    PyObject_HEAD
    mapping_kind kind;
    char *base;         /* the address that the kernel returned; NULL after the memory was unmapped */
    size_t span;        /* bytes that the kernel mapped from base on */
    char *data;         /* the first byte that the caller requested, inside the span */
    Py_ssize_t size;    /* bytes that the caller requested, from data on */
    int protection;     /* the present PROT_READ and PROT_WRITE */
    bool closed;        /* no new exports; the memory is unmapped with the last one */
    Py_ssize_t exports; /* buffers and Views of the memory; the GIL protects it */
    PyObject *weakrefs;
} mapping_object;

/* Creates a Mapping, which owns the memory from now on: `span` bytes at `base`, of which it shows
   `size` bytes from `start` on. Returns a new reference, or NULL with an exception set; then the
   memory is unmapped. */
HIDDEN PyObject *ipckit_mapping_new(PyObject *module, mapping_kind kind, void *base, size_t span,
                                    size_t start, Py_ssize_t size, int protection);

/* Creates a View of `size` bytes from `offset` on, which must be inside the mapping. The caller has
   begun an export, which the View ends when it is deallocated. Returns a new reference, or NULL
   with an exception set; then the caller must end the export. */
HIDDEN PyObject *ipckit_view_new(native_state *state, mapping_object *mapping, Py_ssize_t offset,
                                 Py_ssize_t size, bool readonly);

/* Begins an export: the memory stays mapped until ipckit_mapping_end_export. Returns 0, or -1 with
   ValueError set if the mapping is closed, or BufferError if it is not readable. */
HIDDEN int ipckit_mapping_begin_export(mapping_object *self);

/* Ends an export. Unmaps the memory if it was the last export of a closed mapping. */
HIDDEN void ipckit_mapping_end_export(mapping_object *self);

/* Checks that the mapping is open, and that `size` bytes from `offset` are inside it. Returns 0, or
   -1 with ValueError or IndexError set. */
HIDDEN int ipckit_mapping_check_range(const mapping_object *self, Py_ssize_t offset,
                                      Py_ssize_t size);

#endif
