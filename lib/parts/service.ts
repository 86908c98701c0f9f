// SPDX-License-Identifier: 0BSD

/**
 * A service under test, and clients that ask it. Every wait is for an event,
 * and every wait ends.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { describe, type Facts, quote, usualCause } from "./causes.ts";
import { type Address, connect, writeAll } from "./tcp.ts";

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

/** A part of a conversation: what the client sends, and what it waits for. */
export interface Step {
  /** What the client sends. */
  send: string | Uint8Array;
  /** What has to come, after the replies to the steps before. */
  reply: string | Uint8Array;
  /** What happens between this step's reply and the next step. @default nothing */
  meanwhile?: () => Promise<void>;
}

/** Gives the usual cause of a wrong reply; `false` leaves it to the general ones. */
export type Diagnosis = (facts: Facts) => string | false;

/** How a {@linkcode TestClient} reads. */
export interface ReadOptions {
  /** Called before each read, which waits for it. @default not at all */
  beforeRead?: () => Promise<unknown>;
  /** Bytes of a read, at most. @default 65536 */
  atMost?: number;
}

/** How a client converses. */
export interface ConverseOptions extends ReadOptions {
  /** Gives the cause of a wrong reply. @default the general causes alone */
  diagnosis?: Diagnosis;
  /** Ends the input right after the last text, before the reply to it. @default false */
  endAtOnce?: boolean;
}

/** A service under test. */
export class Service {
  /** Where it listens. */
  readonly address: Address;
  /** The longest wait in which nothing moves: milliseconds. */
  readonly timeLimit: number;
  /**
   * It replies before the end of input. Like `closes`, learnt by
   * {@linkcode Service.meet}: a server which does not fails the check that asks
   * for it, and does not cost every other check its time limit.
   */
  answersAtOnce = true;
  /** It closes the connection after the client's end of input. */
  closes = true;
  /** It closes the connection after its first reply, as the textbook's does. */
  oneReply = false;
  /** The longest wait for a step's reply, which may still come at the end. */
  #patience: number;
  readonly #clients = new Set<TestClient>();

  /** Names a service; nothing is sent yet. */
  constructor(address: Address, timeLimit: number) {
    this.address = address;
    this.timeLimit = timeLimit;
    this.#patience = timeLimit;
  }

  /**
   * Connects a client; what a check leaves open is closed after it. Throws
   * {@linkcode NoConnection}.
   */
  async connect(options: ReadOptions = {}): Promise<TestClient> {
    const connection = await connect(this.address, this.timeLimit);
    const client = new TestClient(connection, this.timeLimit, options);
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
    for (const client of clients) client.leave();
    if (this.closes) {
      // The check has waited for them already; what still comes comes soon.
      const limit = this.timeLimit / 5;
      await Promise.all(clients.map((client) => client.ended(limit)));
    }
    for (const client of clients) client.close();
  }

