/* System V shared memory: shmget(2), shmat(2) as a Mapping, and shmctl(2). */
#include "memory/mapping.h"

#include <errno.h>
#include <limits.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#ifndef SHM_STAT_ANY /* Linux 4.17 */
#define SHM_STAT_ANY 15
#endif
#ifndef SHM_DEST
#define SHM_DEST 01000
#endif
#ifndef SHM_LOCKED
#define SHM_LOCKED 02000
#endif

PyDoc_STRVAR(shmget_doc, "shmget(key, size, flags, /)\n--\n\nshmget(2): the segment's id.");

static PyObject *
native_shmget(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int key, flags;
    Py_ssize_t size;
    if (ipckit_check_nargs("shmget", nargs, 3) < 0 || ipckit_int_arg(args[0], "key", &key) < 0
        || ipckit_size_arg(args[1], "size", &size) < 0
        || ipckit_int_arg(args[2], "flags", &flags) < 0) {
        return NULL;
    }
    int id = shmget(key, (size_t)size, flags);
    return id < 0 ? ipckit_oserror() : PyLong_FromLong(id);
}

/* `size` rounded up to whole pages. */
static size_t
whole_pages(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) / page * page;
}

/* Checks that a segment can replace a Mapping at `address`: the Mapping has no exports, and the
   segment covers all its pages. Returns 0, or -1 with an exception set. */
static int
check_replaced(PyObject *module, PyObject *replaced, long address, int id)
{
    native_state *state = PyModule_GetState(module);
    struct shmid_ds ds;
    if (!Py_IS_TYPE(replaced, state->mapping_type)) {
        PyErr_SetString(PyExc_TypeError, "SHM_REMAP takes a Mapping to replace");
        return -1;
    }
    if (shmctl(id, IPC_STAT, &ds) < 0) {
        ipckit_oserror();
        return -1;
    }
    mapping_object *mapping = (mapping_object *)replaced;
    if (mapping->closed || mapping->kind != MAPPED_BY_MMAP
        || mapping->base != (char *)(uintptr_t)address) {
        PyErr_SetString(PyExc_ValueError, "no mapping of mmap starts at that address");
        return -1;
    }
    if (mapping->exports > 0 || whole_pages(mapping->span) != whole_pages(ds.shm_segsz)) {
        PyErr_SetString(PyExc_BufferError,
                        "the mapping there has views, or another number of pages");
        return -1;
    }
    return 0;
}

/* Closes a Mapping whose memory the kernel has replaced, without unmapping what is there now. */
static void
forget_replaced(mapping_object *replaced)
{
    replaced->base = NULL;
    replaced->closed = true;
}

/* A Mapping of the whole segment that was attached at `base`. Returns NULL with an exception set if
   this fails; then the segment is detached. */
static PyObject *
mapping_of_segment(PyObject *module, int id, char *base, int flags)
{
    /* The segment is attached, so the kernel cannot reuse the id for another one. IPC_STAT needs
       the right to read, which shmat has just checked. */
    struct shmid_ds ds;
    if (shmctl(id, IPC_STAT, &ds) < 0) {
        int error = errno;
        shmdt(base);
        errno = error;
        return ipckit_oserror();
    }
    int protection = flags & SHM_RDONLY ? PROT_READ : PROT_READ | PROT_WRITE;
    return ipckit_mapping_new(module, MAPPED_BY_SHMAT, base, whole_pages(ds.shm_segsz), 0,
                              (Py_ssize_t)ds.shm_segsz, protection);
}

PyDoc_STRVAR(shmat_doc,
             "shmat(id, address, flags, replaced, /)\n--\n\n"
             "shmat(2): a Mapping of the whole segment. `address` is 0, or where to attach it. With\n"
             "SHM_REMAP and an address the segment replaces the Mapping `replaced`, which must start\n"
             "there, have as many pages and no views. Otherwise `replaced` is None.");

