/* mmap(2), and msync(2), madvise(2) and mprotect(2) of a Mapping. */
#include "memory/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Numbers that older headers do not have. */
#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef F_SEAL_FUTURE_WRITE /* Linux 5.1 */
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef F_SEAL_EXEC /* Linux 6.3 */
#define F_SEAL_EXEC 0x0020
#endif
#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static size_t
page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Whether the file has all the bytes. An access past its end would be a SIGBUS. Otherwise errno is
   set. */
static bool
file_contains(int fd, long offset, Py_ssize_t size)
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
             "mmap(2): a Mapping of `size` bytes from `offset` on. `offset` need not be a multiple of\n"
             "the page size, and `fd` is -1 with MAP_ANONYMOUS. OSError EFBIG: the file is shorter.");

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
        PyErr_SetString(PyExc_ValueError, "the protection or a flag is one that a Mapping can't have");
        return NULL;
    }
    size_t start = (size_t)offset % page_size();
    if (size > PY_SSIZE_T_MAX - (Py_ssize_t)page_size()) {
        errno = ENOMEM;
        return ipckit_oserror();
    }
    if (!(flags & MAP_ANONYMOUS) && !file_contains(fd, offset, size)) {
        return ipckit_oserror();
    }
    size_t span = start + (size_t)size;
    void *base = mmap(NULL, span, protection, flags, fd, offset - (long)start);
    if (base == MAP_FAILED) {
        return ipckit_oserror();
    }
    return ipckit_mapping_new(module, MAPPED_BY_MMAP, base, span, start, size, protection);
}

/* Reads the first three arguments of msync and madvise: a Mapping, an offset and a size. Returns 0
   with the range extended down to a page boundary, or -1 with an exception set. */
static int
page_range_args(PyObject *module, PyObject *const *args, mapping_object **mapping, char **from,
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
        || ipckit_size_arg(args[2], "size", &size) < 0
        || ipckit_mapping_check_range(*mapping, offset, size) < 0) {
        return -1;
    }
    size_t start = (size_t)((*mapping)->data - (*mapping)->base) + (size_t)offset;
    size_t before = start % page_size();
    *from = (*mapping)->base + start - before;
    *length = (size_t)size + before;
    return 0;
}

/* Calls msync or madvise on pages of a mapping, without the GIL. Returns None, or NULL with OSError
   set. */
static PyObject *
call_on_pages(int (*call)(void *, size_t, int), mapping_object *mapping, char *from, size_t length,
              int flags)
{
    int result, error;
    /* Another thread may close the mapping during the call. Not begin_export: these calls need no
       right to read. */
    mapping->exports++;
    Py_BEGIN_ALLOW_THREADS
    result = call(from, length, flags);
    error = errno;
    Py_END_ALLOW_THREADS
    ipckit_mapping_end_export(mapping);
    if (result < 0) {
        errno = error;
        return ipckit_oserror();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(msync_doc, "msync(mapping, offset, size, flags, /)\n--\n\n"
                        "msync(2) of the pages that contain `size` bytes from `offset` on.");

static PyObject *
native_msync(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    mapping_object *mapping;
    char *from;
    size_t length;
    int flags;
    /* The range is last: reading a number may run Python code that closes the mapping. */
    if (ipckit_check_nargs("msync", nargs, 4) < 0 || ipckit_int_arg(args[3], "flags", &flags) < 0
        || page_range_args(module, args, &mapping, &from, &length) < 0) {
        return NULL;
    }
    return call_on_pages(msync, mapping, from, length, flags);
}

/* Whether advice changes only the speed, or this process's own pages. Other advice makes a later
   access fatal: MADV_DONTFORK, MADV_HWPOISON and MADV_GUARD_INSTALL do, and so does MADV_REMOVE if
   the file system is full by then. */
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
    case MADV_POPULATE_WRITE: /* returns an error if an access would be fatal */
        return true;
    default:
        return false;
    }
}

PyDoc_STRVAR(madvise_doc, "madvise(mapping, offset, size, advice, /)\n--\n\n"
                          "madvise(2) of the pages that contain `size` bytes from `offset` on.");

static PyObject *
native_madvise(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    mapping_object *mapping;
    char *from;
    size_t length;
    int advice;
    if (ipckit_check_nargs("madvise", nargs, 4) < 0 || ipckit_int_arg(args[3], "advice", &advice) < 0
        || page_range_args(module, args, &mapping, &from, &length) < 0) {
        return NULL;
    }
    if (!is_harmless(advice)) {
        PyErr_Format(PyExc_ValueError, "advice %d is unknown, or can make a later access fatal",
                     advice);
        return NULL;
    }
    return call_on_pages(madvise, mapping, from, length, advice);
}

PyDoc_STRVAR(mprotect_doc,
             "mprotect(mapping, protection, /)\n--\n\n"
             "mprotect(2) of the whole mapping. BufferError: views of it exist, and would lose a right.");

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
    bool removes_right = mapping->protection & ~protection;
    if (removes_right && mapping->exports > 0) {
        PyErr_Format(PyExc_BufferError, "the memory has %zd views", mapping->exports);
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
    static const struct {
        const char *name;
        long value;
    } constants[] = {
        {"MADV_POPULATE_WRITE", MADV_POPULATE_WRITE},
        {"MS_ASYNC", MS_ASYNC},
        {"MS_INVALIDATE", MS_INVALIDATE},
        {"MS_SYNC", MS_SYNC},
        {"MFD_NOEXEC_SEAL", MFD_NOEXEC_SEAL},
        {"F_SEAL_SEAL", F_SEAL_SEAL},
        {"F_SEAL_SHRINK", F_SEAL_SHRINK},
        {"F_SEAL_GROW", F_SEAL_GROW},
        {"F_SEAL_WRITE", F_SEAL_WRITE},
        {"F_SEAL_FUTURE_WRITE", F_SEAL_FUTURE_WRITE},
        {"F_SEAL_EXEC", F_SEAL_EXEC},
    };
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0) {
            return -1;
        }
    }
    return PyModule_AddFunctions(module, functions);
}
