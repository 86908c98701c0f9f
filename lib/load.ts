// SPDX-License-Identifier: 0BSD

/**
 * Measures a TCP service that uppercases UTF-8 text, whatever it is written in:
 * bulk throughput, messages a second and their round trips, connections held.
 *
 *     deno run --allow-net lib/load.ts --port 6789
 *
 * Every reply that it counts is compared, byte by byte, with what
 * `toUpperCase()` makes of the text that was sent. The first wrong one ends the
 * measurement.
 *
 * `README.md` beside this file says how much it can generate itself.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { parseArgs } from "node:util";
import {
  COMMON,
  fail,
  oneLine,
  progress,
  readAddress,
  readOptions,
  wholeNumber,
} from "./parts/options.ts";
import {
  type Address,
  connect,
  format,
  NoConnection,
  noService,
  writeAll,
} from "./parts/tcp.ts";
import { lines, SENTENCES } from "./parts/texts.ts";

/** What all measurements can be told. */
export interface Limits {
  /** Seconds without a byte of a reply after which to give up. @default 10 */
  timeout?: number;
  /** Called four times a second with how much has been counted so far. */
  onProgress?: (count: number) => void;
}

/** What {@linkcode bulk} measures. */
export interface BulkOptions extends Limits {
  /** A name of `SENTENCES` in `texts.ts`. @default "ascii" */
  text?: string;
  /** Millions of bytes to send, all clients together. @default 300 */
  megabytes?: number;
  /** Clients that send at the same time. @default 1 */
  clients?: number;
}

/** What {@linkcode bulk} found. */
export interface Bulk {
  /** The text's name. */
  text: string;
  /** Clients that sent at the same time. */
  clients: number;
  /** Millions of bytes sent, all clients together: whole blocks of the text. */
  megabytes: number;
  /** From the first byte sent to the last byte of a reply. */
  seconds: number;
  /** Millions of bytes sent a second, all clients together. */
  megabytesPerSecond: number;
}

/** What {@linkcode messages} measures. */
export interface MessagesOptions extends Limits {
  /** Connections, each with one line on its way. @default 100 */
  connections?: number;
  /** How long to count. @default 3 */
  seconds?: number;
}

/** What {@linkcode messages} found. */
export interface Messages {
  /** Connections, each with one line on its way. */
  connections: number;
  /** How long it counted. */
  seconds: number;
  /** Replies a second, on all connections together. */
  messagesPerSecond: number;
  /** Half of the round trips took no longer: microseconds. */
  median: number;
  /** 99 of 100 round trips took no longer: microseconds. */
  percentile99: number;
}

/** What {@linkcode hold} measures. */
export interface HoldOptions extends Limits {
  /** Connections to hold. @default 1000 */
  connections?: number;
}

/** The service answered, and not with the uppercase of what it was sent. */
export class WrongReply extends Error {
  /** The error's name. */
  override name = "WrongReply";
}

/** Bytes of text in a block, and most that one read takes. */
const BLOCK = 256 * 1024;

/**
 * Measures throughput: clients that send while they read the reply.
 *
 * The sending side stays open until the whole reply is there, so that a service
 * which mishandles a half-close can be measured too.
 *
 * @throws {WrongReply} if a reply differs, ends early or goes on too long.
 * @throws {RangeError} if there is no such text.
 */
export async function bulk(
  address: Address,
  options: BulkOptions = {},
): Promise<Bulk> {
  const { text = "ascii", megabytes = 300, clients = 1 } = options;
  const source = lines(text, BLOCK);
  const block = Buffer.from(source);
  const reply = new Repeated(Buffer.from(source.toUpperCase()));
  const blocks = Math.ceil(megabytes * 1e6 / clients / block.length);

  using connections = await Connections.open(address, clients, options);
  const send = async (socket: Deno.TcpConn) => {
    for (let sent = 0; sent < blocks; sent++) await writeAll(socket, block);
  };
  const receive = async (socket: Deno.TcpConn) => {
    const length = blocks * reply.length;
    const buffer = new Uint8Array(BLOCK);
    for (let at = 0; at < length;) {
      const count = await socket.read(buffer);
      if (count === null) throw endedEarly(at, length);
      reply.expect(buffer.subarray(0, count), at);
      if (at + count > length) {
        throw tooLong(length, buffer.subarray(length - at, count));
      }
      at += count;
      connections.count += count;
    }
  };
  const start = performance.now();
  await connections.each(async (socket) => {
    await Promise.all([send(socket), receive(socket)]);
  });
  const seconds = (performance.now() - start) / 1000;
  await connections.each(async (socket) => {
    await socket.closeWrite();
    const more = new Uint8Array(100);
    const count = await socket.read(more);
    if (count !== null) {
      throw tooLong(blocks * reply.length, more.subarray(0, count));
    }
  });

  const sent = clients * blocks * block.length / 1e6;
  return {
    text,
    clients,
    megabytes: sent,
    seconds,
    megabytesPerSecond: sent / seconds,
  };
}

