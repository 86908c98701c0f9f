// SPDX-License-Identifier: 0BSD

/**
 * Measures a TCP service that uppercases UTF-8 text, whatever it is written in:
 * bulk throughput, messages a second and their round trips.
 *
 *     deno run --allow-net lib/load.ts --port 6789
 *
 * Every reply is compared, byte by byte, with what `toUpperCase()` makes of the
 * text that was sent. The first wrong one ends the measurement.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { parseArgs } from "node:util";
import {
  COMMON,
  fail,
  help,
  messageOf,
  noService,
  readAddress,
  readOptions,
  wholeNumber,
} from "./parts/command_line.ts";
import {
  type Address,
  connect,
  format,
  NoConnection,
  readReply,
  writeAll,
} from "./parts/tcp.ts";
import { within } from "./parts/waits.ts";
import { lines, SENTENCES } from "./parts/texts.ts";

/** How much load; each measurement takes what it needs. */
export interface LoadOptions {
  /** A name of `SENTENCES` in `texts.ts`. @default "ascii" */
  text?: string;
  /** Millions of bytes to send, all clients together. @default 300 */
  megabytes?: number;
  /** Clients that send megabytes at the same time. @default 1 */
  clients?: number;
  /** Connections, each with one line on its way. @default 100 */
  connections?: number;
  /** How long to count messages. @default 3 */
  seconds?: number;
  /** Seconds without a byte of a reply, at least, until it gives up. @default 10 */
  timeout?: number;
}

/** What {@linkcode messages} found. */
export interface Messages {
  /** Replies a second, on all connections together. */
  messagesPerSecond: number;
  /** Half of the round trips took no longer: microseconds. */
  median: number;
  /** 99 of 100 round trips took no longer: microseconds. */
  percentile99: number;
}

/** Bytes of text that are sent again and again, and most that one read takes. */
const BLOCK = 256 * 1024;

/**
 * Measures throughput: clients that send while they read the reply.
 *
 * @returns Millions of bytes sent a second, all clients together, from the first
 * byte sent to the last byte of a reply.
 * @throws {Error} if a reply differs, ends early or goes on too long.
 */
export async function bulk(
  address: Address,
  options: LoadOptions = {},
): Promise<number> {
  const { text = "ascii", megabytes = 300, clients = 1, timeout } = options;
  const source = lines(text, BLOCK);
  const block = Buffer.from(source);
  const reply = Buffer.from(source.toUpperCase());
  const blocks = Math.ceil(megabytes * 1e6 / clients / block.length);

  using connections = new Connections(address, timeout);
  await connections.open(clients);
  const start = performance.now();
  await connections.each(async ({ socket }) => {
    const send = async () => {
      for (let sent = 0; sent < blocks; sent++) await writeAll(socket, block);
    };
    const receive = async () => {
      const buffer = new Uint8Array(BLOCK);
      for (let received = 0; received < blocks; received++) {
        await readReply(socket, reply, buffer, connections.received);
      }
    };
    await Promise.all([send(), receive()]);
  });
  const seconds = (performance.now() - start) / 1000;
  await connections.each(async ({ socket }) => {
    await socket.closeWrite();
    const count = await socket.read(new Uint8Array(100));
    if (count === null) return;
    throw new Error("wrong reply: more came after its end");
  });
  return clients * blocks * block.length / 1e6 / seconds;
}

/** Time for the service to get going before anything counts: milliseconds. */
const WARM_UP = 300;

/**
 * Measures messages: on each connection one short line is on its way, and the
 * next one leaves when its reply has come.
 *
 * Every connection has a line of its own, so a reply that went to another
 * client is a wrong one. Round trips are timed from before the write to after
 * the read, both of which cost this program some microseconds.
 *
 * @throws {Error} if a reply differs or the service closes a connection.
 */
export async function messages(
  address: Address,
  options: LoadOptions = {},
): Promise<Messages> {
  const { connections: count = 100, seconds = 3, timeout } = options;
  using connections = new Connections(address, timeout);
  await connections.open(count);
  const times: number[] = [];
  const begin = performance.now() + WARM_UP;
  const end = begin + 1000 * seconds;
  await connections.each(async ({ askLine }) => {
    for (let start = performance.now(); start < end;) {
      await askLine();
      const now = performance.now();
      if (start >= begin && now <= end) times.push(now - start);
      start = now;
    }
  });
  if (times.length === 0) throw new Error(`no whole reply within ${seconds} s`);
  const sorted = Float64Array.from(times).sort();
  const microseconds = (part: number) =>
    1000 * (sorted[Math.floor(part * sorted.length)] ?? NaN);
  return {
    messagesPerSecond: sorted.length / seconds,
    median: microseconds(0.5),
    percentile99: microseconds(0.99),
  };
}

// ------------------------------------------------------------ the connections

/**
 * Connections opened at the same time. Many a service has a queue of 100, and
 * the system lets a client who finds it full wait for a second.
 */
const AT_ONCE = 64;

/** A connection, and a line of its own. */
export interface Connection {
  /** The socket. */
  socket: Deno.TcpConn;
  /** Sends the line, and reads the reply. */
  askLine: () => Promise<void>;
}

