/* Constants of System V message queues that older C libraries do not define. */
#ifndef IPCKIT_SYSV_MSG_H
#define IPCKIT_SYSV_MSG_H

#include <sys/ipc.h>
#include <sys/msg.h>

#ifndef MSG_STAT_ANY
#define MSG_STAT_ANY 13
#endif
#ifndef MSG_COPY
#define MSG_COPY 040000
#endif

#endif
