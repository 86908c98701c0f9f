// SPDX-License-Identifier: 0BSD

/** Both ends of a connection in this process: clients, and servers for them. */

import { Buffer } from "node:buffer";
import { type Address, writeAll } from "../lib/parts/tcp.ts";
import { within } from "../lib/parts/waits.ts";

export { resetHere } from "../lib/parts/tcp.ts";

// -------------------------------------------------------------------- clients

/** All that comes from a connection until its end of file. */
export async function readAll(connection: Deno.Conn): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const bytes of reads(connection)) chunks.push(bytes.slice());
  return new Uint8Array(Buffer.concat(chunks)); // and no Buffer
}

/**
 * Sends bytes to a service while it reads the reply, closes the sending side,
 * and gives the whole reply.
 */
export async function exchange(
  address: Address,
  bytes: Uint8Array,
): Promise<Uint8Array> {
  using connection = await Deno.connect(address);
  const [reply] = await Promise.all([
    readAll(connection),
    writeAll(connection, bytes).then(() => connection.closeWrite()),
  ]);
  return reply;
}

/** The same with text. */
export async function talk(address: Address, text: string): Promise<string> {
  const reply = await exchange(address, Buffer.from(text));
  return Buffer.from(reply).toString();
}

/** Sends a line and waits for the reply to it, as a person would. */
export async function ask(
  connection: Deno.Conn,
  line: string,
): Promise<string> {
  await connection.write(Buffer.from(line));
  let reply = "";
  for await (const text of texts(connection)) {
    reply += text;
    if (reply.endsWith("\n")) break;
  }
  return reply;
}

// -------------------------------------------------------------------- servers

/** A server that listens at an address until it goes out of scope. */
export type ServerHere = AsyncDisposable & { readonly address: Address };

/** Serves each client with `serve`, and closes its connection after it. */
export function serveHere(
  serve: (socket: Deno.TcpConn) => Promise<unknown>,
): ServerHere {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = (async () => {
    const served: Promise<unknown>[] = [];
    while (true) {
      try {
        const socket = await listener.accept();
        const ended = serve(socket)
          .catch(() => {}) // a client's failure is that client's
          .finally(() => socket.close());
        served.push(ended);
      } catch (error) {
        // The client has reset its connection already, or the listener is closed.
        if (!(error instanceof Deno.errors.NotConnected)) break;
      }
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

/** Serves a client as it should be, or with another reply to each read. */
export async function serveRight(
  connection: Deno.Conn,
  reply = (text: string) => text.toUpperCase(),
  options?: TextDecoderOptions,
): Promise<void> {
  for await (const text of texts(connection, options)) {
    await writeText(connection, reply(text));
  }
}

/** What comes, read by read, in a buffer that the next read fills again. */
export async function* reads(
  connection: Deno.Conn,
): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(64 * 1024);
  while (true) {
    const count = await within(60, connection.read(buffer));
    if (count === undefined) throw new Error("nothing came for a minute");
    if (count === null) return;
    yield buffer.subarray(0, count);
  }
}

/** The same as text; a character that a read has cut comes with the next one. */
export async function* texts(
  connection: Deno.Conn,
  options: TextDecoderOptions = { ignoreBOM: true },
): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", options);
  for await (const bytes of reads(connection)) {
    yield decoder.decode(bytes, { stream: true });
  }
  yield decoder.decode();
}

/** Writes a whole text. */
export function writeText(connection: Deno.Conn, text: string): Promise<void> {
  return writeAll(connection, Buffer.from(text));
}
