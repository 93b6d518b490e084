/* ipckit._native: the module object. Each other file adds its own functions and types. */
#include "native.h"

static int
module_exec(PyObject *module)
{
    if (ipckit_add_layout(module) < 0 || ipckit_add_field(module) < 0 ||
        ipckit_add_record(module) < 0) {
        return -1;
    }
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ipckit._native",
    .m_doc = "Kernel calls and memory for ipckit; raises plain OSError.",
    .m_size = 0,
    .m_slots = module_slots,
};

__attribute__((visibility("default"))) PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module_def);
}
