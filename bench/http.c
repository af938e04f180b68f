// SPDX-License-Identifier: Apache-2.0
/* An HTTP server that costs as little as can be: any request gets the same small answer, and the connection
 * is closed. Usage: http PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>
#include <unistd.h>

#define HEAD "HTTP/1.1 200 OK\r\nContent-Length: 128\r\nConnection: close\r\n\r\n"
#define BODY 128

static void watch(int queue, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event))
		close(fd);
}

/* Requests come in one piece. One for /peer is told who seems to ask. */
static void serve(int fd)
{
	struct sockaddr_in peer = {};
	socklen_t size = sizeof(peer);
	char request[2048], answer[sizeof(HEAD) - 1 + BODY] = HEAD;
	ssize_t got = read(fd, request, sizeof(request));

	if (got < 0 && errno == EAGAIN)
		return;
	memset(answer + sizeof(HEAD) - 1, ' ', BODY);
	if (got > 9 && !memcmp(request, "GET /peer", 9) && !getpeername(fd, (struct sockaddr *)&peer, &size))
		inet_ntop(AF_INET, &peer.sin_addr, answer + sizeof(HEAD) - 1, BODY);
	if (got > 0 && write(fd, answer, sizeof(answer)) < 0)
		perror("http: answer");
	close(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 80)};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), queue = epoll_create1(0), on = 1;
	struct epoll_event events[64];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&here, sizeof(here)) || listen(listener, 4096)) {
		perror("http: listen");
		return 1;
	}
	watch(queue, listener);
	puts("listening");
	fflush(stdout);
	for (;;) {
		int count = epoll_wait(queue, events, 64, -1);

		for (int at = 0; at < count; at++) {
			int fd = events[at].data.fd;

			if (fd != listener) {
				serve(fd);
				continue;
			}
			while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
				watch(queue, fd);
		}
	}
}
