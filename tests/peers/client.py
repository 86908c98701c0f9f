# SPDX-License-Identifier: 0BSD
"""Sends its whole input, closes its sending side, and prints the reply.

    python3 tests/peers/client.py PORT
"""

import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client_socket:
    client_socket.sendall(sys.stdin.buffer.read())
    client_socket.shutdown(socket.SHUT_WR)
    while data := client_socket.recv(4096):
        sys.stdout.buffer.write(data)
