// SPDX-License-Identifier: 0BSD

/**
 * A service under test, and clients of it: every wait is for an event and has a
 * time limit, and what does not hold is said in words for a student.
 *
 * @module
 */

import { oneLine } from "./options.ts";
import { type Address, writeAll } from "./tcp.ts";

/** A promise that a service does not keep, as a person has to read it. */
export class Broken extends Error {
  /** What was sent. */
  readonly sent: string;
  /** What came back. */
  readonly came: string;
  /** What a server that behaves so usually does wrong, and what to do instead. */
  readonly usualCause: string;

  /** Names the three. */
  constructor(sent: string, came: string, usualCause: string) {
    super(`sent ${sent}; came ${came}: ${usualCause}`);
    this.sent = sent;
    this.came = came;
    this.usualCause = usualCause;
  }
}

/** No connection: nothing listens, or nobody answered in time. */
export class NoConnection extends Error {}

/** What came back from a service, and how it ended. */
export interface Reply {
  /** All bytes that came. */
  bytes: Uint8Array;
  /** The same as text, where they are UTF-8. */
  text: string;
  /** How the server ended the connection, if it has. */
  ending: "closed" | "reset" | undefined;
}

/** A part of a conversation: what the client sends, and what it waits for. */
export interface Step {
  /** What the client sends. */
  send: string | Uint8Array;
  /** What has to come, after the replies to the steps before. */
  reply: string | Uint8Array;
  /** What happens between this step's reply and the next step. @default nothing */
  meanwhile?: () => Promise<void>;
}

/** Gives the usual cause of a wrong reply; `undefined` leaves it to the general ones. */
export type Diagnosis = (reply: Reply) => string | undefined;

/** How a {@linkcode Client} reads. */
export interface ClientOptions {
  /** Called before each read, which waits for it. @default not at all */
  beforeRead?: () => Promise<unknown>;
  /** Bytes of a read, at most. @default 65536 */
  atMost?: number;
}

/** How a client converses. */
export interface ConverseOptions extends ClientOptions {
  /** Gives the cause of a wrong reply. @default the general causes alone */
  diagnosis?: Diagnosis;
  /** Ends the input right after the last text, before the reply to it. @default false */
  endAtOnce?: boolean;
}

/**
 * A service under test.
 *
 * @example
 * ```ts no-assert
 * import { type Check } from "./checks.ts";
 *
 * const digits: Check = {
 *   name: "digits",
 *   level: "required",
 *   promise: "digits come back as they are",
 *   run: (service) => service.expect("42\n", "42\n"),
 * };
 * ```
 */
export class Service {
  /** Where it listens. */
  readonly address: Address;
  /** The longest wait in which nothing moves: milliseconds. */
  readonly timeLimit: number;
  /**
   * It replies to a line, whole, before the end of input. Like `closes`, learnt
   * by {@linkcode Service.meet}: a server which does not fails the check that
   * asks for it, and does not cost every other check its time limit.
   */
  answersAtOnce = true;
  /** It closes the connection after the client's end of input. */
  closes = true;
  /** It closes the connection after its first reply, as the textbook's does. */
  oneReply = false;
  readonly #clients = new Set<Client>();

  /** Names a service; nothing is sent yet. */
  constructor(address: Address, timeLimit: number) {
    this.address = address;
    this.timeLimit = timeLimit;
  }

