// SPDX-License-Identifier: 0BSD

/**
 * A client under test. Each check starts it anew, with pipes for its keyboard
 * and its screen, and is the server that it finds. Every wait ends.
 */

import { Buffer } from "node:buffer";
import { setTimeout as pause } from "node:timers/promises";
import { type Exit, Script } from "../parts/process.ts";
import { type Address, NoConnection, resetHere } from "../parts/tcp.ts";
import { quote } from "../parts/words.ts";
import { lines } from "./causes.ts";
import {
  type ClientCase,
  clientCause,
  type Expected,
  isPrinted,
  plain,
  sendsEnd,
} from "./client_causes.ts";
import { TestConnection } from "./service.ts";
import { Broken, Subject } from "./subject.ts";

/** What ends this program, and its client with it. Windows has no SIGTERM. */
const SIGNALS: Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT"]
  : ["SIGINT", "SIGTERM"];

/** A client under test. */
export class Client extends Subject {
  /**
   * It sends a line before the end of input. If not, only the check that asks
   * for this waits a whole timeout. The same holds for the next two.
   */
  sendsAtOnce = true;
  /** It prints a reply before the end of input. */
  printsAtOnce = true;
  /** It has ended, and has not printed the reply. */
  losesReply = false;
  /** It ends its sending side at the end of input. */
  endsInput = true;
  /** What its first session broke, by the checks' names. */
  readonly broken: Map<string, Broken> = new Map();
  #open = new AsyncDisposableStack();

  /** Names a client; nothing is started yet. */
  constructor(
    /** The program and its arguments; `PORT` in them becomes the port. */
    readonly command: string[],
    /** Where it finds a server; port 0 stands for a free one. */
    readonly address: Address,
    timeout: number,
  ) {
    super(timeout);
  }

  /**
   * Starts it, and accepts its connection. The server answers in uppercase as it
   * reads, if `answers`. Throws {@linkcode NoConnection}.
   */
  async start(answers = false): Promise<Session> {
    using listener = Deno.listen(this.address);
    const { port } = listener.addr;
    const script = this.#run(port);
    const connection = await Promise.race([
      listener.accept().catch(() => undefined), // closed
      script.ended.then(() => undefined),
      this.stop.promise,
    ]);
    if (connection === undefined) {
      const [program] = this.command;
      const says = said(script.stderr || script.stdout);
      const why =
        `${program} made no connection to port ${port}${says}; give ` +
        "it PORT as its port, or --port the port that stands in its text; it " +
        "has to connect before it reads what is typed";
      throw new NoConnection(why, false, { cause: script });
    }
    const session = new Session(this, script, connection, answers);
    this.#open.defer(() => session.server.close());
    // A person types later. (Node's readline loses a line that comes too early.)
    await pause(100);
    return session;
  }

  /** Starts it where nobody listens, or where what it sends is answered by a reset. */
  async startAlone(resets = false): Promise<Script> {
    const listener = Deno.listen(this.address);
    const { port } = listener.addr;
    listener.close();
    if (resets) {
      this.#open.use(await resetHere("data", { ...this.address, port }));
    }
    return this.#run(port);
  }

  /** Finds out how it talks, in one session. Throws {@linkcode NoConnection}. */
  async meet(): Promise<void> {
    const session = await this.start();
    const breaks = (name: string, expected: Expected) =>
      this.broken.set(name, session.broken(expected));

    session.type("a line that is typed\n");
    await session.arrives();
    this.sendsAtOnce = session.arrived !== "";
    if (!this.sendsAtOnce) await session.endInput();
    if (!this.sendsAtOnce || !session.isExact) breaks("line", "send");

    session.reply("A REPLY THAT IS PRINTED\n");
    this.printsAtOnce = this.sendsAtOnce && await session.prints();
    if (this.printsAtOnce && await session.server.ended(0.3)) {
      session.close();
      this.oneReply = (await session.ends())?.code === 0;
      if (this.oneReply) return;
    }
    await session.endInput();
    this.endsInput = session.server.ending !== undefined;
    if (!this.endsInput) breaks("end-of-input", "end input");
    session.close();
    const exit = await session.ends();
    if (exit?.code !== 0) breaks("end", "end");
    if (!this.printsAtOnce) breaks("interactive", "print");
    this.losesReply = exit !== undefined && !await session.prints();
  }

  /** Kills it, with all that it has started, and closes its connection. */
  protected async leave(): Promise<void> {
    const open = this.#open;
    this.#open = new AsyncDisposableStack();
    await open.disposeAsync();
  }

  #run(port: number): Script {
    const command = this.command.map((part) =>
      part.replace(/\bPORT\b/g, `${port}`)
    );
    // A signal reaches this program alone: the client has a group of its own.
    const stop = () => this.leave().finally(() => Deno.exit(130));
    for (const signal of SIGNALS) {
      Deno.addSignalListener(signal, stop);
      this.#open.defer(() => Deno.removeSignalListener(signal, stop));
    }
    return this.#open.use(Script.command(command, { group: true }));
  }
}

/** One run of a client, and the server's end of its connection. */
export class Session implements ClientCase {
  /** All that was typed. */
  typed = "";
  /** The end of the input was typed, too. */
  inputEnded = false;
  /** What the server has sent, packet by packet. */
  readonly replies: string[] = [];
  /** The last of it was sent after the end of the input. */
  late = false;
  /** The client's exit code, if it has ended. */
  code?: number;
  /** The server's end of the connection. */
  readonly server: TestConnection;
  #closed = false;

