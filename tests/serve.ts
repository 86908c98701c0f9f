// SPDX-License-Identifier: 0BSD

/** A server in this process that does to its clients what a test tells it. */

import type { Address } from "../lib/parts/tcp.ts";

/** A server that listens until it goes out of scope. */
export interface ServerHere extends AsyncDisposable {
  /** Where it listens. */
  readonly address: Address;
}

/** How {@linkcode serveHere} accepts clients. */
export interface AcceptOptions {
  /** Where to listen. @default 0, a free port */
  port?: number;
  /** Serves a client to its end before it accepts the next. @default false */
  inTurn?: boolean;
  /** Gets what accept() throws. @default accept the next */
  onError?: (error: unknown) => void;
}

/** Serves each client with `serve`, and closes its connection after it. */
export function serveHere(
  serve: (socket: Deno.TcpConn) => Promise<unknown>,
  { port = 0, inTurn = false, onError = () => {} }: AcceptOptions = {},
): ServerHere {
  const listener = Deno.listen({ hostname: "127.0.0.1", port });
  const open = new Map<Deno.TcpConn, Promise<void>>();
  let closed = false;
  const close = (socket: Deno.TcpConn) => {
    try {
      socket.close();
    } catch {
      // It has been closed already.
    }
  };
  const serveOne = async (socket: Deno.TcpConn) => {
    await serve(socket).catch(() => {}); // a client's failure is that client's
    close(socket);
    open.delete(socket);
  };
  const accepting = (async () => {
    while (!closed) {
      try {
        const socket = await listener.accept();
        const served = serveOne(socket);
        open.set(socket, served);
        if (inTurn) await served;
      } catch (error) {
        if (!closed) onError(error);
      }
    }
  })();
  return {
    address: { hostname: listener.addr.hostname, port: listener.addr.port },
    async [Symbol.asyncDispose]() {
      closed = true;
      listener.close();
      for (const socket of open.keys()) close(socket);
      await Promise.all([accepting, ...open.values()]);
    },
  };
}
