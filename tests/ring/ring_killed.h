/* Processes of a test that kill themselves with SIGKILL at named points, or are killed wherever they are. */
#ifndef RING_KILLED_H
#define RING_KILLED_H

#include "ring_harness.h"

#define PROCESSES 5

static long fuse; /* the process kills itself at the point at which this becomes 0 */

/* For ring_point. */
static inline void
die_by_fuse(void)
{
    if (fuse != 0 && --fuse == 0) {
        kill(getpid(), SIGKILL);
    }
}

static inline int
place_of(const pid_t pids[PROCESSES], pid_t pid)
{
    int place = 0;
    while (pids[place] != pid) {
        place++;
    }
    return place;
}

/* Tells whether a process that ended was killed. Otherwise it must have ended well. */
static inline bool
was_killed(int status)
{
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    check(killed || status == 0, "a peer failed");
    return killed;
}

/* Kills one of the processes, if none has ended by itself as `pid` with `status` (pid is 0). Returns the
   place of the dead one. */
static inline int
kill_one(const pid_t pids[PROCESSES], pid_t pid, int status)
{
    if (pid == 0) {
        kill(pids[below(PROCESSES)], SIGKILL);
        pid = waitpid(-1, &status, 0);
    }
    check(pid > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "a peer failed");
    return place_of(pids, pid);
}

#endif
