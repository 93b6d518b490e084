/* System V semaphores: semget and semctl. */
#include "native.h"
#include "semaphores/undo_counts.h"

#include <errno.h>
#include <limits.h>
#include <sys/ipc.h>
#include <sys/sem.h>

#ifndef SEM_STAT_ANY
#define SEM_STAT_ANY 20
#endif

/* semctl(2): the calling program must define this union. */
union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
    struct seminfo *info;
};

PyDoc_STRVAR(semget_doc, "semget(key, count, flags, /)\n--\n\nsemget(2): the set's id.");

static PyObject *
native_semget(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int key, count, flags;
    if (ipckit_check_nargs("semget", nargs, 3) < 0 || ipckit_int_arg(args[0], "key", &key) < 0
        || ipckit_int_arg(args[1], "count", &count) < 0
        || ipckit_int_arg(args[2], "flags", &flags) < 0) {
        return NULL;
    }
    int id = semget(key, count, flags);
    return id < 0 ? ipckit_oserror() : PyLong_FromLong(id);
}

PyDoc_STRVAR(sem_get_doc,
             "sem_get(id, index, command, /)\n--\n\n"
             "semctl(2) with GETVAL, GETPID, GETNCNT, GETZCNT or IPC_RMID. Returns a number.");

static PyObject *
native_sem_get(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int id, index, command;
    if (ipckit_check_nargs("sem_get", nargs, 3) < 0 || ipckit_int_arg(args[0], "id", &id) < 0
        || ipckit_int_arg(args[1], "index", &index) < 0
        || ipckit_int_arg(args[2], "command", &command) < 0) {
        return NULL;
    }
    if (command != GETVAL && command != GETPID && command != GETNCNT && command != GETZCNT
        && command != IPC_RMID) {
        PyErr_SetString(PyExc_ValueError,
                        "command is GETVAL, GETPID, GETNCNT, GETZCNT or IPC_RMID");
        return NULL;
    }
    int result = semctl(id, index, command);
    if (result < 0) {
        return ipckit_oserror();
    }
    if (command == IPC_RMID) {
        ipckit_undo_cleared(id, -1);
    }
    return PyLong_FromLong(result);
}

PyDoc_STRVAR(sem_setval_doc, "sem_setval(id, index, value, /)\n--\n\nsemctl(2) with SETVAL.");

static PyObject *
native_sem_setval(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int id, index, value;
    if (ipckit_check_nargs("sem_setval", nargs, 3) < 0 || ipckit_int_arg(args[0], "id", &id) < 0
        || ipckit_int_arg(args[1], "index", &index) < 0
        || ipckit_int_arg(args[2], "value", &value) < 0) {
        return NULL;
    }
    if (semctl(id, index, SETVAL, (union semun){.val = value}) < 0) {
        return ipckit_oserror();
    }
    ipckit_undo_cleared(id, index);
    Py_RETURN_NONE;
}

/* Returns the number of semaphores of a set, or -1 with OSError set. */
static long
count_of(int id)
{
    struct semid_ds ds;
    if (semctl(id, 0, IPC_STAT, (union semun){.buf = &ds}) < 0) {
        ipckit_oserror();
        return -1;
    }
    return (long)ds.sem_nsems;
}

