// SPDX-License-Identifier: 0BSD

/**
 * A service under test, and clients that ask it. Every wait is for an event,
 * and every wait ends.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { PROBES, usualCause } from "./causes.ts";
import { type Address, connect, NoConnection, within } from "./tcp.ts";
import { describe, type Ending, quote } from "./words.ts";

/** A promise that a service does not keep, as a person has to read it. */
export class Broken extends Error {
  /** Names the three things that a person has to know. */
  constructor(
    /** What was sent. */
    readonly sent: string,
    /** What came back. */
    readonly came: string,
    /** What a server that behaves so usually does wrong, and what to do instead. */
    public usualCause: string,
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
  /** What happens after this reply, if it does not come late. @default nothing */
  meanwhile?: () => Promise<void>;
}

/** How a {@linkcode TestClient} reads. */
export interface ReadOptions {
  /** Called before each read, which waits for it. @default not at all */
  beforeRead?: () => Promise<unknown>;
  /** Bytes of a read, at most. @default 65536 */
  atMost?: number;
}

/** How a client converses. */
export interface ConverseOptions extends ReadOptions {
  /** The usual cause in this check if nothing comes. @default none of its own */
  ifNothing?: string;
  /** The end of input comes right behind the last text. @default false */
  endAtOnce?: boolean;
}

/** The line that a service is met with. */
const FIRST = "the quick brown Fox jumps over the lazy Dog\n";

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
  /** It answers once on each connection, as the textbook's server does. */
  oneReply = false;
  /** What was wrong with the reply to its first client. */
  first: Broken | undefined;
  /** The causes that were found already. */
  readonly told: Set<string> = new Set();
  /** The time of what is asked is over: nothing is waited for any more. */
  stopped = false;
  /** So many connections had a reply. */
  served = 0;
  /** What came on the first connection, if another text has to be asked for it. */
  #before: string | undefined;
  /** Bytes of the reply to a probe, from a server that does not close. */
  #probe: number | undefined;
  /** The longest wait for a step's reply, which may still come at the end. */
  #patience: number;
  readonly #clients = new Set<TestClient>();
  #stop = Promise.withResolvers<undefined>();

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
   * Connects a client, which is closed after the check if it is still open.
   * Throws {@linkcode NoConnection}.
   */
  async connect(options: ReadOptions = {}): Promise<TestClient> {
    const connecting = connect(this.address, this.timeout);
    const connection = await Promise.race([connecting, this.#stop.promise]);
    if (connection === undefined) {
      connecting.then((late) => late.close(), () => {});
      throw new NoConnection("no answer in the time that was left");
    }
    const client = new TestClient(connection, this.timeout, options);
    this.#clients.add(client);
    return client;
  }

  /**
   * Lets an action take so many milliseconds. Then all its waits end, and no
   * client of it connects. What it leaves open is closed.
   */
  async during<T>(time: number, action: () => Promise<T>): Promise<T> {
    this.stopped = false;
    this.#stop = Promise.withResolvers();
    const clock = setTimeout(() => {
      this.stopped = true;
      this.#stop.resolve(undefined);
      for (const client of this.#clients) client.stop();
    }, time);
    try {
      return await action();
    } finally {
      clearTimeout(clock);
      await this.#closeAll();
    }
  }

  /** A promise's value, or undefined if it takes longer than any wait may. */
  wait<T>(promise: Promise<T>): Promise<T | undefined> {
    return within(this.timeout, Promise.race([promise, this.#stop.promise]));
  }

  /**
   * Closes the clients that are still open, in order: they end their input and
   * read what comes, so that no server is troubled by a check that has failed.
   */
  async #closeAll(): Promise<void> {
    const clients = [...this.#clients].filter((client) => !client.left);
    this.#clients.clear();
    for (const client of clients) client.leave();
    // The check has waited for them already; what still comes comes soon.
    await within(3, Promise.all(clients.map((one) => one.ended(0.5))));
    for (const client of clients) client.close();
  }

  /**
   * Finds out how it talks, and whether what its first client gets is right.
   * Throws {@linkcode NoConnection}.
   */
  async meet(): Promise<void> {
    const client = await this.connect();
    const { atOnce, replies } = await this.#contact(client, FIRST, "two\n");
    this.answersAtOnce = atOnce;
    this.oneReply = replies === 1;
    this.closes = client.ending !== undefined;
    if (this.oneReply && !this.closes) this.#patience = this.timeout / 5;
    if (client.count > 0) this.served = 1;
    const steps = this.oneReply ? [FIRST] : [FIRST, "two\n"];
    const wanted = steps.join("").toUpperCase();
    if (client.text === wanted) {
      // Whether it serves a second client is the cause of much that follows.
      await this.answers().catch(() => false);
      return;
    }
    try {
      if (client.count > 0) {
        const other = await this.connect();
        await this.#contact(other, "hello\n", "again\n");
        this.#before = other.text;
      }
      this.first = this.wrong(client, steps, wanted);
      if (client.count === 0) await this.#probeProtocols(this.first);
    } catch {
      // It serves no second client: what the first one got tells enough.
      this.first ??= this.wrong(client, steps, wanted);
    }
    this.#before = client.text;
    this.told.add(this.first.usualCause);
  }

  /** Sends two lines, waits for all replies, and counts them. */
  async #contact(client: TestClient, line: string, next: string) {
    client.send(line);
    // Three bytes: a reply that has lost its line end is a reply, too.
    const atOnce = await client.until(() => client.count >= 3);
    await client.ended(0.3); // what belongs to this reply
    const { count } = client;
    client.send(next);
    if (atOnce) await client.until(() => client.count > count);
    const replies = !atOnce || client.count > count ? 2 : 1;
    client.end();
    await client.ended();
    return { atOnce, replies };
  }

  /** Asks a server that said nothing whether it waits for something else. */
  async #probeProtocols(broken: Broken): Promise<void> {
    for (const [send, fits, cause] of PROBES) {
      const client = await this.connect();
      client.send(Buffer.from(send, "latin1"));
      client.end();
      await client.ended(this.timeout / 5);
      client.close();
      if (fits.test(client.text)) {
        broken.usualCause = cause;
        return;
      }
    }
  }

  /** Whether it answers a new client with anything at all. Throws {@linkcode NoConnection}. */
  async answers(): Promise<boolean> {
    const client = await this.connect();
    client.send("hello\n");
    if (!this.answersAtOnce) client.end();
    if (!await client.until(() => client.count > 0)) return false;
    client.end();
    // It reads the whole reply: a server that is still writing may die of less.
    const whole = this.#probe ?? Infinity;
    const wait = this.closes ? this.timeout : this.timeout / 5;
    await client.until(
      () =>
        client.ending !== undefined || !this.closes && client.count >= whole,
      wait,
    );
    this.#probe ??= client.count;
    this.served += 1;
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
    const sends = steps.map((step) => Buffer.from(step.send));
    const replies = steps.map((step) => Buffer.from(step.reply));
    const client = await this.connect(options);
    let late = false;
    let count = 0;
    for (const [place, step] of steps.entries()) {
      client.send(sends[place]);
      count += replies[place].length;
      if (options.endAtOnce && place === steps.length - 1) break;
      const come = () => client.count >= count;
      if (this.answersAtOnce && !late) {
        late = !await client.until(come, this.#patience);
        // What does not come now may still come at the end. The next time one
        // does not wait as long.
        if (late) this.#patience = this.timeout / 5;
      }
      if (!late) await step.meanwhile?.();
    }
    client.end();
    // A server that answers one line, and never closes, is not waited for.
    const enough = this.oneReply && !this.closes
      ? this.#patience
      : this.timeout;
    const whole = await client.until(() => client.count >= count, enough);
    // More than was wanted would come before the close.
    if (whole && this.closes) await client.ended();

    const wanted = Buffer.concat(replies);
    const right = wanted.equals(client.bytes);
    const broken = right ||
      this.wrong(client, sends, wanted, options.ifNothing);
    if (client.count > 0) this.served += 1;
    if (broken !== true) throw broken;
    client.close();
  }

  /** What is to be said of a reply that is not the wanted one. */
  wrong(
    client: TestClient,
    sends: (string | Uint8Array)[],
    wanted: string | Uint8Array,
    ifNothing?: string,
  ): Broken {
    const buffers = sends.map((send) => Buffer.from(send));
    const all = Buffer.from(wanted);
    return new Broken(
      buffers.length > 4
        ? quote(Buffer.concat(buffers))
        : buffers.map(quote).join(", then "),
      describe(client, all, this.timeout),
      usualCause({
        ...{ steps: buffers.map(String), wanted: String(all) },
        ...{ came: client.text, ending: client.ending },
        ...{ before: this.#before, served: this.served, ifNothing },
      }, this.told),
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
  /** How the reply ended. */
  ending: Ending;
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
  #stopped = false;
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

  /** Lets nobody wait for it any more, until it leaves. */
  stop(): void {
    this.#stopped = true;
    this.#wake();
  }

  /** Ends the input, and forgets what was not sent yet. */
  leave(): void {
    this.#stopped = false;
    this.left = true;
    this.end();
  }

  /**
   * Waits until a condition holds. False if it does not when the reply ends,
   * when nothing has moved either way for `timeout` seconds, or when less than
   * {@linkcode SLOWEST} moves for twice the service's timeout.
   */
  async until(
    condition: () => boolean,
    timeout: number = this.#timeout,
  ): Promise<boolean> {
    const begin = this.count; // what was sent may wait in the system's buffers
    let last = this.sent + begin;
    let seconds = 0;
    await within(timeout, this.#holds(condition), () => {
      const now = this.sent + this.count;
      const isSlow = (this.count - begin) / seconds < SLOWEST;
      if (now !== last && seconds > 2 * this.#timeout && isSlow) {
        this.ending = "too slow";
        this.#wake();
      }
      last = now;
      seconds += timeout / 10; // within() asks ten times
      return now;
    });
    return condition();
  }

  async #holds(condition: () => boolean): Promise<void> {
    while (!condition() && this.ending === undefined && !this.#stopped) {
      await this.#moved.promise;
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
    let ending: Ending;
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