/** Connections to a service, closed when they go out of scope. */
export class Connections implements Disposable {
  readonly #all: Connection[] = [];
  #received = 0;
  #closed = false;

  /** `timeout` is the seconds without a byte until it gives up. */
  constructor(
    private readonly address: Address,
    private readonly timeout: number = 10,
  ) {}

  /** Opens so many more, and sends a line on each: then the service has accepted it. */
  async open(count: number): Promise<void> {
    for (let rest = count; rest > 0; rest -= AT_ONCE) {
      const length = Math.min(AT_ONCE, rest);
      await this.#inTime(Array.from({ length }, () => this.#openOne()));
    }
  }

  async #openOne(): Promise<void> {
    const socket = await connect(this.address, this.timeout);
    if (this.#closed) return socket.close(); // another one failed
    socket.setNoDelay();
    const text = `client ${this.#all.length} sends a line\n`;
    const line = Buffer.from(text);
    const reply = Buffer.from(text.toUpperCase());
    const buffer = new Uint8Array(reply.length);
    const askLine = async () => {
      await writeAll(socket, line);
      await readReply(socket, reply, buffer, this.received);
    };
    this.#all.push({ socket, askLine });
    await askLine();
  }

  /** Counts bytes of replies: the number stands still when the service does. */
  readonly received = (count: number): unknown => this.#received += count;

  /** Does the same on all connections at the same time. */
  async each(work: (connection: Connection) => Promise<void>): Promise<void> {
    await this.#inTime(this.#all.map(work));
  }

  /** Waits, but not for a service that has stopped answering. */
  async #inTime(work: Promise<void>[]): Promise<void> {
    const all = Promise.all(work);
    if (await within(this.timeout, all, () => this.#received)) return;
    throw new Error(`no reply for ${this.timeout} s`);
  }

  /** Closes them all. */
  [Symbol.dispose](): void {
    this.#closed = true;
    for (const { socket } of this.#all) socket.close();
  }
}

// --------------------------------------------------------------- the program

const USAGE = `Measures a TCP service that uppercases text, in any language.

Usage: deno run --allow-net lib/load.ts [options]

  --hostname NAME     the service's address or name (default 127.0.0.1)
  -p, --port N        its port (default 6789)
  --text LIST         texts for bulk (default ascii,italian,greek), of
                      ${Object.keys(SENTENCES)}
  --megabytes N       to send in each bulk measurement (default 300)
  --clients LIST      how many send at once (default 1,8)
  --connections LIST  with a message on its way on each (default 1,100)
  -h, --help          show this

A LIST has commas, no spaces. Exit code 1: a reply is wrong, or none comes.`;

/** Measures all, and prints each result as it comes. */
async function main(options: ReturnType<typeof parse>): Promise<void> {
  const { address, texts, clients, connections, megabytes } = options;
  for (const text of texts) {
    for (const count of clients) {
      await show(address, `bulk, ${text}, clients: ${count}`, async () => {
        const asked = { megabytes, text, clients: count };
        return [`${(await bulk(address, asked)).toFixed(0)} MB/s`];
      });
    }
  }
  for (const count of connections) {
    await show(address, `messages, connections: ${count}`, async () => {
      const found = await messages(address, { connections: count });
      return [
        `${found.messagesPerSecond.toFixed(0)} a second`,
        `median ${found.median.toFixed(0)} µs`,
        `99 % ${found.percentile99.toFixed(0)} µs`,
      ];
    });
  }
}

/** Prints a measurement's name and its figures, or why there are none. */
async function show(
  address: Address,
  name: string,
  measure: () => Promise<string[]>,
): Promise<void> {
  try {
    const figures = await measure();
    const columns = figures.map((figure) => figure.padStart(16));
    console.log(name.padEnd(28) + columns.join(""));
  } catch (error) {
    if (error instanceof NoConnection) fail("load", noService(address, error));
    fail("load", `${format(address)}: ${name}: ${messageOf(error)}`);
  }
}

/** Reads the options, or ends the process after help. */
function parse() {
  const { values } = parseArgs({
    options: {
      ...COMMON,
      text: { type: "string", default: "ascii,italian,greek" },
      megabytes: { type: "string", default: "300" },
      clients: { type: "string", default: "1,8" },
      connections: { type: "string", default: "1,100" },
    },
  });
  if (values.help) help(USAGE);
  const texts = values.text.split(",");
  const known = Object.keys(SENTENCES);
  const unknown = texts.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new Error(`--text knows ${known}, not ${JSON.stringify(unknown)}`);
  }
  return {
    address: readAddress(values),
    texts,
    clients: counts("--clients", values.clients),
    connections: counts("--connections", values.connections),
    megabytes: wholeNumber("--megabytes", values.megabytes, 1, 1_000_000),
  };
}

/** Reads a list of numbers with commas. */
function counts(option: string, list: string): number[] {
  return list.split(",").map((one) => wholeNumber(option, one, 1, 1_000_000));
}

if (import.meta.main) await main(readOptions("load", parse));
