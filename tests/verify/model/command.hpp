/* The command: its arguments, the search, and what it prints. */
#ifndef MODEL_COMMAND_HPP
#define MODEL_COMMAND_HPP

#include "model/suite.hpp"

static void print_mutant(const model_site *site, const char *how)
{
    printf("%d\t" WHERE "=%s\n", site->line, HERE(site), how);
}

/* Prints each mutant of the sites that ran, after the line of its site. */
static void print_sites(void)
{
    for (const model_site *site = sites; site != nullptr; site = site->next) {
        bool barrier = site->kind == MODEL_IS_FENCE || site->kind == MODEL_IS_MEMBARRIER;
        if (barrier) {
            print_mutant(site, "removed");
        }
        if (site->kind == MODEL_IS_STORE) {
            print_mutant(site, "delayed");
        }
        if (site->kind == MODEL_IS_EXCHANGE && site->failure != MODEL_RELAXED) {
            print_mutant(site, "failure-relaxed");
        }
        if (barrier || site->success == MODEL_RELAXED) {
            continue;
        }
        bool loads = site->kind != MODEL_IS_STORE, stores = site->kind != MODEL_IS_LOAD;
        if (site->success == MODEL_SEQ_CST) {
            print_mutant(site, loads && stores ? "acq_rel" : loads ? "acquire" : "release");
        }
        if (loads && stores && (site->success == MODEL_ACQ_REL || site->success == MODEL_SEQ_CST)) {
            print_mutant(site, "acquire");
            print_mutant(site, "release");
        }
        print_mutant(site, "relaxed");
    }
}

static void print_points(void)
{
    for (int index = 0; index < point_count; index++) {
        printf("%s\n", points[index]);
    }
}

/* Prints one line for each scenario: its name, file, numbers and what holds, between tabs. */
static void print_list(void)
{
    for (int index = 0; index < scenario_count; index++) {
        const model_scenario *one = scenarios[index];
        if (one->threads == MODEL_THREADS) {
            printf("%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", one->name, scenario_files[index], one->threads,
                   one->deaths, one->stops, one->fails, one->bound, one->quick, one->about);
        }
    }
}

static int usage_error(void)
{
    fprintf(stderr, "usage: verify --list | SCENARIO [--bound N | --full | --random N] "
                    "[--mutant KEY@LINE=HOW] [--sites] [--points] [--quiet]\n");
    return 2;
}

/* Of this process: other load of the machine does not count. */
static double seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int count, char **arguments)
{
    rl::test_params params;
    std::ostream ignored(nullptr);
    bool show_sites = false, quiet = false;
    const char *name = nullptr;
    int bound = -1;
    char mode[32] = "";
    params.search_type = rl::sched_bound;
    params.execution_depth_limit = 20000;
    params.output_stream = params.progress_stream = &ignored;
    for (int at = 1; at < count; at++) {
        const char *word = arguments[at];
        if (strcmp(word, "--list") == 0) {
            print_list();
            return 0;
        } else if (strcmp(word, "--bound") == 0 && at + 1 < count) {
            bound = atoi(arguments[++at]);
        } else if (strcmp(word, "--full") == 0) {
            params.search_type = rl::sched_full;
        } else if (strcmp(word, "--random") == 0 && at + 1 < count) {
            params.search_type = rl::sched_random;
            params.iteration_count = strtoul(arguments[++at], nullptr, 10);
        } else if (strcmp(word, "--mutant") == 0 && at + 1 < count) {
            mutant = arguments[++at];
        } else if (strcmp(word, "--sites") == 0) {
            show_sites = true;
        } else if (strcmp(word, "--points") == 0) {
            show_points = true;
        } else if (strcmp(word, "--quiet") == 0) {
            quiet = true;
        } else if (word[0] != '-' && name == nullptr) {
            name = word;
        } else {
            return usage_error();
        }
    }
    for (int index = 0; name != nullptr && index < scenario_count; index++) {
        bool same = scenarios[index]->threads == MODEL_THREADS && strcmp(scenarios[index]->name, name) == 0;
        scenario = same ? scenarios[index] : scenario;
    }
    if (scenario == nullptr) {
        return usage_error();
    }
    params.context_bound = (unsigned)(bound >= 0 ? bound : scenario->bound);
    for (int &holder : lock_holders) {
        holder = -1;
    }
    scenario->prepare();
    memcpy(first_holders, lock_holders, sizeof first_holders);
    image = (char *)mmap(nullptr, memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(image, memory, memory_size);
    mprotect(memory, memory_size, PROT_NONE); /* an access that is no step ends the program */
    double start = seconds();
    bool holds = true;
    uint64_t executions = 0;
    int passes = 0;
    running = true;
    /* Again as long as words turn out to be contended, because no switches were tried before them. */
    do {
        rl::test_params pass = params;
        holds = rl::simulate<suite>(pass);
        executions = (uint64_t)pass.stop_iteration;
        params.test_result = pass.test_result;
        if (holds && ++passes == PASSES_MAX) {
            fprintf(stderr, "verify: more words are contended in each pass\n");
            return 2;
        }
    } while (holds && find_contended());
    running = false;
    if (params.search_type == rl::sched_bound) {
        snprintf(mode, sizeof mode, "%u switches", params.context_bound);
    } else {
        snprintf(mode, sizeof mode, "%s", params.search_type == rl::sched_full ? "all switches" : "random");
    }
    if (mutant != nullptr && !mutant_met) {
        fprintf(stderr, "verify: no site is %s\n", mutant);
        return 3;
    }
    if (!quiet) {
        const char *why = failure != nullptr ? failure : rl::test_result_str(params.test_result);
        printf("%-28s %-12s %10llu executions %7.2f s  %s%s\n", scenario->name, mode,
               (unsigned long long)executions, seconds() - start,
               holds == scenario->fails ? "WRONG: " : scenario->fails ? "found: " : "",
               holds ? "holds" : why);
    }
    if (show_sites) {
        print_sites();
    }
    if (show_points) {
        print_points();
    }
    return holds != scenario->fails ? 0 : 1;
}

#endif