/** Time for the service to get going before anything counts: milliseconds. */
const WARM_UP = 300;

/** More replies a second than this program can count: room for their times. */
const MOST_MESSAGES = 250_000;

/**
 * Measures messages: on each connection one short line is on its way, and the
 * next one leaves when its reply has come.
 *
 * Every connection has a line of its own, so a reply that went to another
 * client is a wrong one. Round trips are timed from before the write to after
 * the read, both of which cost this program some microseconds.
 *
 * @throws {WrongReply} if a reply differs or the service closes a connection.
 */
export async function messages(
  address: Address,
  options: MessagesOptions = {},
): Promise<Messages> {
  const { connections: wanted = 100, seconds = 3 } = options;
  using connections = await Connections.open(address, wanted, options);
  const times = new Float32Array(Math.ceil(seconds * MOST_MESSAGES));
  let counted = 0;
  const begin = performance.now() + WARM_UP;
  const end = begin + 1000 * seconds;
  await connections.each(async (socket, number) => {
    const line = new Line(number);
    for (let start = performance.now(); start < end;) {
      await socket.write(line.bytes);
      await line.expectReply(socket);
      connections.count++;
      const now = performance.now();
      if (start >= begin && now <= end) times[counted++] = now - start;
      start = now;
    }
  });

  const sorted = times.subarray(0, counted).sort();
  const microseconds = (part: number) =>
    1000 * (sorted[Math.floor(part * sorted.length)] ?? NaN);
  return {
    connections: wanted,
    seconds,
    messagesPerSecond: counted / seconds,
    median: microseconds(0.5),
    percentile99: microseconds(0.99),
  };
}

/** Quiet connections, each after one line. Closed when they go out of scope. */
export interface Held extends Disposable {
  /** How many there are. */
  connections: number;
  /** How long it took to open them all, with a line on each. */
  seconds: number;
  /**
   * Sends another line on each connection.
   *
   * @throws {WrongReply} if one of them is lost or its reply differs.
   */
  check(): Promise<void>;
}

/**
 * Opens connections, sends a line on each, reads the reply, and holds them.
 *
 * @throws {WrongReply} if a reply differs or the service closes a connection.
 */
export async function hold(
  address: Address,
  options: HoldOptions = {},
): Promise<Held> {
  const { connections: wanted = 1000 } = options;
  const start = performance.now();
  const connections = await Connections.open(address, wanted, options);
  return {
    connections: wanted,
    seconds: (performance.now() - start) / 1000,
    check: () => connections.each(exchangeLine),
    [Symbol.dispose]: () => connections[Symbol.dispose](),
  };
}

// ------------------------------------------------------- what a reply must be

/** A block of bytes, again and again. */
class Repeated {
  readonly length: number;
  readonly #bytes: Buffer;

  constructor(block: Buffer) {
    this.length = block.length;
    // So long that what a read brings lies in one piece, wherever it begins.
    const blocks = Math.ceil(1 + BLOCK / block.length);
    this.#bytes = Buffer.concat(Array(blocks).fill(block));
  }

  /** Throws if the bytes differ from those at this place. */
  expect(bytes: Uint8Array, at: number): void {
    const from = at % this.length;
    const expected = this.#bytes.subarray(from, from + bytes.length);
    // memcmp() inside: 30 GB/s and more; a loop in JavaScript made 2 to 3.
    if (Buffer.compare(bytes, expected) !== 0) {
      throw differs(bytes, expected, at);
    }
  }
}

/** A connection's own line, and its reply. */
class Line {
  readonly bytes: Uint8Array;
  readonly #reply: Uint8Array;
  readonly #buffer: Uint8Array;

  constructor(number: number) {
    const text = `client ${number} sends one short line\n`;
    this.bytes = new TextEncoder().encode(text);
    this.#reply = new TextEncoder().encode(text.toUpperCase());
    this.#buffer = new Uint8Array(this.bytes.length + 40); // what is too much is seen
  }