  /** Finds out how it talks. Throws {@linkcode NoConnection}. */
  async meet(): Promise<void> {
    const client = await this.connect();
    client.send("one\n");
    // Three bytes: a reply that has lost its line end is a reply, too.
    this.answersAtOnce = await client.until(() => client.count >= 3);
    if (this.answersAtOnce) {
      const { count } = client;
      client.send("two\n");
      await client.until(() => client.count >= count + 3);
      this.oneReply = client.ending === "closed" || client.ending === "reset";
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
    const { diagnosis, endAtOnce } = options;
    const sends = steps.map((step) => toBytes(step.send));
    const replies = steps.map((step) => toBytes(step.reply));
    const client = await this.connect(options);
    let wait = this.answersAtOnce;
    let count = 0;
    for (const [place, step] of steps.entries()) {
      client.send(sends[place]);
      count += replies[place].length;
      if (endAtOnce && step === steps.at(-1)) break;
      if (
        wait && !await client.until(() => client.count >= count, this.#patience)
      ) {
        // What does not come now may still come at the end. The next time one
        // does not wait as long.
        wait = false;
        this.#patience = this.timeLimit / 5;
      }
      await step.meanwhile?.();
    }
    client.end();
    const whole = await client.until(() => client.count >= count);
    // More than was wanted would come before the close.
    if (whole && this.closes) await client.ended();

    const wanted = Buffer.concat(replies);
    if (wanted.equals(client.bytes)) return client.close();
    throw this.wrong(client, Buffer.concat(sends), wanted, {
      diagnosis,
      shown: steps.length > 4 ? undefined : sends.map(quote).join(", then "),
    });
  }

  /** What is to be said of a reply that is not the wanted one. */
  wrong(
    client: TestClient,
    sent: string | Uint8Array,
    wanted: string | Uint8Array,
    options: {
      /** Gives the cause, if the reply has ended in an ordinary way. */
      diagnosis?: Diagnosis;
      /** What was sent, in words. @default its text, shortened */
      shown?: string;
    },
  ): Broken {
    const { diagnosis = () => false, shown = quote(toBytes(sent)) } = options;
    const { text, ending } = client;
    const facts = { sent: toText(sent), wanted: toText(wanted), text, ending };
    const givenUp = ending === "endless" || ending === "too slow";
    return new Broken(
      shown,
      describe(client, toBytes(wanted), this.seconds),
      (!givenUp && diagnosis(facts)) || usualCause(facts),
    );
  }

  /** The time limit in words. */
  get seconds(): string {
    return `${this.timeLimit / 1000} s`;
  }
}

/**
 * Fewer bytes of a reply a second are called too slow: a service on the same
 * machine gives a thousand times as many.
 */
const SLOWEST = 100_000;

/** What may come beyond three times what was sent: bytes. */
const SLACK = 50_000;

/** The most that one read or one write moves: bytes. */
const PIECE = 64 * 1024;

/** A client of the service. It reads from the start, and keeps what comes. */
export class TestClient {
  /**
   * How the reply ended: the server closed or reset the connection, or this
   * side gave up, because bytes came without end or too slowly. Undefined: it
   * has not.
   */
  ending: "closed" | "reset" | "endless" | "too slow" | undefined;
  /** Bytes that were sent. */
  sent = 0;
  /** Bytes that came. */
  count = 0;
  /** Settles when all that was to be sent was, or cannot be any more. */
  sending: Promise<void> = Promise.resolve();
  /** This side has closed it. */
  closed = false;
  readonly #connection: Deno.TcpConn;
  readonly #timeLimit: number;
  readonly #pieces: Uint8Array[] = [];
  #toSend = 0;
  #dropped = false;
  #moved = Promise.withResolvers<void>();

  /** Takes over a connection. */
  constructor(
    connection: Deno.TcpConn,
    timeLimit: number,
    options: ReadOptions = {},
  ) {
    this.#connection = connection;
    this.#timeLimit = timeLimit;
    connection.setNoDelay(); // what is sent in two parts leaves in two packets
    this.#read(options);
  }

  /** All bytes that came. */
  get bytes(): Uint8Array {
    return Buffer.concat(this.#pieces);
  }

  /** All that came, as text. */
  get text(): string {
    return toText(this.bytes);
  }

  /** Sends, after all that is to be sent already. */
  send(data: string | Uint8Array): void {
    const bytes = toBytes(data);
    this.#toSend += bytes.length;
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

  /** Ends the input, and forgets what was not sent yet. */
  leave(): void {
    this.#dropped = true;
    this.end();
  }

  /**
   * Waits until a condition holds. False if it does not when the reply ends,
   * when nothing has moved either way for the time limit, or when less than
   * {@linkcode SLOWEST} moves for twice that time.
   *
   * Time is counted in tenths of the limit, so that a machine too busy to run
   * this program does not count as a slow service: however long such a pause,
   * it is one tenth.
   */
  async until(
    condition: () => boolean,
    timeLimit: number = this.#timeLimit,
  ): Promise<boolean> {
    const moved = () => this.sent + this.count;
    const first = this.count; // what was sent may wait in the system's buffers
    let last = moved();
    let [tenths, quiet] = [0, 0];
    const tick = () => {
      tenths += 1;
      quiet = moved() === last ? quiet + 1 : 0;
      last = moved();
      const time = tenths * timeLimit / 10; // milliseconds
      const rate = 1000 * (this.count - first) / time; // bytes a second
      if (quiet === 0 && time > 2 * this.#timeLimit && rate < SLOWEST) {
        this.ending = "too slow";
      }
      if (quiet > 10 || this.ending !== undefined) this.#wake();
    };
    const clock = setInterval(tick, timeLimit / 10);
    try {
      while (!condition() && this.ending === undefined && quiet <= 10) {
        await this.#moved.promise;
      }
    } finally {
      clearInterval(clock);
    }
    return condition();
  }

  /** Waits until the reply ends; false as in `until`. */
  ended(timeLimit: number = this.#timeLimit): Promise<boolean> {
    return this.until(() => this.ending !== undefined, timeLimit);
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
    this.sending = this.sending.then(action).catch(() => {
      // The server takes no more. What it sent before, #read() still reads.
    });
  }

  async #read({ beforeRead, atMost = PIECE }: ReadOptions): Promise<void> {
    const buffer = new Uint8Array(atMost);
    let ending: TestClient["ending"];
    try {
      while (ending === undefined) {
        if (beforeRead) await beforeRead();
        const count = await this.#connection.read(buffer);
        if (count === null) ending = "closed";
        this.#pieces.push(buffer.slice(0, count ?? 0));
        this.count += count ?? 0;
        // No letter's uppercase has more than three times its bytes.
        if (this.count > 3 * this.#toSend + SLACK) ending = "endless";
        this.#wake();
      }
    } catch {
      ending = "reset";
    }
    this.ending ??= ending;
    this.#wake();
  }

  #wake(): void {
    this.#moved.resolve();
    this.#moved = Promise.withResolvers();
  }
}

function toText(data: string | Uint8Array): string {
  if (typeof data === "string") return data;
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(data);
}

function toBytes(data: string | Uint8Array): Uint8Array {
  return typeof data === "string" ? new TextEncoder().encode(data) : data;
}
