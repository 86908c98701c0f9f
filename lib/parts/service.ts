// SPDX-License-Identifier: 0BSD

/**
 * A service under test, and clients that ask it. Every wait is for an event,
 * and every wait ends.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { describe, type Facts, quote, usualCause } from "./causes.ts";
import { type Address, connect } from "./tcp.ts";

/** A promise that a service does not keep, as a person has to read it. */
export class Broken extends Error {
  /** Names the three things that a person has to know. */
  constructor(
    /** What was sent. */
    readonly sent: string,
    /** What came back. */
    readonly came: string,
    /** What a server that behaves so usually does wrong, and what to do instead. */
    readonly usualCause: string,
  ) {
    super(`sent ${sent}; came ${came}: ${usualCause}`);
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
  /**
   * It replies before the end of input. Like `closes`, learnt by
   * {@linkcode Service.meet}: a server which does not fails the check that asks
   * for it, and does not cost every other check its timeout.
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
  constructor(
    /** Where it listens. */
    readonly address: Address,
    /** The longest wait in which nothing moves: seconds. */
    readonly timeout: number,
  ) {
    this.#patience = timeout;
  }

  /**
   * Connects a client; what a check leaves open is closed after it. Throws
   * {@linkcode NoConnection}.
   */
  async connect(options: ReadOptions = {}): Promise<TestClient> {
    const connection = await connect(this.address, this.timeout);
    const client = new TestClient(connection, this.timeout, options);
    this.#clients.add(client);
    return client;
  }

  /**
   * Closes the clients that are still open, in order: they end their input and
   * read what comes, so that no server is troubled by a check that has failed.
   */
  async closeAll(): Promise<void> {
    const clients = [...this.#clients].filter((client) => !client.left);
    this.#clients.clear();
    for (const client of clients) client.leave();
    // The check has waited for them already; what still comes comes soon.
    const soon = this.timeout / 5;
    if (this.closes) await Promise.all(clients.map((one) => one.ended(soon)));
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
    const sends = steps.map((step) => Buffer.from(step.send));
    const replies = steps.map((step) => Buffer.from(step.reply));
    const client = await this.connect(options);
    let wait = this.answersAtOnce;
    let count = 0;
    for (const [place, step] of steps.entries()) {
      client.send(sends[place]);
      count += replies[place].length;
      if (endAtOnce && step === steps.at(-1)) break;
      const come = () => client.count >= count;
      if (wait && !await client.until(come, this.#patience)) {
        // What does not come now may still come at the end. The next time one
        // does not wait as long.
        wait = false;
        this.#patience = this.timeout / 5;
      }
      await step.meanwhile?.();
    }
    client.end();
    const whole = await client.until(() => client.count >= count);
    // More than was wanted would come before the close.
    if (whole && this.closes) await client.ended();

    const wanted = Buffer.concat(replies);
    if (wanted.equals(client.bytes)) return client.close();
    const sent = Buffer.concat(sends);
    const shown = steps.length > 4
      ? quote(sent)
      : sends.map(quote).join(", then ");
    throw this.wrong(client, shown, sent, wanted, diagnosis);
  }

  /** What is to be said of a reply that is not the wanted one. */
  wrong(
    client: TestClient,
    shown: string,
    sent: string | Uint8Array,
    wanted: string | Uint8Array,
    diagnosis: Diagnosis = () => false,
  ): Broken {
    const { text, ending } = client;
    const facts = {
      sent: Buffer.from(sent).toString(),
      wanted: Buffer.from(wanted).toString(),
      text,
      ending,
    };
    const givenUp = ending === "endless" || ending === "too slow";
    return new Broken(
      shown,
      describe(client, Buffer.from(wanted), this.timeout),
      (!givenUp && diagnosis(facts)) || usualCause(facts),
    );
  }
}

/**
 * Fewer bytes of a reply a second are called too slow: a service on the same
 * machine gives a thousand times as many.
 */
const SLOWEST = 100_000;

/** What may come beyond three times what was sent: bytes. */
const SLACK = 50_000;

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
  /** This side has closed it or is about to; what was not sent is forgotten. */
  left = false;
  readonly #connection: Deno.TcpConn;
  readonly #timeout: number;
  readonly #pieces: Uint8Array[] = [];
  #toSend = 0;
  #moved = Promise.withResolvers<void>();

  /** Takes over a connection; `timeout` is in seconds. */
  constructor(
    connection: Deno.TcpConn,
    timeout: number,
    options: ReadOptions = {},
  ) {
    this.#connection = connection;
    this.#timeout = timeout;
    connection.setNoDelay(); // what is sent in two parts leaves in two packets
    this.#read(options);
  }

  /** All bytes that came. */
  get bytes(): Buffer {
    return Buffer.concat(this.#pieces);
  }

  /** All that came, as text. */
  get text(): string {
    return this.bytes.toString();
  }

  /** Sends, after all that is to be sent already. */
  send(data: string | Uint8Array): void {
    const bytes = Buffer.from(data);
    this.#toSend += bytes.length;
    this.#then(async () => {
      for (let at = 0; at < bytes.length && !this.left;) {
        const count = await this.#connection.write(bytes.subarray(at));
        at += count;
        this.sent += count;
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
    this.left = true;
    this.end();
  }

  /**
   * Waits until a condition holds. False if it does not when the reply ends,
   * when nothing has moved either way for `timeout` seconds, or when less than
   * {@linkcode SLOWEST} moves for twice the service's timeout.
   *
   * Time is counted in tenths of the timeout, so that a machine too busy to run
   * this program does not count as a slow service: however long such a pause,
   * it is one tenth.
   */
  async until(
    condition: () => boolean,
    timeout: number = this.#timeout,
  ): Promise<boolean> {
    const first = this.count; // what was sent may wait in the system's buffers
    let last = this.sent + first;
    let [tenths, quiet] = [0, 0];
    const clock = setInterval(() => {
      tenths += 1;
      const moved = this.sent + this.count;
      quiet = moved === last ? quiet + 1 : 0;
      last = moved;
      const seconds = tenths * timeout / 10;
      const slow = (this.count - first) / seconds < SLOWEST;
      if (quiet === 0 && seconds > 2 * this.#timeout && slow) {
        this.ending = "too slow";
      }
      this.#wake();
    }, 100 * timeout);
    try {
      while (!condition() && this.ending === undefined && quiet <= 10) {
        await this.#moved.promise;
      }
      return condition();
    } finally {
      clearInterval(clock);
    }
  }

  /** Waits until the reply ends; false as in `until`. */
  ended(timeout?: number): Promise<boolean> {
    return this.until(() => this.ending !== undefined, timeout);
  }

  /** Closes the connection, whatever still moves. */
  close(): void {
    this.left = true;
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

  async #read({ beforeRead, atMost = 64 * 1024 }: ReadOptions): Promise<void> {
    const buffer = new Uint8Array(atMost);
    let ending: TestClient["ending"];
    try {
      while (ending === undefined) {
        await beforeRead?.();
        const count = await this.#connection.read(buffer);
        this.#pieces.push(buffer.slice(0, count ?? 0));
        this.count += count ?? 0;
        // No letter's uppercase has more than three times its bytes.
        if (this.count > 3 * this.#toSend + SLACK) ending = "endless";
        if (count === null) ending = "closed";
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