  /** Reads the reply; throws if it is another. */
  async expectReply(socket: Deno.TcpConn): Promise<void> {
    const { length } = this.#reply;
    let at = 0;
    while (at < length) {
      const count = await socket.read(this.#buffer.subarray(at));
      if (count === null) throw endedEarly(at, length);
      at += count;
      for (let i = at - count; i < at; i++) {
        if (i < length && this.#buffer[i] !== this.#reply[i]) {
          throw differs(this.#buffer.subarray(0, at), this.#reply, 0);
        }
      }
    }
    if (at > length) throw tooLong(length, this.#buffer.subarray(length, at));
  }
}

async function exchangeLine(
  socket: Deno.TcpConn,
  number: number,
): Promise<void> {
  const line = new Line(number);
  await socket.write(line.bytes);
  await line.expectReply(socket);
}

function differs(
  bytes: Uint8Array,
  expected: Uint8Array,
  at: number,
): WrongReply {
  let first = bytes.findIndex((byte, place) => byte !== expected[place]);
  while (first > 0 && (expected[first]! & 0xc0) === 0x80) first--; // its character
  return new WrongReply(
    `wrong reply: from byte ${at + first} on it is ` +
      `${show(bytes.subarray(first))}, not ${show(expected.subarray(first))}`,
  );
}

function endedEarly(at: number, length: number): WrongReply {
  return new WrongReply(
    `the service closed a connection after ${at} of ${length} bytes of a reply`,
  );
}

function tooLong(length: number, more: Uint8Array): WrongReply {
  return new WrongReply(
    `wrong reply: after its ${length} bytes comes ${show(more)}`,
  );
}

/** The beginning of a text, in quotes. */
function show(bytes: Uint8Array): string {
  return JSON.stringify(new TextDecoder().decode(bytes.subarray(0, 20)));
}

// ------------------------------------------------------------ the connections

/**
 * Connections opened at the same time. Many a service has a queue of 100, and
 * the system lets a client who finds it full wait for a second.
 */
const AT_ONCE = 64;

/** Connections to a service, closed when they go out of scope. */
class Connections implements Disposable {
  readonly sockets: Deno.TcpConn[] = [];
  /** What has been counted on them: it stands still when the service does. */
  count = 0;
  readonly #limits: Limits;
  #closed = false;

  private constructor(limits: Limits) {
    this.#limits = limits;
  }

  /** Opens them, and sends a line on each: then the service has accepted it. */
  static async open(
    address: Address,
    wanted: number,
    limits: Limits,
  ): Promise<Connections> {
    const connections = new Connections(limits);
    try {
      for (let first = 0; first < wanted; first += AT_ONCE) {
        const length = Math.min(AT_ONCE, wanted - first);
        await connections.#inTime(
          Array.from({ length }, () => connections.#open(address)),
        );
      }
    } catch (error) {
      connections[Symbol.dispose]();
      throw error;
    }
    return connections;
  }

  async #open(address: Address): Promise<void> {
    const timeLimit = 1000 * (this.#limits.timeout ?? 10);
    const socket = await connect(address, timeLimit);
    const number = this.sockets.push(socket);
    if (this.#closed) return socket.close(); // another one failed
    socket.setNoDelay();
    await exchangeLine(socket, number);
    this.count++;
  }

  /** Does the same on all connections at the same time. */
  async each(
    work: (socket: Deno.TcpConn, number: number) => Promise<void>,
  ): Promise<void> {
    await this.#inTime(this.sockets.map(work));
  }

  /** Waits, but not for a service that has stopped answering. */
  async #inTime(work: Promise<void>[]): Promise<void> {
    const { timeout = 10, onProgress } = this.#limits;
    const stuck = Promise.withResolvers<never>();
    let last = this.count;
    let since = performance.now();
    const clock = setInterval(() => {
      onProgress?.(this.count);
      const now = performance.now();
      if (this.count !== last) since = now;
      last = this.count;
      if (now - since >= 1000 * timeout) {
        const open = `connections open: ${this.sockets.length}`;
        stuck.reject(new Error(`no reply for ${timeout} s (${open})`));
      }
    }, 250);
    try {
      await Promise.race([Promise.all(work), stuck.promise]);
    } finally {
      clearInterval(clock);
    }
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    for (const socket of this.sockets) socket.close();
  }
}

// --------------------------------------------------------------- the program

const MEASUREMENTS = ["bulk", "messages", "held"];

const USAGE =
  `Measures a TCP service that uppercases text, in whatever language.

Usage: deno run --allow-net lib/load.ts [options]

  --hostname NAME     the service's address or name (default 127.0.0.1)
  -p, --port N        its port (default 6789)
  --only LIST         of bulk, messages, held (default all three)
  --text LIST         texts for bulk (default ascii,italian,greek):
                      ${Object.keys(SENTENCES).slice(0, 7).join(", ")},
                      ${Object.keys(SENTENCES).slice(7).join(", ")}
  --megabytes N       to send in each bulk measurement (default 300)
  --clients LIST      how many send at once (default 1,8)
  --connections LIST  with a message on its way on each (default 1,100)
  --held N            connections held (default 500)
  --seconds N         of messages, and of holding connections (default 3)
  --timeout N         seconds without a byte until it gives up (default 10)
  --json              print one object
  -h, --help          show this

A LIST has commas, no spaces. Exit code 1: a reply is wrong, or none comes.

Examples:
  deno run --allow-net lib/load.ts --port 7000
  deno run --allow-net lib/load.ts --text ascii    # it knows ASCII alone`;

interface Results {
  address: Address;
  bulk: Bulk[];
  messages: Messages[];
  held: { connections: number; seconds: number }[];
  /** What ended it before it was through. */
  error?: string;
}

/** Measures all; what was measured before a failure is printed, too. */
async function main(options: ReturnType<typeof parse>): Promise<void> {
  const { address, megabytes, seconds, timeout } = options;
  const results: Results = { address, bulk: [], messages: [], held: [] };
  let task = "";
  const limits = (name: string, unit: string, size = 1): Limits => {
    task = name;
    const onProgress = (count: number) =>
      progress(`${name}: ${Math.round(count / size)} ${unit}`);
    return { timeout, onProgress };
  };
  try {
    for (const text of options.texts) {
      for (const clients of options.clients) {
        const more = limits(`bulk, ${text}, clients: ${clients}`, "MB", 1e6);
        const asked = { text, megabytes, clients, ...more };
        results.bulk.push(await bulk(address, asked));
      }
    }
    for (const connections of options.connections) {
      const more = limits(`messages, connections: ${connections}`, "replies");
      results.messages.push(
        await messages(address, { connections, seconds, ...more }),
      );
    }
    for (const connections of options.held) {
      const more = limits(`held, connections: ${connections}`, "replies");
      using held = await hold(address, { connections, ...more });
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      await held.check();
      results.held.push({ connections, seconds: held.seconds });
    }
  } catch (error) {
    results.error = error instanceof NoConnection
      ? noService(address, error)
      : `${format(address)}: ${task}: ${oneLine(error)}`;
    if (error instanceof WrongReply && /^bulk, (?!ascii)/.test(task)) {
      results.error += "; --text ascii for a service that knows A to Z alone";
    }
  }
  progress("");
  if (options.json) console.log(JSON.stringify(results, null, 2));
  else if (table(results) !== "") console.log(table(results));
  if (results.error !== undefined) fail("load", results.error);
}

function table(results: Results): string {
  const rows = [
    ...results.bulk.map((found) => [
      `bulk, ${found.text}, clients: ${found.clients}`,
      `${found.megabytesPerSecond.toFixed(0)} MB/s`,
    ]),
    ...results.messages.map((found) => [
      `messages, connections: ${found.connections}`,
      `${found.messagesPerSecond.toFixed(0)} a second`,
      `median ${found.median.toFixed(0)} µs`,
      `99 % ${found.percentile99.toFixed(0)} µs`,
    ]),
    ...results.held.map((found) => [
      `held, connections: ${found.connections}`,
      `all`,
      `opened in ${found.seconds.toFixed(1)} s`,
    ]),
  ];
  const widths = [0, 1, 2, 3].map((column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0))
  );
  return rows.map((row) =>
    row.map((cell, column) =>
      column === 0
        ? cell.padEnd(widths[column]!)
        : cell.padStart(widths[column]!)
    ).join("  ")
  ).join("\n");
}

/** Reads the options, or ends the process after help. */
function parse() {
  const { values } = parseArgs({
    options: {
      ...COMMON,
      only: { type: "string", default: MEASUREMENTS.join(",") },
      text: { type: "string", default: "ascii,italian,greek" },
      megabytes: { type: "string", default: "300" },
      clients: { type: "string", default: "1,8" },
      connections: { type: "string", default: "1,100" },
      held: { type: "string", default: "500" },
      seconds: { type: "string", default: "3" },
      timeout: { type: "string", default: "10" },
    },
  });
  if (values.help) {
    console.log(USAGE);
    Deno.exit(0);
  }
  const names = (option: "only" | "text", known: string[]) => {
    const list = values[option].split(",");
    const unknown = list.find((name) => !known.includes(name));
    if (unknown === undefined) return list;
    throw new Error(
      `--${option} knows ${known.join(", ")}, not ${JSON.stringify(unknown)}`,
    );
  };
  const numbers = (option: keyof typeof values) =>
    String(values[option]).split(",").map((value) =>
      wholeNumber(`--${option}`, value, 1, 1_000_000)
    );
  const number = (option: keyof typeof values) =>
    wholeNumber(`--${option}`, String(values[option]), 1, 1_000_000);
  const only = names("only", MEASUREMENTS);
  const texts = names("text", Object.keys(SENTENCES));
  const connections = numbers("connections");
  return {
    address: readAddress(values),
    megabytes: number("megabytes"),
    clients: numbers("clients"),
    // What is not asked for has an empty list.
    texts: only.includes("bulk") ? texts : [],
    connections: only.includes("messages") ? connections : [],
    held: only.includes("held") ? [number("held")] : [],
    seconds: number("seconds"),
    timeout: number("timeout"),
    json: values.json,
  };
}

if (import.meta.main) await main(readOptions("load", parse));
