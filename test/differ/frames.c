// SPDX-License-Identifier: Apache-2.0
// Frames from stdin to an interface, and what comes in on it to stdout; each behind its length as 4 bytes in
// network order. Argument: the interface.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void write_all(const void *bytes, size_t size)
{
	const char *at = bytes;

	while (size > 0) {
		ssize_t count = write(1, at, size);

		if (count <= 0)
			die("write");
		at += count;
		size -= count;
	}
}

static int read_all(void *bytes, size_t size)
{
	char *at = bytes;

	while (size > 0) {
		ssize_t count = read(0, at, size);

		if (count <= 0)
			return 0;
		at += count;
		size -= count;
	}
	return 1;
}

int main(int argc, char **argv)
{
	int one = 1, room = 1 << 24;
	int wire = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	struct sockaddr_ll place = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	static char frame[1 << 17];

	if (argc < 2 || wire < 0)
		die("socket");
	place.sll_ifindex = if_nametoindex(argv[1]);
	if (setsockopt(wire, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) ||
	    setsockopt(wire, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) ||
	    bind(wire, (struct sockaddr *)&place, sizeof(place)))
		die(argv[1]);
	write_all(&(uint32_t){0}, 4); /* ready */
	for (;;) {
		struct pollfd ready[] = {{.fd = 0, .events = POLLIN}, {.fd = wire, .events = POLLIN}};
		uint32_t size;

		if (poll(ready, 2, -1) < 0)
			die("poll");
		if (ready[1].revents) {
			ssize_t count = recv(wire, frame, sizeof(frame), 0);

			if (count < 0)
				die("recv");
			size = htonl(count);
			write_all(&size, 4);
			write_all(frame, count);
		}
		if (ready[0].revents) {
			if (!read_all(&size, 4) || ntohl(size) > sizeof(frame) ||
			    !read_all(frame, ntohl(size)))
				return 0;
			if (send(wire, frame, ntohl(size), 0) < 0)
				die("send");
		}
	}
}
