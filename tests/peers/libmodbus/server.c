/* A Modbus TCP server on libmodbus with 200 addresses in every table; all others are refused with exception 2.
 *
 * Holding register n holds 3n, input register n holds 1000 + n, coil n is n odd, discrete input n is n even.
 * Build: cc -o server server.c $(pkg-config --cflags --libs libmodbus)
 * Start: ./server, prints {"port": N} on one line; ends when its stdin is closed.
 *        ./server /dev/ttyS0 is unit 1 on a serial line (RTU, 19200 8E1) instead and prints {"port": 0}.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE 200

/* One unit on a serial line, until stdin is closed. */
static int serve_rtu(modbus_t *context, modbus_mapping_t *map) {
    modbus_set_slave(context, 1);
    if (modbus_connect(context) < 0) return 1;
    printf("{\"port\": 0}\n");
    fflush(stdout);
    int line = modbus_get_socket(context);
    for (;;) {
        fd_set ready;
        FD_ZERO(&ready);
        FD_SET(STDIN_FILENO, &ready);
        FD_SET(line, &ready);
        if (select(line + 1, &ready, NULL, NULL, NULL) < 0) return 1;
        if (FD_ISSET(STDIN_FILENO, &ready)) return 0;
        uint8_t query[MODBUS_RTU_MAX_ADU_LENGTH];
        int size = modbus_receive(context, query);
        if (size > 0) modbus_reply(context, query, size, map);
    }
}

int main(int count, char **words) {
    modbus_t *context =
        count > 1 ? modbus_new_rtu(words[1], 19200, 'E', 8, 1) : modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *map = modbus_mapping_new(SIZE, SIZE, SIZE, SIZE);
    if (context == NULL || map == NULL) return 1;
    for (int n = 0; n < SIZE; n++) {
        map->tab_registers[n] = 3 * n;
        map->tab_input_registers[n] = 1000 + n;
        map->tab_bits[n] = n % 2;
        map->tab_input_bits[n] = 1 - n % 2;
    }
    if (count > 1) return serve_rtu(context, map);
    int listener = modbus_tcp_listen(context, 8);
    if (listener < 0) return 1;
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);

    fd_set open, ready;
    FD_ZERO(&open);
    FD_SET(STDIN_FILENO, &open);
    FD_SET(listener, &open);
    int highest = listener;
    for (;;) {
        ready = open;
        if (select(highest + 1, &ready, NULL, NULL, NULL) < 0) return 1;
        for (int fd = 0; fd <= highest; fd++) {
            if (!FD_ISSET(fd, &ready)) continue;
            if (fd == STDIN_FILENO) {
                char ignored[64];
                if (read(fd, ignored, sizeof ignored) <= 0) return 0;
            } else if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client < 0) continue;
                FD_SET(client, &open);
                if (client > highest) highest = client;
            } else {
                uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
                modbus_set_socket(context, fd);
                int size = modbus_receive(context, query);
                if (size < 0) {
                    close(fd);
                    FD_CLR(fd, &open);
                } else if (size > 0) {
                    modbus_reply(context, query, size, map);
                }
            }
        }
    }
}
