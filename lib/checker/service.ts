// SPDX-License-Identifier: 0BSD

/**
 * A service under test, and clients that ask it. Every wait is for an event,
 * and every wait ends.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { CHAT, CLOSED, FULL_BUFFER, PROBES, usualCause } from "./causes.ts";
import { type Address, connect, NoConnection } from "../parts/tcp.ts";
import { within } from "../parts/waits.ts";
import { describe, type Ending, quote } from "../parts/words.ts";
import { Broken, Subject, TooSlow } from "./subject.ts";

/** A part of a conversation: what the client sends, and what it waits for. */
export interface Step {
  /** What the client sends. */
  send: string | Uint8Array;
  /** What has to come, after the replies to the steps before. */
  reply: string | Uint8Array;
  /** What happens after this reply, if it does not come late. @default nothing */
  meanwhile?: () => Promise<void>;
}

/** How a {@linkcode TestConnection} reads. */
export interface ReadOptions {
  /** Gets what came last; the next read waits for it. @default no wait */
  beforeRead?: (last?: Uint8Array) => Promise<unknown>;
  /** Bytes of a read, at most. @default 65536 */
  atMost?: number;
}

/** How a client converses. */
export interface ConverseOptions extends ReadOptions {
  /** The usual cause in this check if not all comes. @default none of its own */
  ifShort?: string;
  /** No reply is waited for before the end of input. @default false */
  endAtOnce?: boolean;
  /** Its line ends have to be those that are wanted. @default false */
  exactLineEnds?: boolean;
}

/** What has come on a connection, and how it ended. */
export type Reply = Pick<TestConnection, "bytes" | "ending">;

/** A service under test. */
export class Service extends Subject {
  /**
   * It replies before the end of input. If not, only the check that asks for
   * this waits a whole timeout. The same holds for `closes`.
   */
  answersAtOnce = true;
  /** It closes the connection after the client's end of input. */
  closes = true;
  /** The end of its lines: println() on Windows makes it \r\n. */
  lineEnd: "\n" | "\r\n" = "\n";
  /** What came on the first connection, if another text has to be asked for it. */
  #before: string | undefined;
  /** The longest wait for a step's reply, which may still come at the end. */
  #patience: number;
  /** A reply that took longer than a timeout may still come, as far as is known. */
  #mayBeSlow = true;
  readonly #clients = new Set<TestConnection>();

  /** Names a service; nothing is sent yet. */
  constructor(
    /** Where it listens. */
    readonly address: Address,
    timeout: number,
  ) {
    super(timeout);
    this.#patience = timeout;
  }

  /**
   * Connects a client, which is closed after the check if it is still open.
   * Throws {@linkcode NoConnection}.
   */
  async connect(options: ReadOptions = {}): Promise<TestConnection> {
    const connecting = connect(this.address, this.timeout);
    connecting.then(() => false, (error: NoConnection) => error.nothingListens)
      .then((hasEnded) => this.hasEnded = hasEnded);
    const connection = await Promise.race([connecting, this.stop.promise]);
    if (connection === undefined) {
      connecting.then((late) => late.close(), () => {});
      throw new NoConnection("no answer in the time that was left");
    }
    const stop = this.stop.promise;
    const client = new TestConnection(connection, this.timeout, stop, options);
    this.#clients.add(client);
    return client;
  }

