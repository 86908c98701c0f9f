// SPDX-License-Identifier: 0BSD

/**
 * TCP connections to any service: connect, write all, read a reply that is
 * known, and reset on purpose.
 */

import { Buffer } from "node:buffer";
import { once } from "node:events";
import {
  type AddressInfo,
  connect as connectSocket,
  createServer,
  Socket,
} from "node:net";
import { within } from "./waits.ts";
import { difference } from "./words.ts";

/** Where a service listens. */
export interface Address {
  /** Its address or name. */
  hostname: string;
  /** Its port. */
  port: number;
}

/** An address as people write it: `127.0.0.1:6789`, IPv6 in brackets. */
export function format({ hostname, port }: Address): string {
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return `${host}:${port}`;
}

/** No connection: nothing listens, or nobody answered in time. */
export class NoConnection extends Error {
  /**
   * Says in words why there is none, and whether the system refused it. An error
   * of this side's own system is its `cause`.
   */
  constructor(
    why: string,
    readonly nothingListens: boolean = false,
    options?: ErrorOptions,
  ) {
    super(why, options);
  }
}

/**
 * Connects to a service; `timeout` is in seconds.
 *
 * @throws {NoConnection} that says in words why there is none
 */
export async function connect(
  address: Address,
  timeout: number,
): Promise<Deno.TcpConn> {
  const connecting = Deno.connect(address);
  const connection = await within(timeout, connecting).catch((cause) => {
    if (cause instanceof Deno.errors.ConnectionRefused) {
      throw new NoConnection("nothing listens there", true);
    }
    const why = cause instanceof Deno.errors.NotCapable
      ? "no permission to connect; run this program with --allow-net"
      : cause.message;
    throw new NoConnection(why, false, { cause });
  });
  if (connection) return connection;
  connecting.then((late) => late.close(), () => {});
  throw new NoConnection(`no answer in ${timeout} s`);
}

/** Writes all of the bytes, however many a single write takes. */
export async function writeAll(
  connection: Deno.Conn,
  bytes: Uint8Array,
): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += await connection.write(bytes.subarray(at));
  }
}

/**
 * Reads a whole reply into a buffer, read by read, and compares every byte.
 *
 * @param afterRead Gets the number of bytes of each read; what it returns is
 * waited for.
 * @throws {Error} that says which byte is wrong, or that the service has closed
 */
export async function readReply(
  connection: Deno.Conn,
  reply: Uint8Array,
  buffer: Uint8Array,
  afterRead: (count: number) => unknown = () => {},
): Promise<void> {
  for (let at = 0; at < reply.length;) {
    const room = buffer.subarray(0, reply.length - at);
    const count = await connection.read(room);
    if (count === null) {
      const came = `${at} of ${reply.length} bytes of a reply`;
      throw new Error(`the service closed a connection after ${came}`);
    }
    const bytes = room.subarray(0, count);
    const wanted = reply.subarray(at, at + count);
    // memcmp() inside: 30 GB/s and more; a loop in JavaScript made 2 to 3.
    if (Buffer.compare(bytes, wanted) !== 0) {
      throw new Error(`wrong reply: ${difference(bytes, wanted, at)}`);
    }
    at += count;
    await afterRead(count);
  }
}

/**
 * Connects and resets the connection, as the system does for a process that
 * dies with unread data: at once, or when `ready` settles.
 *
 * @param ready Gets a function that sends, and a promise that settles with the
 * reply; what it returns is waited for.
 * @returns Whether there was a connection to reset.
 * @throws {TypeError} in a release of Deno that cannot
 */
export async function reset(
  { hostname, port }: Address,
  ready: (
    send: (bytes: string | Uint8Array) => void,
    reply: Promise<void>,
  ) => unknown = () => {},
): Promise<boolean> {
  needsReset();
  const socket = connectSocket({ host: hostname, port });
  const event = (name: "connect" | "data" | "close") =>
    new Promise<void>((resolve) => socket.once(name, () => resolve()));
  socket.on("error", () => {}); // "close" follows
  const closed = event("close");
  const reply = Promise.race([event("data"), closed]);
  await Promise.race([event("connect"), closed]);
  const connected = !socket.destroyed;
  if (connected) await ready((bytes) => socket.write(bytes), reply);
  socket.resetAndDestroy();
  await closed;
  return connected;
}

/**
 * Listens, and resets each connection: at once, or when bytes have come.
 *
 * @throws {TypeError} in a release of Deno that cannot
 */
export async function resetHere(
  on: "connect" | "data",
  { hostname, port }: Address = { hostname: "127.0.0.1", port: 0 },
): Promise<AsyncDisposable & { readonly address: Address }> {
  needsReset();
  const server = createServer((socket) => {
    socket.on("error", () => {}); // the client was quicker
    if (on === "connect") socket.resetAndDestroy();
    else socket.on("data", () => socket.resetAndDestroy());
  });
  await once(server.listen(port, hostname), "listening");
  const address = server.address() as AddressInfo;
  return {
    address: { hostname, port: address.port },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** Deno's own sockets cannot choose to reset; those of `node:net` can. */
export const CAN_RESET: boolean = "resetAndDestroy" in Socket.prototype;

function needsReset(): void {
  if (!CAN_RESET) throw new TypeError("needs Deno 2.7.14");
}
