/* The least that taking an upload costs: a floor to compare servers with.
 *
 * It reads of each HTTP/1.1 request just enough to find its body, and takes that in
 * pieces of up to 1 MiB. Each connection has a thread and a file of its own.
 *
 *     raw_server drop|write|sync FOLDER      prints the port that it listens on
 *
 * drop: forget the bytes; write: append them; sync: and fdatasync before the answer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 1 << 20 };

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
static enum { DROP, WRITE, SYNC } mode;
static const char *folder;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void keep(int file, const char *bytes, size_t count)
{
    while (mode != DROP && count) {
        ssize_t written = write(file, bytes, count);
        if (written < 0)
            fail("write");
        bytes += written;
        count -= written;
    }
}

/* Bytes of the head, with its empty line; 0 when the peer is gone. */
static size_t read_head(int peer, char *buffer, size_t *held)
{
    for (*held = 0; *held < BUFFER;) {
        ssize_t got = recv(peer, buffer + *held, BUFFER - *held, 0);
        if (got <= 0)
            return 0;
        *held += got;
        char *end = memmem(buffer, *held, "\r\n\r\n", 4);
        if (end) {
            *end = 0;
            return end + 4 - buffer;
        }
    }
    return 0;
}

static int serve_one(int peer, int file, char *buffer)
{
    size_t held, head = read_head(peer, buffer, &held);
    if (!head)
        return 0;
    char *field = strcasestr(buffer, "\r\nContent-Length:");
    size_t remaining = field ? strtoull(field + 17, NULL, 10) : 0;
    keep(file, buffer + head, held - head);
    remaining -= held - head;
    while (remaining) {
        size_t wanted = remaining < BUFFER ? remaining : BUFFER;
        ssize_t got = recv(peer, buffer, wanted, 0);
        if (got <= 0)
            return 0;
        keep(file, buffer, got);
        remaining -= got;
    }
    if (mode == SYNC && fdatasync(file))
        fail("fdatasync");
    return send(peer, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) > 0;
}

static void *serve(void *argument)
{
    int peer = (int)(long)argument;
    char path[4096], *buffer = malloc(BUFFER);
    snprintf(path, sizeof path, "%s/raw-%d", folder, peer);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || !buffer)
        fail(path);
    while (serve_one(peer, file, buffer))
        continue;
    free(buffer);
    close(file);
    close(peer);
    return NULL;
}

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    mode = !strcmp(arguments[1], "sync") ? SYNC : !strcmp(arguments[1], "write") ? WRITE : DROP;
    folder = arguments[2];
    struct sockaddr_in here = {.sin_family = AF_INET};
    socklen_t size = sizeof here;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(door, (void *)&here, size) || listen(door, 1024) || getsockname(door, (void *)&here, &size))
        fail("listen");
    printf("listening on http://127.0.0.1:%d\n", ntohs(here.sin_port));
    fflush(stdout);
    for (;;) {
        int one = 1, peer = accept(door, NULL, NULL);
        pthread_t thread;
        if (peer < 0)
            fail("accept");
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (pthread_create(&thread, NULL, serve, (void *)(long)peer))
            fail("pthread_create");
        pthread_detach(thread);
    }
}
