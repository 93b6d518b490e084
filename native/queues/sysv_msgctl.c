/* System V message queues: msgget and msgctl. */
#include "native.h"
#include "queues/sysv_msg.h"

#include <limits.h>

PyDoc_STRVAR(msgget_doc, "msgget(key, flags, /)\n--\n\nmsgget(2): the queue's id.");

/* Returns the id as an int. Creates the queue if `flags` has IPC_CREAT and the key has none. */
static PyObject *
native_msgget(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int key, flags;
    if (ipckit_check_nargs("msgget", nargs, 2) < 0 || ipckit_int_arg(args[0], "key", &key) < 0
        || ipckit_int_arg(args[1], "flags", &flags) < 0) {
        return NULL;
    }
    int id = msgget(key, flags);
    return id < 0 ? ipckit_oserror() : PyLong_FromLong(id);
}

PyDoc_STRVAR(msg_remove_doc,
             "msg_remove(id, /)\n--\n\nmsgctl(2) with IPC_RMID: remove the queue and its messages.");

/* Returns None. */
static PyObject *
native_msg_remove(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int id;
    if (ipckit_int_arg(arg, "id", &id) < 0) {
        return NULL;
    }
    if (msgctl(id, IPC_RMID, NULL) < 0) {
        return ipckit_oserror();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(msg_stat_doc,
             "msg_stat(id, command, /)\n--\n\n"
             "msgctl(2) with IPC_STAT, MSG_STAT or MSG_STAT_ANY: (what msgctl returned, key, uid,\n"
             "gid, cuid, cgid, mode, seq, stime, rtime, ctime, cbytes, qnum, qbytes, lspid, lrpid).");

/* Returns a tuple; changes nothing. */
static PyObject *
native_msg_stat(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int id, command;
    if (ipckit_check_nargs("msg_stat", nargs, 2) < 0 || ipckit_int_arg(args[0], "id", &id) < 0
        || ipckit_int_arg(args[1], "command", &command) < 0) {
        return NULL;
    }
    if (command != IPC_STAT && command != MSG_STAT && command != MSG_STAT_ANY) {
        PyErr_SetString(PyExc_ValueError, "command is IPC_STAT, MSG_STAT or MSG_STAT_ANY");
        return NULL;
    }
    struct msqid_ds ds;
    int result = msgctl(id, command, &ds);
    if (result < 0) {
        return ipckit_oserror();
    }
    return Py_BuildValue("iikkkkkkLLLkkkii", result, (int)ds.msg_perm.__key,
                         (unsigned long)ds.msg_perm.uid, (unsigned long)ds.msg_perm.gid,
                         (unsigned long)ds.msg_perm.cuid, (unsigned long)ds.msg_perm.cgid,
                         (unsigned long)ds.msg_perm.mode, (unsigned long)ds.msg_perm.__seq,
                         (long long)ds.msg_stime, (long long)ds.msg_rtime, (long long)ds.msg_ctime,
                         (unsigned long)ds.__msg_cbytes, (unsigned long)ds.msg_qnum,
                         (unsigned long)ds.msg_qbytes, (int)ds.msg_lspid, (int)ds.msg_lrpid);
}

PyDoc_STRVAR(msg_set_doc,
             "msg_set(id, uid, gid, mode, qbytes, /)\n--\n\n"
             "msgctl(2) with IPC_SET: set the owner, the mode's lower nine bits, and the most bytes of\n"
             "text that the queue can contain.");

/* Returns None. IPC_SET always sets all four, so the caller passes the old values of those that are
   to stay. */
static PyObject *
native_msg_set(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    int id;
    long uid, gid, mode, qbytes;
    if (ipckit_check_nargs("msg_set", nargs, 5) < 0 || ipckit_int_arg(args[0], "id", &id) < 0
        || ipckit_long_arg(args[1], "uid", 0, UINT32_MAX - 1, &uid) < 0
        || ipckit_long_arg(args[2], "gid", 0, UINT32_MAX - 1, &gid) < 0
        || ipckit_long_arg(args[3], "mode", 0, 0777, &mode) < 0
        || ipckit_long_arg(args[4], "qbytes", 0, LONG_MAX, &qbytes) < 0) {
        return NULL;
    }
    struct msqid_ds ds = {.msg_qbytes = (msglen_t)qbytes};
    ds.msg_perm.uid = (uid_t)uid;
    ds.msg_perm.gid = (gid_t)gid;
    ds.msg_perm.mode = (unsigned short)mode;
    if (msgctl(id, IPC_SET, &ds) < 0) {
        return ipckit_oserror();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(msg_info_doc,
             "msg_info(command, /)\n--\n\n"
             "msgctl(2) with IPC_INFO or MSG_INFO: (highest used index, msgpool, msgmap, msgmax,\n"
             "msgmnb, msgmni, msgssz, msgtql, msgseg).");

/* Returns a tuple; changes nothing. */
static PyObject *
native_msg_info(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int command;
    if (ipckit_int_arg(arg, "command", &command) < 0) {
        return NULL;
    }
    if (command != IPC_INFO && command != MSG_INFO) {
        PyErr_SetString(PyExc_ValueError, "command is IPC_INFO or MSG_INFO");
        return NULL;
    }
    struct msginfo info;
    int highest = msgctl(0, command, (struct msqid_ds *)&info);
    if (highest < 0) {
        return ipckit_oserror();
    }
    return Py_BuildValue("iiiiiiiii", highest, info.msgpool, info.msgmap, info.msgmax, info.msgmnb,
                         info.msgmni, info.msgssz, info.msgtql, (int)info.msgseg);
}

static PyMethodDef functions[] = {
    {"msgget", (PyCFunction)(void (*)(void))native_msgget, METH_FASTCALL, msgget_doc},
    {"msg_remove", native_msg_remove, METH_O, msg_remove_doc},
    {"msg_stat", (PyCFunction)(void (*)(void))native_msg_stat, METH_FASTCALL, msg_stat_doc},
    {"msg_set", (PyCFunction)(void (*)(void))native_msg_set, METH_FASTCALL, msg_set_doc},
    {"msg_info", native_msg_info, METH_O, msg_info_doc},
    {NULL, NULL, 0, NULL},
};

/* Adds the functions and constants of this file to the module: 0, or -1 with an exception set. */
int
ipckit_add_sysv_msgctl(PyObject *module)
{
    if (PyModule_AddIntMacro(module, IPC_STAT) < 0 || PyModule_AddIntMacro(module, IPC_INFO) < 0
        || PyModule_AddIntMacro(module, MSG_STAT) < 0
        || PyModule_AddIntMacro(module, MSG_STAT_ANY) < 0
        || PyModule_AddIntMacro(module, MSG_INFO) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