  /** Closes all clients. */
  protected async leave(): Promise<void> {
    const clients = [...this.#clients];
    this.#clients.clear();
    await Promise.all(clients.map((client) => client.leave()));
  }

  /**
   * Waits until a condition holds; false as in `client.until`. Throws
   * {@linkcode TooSlow} if something moves after all, soon after that, and what
   * had come was right.
   */
  async #until(
    client: TestConnection,
    condition: () => boolean,
    timeout = this.timeout,
    wanted?: Buffer,
  ): Promise<boolean> {
    if (await client.until(condition, timeout)) return true;
    const { count, bytes, ending } = client;
    const isWrong = wanted?.subarray(0, count).equals(bytes) === false;
    if (ending !== undefined || isWrong || !this.#mayBeSlow) return false;
    // From silence alone, a slow service cannot be told from a wrong one.
    const moved = () => client.count > count || client.ending !== undefined;
    await client.until(moved, 2 * this.timeout);
    this.#mayBeSlow = moved() || this.stopped;
    if (!moved()) return false;
    throw new TooSlow(
      `slower than --timeout ${this.timeout}: try a longer one`,
    );
  }

  /** Finds out how it talks. Throws {@linkcode NoConnection}, {@linkcode TooSlow}. */
  async meet(): Promise<void> {
    const lines = ["the quick brown Fox jumps over the lazy Dog\n", "two\n"];
    const { first, reply, atOnce } = await this.#contact(lines);
    const text = reply.bytes.toString();
    this.answersAtOnce = atOnce;
    this.closes = reply.ending !== undefined;
    if (text !== "") this.served = 1;
    const begun = first.bytes.toString();
    const isCut = lines[0].trim().toUpperCase().startsWith(begun) &&
      begun.length < lines[0].length - 1 && first.ending === undefined;
    const late = atOnce && isCut ? first : undefined;
    const oneReply = atOnce && !late && first.bytes.equals(reply.bytes);
    const steps = oneReply ? [lines[0]] : lines;
    const wanted = steps.join("").toUpperCase();
    if (text.replaceAll("\r\n", "\n") === wanted && !late) {
      if (text !== wanted) this.lineEnd = "\r\n";
      // Whether it serves a second client is the cause of much that follows.
      this.oneReply = await this.answers() && oneReply;
      return;
    }
    if (this.stopped && wanted.startsWith(text)) return;
    // It may serve no second client: what the first one got tells enough then.
    if (text !== "") {
      const other = await this.#contact(["hello\n", "you\n"]).catch(() => {});
      this.#before = other?.reply.bytes.toString();
    }
    const ifShort = late ? FULL_BUFFER : first.ending ? CLOSED : undefined;
    this.firstFault = await this.wrong(reply, steps, wanted, { late, ifShort });
    if (text === "" && !this.hasEnded) {
      const protocol = await this.#otherProtocol().catch(() => undefined);
      this.firstFault.usualCause = protocol ?? this.firstFault.usualCause;
    }
    this.#before = text;
    this.told.add(this.firstFault.usualCause);
  }

  /** Sends two lines in turn; gives what came for the first, and for both. */
  async #contact([line, next]: string[]) {
    const client = await this.connect();
    client.send(line);
    // Three bytes: a reply that has lost its line end is a reply, too.
    const atOnce = await this.#until(client, () => client.count >= 3);
    await client.ended(0.3); // what belongs to this reply
    const { count, reply: first } = client;
    client.send(next);
    if (atOnce) await this.#until(client, () => client.count > count);
    client.end();
    await this.#until(client, () => client.ending !== undefined);
    return { first, reply: client.reply, atOnce };
  }

  /** What a server speaks, or does, that said nothing to a line. */
  async #otherProtocol(): Promise<string | undefined> {
    const wait = this.timeout / 5;
    for (const [send, fits, cause] of PROBES) {
      const client = await this.connect();
      client.send(Buffer.from(send, "latin1"));
      client.end();
      await client.ended(wait);
      client.close();
      if (fits.test(client.bytes.toString())) return cause;
    }
    const other = await this.connect();
    const client = await this.connect();
    client.send("hello\n");
    if (await other.until(() => other.count > 0, wait)) return CHAT;
  }

  /** Whether it answers a new client with anything at all. */
  override async answers(): Promise<boolean> {
    const client = await this.connect().catch(() => undefined);
    if (client === undefined) return false;
    client.send("hello\n");
    if (!this.answersAtOnce) client.end();
    if (!await this.#until(client, () => client.count > 0)) return false;
    client.end();
    // It reads the whole reply: a server that is still writing may die of less.
    if (this.closes) await client.ended();
    else await client.until(() => client.count >= 6, this.timeout / 5);
    this.served += 1;
    client.close();
    return true;
  }

  /** A conversation of one step: a text, then the end of input. */
  expect(
    text: string | Uint8Array,
    wanted: string | Uint8Array,
    options: ConverseOptions = {},
  ): Promise<void> {
    return this.converse([{ send: text, reply: wanted }], options);
  }

  /**
   * Sends what each step says once the replies to the steps before it have come
   * (at once, if the service answers at the end only), then the end of input;
   * throws {@linkcode Broken} unless just the replies come back in time.
   */
  async converse(steps: Step[], options: ConverseOptions = {}): Promise<void> {
    const client = await this.connect(options);
    const sends = steps.map(({ send }) => Buffer.from(send));
    let waits = !options.endAtOnce;
    let late: Reply | undefined;
    let waited = this.timeout; // for what did not come
    let wanted = Buffer.alloc(0);
    const come = () => client.count >= wanted.length;
    for (const { send, reply, meanwhile } of steps) {
      client.send(send);
      let bytes = Buffer.from(reply);
      if (this.lineEnd !== "\n" && !options.exactLineEnds) {
        const text = bytes.toString("latin1"); // a character is a byte
        bytes = Buffer.from(text.replaceAll("\n", this.lineEnd), "latin1");
      }
      wanted = Buffer.concat([wanted, bytes]);
      if (
        waits && this.answersAtOnce &&
        !await this.#until(client, come, this.#patience, wanted)
      ) {
        waits = false;
        waited = this.#patience;
        if (wanted.length < 1000) late = client.reply; // a long one is slow
        // It may still come at the end. The next late one is not waited for as long.
        // (A textbook's server may only be busy with another client.)
        const isLate = !this.stopped && client.ending === undefined;
        if (isLate && !this.oneReply) this.#patience = this.timeout / 5;
      }
      if (waits) await meanwhile?.();
    }
    client.end();
    const wait = this.closes ? this.timeout : this.#patience;
    const whole = await this.#until(client, come, wait, wanted);
    // More than was wanted would come before the close.
    if (whole && this.closes) await client.ended();
    if (client.count > 0) this.served += 1;
    const { reply } = client;
    if (late !== undefined || !wanted.equals(reply.bytes)) {
      if (!late) waited = wait;
      throw await this.wrong(reply, sends, wanted, {
        ...options,
        late,
        waited,
      });
    }
    client.close();
  }

  /** What is to be said of a reply that is not the wanted one, or was late. */
  async wrong(
    reply: Reply,
    sends: (string | Uint8Array)[],
    wanted: string | Uint8Array,
    { ifShort, late, waited = this.timeout }: {
      ifShort?: string;
      late?: Reply;
      waited?: number;
    } = {},
  ): Promise<Broken> {
    if (reply.ending) await this.answers().catch(() => {}); // or it has ended
    const texts = sends.map((send) => Buffer.from(send));
    const sent = texts.length > 4 ? [Buffer.concat(texts)] : texts;
    const bytes = Buffer.from(wanted);
    const cause = usualCause({
      steps: texts.map(String),
      wanted: bytes.toString(),
      came: reply.bytes.toString(),
      ending: reply.ending,
      hasEnded: this.hasEnded,
      before: this.#before,
      served: this.served,
      late: late?.bytes.toString(),
      ifShort,
    }, this.told);
    const came = late !== undefined && bytes.equals(reply.bytes)
      ? `${describe(late, bytes, waited)}; the rest came with more input`
      : describe(reply, bytes, waited);
    return new Broken(sent.map(quote).join(", then "), came, cause);
  }
}

