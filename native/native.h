/* What the files of ipckit._native share. */
#ifndef IPCKIT_NATIVE_H
#define IPCKIT_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define HIDDEN __attribute__((visibility("hidden")))

/* Each file adds its functions and types to the module: 0, or -1 with an exception set. */
HIDDEN int ipckit_add_field(PyObject *module);
HIDDEN int ipckit_add_layout(PyObject *module);
HIDDEN int ipckit_add_record(PyObject *module);

/* A new Struct instance of `type` (a subclass of _native.Record) that owns a copy of the bytes;
   LayoutMismatch where their number is not the struct's. */
HIDDEN PyObject *ipckit_record_from_memory(PyTypeObject *type, const char *data, Py_ssize_t size);

#endif
