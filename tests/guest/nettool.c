/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TCP between a guest and its host, checked and timed: linked statically, it runs in an initial RAM disk.
 *
 *   nettool serve PORT              answers, any number of connections at once
 *   nettool send HOST PORT MIB      sends, the other side checks each byte
 *   nettool recv HOST PORT MIB      the other way round
 *   nettool rr HOST PORT SECONDS    one byte there, one byte back
 *
 * The client prints one line: "send 256 MiB 1.234 s 207.5 MiB/s ok". Exit status 1 when a byte is wrong or missing.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 1048573 /* a prime: no two pages of the stream are alike */
#define CHUNK (256 << 10)

struct request { uint64_t op, bytes; };
static uint8_t pattern[BLOCK + CHUNK];

static void make_pattern(void)
{
    uint64_t x = 0x9e3779b97f4a7c15ull;
    for (size_t i = 0; i < BLOCK; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        pattern[i] = (uint8_t)x;
    }
    memcpy(pattern + BLOCK, pattern, CHUNK);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int put(int fd, const void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t r = send(fd, (const char *)data + done, n - done, MSG_NOSIGNAL);
        if (r <= 0)
            return 0;
        done += (size_t)r;
    }
    return 1;
}

static int get(int fd, void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t r = recv(fd, (char *)data + done, n - done, 0);
        if (r <= 0)
            return 0;
        done += (size_t)r;
    }
    return 1;
}

static int put_stream(int fd, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes;) {
        size_t n = bytes - at < CHUNK ? (size_t)(bytes - at) : CHUNK;
        if (!put(fd, pattern + at % BLOCK, n))
            return 0;
        at += n;
    }
    return 1;
}

/* How many bytes came as they were sent. */
static uint64_t get_stream(int fd, uint64_t bytes)
{
    uint8_t *buffer = malloc(CHUNK);
    uint64_t at = 0;
    while (at < bytes) {
        ssize_t n = recv(fd, buffer, bytes - at < CHUNK ? (size_t)(bytes - at) : CHUNK, 0);
        if (n <= 0 || memcmp(buffer, pattern + at % BLOCK, (size_t)n))
            break;
        at += (uint64_t)n;
    }
    free(buffer);
    return at;
}

static void *serve_one(void *opaque)
{
    int fd = (int)(intptr_t)opaque, one = 1;
    struct request r;
    char byte;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    while (get(fd, &r, sizeof(r))) {
        if (r.op == 's') {
            uint64_t good = get_stream(fd, r.bytes);
            put(fd, &good, sizeof(good));
        } else if (r.op == 'r') {
            put_stream(fd, r.bytes);
        } else {
            while (recv(fd, &byte, 1, 0) == 1 && put(fd, &byte, 1))
                ;
        }
    }
    close(fd);
    return NULL;
}

static int serve(int port)
{
    int fd = socket(AF_INET6, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = in6addr_any };
    struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    if (fd < 0)
        fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) && bind(fd, (struct sockaddr *)&a4, sizeof(a4))) {
        perror("bind");
        return 1;
    }
    listen(fd, 16);
    printf("serving\n");
    fflush(stdout);
    for (;;) {
        pthread_t t;
        int c = accept(fd, NULL, NULL);
        if (c >= 0 && !pthread_create(&t, NULL, serve_one, (void *)(intptr_t)c))
            pthread_detach(t);
    }
}

static int connect_to(const char *host, int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
    int v6 = strchr(host, ':') != NULL, one = 1;
    inet_pton(v6 ? AF_INET6 : AF_INET, host, v6 ? (void *)&a6.sin6_addr : (void *)&a.sin_addr);
    for (int i = 0; i < 50; i++) {
        int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
        if (!connect(fd, v6 ? (struct sockaddr *)&a6 : (struct sockaddr *)&a, v6 ? sizeof(a6) : sizeof(a))) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            return fd;
        }
        close(fd);
        usleep(200000);
    }
    return -1;
}

static int transfer(int fd, char op, uint64_t mib)
{
    struct request r = { (uint64_t)op, mib << 20 };
    uint64_t good = 0;
    double start = now();
    if (!put(fd, &r, sizeof(r)) || (op == 's' && (!put_stream(fd, r.bytes) || !get(fd, &good, sizeof(good)))))
        return 1;
    if (op == 'r')
        good = get_stream(fd, r.bytes);
    double took = now() - start;
    printf("%s %llu MiB %.3f s %.1f MiB/s %s\n", op == 's' ? "send" : "recv", (unsigned long long)mib, took, (double)mib / took,
           good == r.bytes ? "ok" : "WRONG");
    return good != r.bytes;
}

static int ping_pong(int fd, double seconds)
{
    struct request r = { 'q', 0 };
    unsigned long n = 0;
    char byte = 'x';
    if (!put(fd, &r, sizeof(r)))
        return 1;
    double start = now(), end = start + seconds;
    while (now() < end) {
        if (!put(fd, &byte, 1) || !get(fd, &byte, 1))
            return 1;
        n++;
    }
    printf("rr %lu in %.3f s %.0f /s ok\n", n, now() - start, (double)n / (now() - start));
    return 0;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    make_pattern();
    if (argc == 3 && !strcmp(argv[1], "serve"))
        return serve(atoi(argv[2]));
    if (argc != 5) {
        fprintf(stderr, "usage: nettool serve PORT | send|recv|rr HOST PORT AMOUNT\n");
        return 2;
    }
    int fd = connect_to(argv[2], atoi(argv[3]));
    if (fd < 0) {
        printf("%s: no connection to %s\n", argv[1], argv[2]);
        return 1;
    }
    if (!strcmp(argv[1], "rr"))
        return ping_pong(fd, atof(argv[4]));
    return transfer(fd, argv[1][0], strtoull(argv[4], NULL, 10));
}