  /**
   * Connects a client; what a check leaves open is closed after it. Throws
   * {@linkcode NoConnection}.
   */
  async connect(options: ClientOptions = {}): Promise<Client> {
    const connecting = Deno.connect(this.address);
    let connection: Deno.TcpConn | undefined;
    try {
      connection = await within(this.timeLimit, connecting);
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) {
        throw new NoConnection("no permission; run it with --allow-net");
      }
      if (error instanceof Deno.errors.ConnectionRefused) {
        throw new NoConnection("nothing listens there");
      }
      throw new NoConnection(oneLine(error));
    }
    if (connection === undefined) {
      connecting.then((late) => late.close(), () => {});
      throw new NoConnection(`no answer in ${this.seconds}`);
    }
    const client = new Client(connection, this.timeLimit, options);
    this.#clients.add(client);
    return client;
  }

  /**
   * Closes the clients that are still open, in order: they end their input and
   * read what comes, so that no server is troubled by a check that has failed.
   */
  async closeAll(): Promise<void> {
    const clients = [...this.#clients].filter((client) => !client.closed);
    this.#clients.clear();
    for (const client of clients) {
      client.drop();
      client.end();
    }
    if (this.closes) await Promise.all(clients.map((client) => client.ended()));
    for (const client of clients) client.close();
  }

  /** Finds out how it talks. Throws {@linkcode NoConnection}. */
  async meet(): Promise<void> {
    const client = await this.connect();
    client.send("one\n");
    this.answersAtOnce = await client.until(() => client.count >= 4);
    if (this.answersAtOnce) {
      const { count } = client;
      client.send("two\n");
      await client.until(() => client.count >= count + 2);
      this.oneReply = client.ending !== undefined;
    }
    client.end();
    await client.ended();
    this.closes = client.ending !== undefined;
    client.close();
  }

  /** Whether it answers a new client with anything at all. Throws {@linkcode NoConnection}. */
  async answers(): Promise<boolean> {
    const client = await this.connect();
    client.send("hello\n");
    if (!this.answersAtOnce) client.end();
    if (!await client.until(() => client.count > 0)) return false;
    if (this.answersAtOnce) client.end();
    if (this.closes) await client.ended();
    client.close();
    return true;
  }

  /**
   * Sends a text and the end of input; throws {@linkcode Broken} unless just
   * the wanted reply comes back.
   */
  expect(
    text: string | Uint8Array,
    wanted: string | Uint8Array,
    options: ConverseOptions = {},
  ): Promise<void> {
    return this.converse([{ send: text, reply: wanted }], options);
  }

  /**
   * Sends what each step says once the replies to the steps before it have
   * come, then the end of input; throws {@linkcode Broken} unless just the
   * replies come back. It goes on reading all the time.
   *
   * A service that does not answer at once gets all steps in a row.
   */
  async converse(
    steps: Step[],
    options: ConverseOptions = {},
  ): Promise<void> {
    const { diagnosis = () => undefined, endAtOnce = false } = options;
    const sends = steps.map((step) => toBytes(step.send));
    const replies = steps.map((step) => toBytes(step.reply));
    const client = await this.connect(options);
    let wait = this.answersAtOnce;
    let count = 0;
    for (const [place, step] of steps.entries()) {
      client.send(sends[place]!);
      count += replies[place]!.length;
      if (endAtOnce && step === steps.at(-1)) break;
      // What does not come now may still come at the end.
      wait &&= await client.until(() => client.count >= count);
      await step.meanwhile?.();
    }
    client.end();
    const whole = await client.until(() => client.count >= count);
    // More than was wanted would come before the close.
    if (whole && this.closes) await client.ended();

    const sent = concat(sends);
    const wanted = concat(replies);
    if (firstDifference(client.bytes, wanted) === -1) return client.close();
    throw new Broken(
      steps.length > 4 ? quote(sent) : sends.map(quote).join(", then "),
      this.#describe(client, wanted),
      diagnosis(client) ?? generalCause(sent, wanted, client),
    );
  }

  #describe({ bytes, ending }: Reply, wanted: Uint8Array): string {
    const then = ending === "closed"
      ? "the connection was closed"
      : ending === "reset"
      ? "the connection was reset"
      : `nothing more in ${this.seconds}`;
    if (bytes.length === 0) {
      return ending === undefined
        ? `nothing in ${this.seconds}`
        : `nothing, ${then}`;
    }
    const end = bytes.length < wanted.length ? `, then ${then}` : "";
    if (wanted.length <= SHORT && bytes.length <= SHORT) {
      return `${quote(bytes)}${end}; wanted ${quote(wanted)}`;
    }
    const count = `${number(bytes.length)} bytes, wanted ` +
      `${number(wanted.length)}${end}`;
    const at = firstDifference(bytes, wanted);
    if (at === bytes.length) return count;
    const from = Math.max(0, at - 10);
    const [here, there] = [bytes, wanted].map((all) =>
      JSON.stringify(decode(all.subarray(from, from + 40)))
    );
    return `${count}; from byte ${number(at + 1)} on it is other text: ` +
      `${here}, wanted ${there}`;
  }

  /** The time limit in words. */
  get seconds(): string {
    return `${this.timeLimit / 1000} s`;
  }
}

