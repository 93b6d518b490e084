/* A process is stopped (SIGSTOP) at each named point of a topic, while others publish, receive, come, leave
   and are killed. Then it continues.

   Beside the stopped process, a call succeeds, or gives up because that process has the lock that it
   needs, or because publishers wait for its subscription. No call reports corruption. Afterwards no
   message is torn, lost, or received twice, and nothing is leaked.
   test_topic_stops ROUNDS SEED SECONDS POINT...; prints each point and how often a process was stopped
   there. */
static void ring_point(const char *name);
#define RING_POINT(name) ring_point(#name)
#define LOCK_GRACE_NS (NS_PER_MS / 4)
#define SOON_NS (NS_PER_MS / 4) /* most of the time is spent in calls that time out */
#include "topic_workers.h"

#include "ring_killed.h" /* after the point is defined */

#define NOT_REACHED 3 /* exit status: the process did not come to the point */

/* Shared with the process that is stopped. */
typedef struct {
    uint32_t owners[2]; /* its names in locks */
} stop_note;

static stop_note *note;
static worker *self;
static const char *stop_at; /* in the process to be stopped */
static uint64_t skip;       /* pass the point so often first */
static uint64_t gone_round; /* how often publishers went round the arena beside a stopped process */

static void
ring_point(const char *name)
{
    die_by_fuse();
    if (stop_at != NULL && strcmp(name, stop_at) == 0 && skip-- == 0) {
        stop_at = NULL;
        uint32_t none = UINT32_MAX; /* no lock has this owner */
        note->owners[0] = self->publisher->r.owner != 0 ? self->publisher->r.owner : none;
        note->owners[1] = self->subscriber->r.owner != 0 ? self->subscriber->r.owner : none;
        raise(SIGSTOP);
    }
}

/* Publishes, receives, comes and leaves. */
static void
work(worker *w, uint64_t steps)
{
    for (uint64_t step = 0; step < steps; step++) {
        if (!w->subscribed) {
            w->wishes = (topic_wishes){.drops = below(3) != 0, .depth = 1 + below(12),
                                       .history = below(9)};
            work_subscribe(w);
        } else if (below(60) == 0) {
            work_unsubscribe(w);
        } else if (below(20) == 0) {
            work_on_peers(below(2) ? w->publisher : w->subscriber);
        } else if (below(2)) {
            work_to_publish(w);
        } else {
            work_to_receive(w);
        }
    }
}

/* The process that is stopped: works until it comes to the point, and for a while after it continues. */
static void
live_until_stopped(const char *point, uint64_t seed)
{
    worker own = {.publishes = true};
    seed_chance(seed);
    alarm(60);
    skip = below(5);
    self = &own;
    own.publisher = &own.own_publisher;
    own.subscriber = &own.own_subscriber;
    bool joins = strcmp(point, "joining") == 0;
    stop_at = joins ? point : NULL;
    worker_open(&own, true, true);
    bool stopped = joins && stop_at == NULL;
    stop_at = stopped ? NULL : point;
    for (int step = 0; step < 600 && stop_at != NULL; step++) {
        work(&own, 10);
    }
    bool reached = stop_at == NULL;
    stop_at = NULL;
    work(&own, 30);
    worker_close(&own);
    _exit(reached ? 0 : NOT_REACHED);
}

/* Beside the other processes, one is killed at some point, or after some steps. */
static void
let_one_die(void)
{
    uint64_t seed = random_number();
    int status;
    pid_t pid = fork();
    check(pid >= 0, "no process");
    if (pid == 0) {
        worker own;
        seed_chance(seed);
        fuse = 1 + (long)below(below(2) ? 60 : 600);
        worker_open(&own, true, true);
        work(&own, 60);
        kill(getpid(), SIGKILL);
    }
    check(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
          "a process failed beside the stopped one");
}

/* Publishes until all entries, the arena and the pool were used again, unless a subscriber that does not
   read keeps it from that. */
static void
go_round(worker *w)
{
    uint64_t end = w->published + 2 * w->publisher->r.slots;
    for (int tries = 0; w->published < end && tries < 3;) {
        tries = work_send(w) == RING_OK ? 0 : tries + 1;
        while (w->subscribed && (tries != 0 || below(3) == 0)
               && work_receive(w, false) == RING_OK) {
        }
    }
    gone_round += w->published >= end;
}

/* Works beside a process that is stopped. */
static void
work_beside(worker *w)
{
    work(w, 12);
    let_one_die();
    let_go(w);
    go_round(w);
    let_one_die();
    work(w, 12);
    let_go(w);
    go_round(w);
}

/* Stops a process at a point, and lets it continue. Returns whether it came to the point. */
static bool
stop_one(worker *w, const char *point)
{
    int status;
    uint64_t seed = random_number();
    memset(note, 0, sizeof *note);
    pid_t pid = fork();
    check(pid >= 0, "no process");
    if (pid == 0) {
        live_until_stopped(point, seed);
    }
    while (waitpid(pid, &status, WNOHANG | WUNTRACED) == 0) {
        if (below(4) == 0) {
            let_one_die();
        }
        work(w, 10);
    }
    if (WIFSTOPPED(status)) {
        /* A process that removes a dead one makes it seem alive: it holds the lock of its place. */
        bool removes = strcmp(point, "removing_peer") == 0;
        stopped_owners[0] = removes ? 0 : note->owners[0];
        stopped_owners[1] = note->owners[1];
        work_beside(w);
        stopped_owners[0] = 0;
        kill(pid, SIGCONT);
        work(w, 10);
        check(waitpid(pid, &status, 0) == pid, "no process");
    }
    check(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == NOT_REACHED),
          "the stopped process failed");
    drain(w);
    return WEXITSTATUS(status) == 0;
}

int
main(int argc, char **argv)
{
    uint64_t rounds = argc > 1 ? (uint64_t)atol(argv[1]) : 3;
    uint64_t seed = argc > 2 ? (uint64_t)atol(argv[2]) : 1, stops[64] = {0};
    alarm(argc > 3 ? (unsigned)atoi(argv[3]) : 100); /* a hang is a failure */
    check(argc > 4 && argc < 64, "which points?");
    note = shared_memory(sizeof *note);
    for (uint64_t round = 0; round < rounds; round++) {
        worker own;
        seed_chance(seed + round);
        ledger_new(40000);
        shared = topic_make(topic_of_any(64 + 37 * (round % 2), 40, 12), 4 * (round % 3));
        worker_open(&own, true, true);
        for (int i = 4; i < argc; i++) {
            fprintf(stderr, "round %llu %s\n", (unsigned long long)round, argv[i]);
            stops[i] += stop_one(&own, argv[i]);
        }
        worker_close(&own);
        channel_unmake(&shared);
        ledger_free();
    }
    for (int i = 4; i < argc; i++) {
        printf("%s %llu\n", argv[i], (unsigned long long)stops[i]);
    }
    check(gone_round > rounds * (uint64_t)argc / 4, "publishers rarely went round");
    puts("ok");
    return 0;
}
