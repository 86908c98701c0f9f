# SPDX-License-Identifier: 0BSD

# A right server that reads and sends byte by byte, and lets five clients wait
# for accept(). It knows A to Z alone.

import socketserver


class Serve(socketserver.BaseRequestHandler):
    def handle(self):
        while byte := self.request.recv(1):
            self.request.sendall(byte.upper())


with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Serve) as server:
    server.daemon_threads = True
    print(f"listening on 127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
