/* Many Modbus TCP units, as lightly as can be: every unit answers reads of holding registers at once.
 *
 * ./units PORTS   PORTS listening ports of 127.0.0.1, each one a gateway with the units 0 to 255.
 * Prints {"ports": [...]}; every line on stdin is answered by what was seen since the last one:
 *   {"requests", "units" that asked, "late": of them after more than 1.5 s, "p50_ms" "p99_ms" "max_ms" between two
 *   requests of a unit}
 * Register 0: 2; registers 1 and 2: a 32 bit count that goes up every 10 s, at another moment in each unit; all
 * others: the address.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FILES 8192
#define BUCKETS 20000 /* of 1 ms */

static int gateway_of[FILES]; /* listener: -1 - port index; connection: port index */
static uint8_t pending[FILES][1024];
static int filled[FILES];
static double last[512][256];
static long buckets[BUCKETS + 1], requests, late, units;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void note(int gateway, int unit) {
    double at = now(), before = last[gateway][unit];
    last[gateway][unit] = at;
    requests++;
    if (before == 0) { units++; return; }
    long ms = (long)((at - before) * 1000);
    late += ms > 1500;
    buckets[ms < BUCKETS ? ms : BUCKETS]++;
}

static void report(void) {
    long total = 0, seen = 0, p50 = -1, p99 = -1, most = 0;
    for (int i = 0; i <= BUCKETS; i++) total += buckets[i];
    for (int i = 0; i <= BUCKETS; i++) {
        if (!buckets[i]) continue;
        seen += buckets[i];
        most = i;
        if (p50 < 0 && seen * 2 >= total) p50 = i;
        if (p99 < 0 && seen * 100 >= total * 99) p99 = i;
    }
    printf("{\"requests\": %ld, \"units\": %ld, \"late\": %ld, \"p50_ms\": %ld, \"p99_ms\": %ld, \"max_ms\": %ld}\n",
           requests, units, late, p50, p99, most);
    fflush(stdout);
    memset(buckets, 0, sizeof buckets);
    requests = late = 0;
}

static void answer(int fd) {
    uint8_t *in = pending[fd], out[8192];
    int size = 0, used = 0;
    long seconds = time(NULL);
    while (filled[fd] - used >= 12 && size < 7000) {
        uint8_t *q = in + used;
        int unit = q[6], start = q[8] << 8 | q[9], count = q[10] << 8 | q[11];
        if (count > 125) count = 125;
        used += 12;
        note(gateway_of[fd], unit);
        uint8_t *a = out + size;
        memcpy(a, q, 8);
        a[4] = (3 + 2 * count) >> 8;
        a[5] = 3 + 2 * count;
        a[8] = 2 * count;
        for (int i = 0; i < count; i++) {
            int address = start + i;
            uint32_t pieces = (seconds + unit) / 10;
            uint32_t value = address == 0 ? 2 : address == 1 ? pieces >> 16 : address == 2 ? pieces : address;
            a[9 + 2 * i] = value >> 8;
            a[10 + 2 * i] = value;
        }
        size += 9 + 2 * count;
    }
    memmove(in, in + used, filled[fd] - used);
    filled[fd] -= used;
    if (size && write(fd, out, size) != size) exit(1);
}

int main(int argc, char **words) {
    int ports = argc > 1 ? atoi(words[1]) : 1, epoll = epoll_create1(0), one = 1;
    if (ports < 1 || ports > 512) return 2;
    printf("{\"ports\": [");
    for (int i = 0; i < ports; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof address;
        if (fd >= FILES || bind(fd, (struct sockaddr *)&address, length) || listen(fd, 64)) return 1;
        getsockname(fd, (struct sockaddr *)&address, &length);
        printf("%s%d", i ? ", " : "", ntohs(address.sin_port));
        gateway_of[fd] = -1 - i;
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
    }
    printf("]}\n");
    fflush(stdout);
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &(struct epoll_event){.events = EPOLLIN, .data.fd = 0});
    for (;;) {
        struct epoll_event ready[256];
        int n = epoll_wait(epoll, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == 0) {
                char line[256];
                if (read(0, line, sizeof line) <= 0) return 0;
                report();
            } else if (gateway_of[fd] < 0) {
                int client = accept(fd, NULL, NULL);
                if (client < 0 || client >= FILES) return 1;
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                gateway_of[client] = -1 - gateway_of[fd];
                filled[client] = 0;
                epoll_ctl(epoll, EPOLL_CTL_ADD, client, &(struct epoll_event){.events = EPOLLIN, .data.fd = client});
            } else {
                int size = read(fd, pending[fd] + filled[fd], sizeof pending[fd] - filled[fd]);
                if (size <= 0) { close(fd); continue; }
                filled[fd] += size;
                answer(fd);
            }
        }
    }
}
