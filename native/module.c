/* ipckit._native: the module object. Each other file adds its own functions and types. */
#include "native.h"

static int
module_exec(PyObject *module)
{
    static int (*const add[])(PyObject *) = {
        ipckit_add_errors,
        ipckit_add_layout,   ipckit_add_field,       ipckit_add_record, ipckit_add_foreign,
        ipckit_add_typedefs,
        ipckit_add_message,
        ipckit_add_message_form, ipckit_add_sysv_msg, ipckit_add_sysv_msgctl, ipckit_add_mq,
        ipckit_add_mq_descriptor, ipckit_add_mq_notify,
        ipckit_add_mqueue_fs, ipckit_add_mq_open, ipckit_add_mapping, ipckit_add_view, ipckit_add_mmap,
        ipckit_add_sysv_shm,
        ipckit_add_shared_struct,  ipckit_add_counter, ipckit_add_sysv_sem,    ipckit_add_sysv_semctl,
        ipckit_add_semaphore, ipckit_add_semaphore_set, ipckit_add_posix_sem,
        ipckit_add_vector_lock, ipckit_add_barrier, ipckit_add_ordered,
        ipckit_add_channel_constants, ipckit_add_channel, ipckit_add_channel_lease,
        ipckit_add_topic, ipckit_add_subscription,
        ipckit_add_lease_holder, ipckit_add_channel_file, ipckit_add_channel_look,
        ipckit_add_channel_iterate,
        ipckit_add_chunks, ipckit_add_parts, ipckit_add_spill, ipckit_add_spill_piece,
        ipckit_add_unix_descriptors, ipckit_add_unix_io, ipckit_add_unix_packet,
        ipckit_add_unix_socket,
    };
    if (ipckit_init_interpreter() < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof add / sizeof add[0]; i++) {
        if (add[i](module) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    native_state *state = PyModule_GetState(module);
    if (state != NULL) {
        Py_VISIT(state->message_type);
        Py_VISIT(state->mapping_type);
        Py_VISIT(state->view_type);
        Py_VISIT(state->semop_type);
        Py_VISIT(state->channel_type);
        Py_VISIT(state->topic_type);
        Py_VISIT(state->subscription_type);
        Py_VISIT(state->piece_type);
        Py_VISIT(state->semaphore_set_type);
        Py_VISIT(state->queue_descriptor_type);
        Py_VISIT(state->lease_type);
        Py_VISIT(state->channel_iterator_type);
        Py_VISIT(state->lease_holder_type);
        Py_VISIT(state->packet_type);
        Py_VISIT(state->descriptors_type);
    }
    return 0;
}

static int
module_clear(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    if (state != NULL) {
        Py_CLEAR(state->message_type);
        Py_CLEAR(state->mapping_type);
        Py_CLEAR(state->view_type);
        Py_CLEAR(state->semop_type);
        Py_CLEAR(state->channel_type);
        Py_CLEAR(state->topic_type);
        Py_CLEAR(state->subscription_type);
        Py_CLEAR(state->piece_type);
        Py_CLEAR(state->semaphore_set_type);
        Py_CLEAR(state->queue_descriptor_type);
        Py_CLEAR(state->lease_type);
        Py_CLEAR(state->channel_iterator_type);
        Py_CLEAR(state->lease_holder_type);
        Py_CLEAR(state->packet_type);
        Py_CLEAR(state->descriptors_type);
    }
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

/* The headers of the limited API of Python 3.11 don't have these slots, which later Pythons read. */
#ifndef Py_mod_multiple_interpreters
#define Py_mod_multiple_interpreters 3
#define Py_MOD_PER_INTERPRETER_GIL_SUPPORTED ((void *)2)
#endif
#ifndef Py_mod_gil
#define Py_mod_gil 4
#define Py_MOD_GIL_USED ((void *)0)
#endif

/* A Python refuses a module with a slot that it does not know, so the slots of the newest Python are first, and an
   older one gets the end of the array.

   Py_MOD_GIL_USED: the GIL protects the state of every object: a handle's `closed`, the references of a channel and
   its place among the peers, the exports of a mapping. A free-threaded Python enables the GIL when it imports the
   module. */
static PyModuleDef_Slot module_slots[] = {
    {Py_mod_gil, Py_MOD_GIL_USED},                                        /* since 3.13 */
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}, /* since 3.12 */
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ipckit._native",
    .m_doc = "Kernel calls and memory for ipckit; raises plain OSError.",
    .m_size = sizeof(native_state),
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

__attribute__((visibility("default"))) PyMODINIT_FUNC
PyInit__native(void)
{
    module_def.m_slots = Py_Version >= 0x030D0000 ? module_slots
                         : Py_Version >= 0x030C0000 ? module_slots + 1
                                                    : module_slots + 2;
    return PyModuleDef_Init(&module_def);
}