static PyObject *
native_shmat(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    int id, flags;
    long address;
    if (ipckit_check_nargs("shmat", nargs, 4) < 0 || ipckit_int_arg(args[0], "id", &id) < 0
        || ipckit_long_arg(args[1], "address", 0, LONG_MAX, &address) < 0
        || ipckit_int_arg(args[2], "flags", &flags) < 0) {
        return NULL;
    }
    if (flags & ~(SHM_RDONLY | SHM_RND | SHM_REMAP)) {
        PyErr_SetString(PyExc_ValueError, "flags are SHM_RDONLY, SHM_RND and SHM_REMAP");
        return NULL;
    }
    if (address != 0 && address < sysconf(_SC_PAGESIZE)) {
        /* SHM_RND would round it down to NULL. Root may map that, and it means "unmapped" here. */
        PyErr_SetString(PyExc_ValueError, "the first page of memory is never mapped");
        return NULL;
    }
    bool replaces = flags & SHM_REMAP && address != 0;
    if (replaces && check_replaced(module, args[3], address, id) < 0) {
        return NULL;
    }
    char *base = shmat(id, (void *)(uintptr_t)address, flags);
    if (base == (char *)-1) {
        return ipckit_oserror();
    }
    if (replaces) {
        forget_replaced((mapping_object *)args[3]);
    }
    return mapping_of_segment(module, id, base, flags);
}

PyDoc_STRVAR(shm_stat_doc,
             "shm_stat(id, command, /)\n--\n\n"
             "shmctl(2) with IPC_STAT, SHM_STAT or SHM_STAT_ANY: (what shmctl returned, key, uid,\n"
             "gid, cuid, cgid, mode, seq, segsz, atime, dtime, ctime, cpid, lpid, nattch).");

static PyObject *
native_shm_stat(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int id, command;
    if (ipckit_check_nargs("shm_stat", nargs, 2) < 0 || ipckit_int_arg(args[0], "id", &id) < 0
        || ipckit_int_arg(args[1], "command", &command) < 0) {
        return NULL;
    }
    if (command != IPC_STAT && command != SHM_STAT && command != SHM_STAT_ANY) {
        PyErr_SetString(PyExc_ValueError, "command is IPC_STAT, SHM_STAT or SHM_STAT_ANY");
        return NULL;
    }
    struct shmid_ds ds;
    int result = shmctl(id, command, &ds);
    if (result < 0) {
        return ipckit_oserror();
    }
    return Py_BuildValue("iikkkkkkkLLLiik", result, (int)ds.shm_perm.__key,
                         (unsigned long)ds.shm_perm.uid, (unsigned long)ds.shm_perm.gid,
                         (unsigned long)ds.shm_perm.cuid, (unsigned long)ds.shm_perm.cgid,
                         (unsigned long)ds.shm_perm.mode, (unsigned long)ds.shm_perm.__seq,
                         (unsigned long)ds.shm_segsz, (long long)ds.shm_atime,
                         (long long)ds.shm_dtime, (long long)ds.shm_ctime, (int)ds.shm_cpid,
                         (int)ds.shm_lpid, (unsigned long)ds.shm_nattch);
}

PyDoc_STRVAR(shm_set_doc, "shm_set(id, uid, gid, mode, /)\n--\n\n"
                          "shmctl(2) with IPC_SET: the owner, and the mode's lower nine bits.");

