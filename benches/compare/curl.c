/*
 * The exchange of audit_chat with libcurl alone: no log, no hashes, no JSON, no limits.
 *
 * usage: curl WORKLOAD CALLS URL
 */
#include <curl/curl.h>

#include "measure.h"

typedef struct Body {
    char *bytes;
    size_t len;
    size_t room;
} Body;

static size_t receive(char *bytes, size_t size, size_t count, void *to)
{
    Body *body = to;
    size_t more = size * count;

    if (body->len + more > body->room) {
        size_t room = 2 * (body->len + more);
        char *grown = realloc(body->bytes, room);
        if (grown == NULL) {
            return 0;
        }
        body->bytes = grown;
        body->room = room;
    }
    memcpy(body->bytes + body->len, bytes, more);
    body->len += more;
    return more;
}

static void call(CURL *curl)
{
    Body body = {NULL, 0, 0};
    long status = 0;

    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    if (curl_easy_perform(curl) != CURLE_OK
        || curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status != 200
        || body.len == 0) {
        die("the call failed");
    }
    free(body.bytes);
}

int main(int argc, char **argv)
{
    char path[4096];
    char *request;
    size_t request_len;
    long calls;
    CURL *curl;
    struct curl_slist *headers = NULL;
    Moment start;

    if (argc != 4) {
        die("usage: curl WORKLOAD CALLS URL");
    }
    snprintf(path, sizeof path, "%s/request.json", argv[1]);
    request = read_file(path, &request_len);
    calls = number(argv[2]);
    snprintf(path, sizeof path, "%s/chat/completions", argv[3]);

    curl_global_init(CURL_GLOBAL_DEFAULT);
    curl = curl_easy_init();
    headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Accept: application/json");
    headers = curl_slist_append(headers, "Authorization: Bearer none");
    if (curl == NULL || headers == NULL) {
        die("libcurl cannot be used");
    }
    curl_easy_setopt(curl, CURLOPT_URL, path);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "gzip");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)request_len);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);

    for (long i = 0; i < calls / 10; i++) {
        call(curl);
    }
    start = moment();
    for (long i = 0; i < calls; i++) {
        call(curl);
    }
    print_since(start, calls);
    curl_easy_cleanup(curl);
    return EXIT_SUCCESS;
}