/** The checker's end of a connection. It reads from the start, and keeps what comes. */
export class TestConnection {
  /** How the reply ended. */
  ending: Ending;
  /** Bytes that were sent. */
  sent = 0;
  /** Bytes that came. */
  count = 0;
  /** Settles when all that was to be sent was, or cannot be any more. */
  sending: Promise<void> = Promise.resolve();
  readonly #pieces: Uint8Array[] = [];
  #toSend = 0;
  /** This side has closed it or is about to. */
  #left = false;
  #moved = Promise.withResolvers<void>();

  /** Takes over a connection; waits `timeout` seconds, or until `stop` settles. */
  constructor(
    private readonly connection: Deno.TcpConn,
    private readonly timeout: number,
    private stop: Promise<unknown>,
    options: ReadOptions,
  ) {
    connection.setNoDelay(); // what is sent in two parts leaves in two packets
    this.#read(options);
  }

  /** All bytes that came. */
  get bytes(): Buffer {
    return Buffer.concat(this.#pieces);
  }

  /** What came until now: it stays as it is, whatever comes later. */
  get reply(): Reply {
    return { bytes: this.bytes, ending: this.ending };
  }

  /** Sends, after all that is to be sent already. */
  send(data: string | Uint8Array): void {
    const bytes = Buffer.from(data);
    this.#toSend += bytes.length;
    this.#then(async () => {
      for (let at = 0; at < bytes.length && !this.#left;) {
        const count = await this.connection.write(bytes.subarray(at));
        at += count;
        this.sent += count;
        this.#wake();
      }
    });
  }

  /** Ends the input, after all that is to be sent (half-close). */
  end(): void {
    this.#then(() => this.connection.closeWrite());
  }

  /**
   * Waits until a condition holds. False if it does not when the reply ends, or
   * when nothing has moved either way for `timeout` seconds.
   */
  async until(
    condition: () => boolean,
    timeout: number = this.timeout,
  ): Promise<boolean> {
    const holds = async () => {
      while (!condition() && this.ending === undefined) {
        await this.#moved.promise;
      }
    };
    // What was sent may wait in the system's buffers.
    const moved = () => this.sent + this.count;
    await within(timeout, Promise.race([holds(), this.stop]), moved);
    return condition();
  }

  /** Waits until the reply ends; false as in `until`. */
  ended(timeout?: number): Promise<boolean> {
    return this.until(() => this.ending !== undefined, timeout);
  }

  /** Closes the connection, whatever still moves. */
  close(): void {
    this.#left = true;
    try {
      this.connection.close();
    } catch {
      // A reset has closed it already.
    }
  }

  /**
   * Closes the connection in order, if it is open: forgets what was not sent,
   * ends the input, and reads what comes, so that no server is troubled by a
   * check that has failed.
   */
  async leave(): Promise<void> {
    if (this.#left) return;
    this.#left = true;
    this.stop = new Promise(() => {});
    this.end();
    // The check has waited already; what still comes comes soon.
    await within(3, this.ended(0.5));
    this.close();
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
        await beforeRead?.(this.#pieces.at(-1));
        const count = await this.connection.read(buffer);
        this.#pieces.push(buffer.slice(0, count ?? 0));
        this.count += count ?? 0;
        // No letter's uppercase has more than three times its bytes; the rest
        // is for text that nobody asked for.
        if (this.count > 3 * this.#toSend + 50_000) ending = "endless";
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