/** A client of the service. It reads from the start, and keeps what comes. */
export class Client implements Reply {
  /** How the server ended the connection, if it has. */
  ending: "closed" | "reset" | undefined;
  /** Bytes that were sent. */
  sent = 0;
  /** Bytes that came. */
  count = 0;
  /** All that was to be sent was, or cannot be any more. */
  idle = true;
  /** This side has closed it. */
  closed = false;
  readonly #connection: Deno.TcpConn;
  readonly #timeLimit: number;
  #buffer = new Uint8Array(4096);
  #sending: Promise<void> = Promise.resolve();
  #dropped = false;
  #moved = Promise.withResolvers<void>();

  /** Takes over a connection. */
  constructor(
    connection: Deno.TcpConn,
    timeLimit: number,
    options: ClientOptions = {},
  ) {
    this.#connection = connection;
    this.#timeLimit = timeLimit;
    connection.setNoDelay(); // what is sent in two parts leaves in two packets
    this.#read(options);
  }

  /** All bytes that came. */
  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.count);
  }

  /** All that came, as text. */
  get text(): string {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.bytes);
  }

  /** Sends, after all that is to be sent already. */
  send(data: string | Uint8Array): void {
    const bytes = toBytes(data);
    this.idle = false;
    this.#then(async () => {
      for (let at = 0; at < bytes.length && !this.#dropped; at += PIECE) {
        const piece = bytes.subarray(at, at + PIECE);
        await writeAll(this.#connection, piece);
        this.sent += piece.length;
        this.#wake();
      }
    });
  }

  /** Ends the input, after all that is to be sent (half-close). */
  end(): void {
    this.#then(() => this.#connection.closeWrite());
  }

  /** Forgets what is to be sent and was not yet. */
  drop(): void {
    this.#dropped = true;
  }

  /**
   * Waits until a condition holds. False if it does not when the server ends
   * the connection, or when nothing has moved either way for the time limit.
   */
  async until(condition: () => boolean): Promise<boolean> {
    while (!condition() && this.ending === undefined) {
      const moved = this.#moved.promise.then(() => true);
      if (await within(this.#timeLimit, moved) === undefined) break;
    }
    return condition();
  }

  /** Waits until the server ends the connection; false as in `until`. */
  ended(): Promise<boolean> {
    return this.until(() => this.ending !== undefined);
  }

  /** Closes the connection, whatever still moves. */
  close(): void {
    this.#dropped = true;
    this.closed = true;
    try {
      this.#connection.close();
    } catch {
      // A reset has closed it already.
    }
  }

  #then(action: () => Promise<void>): void {
    const sending = this.#sending.then(action).catch(() => {
      // The server takes no more. What it sent before, #read() still reads.
    });
    this.#sending = sending;
    sending.then(() => {
      this.idle ||= this.#sending === sending;
      this.#wake();
    });
  }

  async #read({ beforeRead, atMost = PIECE }: ClientOptions): Promise<void> {
    const piece = new Uint8Array(atMost);
    try {
      while (true) {
        if (beforeRead) await beforeRead();
        const count = await this.#connection.read(piece);
        if (count === null) break;
        this.#keep(piece.subarray(0, count));
        this.#wake();
      }
      this.ending = "closed";
    } catch {
      this.ending = "reset";
    }
    this.#wake();
  }

  #keep(piece: Uint8Array): void {
    const count = this.count + piece.length;
    if (count > this.#buffer.length) {
      const buffer = new Uint8Array(2 * count);
      buffer.set(this.bytes);
      this.#buffer = buffer;
    }
    this.#buffer.set(piece, this.count);
    this.count = count;
  }

  #wake(): void {
    this.#moved.resolve();
    this.#moved = Promise.withResolvers();
  }
}

/** The most that one read or one write moves: bytes. */
const PIECE = 64 * 1024;

/**
 * A promise's value, or undefined if it takes longer: milliseconds.
 *
 * Counted in ten parts, so that a machine too busy to run this program does not
 * count as a slow service: however long such a pause, it is one part at most.
 */
