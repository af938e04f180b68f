// SPDX-License-Identifier: Apache-2.0
/*
 * What runs beside `ip` in the machine of test/vm, linked statically.
 *   peer start MODULE.ko...          mounts what a kernel shows itself by, loads modules in this order
 *   peer set FILE VALUE              writes a file of /proc/sys
 *   peer run NAME DEVICE FILE COUNT  sends the frames of FILE into DEVICE, whose other end is the kernel's,
 * until COUNT answers were seen or 10 s have passed FILE: for each frame its size (2 bytes, network order),
 * then its bytes. Lines on stdout: NAME udp PORT SIZE SUM           a datagram a socket was given: source
 * port, payload size, sum of its bytes NAME synack PORT ADDRESS         an answer on the wire: destination
 * port, source address NAME count ...                   counters of the kernel, as /proc/net has them
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { UDP_PORT = 53, TCP_PORT = 80, DEADLINE_S = 10, SILENCE_MS = 200 };

static void need(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static int start(int count, char **modules)
{
	need(mount("proc", "/proc", "proc", 0, NULL) == 0, "mount /proc");
	need(mount("sys", "/sys", "sysfs", 0, NULL) == 0, "mount /sys");
	for (int i = 0; i < count; i++) {
		int file = open(modules[i], O_RDONLY | O_CLOEXEC);
		need(file >= 0 && syscall(SYS_finit_module, file, "", 0) == 0, modules[i]);
		close(file);
	}
	return 0;
}

static int set(const char *path, const char *value)
{
	int file = open(path, O_WRONLY);
	need(file >= 0 && write(file, value, strlen(value)) > 0, path);
	return 0;
}

static int listener(int family, int type, int port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int yes = 1, fd = socket(family, type, 0);
	need(fd >= 0, "socket");
	if (family == AF_INET6) {
		need(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes)) == 0, "IPV6_V6ONLY");
		need(bind(fd, (struct sockaddr *)&v6, sizeof(v6)) == 0, "bind");
	} else {
		need(bind(fd, (struct sockaddr *)&v4, sizeof(v4)) == 0, "bind");
	}
	if (type == SOCK_STREAM)
		need(listen(fd, 128) == 0, "listen");
	return fd;
}

static int packet_socket(const char *device)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	to.sll_ifindex = if_nametoindex(device);
	need(fd >= 0 && to.sll_ifindex > 0 && bind(fd, (struct sockaddr *)&to, sizeof(to)) == 0, device);
	return fd;
}

static void send_all(int fd, const char *path)
{
	unsigned char size[2], frame[2048];
	FILE *file = fopen(path, "r");
	need(file != NULL, path);
	while (fread(size, 1, 2, file) == 2) {
		size_t bytes = size[0] << 8 | size[1];
		need(bytes <= sizeof(frame) && fread(frame, 1, bytes, file) == bytes, path);
		need(send(fd, frame, bytes, 0) == (ssize_t)bytes, "send");
	}
	fclose(file);
}

/* Prints what a UDP socket was given: 1. */
static int datagram(const char *name, int fd)
{
	unsigned char data[2048];
	struct sockaddr_in6 from; /* the port lies where sockaddr_in has it */
	socklen_t size = sizeof(from);
	unsigned sum = 0;
	ssize_t bytes = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &size);
	need(bytes >= 0, "recvfrom");
	for (ssize_t i = 0; i < bytes; i++)
		sum += data[i];
	printf("%s udp %d %zd %u\n", name, ntohs(from.sin6_port), bytes, sum);
	return 1;
}

/* Prints a SYN-ACK that left the kernel: 1. Anything else: 0. */
static int answer(const char *name, int fd)
{
	unsigned char frame[2048];
	char text[INET6_ADDRSTRLEN];
	ssize_t bytes = recv(fd, frame, sizeof(frame), 0);
	int v6 = frame[12] == 0x86;
	int transport = v6 ? 54 : 34;
	if (bytes < transport + 20 || frame[v6 ? 20 : 23] != IPPROTO_TCP || frame[transport + 13] != 0x12)
		return 0;
	inet_ntop(v6 ? AF_INET6 : AF_INET, frame + (v6 ? 22 : 26), text, sizeof(text));
	printf("%s synack %d %s\n", name, frame[transport + 2] << 8 | frame[transport + 3], text);
	return 1;
}

static void print_lines(const char *name, const char *path, const char *with)
{
	char line[512];
	FILE *file = fopen(path, "r");
	need(file != NULL, path);
	while (fgets(line, sizeof(line), file))
		if (strstr(line, with))
			printf("%s count %s", name, line);
	fclose(file);
}

static int run(const char *name, const char *device, const char *path, int count)
{
	int in = packet_socket(device);
	struct pollfd wait[] = {
		{.fd = listener(AF_INET, SOCK_DGRAM, UDP_PORT), .events = POLLIN},
		{.fd = listener(AF_INET6, SOCK_DGRAM, UDP_PORT), .events = POLLIN},
		{.fd = in, .events = POLLIN},
	};
	time_t end = time(NULL) + DEADLINE_S;
	int seen = 0;

	listener(AF_INET, SOCK_STREAM, TCP_PORT);
	listener(AF_INET6, SOCK_STREAM, TCP_PORT);
	send_all(in, path);
	/* A while longer than it takes, for what should not come. */
	while (time(NULL) < end) {
		int ready = poll(wait, 3, seen < count ? 1000 : SILENCE_MS);
		if (ready == 0 && seen >= count)
			break;
		for (int i = 0; i < 3; i++)
			if (wait[i].revents & POLLIN)
				seen += i == 2 ? answer(name, in) : datagram(name, wait[i].fd);
	}
	print_lines(name, "/proc/net/snmp", "Udp: ");
	print_lines(name, "/proc/net/snmp6", "Udp6In");
	for (const char **tunnel = (const char *[]){"tunl0:", "sit0:", "tunnel6:", NULL}; *tunnel; tunnel++)
		print_lines(name, "/proc/net/dev", *tunnel);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "start") == 0)
		return start(argc - 2, argv + 2);
	if (argc == 4 && strcmp(argv[1], "set") == 0)
		return set(argv[2], argv[3]);
	if (argc == 6 && strcmp(argv[1], "run") == 0)
		return run(argv[2], argv[3], argv[4], atoi(argv[5]));
	fprintf(stderr, "peer: start, set or run\n");
	return 2;
}
