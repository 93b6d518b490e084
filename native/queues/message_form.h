/* MessageForm: how the instances of one Struct class are sent as System V messages. */
#ifndef IPCKIT_MESSAGE_FORM_H
#define IPCKIT_MESSAGE_FORM_H

#include "records/record.h"

/* Immutable. The text of a message is the struct's bytes from `head` on; the kernel has the message
   type beside the text. */
typedef struct {
    PyObject_HEAD
    PyTypeObject *record_type;
    Layout *layout;
    bool flexible;     /* the text is as long as its flexible array member */
    Py_ssize_t head;   /* sizeof(long) if the struct begins with its mtype, otherwise 0 */
    Py_ssize_t least;  /* bytes of the shortest text that has all fields */
    Py_ssize_t whole;  /* bytes of the text with the struct's own tail padding */
    Py_ssize_t padded; /* bytes of the text that C sends after a long, with tail padding */
} MessageForm;

/* An argument that is a MessageForm or None (then `form` is NULL): 0, or -1 with TypeError set. */
HIDDEN int ipckit_message_form_arg(PyObject *object, MessageForm **form);
/* The value of a received message: an instance of the form's class, or bytes if `form` is NULL or
   the text does not fit the class. A new reference, or NULL with an exception set. */
HIDDEN PyObject *ipckit_message_value(const MessageForm *form, long mtype, const char *text,
                                      Py_ssize_t size);
/* Reads the mtype with which the bytes of `record` begin: 0, or -1 with BadArgument set. */
HIDDEN int ipckit_own_mtype(PyObject *record, const Py_buffer *data, long *mtype);

#endif
