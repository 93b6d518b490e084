/* Processes that kill themselves with SIGKILL at named points, or are killed wherever they are, while
   others continue.

   A message that was sent is received once and whole, unless a receiver had it in hand when it was
   killed. A message that was taken and not acknowledged is delivered again. A message that was being
   sent is received once or not at all. test_ring_kills KILLS SEED SECONDS. */
#include "ring_workers.h"

#include "ring_killed.h" /* after the point is defined */

_Static_assert(PROCESSES == PLACES, "each process has a place");

static void
ring_point(const char *name)
{
    note_point(name);
    die_by_fuse();
}

static pid_t
start(int place, uint64_t seed)
{
    pid_t pid = fork();
    check(pid >= 0, "no process");
    if (pid == 0) {
        worker own;
        seed_chance(seed);
        alarm(100);
        fuse = stopping() || below(3) == 0 ? 0 : 1 + (long)below(below(2) ? 40 : 600);
        /* Two send, two receive, and one does both. */
        worker_open(&own, place, place < 3, place >= 2);
        while (own.sends ? !stopping() : worker_step(&own) != RING_GONE) {
            if (own.sends) {
                worker_step(&own);
            }
        }
        fuse = 0;
        worker_close(&own);
        _exit(0);
    }
    return pid;
}

/* Waits until one of them is dead, and kills one if none dies by itself. Returns its place. */
static int
one_dies(pid_t pids[PROCESSES])
{
    int status = 0;
    pid_t pid = 0;
    for (uint64_t wait = 0; pid == 0 && wait < 1 + below(40); wait++) {
        usleep(100);
        pid = waitpid(-1, &status, WNOHANG);
    }
    return kill_one(pids, pid, status);
}

int
main(int argc, char **argv)
{
    uint64_t kills = argc > 1 ? (uint64_t)atol(argv[1]) : 200, in_hands = 0;
    uint64_t seed = argc > 2 ? (uint64_t)atol(argv[2]) : 1;
    alarm(argc > 3 ? (unsigned)atoi(argv[3]) : 100); /* a hang is a failure */
    pid_t pids[PROCESSES];
    seed_chance(seed);
    counted_new(400000);
    shared = channel_make(seed % 2 ? shape_of_any(160, 40, 12) : shape_of_any(64, 24, 30),
                          seed % 4 == 3 ? CHANNEL_OVERWRITE : 0);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = start(i, random_number());
    }
    for (uint64_t killed = 0; killed < kills; killed++) {
        int place = one_dies(pids);
        in_hands += counted->in_hand[place];
        counted->in_hand[place] = 0;
        pids[place] = start(place, random_number());
    }
    __atomic_store_n(&counted->stop, 1, __ATOMIC_RELEASE);
    /* A process may yet come to its point, and is followed by one that does not. */
    for (int alive = PROCESSES; alive > 0;) {
        int status, place = place_of(pids, wait(&status));
        if (was_killed(status)) {
            kills++;
            in_hands += counted->in_hand[place];
            counted->in_hand[place] = 0;
            pids[place] = start(place, random_number());
            continue;
        }
        alive--;
    }
    worker last;
    worker_open(&last, 0, true, true);
    drain(&last);
    check_nothing_lost(in_hands + last.h.r.shared->dropped);
    worker_close(&last);
    channel_unmake(&shared);
    printf("%llu kills\nok\n", (unsigned long long)kills);
    return 0;
}