  /** Takes over a process that has connected. */
  constructor(
    private readonly client: Client,
    private readonly script: Script,
    connection: Deno.TcpConn,
    answers: boolean,
  ) {
    script.ended.then(({ code }) => this.code = code);
    // A server that reads no more while it cannot write.
    const answer = async (last?: Uint8Array) => {
      if (last && !this.#closed) {
        this.reply(Buffer.from(last).toString().toUpperCase());
      }
      await this.server?.sending;
    };
    const { timeout, stop } = client;
    this.server = new TestConnection(connection, timeout, stop.promise, {
      beforeRead: answers ? answer : undefined,
      // What is answered piece by piece is no text without end.
      atMost: 16 * 1024,
    });
  }

  /** What has arrived at the server. */
  get arrived(): string {
    return this.server.bytes.toString();
  }

  /** What stands on the client's standard output. */
  get printed(): string {
    return this.script.stdout;
  }

  /** What stands on its standard error. */
  get errors(): string {
    return this.script.stderr;
  }

  /** What has arrived is what was typed. */
  get isExact(): boolean {
    return plain(this.arrived) === this.typed;
  }

  /** Types a text, after all that is typed already. False if it is not read. */
  async type(text: string): Promise<boolean> {
    this.typed += text;
    const read = this.script.write(text).then(() => true, () => true);
    return await this.#wait(read) ?? false;
  }

  /** Types the end of the input (Ctrl-D), and waits until the server learns of it. */
  async endInput(): Promise<void> {
    if (!this.inputEnded) this.script.closeInput().catch(() => {});
    this.inputEnded = true;
    if (this.client.endsInput) await this.server.ended();
  }

  /** Whether as much arrives as was typed, but for line ends. */
  async arrives(): Promise<boolean> {
    const size = (text: string) => lines(text).length;
    const all = () => size(this.arrived) >= size(this.typed);
    await this.server.until(all);
    await this.server.until(() => false, 0.2); // its line end may come behind it
    return all();
  }

  /** The server sends a text. */
  reply(text: string): void {
    this.late = this.inputEnded;
    this.replies.push(text);
    this.server.send(text);
  }

  /** Whether what is printed fits; waits for it. @default it has all replies */
  async prints(
    fits = () => isPrinted(this.printed, this.replies),
  ): Promise<boolean> {
    await this.#wait(this.script.until(() => fits() || this.#isEndless));
    return fits();
  }

  /**
   * Types each text once the one before has its reply, or all at once for a
   * client that sends at the end. The reply is in uppercase, or the pieces that
   * are given, with so many milliseconds before each. Throws {@linkcode Broken}
   * if a text does not arrive, or a reply is not printed.
   */
  async say(texts: string[], pieces?: string[], time = 0): Promise<void> {
    const { sendsAtOnce, printsAtOnce } = this.client;
    for (const text of sendsAtOnce ? texts : [texts.join("")]) {
      this.type(text);
      if (!sendsAtOnce || !text.endsWith("\n")) await this.endInput();
      if (!await this.arrives()) throw this.broken("send");
      for (const reply of pieces ?? [text.toUpperCase()]) {
        await pause(time);
        this.reply(reply);
      }
      if (printsAtOnce && !await this.prints()) throw this.broken("print");
    }
  }

  /** The server closes its side. */
  close(): void {
    this.#closed = true;
    this.server.end();
  }

  /** How the client ends; undefined if it does not. */
  ends(timeout?: number): Promise<Exit | undefined> {
    const ending = this.script.until(() => this.#isEndless)
      .then(() => this.#isEndless ? undefined : this.script.ended);
    return this.#wait(ending, timeout);
  }

  /**
   * Ends the input, then the server's side. Throws {@linkcode Broken} if the
   * client does not print all replies then, or not all lines have arrived.
   */
  async finish(): Promise<void> {
    await this.endInput();
    this.close();
    const printed = await this.prints();
    await this.ends(this.client.timeout / 5);
    if (!printed) throw this.broken("print");
    const all = lines(this.arrived).startsWith(lines(this.typed));
    if (!all || sendsEnd(this)) throw this.broken("send");
  }

  /** What is to be said of a client that does not do what is expected. */
  broken(expected: Expected): Broken {
    const show = (text: string) => quote(Buffer.from(text));
    const end = this.inputEnded ? " and the end of input" : "";
    const close = this.#closed ? ", closed" : "";
    const replies = show(this.replies.join(""));
    const state = this.code === undefined
      ? "it still runs"
      : `exit code ${this.code}`;
    return new Broken(
      `typed ${show(this.typed)}${end}, replied ${replies}${close}`,
      `${show(this.arrived)} arrived, ${show(this.printed)} printed, ${state}` +
        said(this.errors),
      clientCause(expected, this, this.client.told),
    );
  }

  /** It prints without end. */
  get #isEndless(): boolean {
    const talk = this.server.sent + this.typed.length; // it may show both
    return this.script.count > 100_000 + 2 * talk;
  }

  #wait<T>(promise: Promise<T>, timeout?: number): Promise<T | undefined> {
    const moved = () =>
      this.server.sent + this.server.count + this.script.count;
    return this.client.wait(promise, timeout, moved);
  }
}

/** The line that tells of an error, of all that a process has printed. */
function said(output: string): string {
  const all = output.split("\n").filter((line) => line.trim());
  const line =
    all.findLast((line) => /^[\w.]*(Error|Exception)\b/.test(line)) ??
      all.find((line) => /error|exception in|errno/i.test(line)) ?? all[0];
  return line ? `, and says ${quote(Buffer.from(line.trim()))}` : "";
}