static PyObject *
native_shm_set(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int id;
    long uid, gid, mode;
    if (ipckit_check_nargs("shm_set", nargs, 4) < 0 || ipckit_int_arg(args[0], "id", &id) < 0
        || ipckit_long_arg(args[1], "uid", 0, UINT32_MAX - 1, &uid) < 0
        || ipckit_long_arg(args[2], "gid", 0, UINT32_MAX - 1, &gid) < 0
        || ipckit_long_arg(args[3], "mode", 0, 0777, &mode) < 0) {
        return NULL;
    }
    struct shmid_ds ds = {0};
    ds.shm_perm.uid = (uid_t)uid;
    ds.shm_perm.gid = (gid_t)gid;
    ds.shm_perm.mode = (unsigned short)mode;
    if (shmctl(id, IPC_SET, &ds) < 0) {
        return ipckit_oserror();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(shm_control_doc, "shm_control(id, command, /)\n--\n\n"
                              "shmctl(2) with IPC_RMID, SHM_LOCK or SHM_UNLOCK.");

static PyObject *
native_shm_control(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int id, command;
    if (ipckit_check_nargs("shm_control", nargs, 2) < 0 || ipckit_int_arg(args[0], "id", &id) < 0
        || ipckit_int_arg(args[1], "command", &command) < 0) {
        return NULL;
    }
    if (command != IPC_RMID && command != SHM_LOCK && command != SHM_UNLOCK) {
        PyErr_SetString(PyExc_ValueError, "command is IPC_RMID, SHM_LOCK or SHM_UNLOCK");
        return NULL;
    }
    int result, error;
    Py_BEGIN_ALLOW_THREADS /* SHM_LOCK reads all pages, IPC_RMID frees them */
    result = shmctl(id, command, NULL);
    error = errno;
    Py_END_ALLOW_THREADS
    errno = error;
    if (result < 0) {
        return ipckit_oserror();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(shm_info_doc,
             "shm_info(command, /)\n--\n\n"
             "shmctl(2) with IPC_INFO: (highest used index, shmmax, shmmin, shmmni, shmseg, shmall);\n"
             "with SHM_INFO: (highest used index, used_ids, shm_tot, shm_rss, shm_swp), in pages.");

static PyObject *
native_shm_info(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int command;
    if (ipckit_int_arg(arg, "command", &command) < 0) {
        return NULL;
    }
    if (command == IPC_INFO) {
        struct shminfo info;
        int highest = shmctl(0, IPC_INFO, (struct shmid_ds *)&info);
        return highest < 0 ? ipckit_oserror()
                           : Py_BuildValue("ikkkkk", highest, info.shmmax, info.shmmin, info.shmmni,
                                           info.shmseg, info.shmall);
    }
    if (command == SHM_INFO) {
        struct shm_info info;
        int highest = shmctl(0, SHM_INFO, (struct shmid_ds *)&info);
        return highest < 0 ? ipckit_oserror()
                           : Py_BuildValue("iikkk", highest, info.used_ids, info.shm_tot,
                                           info.shm_rss, info.shm_swp);
    }
    PyErr_SetString(PyExc_ValueError, "command is IPC_INFO or SHM_INFO");
    return NULL;
}

static PyMethodDef functions[] = {
    {"shmget", (PyCFunction)(void (*)(void))native_shmget, METH_FASTCALL, shmget_doc},
    {"shmat", (PyCFunction)(void (*)(void))native_shmat, METH_FASTCALL, shmat_doc},
    {"shm_stat", (PyCFunction)(void (*)(void))native_shm_stat, METH_FASTCALL, shm_stat_doc},
    {"shm_set", (PyCFunction)(void (*)(void))native_shm_set, METH_FASTCALL, shm_set_doc},
    {"shm_control", (PyCFunction)(void (*)(void))native_shm_control, METH_FASTCALL,
     shm_control_doc},
    {"shm_info", native_shm_info, METH_O, shm_info_doc},
    {NULL, NULL, 0, NULL},
};

int
ipckit_add_sysv_shm(PyObject *module)
{
    static const struct {
        const char *name;
        long value;
    } constants[] = {
        {"SHM_STAT", SHM_STAT},     {"SHM_STAT_ANY", SHM_STAT_ANY}, {"SHM_INFO", SHM_INFO},
        {"SHM_RDONLY", SHM_RDONLY}, {"SHM_RND", SHM_RND},           {"SHM_REMAP", SHM_REMAP},
        {"SHM_LOCK", SHM_LOCK},     {"SHM_UNLOCK", SHM_UNLOCK},     {"SHM_HUGETLB", SHM_HUGETLB},
        {"SHM_DEST", SHM_DEST},     {"SHM_LOCKED", SHM_LOCKED},
        {"IPC_CREAT", IPC_CREAT},   {"IPC_EXCL", IPC_EXCL},         {"IPC_RMID", IPC_RMID},
    };
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0) {
            return -1;
        }
    }
    return PyModule_AddFunctions(module, functions);
}
