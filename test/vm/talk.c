// SPDX-License-Identifier: Apache-2.0
/*
 * TCP in the machine of test/vm, linked statically.
 *   talk serve PORT BYTES     answers each connection with its peer's address, a space and so many bytes
 *   talk ask ADDRESS PORT     prints the address that came back, and how many bytes; or why there was none
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { SILENCE_S = 20 };

static void send_all(int fd, const char *data, size_t left)
{
	for (ssize_t sent; left > 0 && (sent = write(fd, data, left)) > 0; left -= sent)
		data += sent;
}

static int serve(int port, int bytes)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)}, from;
	int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	char *rest = malloc(bytes), head[INET_ADDRSTRLEN + 2];

	memset(rest, 'x', bytes);
	signal(SIGPIPE, SIG_IGN);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 16))
		return 1;
	puts("listening");
	fflush(stdout);
	for (;;) {
		socklen_t size = sizeof(from);
		int one = accept(fd, (struct sockaddr *)&from, &size);

		inet_ntop(AF_INET, &from.sin_addr, head, INET_ADDRSTRLEN);
		strcat(head, " ");
		send_all(one, head, strlen(head));
		send_all(one, rest, bytes);
		close(one);
	}
}

static int ask(const char *address, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct timeval silence = {.tv_sec = SILENCE_S};
	int fd = socket(AF_INET, SOCK_STREAM, 0), total = 0;
	char who[64] = "", data[4096];

	inet_pton(AF_INET, address, &to.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof(silence));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		printf("no answer: %s\n", strerror(errno));
		return 0;
	}
	for (ssize_t got; (got = read(fd, data, sizeof(data))) > 0; total += got)
		if (total == 0)
			sscanf(data, "%63s", who);
	printf("%s %d\n", who, total);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "serve") == 0)
		return serve(atoi(argv[2]), atoi(argv[3]));
	if (argc == 4 && strcmp(argv[1], "ask") == 0)
		return ask(argv[2], atoi(argv[3]));
	fprintf(stderr, "talk: serve or ask\n");
	return 2;
}
