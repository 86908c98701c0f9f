// SPDX-License-Identifier: 0BSD

/** A server in this process that does to its clients what a test tells it. */

import type { Address } from "../lib/parts/tcp.ts";

/** A server that listens until it goes out of scope. */
export interface ServerHere extends AsyncDisposable {
  /** Where it listens. */
  readonly address: Address;
}

/** Serves each client with `serve`, and closes its connection after it. */
export function serveHere(
  serve: (socket: Deno.TcpConn) => Promise<unknown>,
): ServerHere {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = (async () => {
    const served = [];
    for await (const socket of listener) {
      const ended = serve(socket)
        .catch(() => {}) // a client's failure is that client's
        .finally(() => socket.close());
      served.push(ended);
    }
    await Promise.all(served);
  })();
  return {
    address: { hostname: "127.0.0.1", port: listener.addr.port },
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
    },
  };
}
