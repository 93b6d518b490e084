/* mmap and what may be done to its memory: msync, mprotect, madvise. */
#include "memory/mapping.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

static size_t
page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Whether the file has the bytes: a mapping past its end would be a SIGBUS at first touch. */
static bool
file_holds(int fd, long offset, Py_ssize_t size)
{
    struct stat status;
    if (fstat(fd, &status) < 0) {
        return false;
    }
    if (!S_ISREG(status.st_mode)) {
        return true; /* a device knows its own size */
    }
    if (offset > status.st_size || size > status.st_size - offset) {
        errno = EFBIG;
        return false;
    }
    return true;
}

PyDoc_STRVAR(mmap_doc,
             "mmap(fd, offset, size, protection, flags, /)\n--\n\n"
             "mmap(2) of `size` bytes from `offset` on as a Mapping; `offset` need not be on a page\n"
             "border, and `fd` is -1 with MAP_ANONYMOUS. OSError: EFBIG past the end of the file.");

static PyObject *
native_mmap(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    int fd, protection, flags;
    long offset;
    Py_ssize_t size;
    if (ipckit_check_nargs("mmap", nargs, 5) < 0 || ipckit_int_arg(args[0], "fd", &fd) < 0
        || ipckit_long_arg(args[1], "offset", 0, LONG_MAX, &offset) < 0
        || ipckit_size_arg(args[2], "size", &size) < 0
        || ipckit_int_arg(args[3], "protection", &protection) < 0
        || ipckit_int_arg(args[4], "flags", &flags) < 0) {
        return NULL;
    }
    if (protection & ~(PROT_READ | PROT_WRITE) || flags & ~(MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS)) {
        PyErr_SetString(PyExc_ValueError, "a protection or a flag that a Mapping can't have");
        return NULL;
    }
    size_t start = (size_t)offset % page_size();
    if (size > PY_SSIZE_T_MAX - (Py_ssize_t)page_size()) {
        errno = ENOMEM;
        return ipckit_oserror();
    }
    if (!(flags & MAP_ANONYMOUS) && !file_holds(fd, offset, size)) {
        return ipckit_oserror();
    }
    size_t span = start + (size_t)size;
    void *base = mmap(NULL, span, protection, flags, fd, offset - (long)start);
    if (base == MAP_FAILED) {
        return ipckit_oserror();
    }
    return ipckit_mapping_new(module, MAPPED_BY_MMAP, base, span, start, size, protection);
}

/* The Mapping and range of msync and madvise: 0 and the page-rounded range, or -1. */
static int
page_range(PyObject *module, PyObject *const *args, mapping_object **mapping, char **from,
           size_t *length)
{
    native_state *state = PyModule_GetState(module);
    Py_ssize_t offset, size;
    if (!Py_IS_TYPE(args[0], state->mapping_type)) {
        PyErr_SetString(PyExc_TypeError, "the first argument is a Mapping");
        return -1;
    }
    *mapping = (mapping_object *)args[0];
    if (ipckit_size_arg(args[1], "offset", &offset) < 0
        || ipckit_size_arg(args[2], "size", &size) < 0) {
        return -1;
    }
    if ((*mapping)->closed) {
        PyErr_SetString(PyExc_ValueError, "the mapping is closed");
        return -1;
    }
    if (offset > (*mapping)->size || size > (*mapping)->size - offset) {
        PyErr_Format(PyExc_IndexError, "%zd bytes from %zd on are not inside a mapping of %zd bytes",
                     size, offset, (*mapping)->size);
        return -1;
    }
    size_t start = (size_t)((*mapping)->data - (*mapping)->base) + (size_t)offset;
    size_t before = start % page_size();
    *from = (*mapping)->base + start - before;
    *length = (size_t)size + before;
    return 0;
}

PyDoc_STRVAR(msync_doc, "msync(mapping, offset, size, flags, /)\n--\n\n"
                        "msync(2) of the pages that hold `size` bytes from `offset` on.");