export async function within<T>(
  timeLimit: number,
  promise: Promise<T>,
): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => {
    let parts = 0;
    const count = () => {
      parts += 1;
      if (parts > 10) resolve(undefined);
      else timer = setTimeout(count, timeLimit / 10);
    };
    count();
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

// --------------------------------------------------------------- in plain words

/** What goes wrong with any text. */
function generalCause(
  sent: Uint8Array,
  wanted: Uint8Array,
  reply: Reply,
): string {
  const { text, ending } = reply;
  const before = decode(sent);
  const after = decode(wanted);
  if (text === "") {
    if (ending === undefined) {
      return "it waits for something more before it replies, or the reply " +
        "stays in a buffer: flush the buffer after each write";
    }
    return "it ended the connection without a reply: look at its own output " +
      "for an error";
  }
  if (text === before) {
    return "the text came back as it was sent: nothing turns it into uppercase";
  }
  if (text === before.toLowerCase()) {
    return "lower case came back: it calls the opposite of toUpperCase()";
  }
  if (text.includes("İ") && !after.includes("İ")) {
    return "i became İ, as in Turkish: uppercase without a locale " +
      "(in Java toUpperCase(Locale.ROOT))";
  }
  const lineEnds = /[\r\n]/g;
  if (text.replace(lineEnds, "") === after.replace(lineEnds, "")) {
    if (!text.includes("\n")) {
      return "the line ends are lost: reading line by line cuts them off, so " +
        "write one after each line";
    }
    if (text.replaceAll("\r", "") === after.replaceAll("\r", "")) {
      return "line ends changed: reading line by line, or strip and trim, take " +
        "\\r\\n and \\n for the same; move the characters as they come, or cut " +
        "off \\n alone";
    }
    return "line ends were lost or added: reading line by line cuts them off; " +
      "move the characters as they come";
  }
  if (after.startsWith(text)) {
    return ending === undefined
      ? "the rest never came: it waits for more input, or the reply stays in " +
        "a buffer: flush the buffer after each write"
      : "it closed the connection before all was sent back: go on until read " +
        "gives the end of input, then write what is left, wait until it is " +
        "written, and only then close";
  }
  if (text.startsWith(after)) {
    return "more came than was asked for: a buffer is sent whole, or twice; " +
      "send only as many bytes as the last read gave";
  }
  if (text.includes("\uFFFD") || /[^\0-\x7f]/.test(after)) {
    return "the bytes are read or written in another encoding than UTF-8; " +
      "name UTF-8 for both";
  }
  if (text.toUpperCase() === after) {
    return "not all letters are uppercase";
  }
  if (reply.bytes.length === wanted.length) {
    return "the order is lost: wait until one reply is written before the next " +
      "one is, and let one thread or task write to a connection";
  }
  return "bytes were lost or doubled: send exactly as many bytes as the " +
    "last read gave, and go on until all are sent";
}

/** A text is shown whole up to so many bytes. */
const SHORT = 120;

/** Text between quotes, shortened; bytes that are no text as hexadecimal. */
function quote(bytes: Uint8Array): string {
  const shown = bytes.subarray(0, bytes.length > SHORT ? 40 : SHORT);
  let text: string;
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    // A long text may be cut inside a character.
    text = JSON.stringify(
      decoder.decode(shown, { stream: shown.length < bytes.length }),
    );
  } catch {
    text = [...shown].map((byte) => byte.toString(16).padStart(2, "0"))
      .join(" ");
    text = `the bytes ${text}`;
  }
  return shown.length < bytes.length
    ? `${number(bytes.length)} bytes: ${text} and so on`
    : text.replaceAll("\uFEFF", "\\uFEFF");
}

/** A number as people write it: 10,000,000. */
export function number(value: number): string {
  return value.toLocaleString("en");
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

function toBytes(data: string | Uint8Array): Uint8Array {
  return typeof data === "string" ? new TextEncoder().encode(data) : data;
}

function concat(parts: Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Where two texts part; -1 if they are the same. */
function firstDifference(one: Uint8Array, other: Uint8Array): number {
  const length = Math.min(one.length, other.length);
  for (let at = 0; at < length; at++) {
    if (one[at] !== other[at]) return at;
  }
  return one.length === other.length ? -1 : length;
}
