/* The state that one interpreter has once, however often it imports the module. Each interpreter has its own GIL
   since Python 3.12, and no object may pass from one to another, so no object can be in a static variable. */
#include "native.h"

#include <stdlib.h>

#define STATE_NAME "ipckit._native.interpreter_state"

/* How many states were freed. An interpreter can have the address of an earlier one. */
static uint64_t freed;

/* The state of the interpreter that this thread used last, because each decoded message looks it up. It has no
   tls_model("initial-exec"): musl does not load a module with it, and in glibc other libraries can have used up the
   space for it. The default model is as fast here. */
static _Thread_local struct {
    PyInterpreterState *interpreter;
    uint64_t freed;
    interpreter_state *state;
} last;

/* The state while an interpreter ends. It has no types, so no object is an instance of one. Never written. */
static interpreter_state no_state;

/* Frees the state at the end of the interpreter, when it clears the dictionary that has the capsule. */
static void
free_state(PyObject *capsule)
{
    interpreter_state *state = PyCapsule_GetPointer(capsule, STATE_NAME);
    __atomic_fetch_add(&freed, 1, __ATOMIC_RELAXED);
    if (state->spare_semaphore != NULL) {
        PyObject_GC_Del(state->spare_semaphore); /* before its type, which PyObject_GC_Del reads */
    }
    Py_XDECREF((PyObject *)state->record_type);
    Py_XDECREF((PyObject *)state->layout_type);
    Py_XDECREF((PyObject *)state->field_type);
    Py_XDECREF((PyObject *)state->message_form_type);
    Py_XDECREF((PyObject *)state->semaphore_type);
    Py_XDECREF((PyObject *)state->array_type);
    Py_XDECREF((PyObject *)state->memmap_type);
    Py_XDECREF((PyObject *)state->recarray_type);
    Py_XDECREF(state->call_failed);
    Py_XDECREF(state->bad_argument);
    Py_XDECREF(state->layout_name);
    Py_XDECREF(state->dtype_name);
    Py_XDECREF(state->hasobject_name);
    Py_XDECREF(state->numpy_name);
    free(state->stage);
    free(state);
}

/* Returns the state from the interpreter's dictionary, or NULL. Keeps the exception that is set. */
static interpreter_state *
find_state(void)
{
    PyObject *objects = PyInterpreterState_GetDict(PyInterpreterState_Get());
    PyObject *capsule = objects == NULL ? NULL : PyDict_GetItemString(objects, STATE_NAME);
    return capsule == NULL ? NULL : PyCapsule_GetPointer(capsule, STATE_NAME);
}

interpreter_state *
ipckit_interpreter(void)
{
    PyInterpreterState *interpreter = PyInterpreterState_Get();
    uint64_t now_freed = __atomic_load_n(&freed, __ATOMIC_RELAXED);
    if (last.interpreter != interpreter || last.freed != now_freed) {
        interpreter_state *found = find_state();
        if (found == NULL) {
            return &no_state;
        }
        last.interpreter = interpreter;
        last.freed = now_freed;
        last.state = found;
    }
    return last.state;
}

int
ipckit_init_interpreter(void)
{
    PyObject *objects = PyInterpreterState_GetDict(PyInterpreterState_Get());
    if (objects == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the interpreter has no dictionary for extension modules");
        return -1;
    }
    if (find_state() != NULL) {
        return 0;
    }
    interpreter_state *state = calloc(1, sizeof *state);
    PyObject *capsule = state == NULL ? NULL : PyCapsule_New(state, STATE_NAME, free_state);
    if (capsule == NULL) {
        free(state);
        return state == NULL ? (PyErr_NoMemory(), -1) : -1;
    }
    int result = PyDict_SetItemString(objects, STATE_NAME, capsule);
    Py_DECREF(capsule);
    return result;
}
