/*
 * What every contender in C and C++ shares: reading its workload, and measuring itself.
 *
 * A contender prints one line of JSON on stdout. It exits with 0, or after a message with 1.
 */
#ifndef MEASURE_H
#define MEASURE_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* Wall time, and the CPU time of the whole process, in microseconds. */
typedef struct Moment {
    double wall;
    double cpu;
} Moment;

static inline Moment moment(void)
{
    Moment now;
    struct timespec wall;
    struct rusage usage;

    clock_gettime(CLOCK_MONOTONIC, &wall);
    getrusage(RUSAGE_SELF, &usage);
    now.wall = (double)wall.tv_sec * 1e6 + (double)wall.tv_nsec / 1e3;
    now.cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6
              + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    return now;
}

static inline void print_since(Moment start, long calls)
{
    Moment end = moment();
    printf("{\"calls\": %ld, \"wall_us\": %.4f, \"cpu_us\": %.4f}\n", calls,
           (end.wall - start.wall) / (double)calls, (end.cpu - start.cpu) / (double)calls);
}

static inline void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(EXIT_FAILURE);
}

/* A number argument, 1 or more. */
static inline long number(const char *text)
{
    long value = strtol(text, NULL, 10);
    if (value < 1) {
        die("a number argument is not 1 or more");
    }
    return value;
}

/* The text of a file, with a NUL behind it. */
static inline char *read_file(const char *path, size_t *len)
{
    static const size_t most = 1 << 20;
    char *text = (char *)malloc(most + 1);
    FILE *file = fopen(path, "rb");

    if (text == NULL || file == NULL) {
        die("a file of the workload cannot be read");
    }
    *len = fread(text, 1, most, file);
    fclose(file);
    text[*len] = '\0';
    return text;
}

/* Runs a function on so many threads at once; on the calling thread if it's one. */
static inline void on_threads(long count, void *(*run)(void *))
{
    pthread_t threads[64];

    if (count == 1) {
        run(NULL);
        return;
    }
    if (count > 64) {
        die("at most 64 threads");
    }
    for (long i = 0; i < count; i++) {
        if (pthread_create(&threads[i], NULL, run, NULL) != 0) {
            die("pthread_create failed");
        }
    }
    for (long i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
}

#endif /* MEASURE_H */
