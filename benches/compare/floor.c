/*
 * The floor of an entry: SHA-256 of the prompt and the answer, and one write of the line. No
 * logger that hashes and hands the line to the kernel before it returns can do less.
 *
 * usage: floor WORKLOAD LOG CALLS THREADS LINE_BYTES    CALLS on each thread
 */
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <unistd.h>

#include "measure.h"

static unsigned char *content;
static size_t content_len;
static size_t line_len;
static int fd;
static EVP_MD *sha256;
static long calls;

static void write_entries(long count)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    char *line = malloc(line_len);

    if (context == NULL || line == NULL) {
        die("out of memory");
    }
    memset(line, 'x', line_len);
    line[line_len - 1] = '\n';
    for (long i = 0; i < count; i++) {
        if (EVP_DigestInit_ex2(context, sha256, NULL) != 1
            || EVP_DigestUpdate(context, content, content_len) != 1
            || EVP_DigestFinal_ex(context, digest, NULL) != 1) {
            die("SHA-256 failed");
        }
        /* The digest goes into the line, so that the hashing can't be left out. */
        line[0] = (char)('a' + digest[0] % 26);
        if (write(fd, line, line_len) != (ssize_t)line_len) {
            die("the line was not written");
        }
    }
    EVP_MD_CTX_free(context);
    free(line);
}

static void *run(void *unused)
{
    (void)unused;
    write_entries(calls);
    return NULL;
}

int main(int argc, char **argv)
{
    char path[4096];
    size_t prompt_len, answer_len;
    char *prompt, *answer;
    long threads;
    Moment start;

    if (argc != 6) {
        die("usage: floor WORKLOAD LOG CALLS THREADS LINE_BYTES");
    }
    snprintf(path, sizeof path, "%s/prompt.txt", argv[1]);
    prompt = read_file(path, &prompt_len);
    snprintf(path, sizeof path, "%s/answer.txt", argv[1]);
    answer = read_file(path, &answer_len);
    content_len = prompt_len + answer_len;
    content = malloc(content_len);
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (content == NULL || sha256 == NULL) {
        die("out of memory, or no SHA-256");
    }
    memcpy(content, prompt, prompt_len);
    memcpy(content + prompt_len, answer, answer_len);
    calls = number(argv[3]);
    threads = number(argv[4]);
    line_len = (size_t)number(argv[5]);

    snprintf(path, sizeof path, "%s/audit.jsonl", argv[2]);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        die("the log cannot be opened");
    }
    write_entries(calls / 10);
    start = moment();
    on_threads(threads, run);
    print_since(start, calls * threads);
    return EXIT_SUCCESS;
}
