/* The integer types that the C library chooses for typedefs of POSIX. */
#include "native.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

typedef struct {
    const char *name;
    const char *code; /* "i" signed, "u" unsigned */
    int size;
    int alignment;
} integer_type;

/* The comparison is true for a signed type only: -1 becomes the largest value of an unsigned one. */
#define INTEGER(type) {#type, (type)-1 < (type)1 ? "i" : "u", sizeof(type), _Alignof(type)}

static const integer_type typedefs[] = {
    INTEGER(ptrdiff_t),  INTEGER(intptr_t),    INTEGER(uintptr_t), INTEGER(pid_t),
    INTEGER(uid_t),      INTEGER(gid_t),       INTEGER(id_t),      INTEGER(mode_t),
    INTEGER(off_t),      INTEGER(dev_t),       INTEGER(ino_t),     INTEGER(nlink_t),
    INTEGER(blksize_t),  INTEGER(blkcnt_t),    INTEGER(time_t),    INTEGER(suseconds_t),
    INTEGER(clock_t),    INTEGER(clockid_t),   INTEGER(key_t),     INTEGER(socklen_t),
};

/* Adds TYPEDEFS: a dict from the name to the code, the size and the alignment in bytes. */
int
ipckit_add_typedefs(PyObject *module)
{
    PyObject *found = PyDict_New();
    int result = found == NULL ? -1 : 0;
    for (size_t i = 0; result == 0 && i < sizeof typedefs / sizeof *typedefs; i++) {
        const integer_type *type = &typedefs[i];
        PyObject *value = Py_BuildValue("sii", type->code, type->size, type->alignment);
        result = value == NULL ? -1 : PyDict_SetItemString(found, type->name, value);
        Py_XDECREF(value);
    }
    if (result == 0) {
        result = PyModule_AddObjectRef(module, "TYPEDEFS", found);
    }
    Py_XDECREF(found);
    return result;
}
