/* A process is stopped (SIGSTOP) at each named point of native/ring, while others go on and some of them
   are killed. Then it continues.

   Beside the stopped process, a call succeeds, or gives up because that process has the lock that it
   needs. No call reports corruption. Afterwards nothing is lost, leaked, or received twice.
   test_ring_stops ROUNDS SEED SECONDS; prints each point and how often a process was stopped there. */
#define LOCK_GRACE_NS (NS_PER_MS / 4)
#define SOON_NS (NS_PER_MS / 4) /* most of the time is spent in calls that time out */
#include "ring_workers.h"

#include "ring_killed.h" /* after the point is defined */

enum { STOPPED_PLACE, MORTAL_PLACE, LIVING_PLACE };
#define NOT_REACHED 3 /* exit status: the process did not come to the point */

static const char *const names[] = {
    "acknowledged", "after_copy", "after_head", "after_tail", "allocated", "allocating",
    "before_copy", "before_head", "before_queued", "before_skip", "before_tail",
    "caching_head", "deferred", "dropped", "dropping", "freed", "held", "joining", "leaving",
    "locked", "looking", "peers_checked", "queued", "recovering", "removing_peer", "repeating",
    "requeued", "requeuing", "role_taken", "sweeping", "swept", "taken_over", "unlocking",
};
#define NAMES (sizeof names / sizeof *names)

/* Shared with the process that is stopped. */
typedef struct {
    uint32_t owner; /* its name in locks when it was stopped */
} stop_note;

static stop_note *note;
static const char *stop_at; /* in the process to be stopped */
static uint64_t skip;       /* pass the point so often first */
static uint64_t may_be_lost;

static void
ring_point(const char *name)
{
    note_point(name);
    die_by_fuse();
    if (stop_at != NULL && strcmp(name, stop_at) == 0 && skip-- == 0) {
        stop_at = NULL;
        note->owner = self == NULL ? 0 : self->h.r.owner;
        raise(SIGSTOP);
    }
}

/* The process that is stopped: works until it comes to the point, and for a while after it continues. */
static void
live_until_stopped(const char *point, uint64_t seed)
{
    worker own;
    seed_chance(seed);
    alarm(60);
    stop_at = point;
    skip = below(3);
    worker_open(&own, STOPPED_PLACE, true, true);
    for (int step = 0; step < 4000 && stop_at != NULL; step++) {
        worker_step(&own);
    }
    bool reached = stop_at == NULL;
    stop_at = NULL;
    for (int step = 0; step < 20; step++) {
        worker_step(&own);
    }
    worker_close(&own);
    _exit(reached ? 0 : NOT_REACHED);
}

/* A process that is killed at some point, or after some steps. */
static void
live_and_die(uint64_t seed)
{
    worker own;
    seed_chance(seed);
    fuse = 1 + (long)below(60);
    worker_open(&own, MORTAL_PLACE, true, true);
    for (int step = 0; step < 30; step++) {
        worker_step(&own);
    }
    kill(getpid(), SIGKILL);
}

static void
let_one_die(void)
{
    uint64_t seed = random_number();
    int status;
    pid_t pid = fork();
    check(pid >= 0, "no process");
    if (pid == 0) {
        stopped_owner = 0;
        live_and_die(seed);
    }
    check(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
          "a process failed beside the stopped one");
    may_be_lost += counted->in_hand[MORTAL_PLACE];
    counted->in_hand[MORTAL_PLACE] = 0;
}

static void
work(worker *w, int steps)
{
    for (int step = 0; step < steps; step++) {
        worker_step(w);
    }
}

/* Stops a process at a point, and lets it continue. Returns whether it came to the point. */
static bool
stop_one(worker *w, const char *point)
{
    int status;
    uint64_t seed = random_number();
    pid_t pid = fork();
    check(pid >= 0, "no process");
    if (pid == 0) {
        self = NULL;
        live_until_stopped(point, seed);
    }
    while (waitpid(pid, &status, WNOHANG | WUNTRACED) == 0) {
        let_one_die();
        work(w, 3);
    }
    if (WIFSTOPPED(status)) {
        /* A process that removes a dead one makes it seem alive: it holds the lock of its place. */
        bool removes = strcmp(point, "removing_peer") == 0;
        stopped_owner = removes ? 0 : note->owner != 0 ? note->owner : UINT32_MAX;
        work(w, 12);
        let_one_die();
        work(w, 6);
        let_one_die();
        work(w, 12);
        stopped_owner = 0;
        kill(pid, SIGCONT);
        work(w, 5);
        check(waitpid(pid, &status, 0) == pid, "no process");
    }
    check(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == NOT_REACHED),
          "the stopped process failed");
    let_go(w);
    drain(w);
    return WEXITSTATUS(status) == 0;
}

int
main(int argc, char **argv)
{
    uint64_t rounds = argc > 1 ? (uint64_t)atol(argv[1]) : 3;
    uint64_t seed = argc > 2 ? (uint64_t)atol(argv[2]) : 1, stops[NAMES] = {0};
    alarm(argc > 3 ? (unsigned)atoi(argv[3]) : 100); /* a hang is a failure */
    counted_new(200000);
    note = mmap(NULL, sizeof *note, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(note != MAP_FAILED, "no memory");
    for (uint64_t round = 0; round < rounds; round++) {
        worker own;
        bool overwrite = round % 3 == 2;
        seed_chance(seed + round);
        shared = channel_make(shape_of_any(64 + 37 * (round % 2), 24, 12),
                              overwrite ? CHANNEL_OVERWRITE : 0);
        worker_open(&own, LIVING_PLACE, true, true);
        for (size_t i = 0; i < NAMES; i++) {
            fprintf(stderr, "round %llu %s\n", (unsigned long long)round, names[i]);
            stops[i] += stop_one(&own, names[i]);
        }
        may_be_lost += own.h.r.shared->dropped;
        worker_close(&own);
        channel_unmake(&shared);
    }
    for (size_t i = 0; i < NAMES; i++) {
        printf("%s %llu\n", names[i], (unsigned long long)stops[i]);
    }
    check_nothing_lost(may_be_lost);
    puts("ok");
    return 0;
}