static PyObject *
native_msync(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    mapping_object *mapping;
    char *from;
    size_t length;
    int flags, result, error;
    /* The range last: taking a number may run Python code that closes the mapping. */
    if (ipckit_check_nargs("msync", nargs, 4) < 0 || ipckit_int_arg(args[3], "flags", &flags) < 0
        || page_range(module, args, &mapping, &from, &length) < 0) {
        return NULL;
    }
    mapping->exports++; /* another thread may close it meanwhile */
    Py_BEGIN_ALLOW_THREADS
    result = msync(from, length, flags);
    error = errno;
    Py_END_ALLOW_THREADS
    ipckit_mapping_end_export(mapping);
    errno = error;
    if (result < 0) {
        return ipckit_oserror();
    }
    Py_RETURN_NONE;
}

/* Advice that changes speed or this process's own pages; none that makes a later touch fatal, as
   MADV_DONTFORK, MADV_HWPOISON and MADV_GUARD_INSTALL do, and MADV_REMOVE where the file system
   is full by then. */
static bool
is_harmless(int advice)
{
    switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE: /* fails, where a touch would be fatal */
        return true;
    default:
        return false;
    }
}

PyDoc_STRVAR(madvise_doc, "madvise(mapping, offset, size, advice, /)\n--\n\n"
                          "madvise(2) on the pages that hold `size` bytes from `offset` on.");

static PyObject *
native_madvise(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    mapping_object *mapping;
    char *from;
    size_t length;
    int advice, result, error;
    if (ipckit_check_nargs("madvise", nargs, 4) < 0 || ipckit_int_arg(args[3], "advice", &advice) < 0
        || page_range(module, args, &mapping, &from, &length) < 0) {
        return NULL;
    }
    if (!is_harmless(advice)) {
        PyErr_Format(PyExc_ValueError, "advice %d is unknown, or could make a later touch fatal",
                     advice);
        return NULL;
    }
    mapping->exports++; /* another thread may close it meanwhile */
    Py_BEGIN_ALLOW_THREADS
    result = madvise(from, length, advice);
    error = errno;
    Py_END_ALLOW_THREADS
    ipckit_mapping_end_export(mapping);
    errno = error;
    if (result < 0) {
        return ipckit_oserror();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(mprotect_doc,
             "mprotect(mapping, protection, /)\n--\n\n"
             "mprotect(2) of the whole mapping. BufferError: a view lives, and would be cut off.");

static PyObject *
native_mprotect(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    native_state *state = PyModule_GetState(module);
    int protection;
    if (ipckit_check_nargs("mprotect", nargs, 2) < 0
        || ipckit_int_arg(args[1], "protection", &protection) < 0) {
        return NULL;
    }
    if (!Py_IS_TYPE(args[0], state->mapping_type) || protection & ~(PROT_READ | PROT_WRITE)) {
        PyErr_SetString(PyExc_TypeError, "mprotect takes a Mapping and PROT_READ, PROT_WRITE or 0");
        return NULL;
    }
    mapping_object *mapping = (mapping_object *)args[0];
    if (mapping->closed) {
        PyErr_SetString(PyExc_ValueError, "the mapping is closed");
        return NULL;
    }
    bool takes_away = mapping->protection & ~protection;
    if (takes_away && mapping->exports > 0) {
        PyErr_Format(PyExc_BufferError, "%zd views look at the memory", mapping->exports);
        return NULL;
    }
    if (mprotect(mapping->base, mapping->span, protection) < 0) {
        return ipckit_oserror();
    }
    mapping->protection = protection;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"mmap", (PyCFunction)(void (*)(void))native_mmap, METH_FASTCALL, mmap_doc},
    {"msync", (PyCFunction)(void (*)(void))native_msync, METH_FASTCALL, msync_doc},
    {"madvise", (PyCFunction)(void (*)(void))native_madvise, METH_FASTCALL, madvise_doc},
    {"mprotect", (PyCFunction)(void (*)(void))native_mprotect, METH_FASTCALL, mprotect_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_mmap(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