/* Returns a list of `count` values, or NULL with MemoryError. */
static PyObject *
list_of(const unsigned short *values, long count)
{
    PyObject *list = PyList_New(count);
    for (long i = 0; list != NULL && i < count; i++) {
        PyObject *value = PyLong_FromLong(values[i]);
        if (value == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SetItem(list, i, value);
    }
    return list;
}

PyDoc_STRVAR(sem_getall_doc, "sem_getall(id, /)\n--\n\nsemctl(2) with GETALL. Returns a list of values.");

static PyObject *
native_sem_getall(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int id;
    if (ipckit_int_arg(arg, "id", &id) < 0) {
        return NULL;
    }
    /* An id is never used for another set, and a set does not change its size. */
    long count = count_of(id);
    if (count < 0) {
        return NULL;
    }
    unsigned short *values = PyMem_Calloc((size_t)count, sizeof *values);
    if (values == NULL) {
        return PyErr_NoMemory();
    }
    int got = semctl(id, 0, GETALL, (union semun){.array = values});
    PyObject *result = got < 0 ? ipckit_oserror() : list_of(values, count);
    PyMem_Free(values);
    return result;
}

/* Returns the values of a tuple as an array for SETALL, which the caller frees; NULL with an exception set: ValueError
   if their number is not `count` or a value is out of range. */
static unsigned short *
array_of(PyObject *tuple, long count)
{
    if (PyTuple_Size(tuple) != count) {
        PyErr_Format(PyExc_ValueError, "%zd values for %ld semaphores", PyTuple_Size(tuple), count);
        return NULL;
    }
    unsigned short *values = PyMem_Calloc((size_t)count, sizeof *values);
    if (values == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (long i = 0; i < count; i++) {
        long value;
        if (ipckit_long_arg(PyTuple_GetItem(tuple, i), "value", 0, USHRT_MAX, &value) < 0) {
            PyMem_Free(values);
            return NULL;
        }
        values[i] = (unsigned short)value;
    }
    return values;
}

PyDoc_STRVAR(sem_setall_doc,
             "sem_setall(id, values, /)\n--\n\n"
             "semctl(2) with SETALL. ValueError unless there is one value for each semaphore.");

static PyObject *
native_sem_setall(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int id;
    if (ipckit_check_nargs("sem_setall", nargs, 2) < 0 || ipckit_int_arg(args[0], "id", &id) < 0) {
        return NULL;
    }
    PyObject *given = PySequence_Tuple(args[1]);
    if (given == NULL) {
        return NULL;
    }
    long count = count_of(id);
    unsigned short *values = count < 0 ? NULL : array_of(given, count);
    Py_DECREF(given);
    if (values == NULL) {
        return NULL;
    }
    int result = semctl(id, 0, SETALL, (union semun){.array = values});
    int error = errno;
    PyMem_Free(values);
    if (result < 0) {
        errno = error;
        return ipckit_oserror();
    }
    ipckit_undo_cleared(id, -1);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(sem_stat_doc,
             "sem_stat(id, command, /)\n--\n\n"
             "semctl(2) with IPC_STAT, SEM_STAT or SEM_STAT_ANY. Returns (what semctl returned, key, uid,\n"
             "gid, cuid, cgid, mode, seq, otime, ctime, nsems).");

static PyObject *
native_sem_stat(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int id, command;
    if (ipckit_check_nargs("sem_stat", nargs, 2) < 0 || ipckit_int_arg(args[0], "id", &id) < 0
        || ipckit_int_arg(args[1], "command", &command) < 0) {
        return NULL;
    }
    if (command != IPC_STAT && command != SEM_STAT && command != SEM_STAT_ANY) {
        PyErr_SetString(PyExc_ValueError, "command is IPC_STAT, SEM_STAT or SEM_STAT_ANY");
        return NULL;
    }
    struct semid_ds ds;
    int result = semctl(id, 0, command, (union semun){.buf = &ds});
    if (result < 0) {
        return ipckit_oserror();
    }
    return Py_BuildValue("iikkkkkkLLk", result, (int)ds.sem_perm.__key,
                         (unsigned long)ds.sem_perm.uid, (unsigned long)ds.sem_perm.gid,
                         (unsigned long)ds.sem_perm.cuid, (unsigned long)ds.sem_perm.cgid,
                         (unsigned long)ds.sem_perm.mode, (unsigned long)ds.sem_perm.__seq,
                         (long long)ds.sem_otime, (long long)ds.sem_ctime,
                         (unsigned long)ds.sem_nsems);
}

PyDoc_STRVAR(sem_set_doc, "sem_set(id, uid, gid, mode, /)\n--\n\n"
                          "semctl(2) with IPC_SET: sets the owner and the mode's lower nine bits.");

static PyObject *
native_sem_set(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int id;
    long uid, gid, mode;
    if (ipckit_check_nargs("sem_set", nargs, 4) < 0 || ipckit_int_arg(args[0], "id", &id) < 0
        || ipckit_long_arg(args[1], "uid", 0, UINT32_MAX - 1, &uid) < 0
        || ipckit_long_arg(args[2], "gid", 0, UINT32_MAX - 1, &gid) < 0
        || ipckit_long_arg(args[3], "mode", 0, 0777, &mode) < 0) {
        return NULL;
    }
    struct semid_ds ds = {0};
    ds.sem_perm.uid = (uid_t)uid;
    ds.sem_perm.gid = (gid_t)gid;
    ds.sem_perm.mode = (unsigned short)mode;
    if (semctl(id, 0, IPC_SET, (union semun){.buf = &ds}) < 0) {
        return ipckit_oserror();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(sem_info_doc,
             "sem_info(command, /)\n--\n\n"
             "semctl(2) with IPC_INFO or SEM_INFO. Returns (highest used index, semmap, semmni, semmns,\n"
             "semmnu, semmsl, semopm, semume, semusz, semvmx, semaem).");

static PyObject *
native_sem_info(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int command;
    if (ipckit_int_arg(arg, "command", &command) < 0) {
        return NULL;
    }
    if (command != IPC_INFO && command != SEM_INFO) {
        PyErr_SetString(PyExc_ValueError, "command is IPC_INFO or SEM_INFO");
        return NULL;
    }
    struct seminfo info;
    int highest = semctl(0, 0, command, (union semun){.info = &info});
    if (highest < 0) {
        return ipckit_oserror();
    }
    return Py_BuildValue("iiiiiiiiiii", highest, info.semmap, info.semmni, info.semmns, info.semmnu,
                         info.semmsl, info.semopm, info.semume, info.semusz, info.semvmx,
                         info.semaem);
}

static PyMethodDef functions[] = {
    {"semget", (PyCFunction)(void (*)(void))native_semget, METH_FASTCALL, semget_doc},
    {"sem_get", (PyCFunction)(void (*)(void))native_sem_get, METH_FASTCALL, sem_get_doc},
    {"sem_setval", (PyCFunction)(void (*)(void))native_sem_setval, METH_FASTCALL, sem_setval_doc},
    {"sem_getall", native_sem_getall, METH_O, sem_getall_doc},
    {"sem_setall", (PyCFunction)(void (*)(void))native_sem_setall, METH_FASTCALL, sem_setall_doc},
    {"sem_stat", (PyCFunction)(void (*)(void))native_sem_stat, METH_FASTCALL, sem_stat_doc},
    {"sem_set", (PyCFunction)(void (*)(void))native_sem_set, METH_FASTCALL, sem_set_doc},
    {"sem_info", native_sem_info, METH_O, sem_info_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_sysv_semctl(PyObject *module)
{
    static const struct {
        const char *name;
        long value;
    } constants[] = {
        {"GETVAL", GETVAL},     {"GETPID", GETPID},         {"GETNCNT", GETNCNT},
        {"GETZCNT", GETZCNT},   {"SEM_STAT", SEM_STAT},     {"SEM_STAT_ANY", SEM_STAT_ANY},
        {"SEM_INFO", SEM_INFO}, {"SEM_UNDO", SEM_UNDO},
    };
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0) {
            return -1;
        }
    }
    return PyModule_AddFunctions(module, functions);
}
