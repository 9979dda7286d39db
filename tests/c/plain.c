/*
 * What the log's way of appending is measured against: whole lines, each by one write with O_APPEND,
 * and nothing else. Arguments: the file, a name. Says each acknowledged line's number on stdout.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static char line[9000];
    char said[64];
    int file, i;

    if (argc != 3)
        return 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(10);
    file = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0600);
    memset(line, '.', sizeof line);
    for (i = 0;; i++) {
        int head = snprintf(line, 64, "<%s-%d>", argv[2], i);
        line[head] = '.';
        line[sizeof line - 1] = '\n';
        if (write(file, line, sizeof line) != (ssize_t)sizeof line)
            return 1;
        head = snprintf(said, sizeof said, "<%s-%d>\n", argv[2], i);
        if (write(1, said, (size_t)head) != head)
            return 1;
    }
}
