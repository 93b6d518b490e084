/* What the files of ipckit._native share. */
#ifndef IPCKIT_NATIVE_H
#define IPCKIT_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define HIDDEN __attribute__((visibility("hidden")))

/* Each file adds its functions and types to the module: 0, or -1 with an exception set. */
HIDDEN int ipckit_add_record(PyObject *module);

#endif
