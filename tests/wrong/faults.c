// SPDX-License-Identifier: 0BSD

// Servers with faults that C invites, a thread for each client:
//
//     cc -pthread tests/wrong/faults.c -o faults && ./faults FAULT
//
// What is not the fault is done as in ../peers/threads.c; ASCII alone.

#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *fault;

static int is(const char *name) { return strcmp(fault, name) == 0; }

static void upper(char *text, ssize_t count) {
  for (ssize_t at = 0; at < count; at++)
    text[at] = toupper((unsigned char)text[at]);
}

static int send_all(int client, const char *text, ssize_t count) {
  for (ssize_t sent = 0; sent < count;) {
    ssize_t more = write(client, text + sent, count - sent);
    if (more < 0) return 0;
    sent += more;
  }
  return 1;
}

static char shared[4096];

static void serve(int client) {
  char own[4096];
  char *buffer = is("threads share a static buffer") ? shared : own;
  ssize_t count;
  while ((count = read(client, buffer, 4095)) > 0) {
    upper(buffer, count);
    if (is("takes strlen() for the count")) {
      buffer[count] = 0;
      count = strlen(buffer);
    }
    if (is("sleeps 200 ms for each 4 KB")) usleep(200000);
    if (!send_all(client, buffer, count)) break;
  }
}

// On a socket that does not block, write() takes what there is room for.
static void serve_partly(int client) {
  char buffer[4096];
  ssize_t count;
  struct pollfd ready = {.fd = client, .events = POLLIN};
  fcntl(client, F_SETFL, O_NONBLOCK);
  while (poll(&ready, 1, -1) > 0 &&
         (count = read(client, buffer, sizeof buffer)) > 0) {
    upper(buffer, count);
    if (write(client, buffer, count) < 0) continue;
  }
}

static void serve_lines(int client) {
  char line[1024] = "";
  FILE *in = fdopen(dup(client), "r");
  int at_end = 0;
  do {
    if (fgets(line, sizeof line, in) == NULL) at_end = 1;
    if (at_end && !is("does not test what fgets() gives")) break;
    ssize_t count = strlen(line);
    if (count == sizeof line - 1 && is("cuts lines at 1 KB"))
      for (int c; (c = getc(in)) != EOF && c != '\n';) line[count - 1] = '\n';
    upper(line, count);
    // A client without a line would cost a core for ever.
    if (count == 0 || !send_all(client, line, count)) break;
  } while (1);
  fclose(in);
}

static void *run(void *argument) {
  int client = (int)(intptr_t)argument;
  if (is("looks at no result of write()")) serve_partly(client);
  else if (is("cuts lines at 1 KB") || is("does not test what fgets() gives"))
    serve_lines(client);
  else serve(client);
  if (is("never closes a descriptor")) shutdown(client, SHUT_RDWR);
  else close(client);
  return NULL;
}

int main(int argc, char **argv) {
  fault = argc > 1 ? argv[1] : "";
  signal(SIGPIPE, is("dies of SIGPIPE") ? SIG_DFL : SIG_IGN);
  signal(SIGCHLD, SIG_IGN);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  bind(listener, (struct sockaddr *)&address, length);
  listen(listener, SOMAXCONN);
  getsockname(listener, (struct sockaddr *)&address, &length);
  printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
  fflush(stdout);

  for (;;) {
    int client = accept(listener, NULL, NULL);
    if (client < 0) {
      if (is("never closes a descriptor")) return 1;
      continue;
    }
    if (is("the parent keeps the socket after fork()")) {
      if (fork() == 0) {
        run((void *)(intptr_t)client);
        return 0;
      }
      continue;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, (void *)(intptr_t)client) == 0)
      pthread_detach(thread);
  }
}
